"""The options of the service."""

import pytest

from mindyolo_v4.config.command_line import build_parser, parse
from mindyolo_v4.errors import UserError
from mindyolo_v4.serve.options import ServeOptions, add_options, read_options


def read(*argv: str) -> ServeOptions:
    parser = build_parser("serve", "", ())
    add_options(parser)
    return read_options(parse(parser, argv).options)


def test_options_of_a_command_line() -> None:
    assert read() == ServeOptions()
    given = read("--host", "::1", "--port", "0", "--max-mb", "1.5", "--queue", "3", "--batch=2")
    assert given == ServeOptions("::1", 0, max_mb=1.5, queue=3, batch=2)
    assert given.max_bytes == 1_500_000


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--port", "1.5"), "argument --port: invalid int value: '1.5'"),
        (("--max_mb", "nan"), "--max_mb: out of range .got nan"),
        (("--max_mb", "inf"), "--max_mb: out of range .got inf"),
        (("--timeout", "long"), "argument --timeout: invalid float value: 'long'"),
        (("--host", ""), "--host: missing"),
    ],
)
def test_wrong_options(argv: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(*argv)
