"""Messages: texts of others are escaped and of bounded length, what is not a file is named."""

import os
from pathlib import Path

import pytest

from mindyolo_v4.errors import UserError, error_line, printable, require_file


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\033[31mred\a", "\\x1b[31mred\\x07"),
        ("a\nb\tc\u2028d", "a\\nb\\tc\\u2028d"),
        ("a\u202eb\x9bc", "a\\u202eb\\x9bc"),
        ("bytes \udcff", "bytes \\udcff"),
        ("交通　標識, été", "交通　標識, été"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_not(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_of_long_text_both_ends_are_shown() -> None:
    shown = printable("a" * 1000 + "b" * 1000)
    assert shown == "a" * 98 + "..." + "b" * 98
    assert len(printable("\0" * 10**6)) <= 200


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1, 2], "[1, 2]"),
        ((64, 32, 3, 3), "(64, 32, 3, 3)"),
        ("text", "text"),
        (Path("a/b.jpg"), "a/b.jpg"),
        (["\033"], "['\\x1b']"),
        (1 << 20_000, "an integer of 20001 bits"),
    ],
    ids=("list", "shape", "text", "path", "escape", "long integer"),
)
def test_a_value_is_shown(value: object, shown: str) -> None:
    assert str(UserError("key", "wrong", value)) == f"key: wrong (got {shown})"


def test_a_message_is_one_line_of_bounded_length() -> None:
    nested: object = "x"
    for _ in range(40):
        nested = [nested] * 10  # 10^40 items
    error = UserError("s" * 5000, "p\n" * 5000, nested, "\033" * 5000)
    assert len(str(error)) <= 950
    assert str(error).isprintable()


def test_the_file_of_an_error_of_the_system_is_escaped() -> None:
    assert error_line(OSError(2, "No such file", "a\033b")) == "a\\x1bb: No such file"


def test_only_a_file_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    require_file(tmp_path / "file")
    for name, problem in (
        (tmp_path, "a folder, not a file"),
        (tmp_path / "pipe", "a pipe or a device, not a file"),
        ("/dev/zero", "a pipe or a device, not a file"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(UserError, match=problem):
            require_file(name)
    with pytest.raises(UserError, match=r"--names: no such file \(got none\)"):
        require_file("none", "--names")
