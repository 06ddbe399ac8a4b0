"""How a command ends: status and the one line on stderr."""

import errno
import signal

import pytest

from mindyolo_v4.errors import StoppedError, UserError
from mindyolo_v4.runtime.command import run_command


class DivergedError(UserError):
    exit_status = 3


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("data.train", "missing"), 2, "error: data.train: missing\n"),
        (DivergedError("training", "not finite"), 3, "error: training: not finite\n"),
        (StoppedError(signal.SIGTERM), 143, ""),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (PermissionError(errno.EACCES, "no", "a.txt"), 2, "error: a.txt: no\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "error: writing: No space left on device\n",
        ),
    ],
)
def test_an_error_becomes_a_status_and_a_line(error, status, line, capsys):
    def main(argv):
        raise error

    assert run_command(main, []) == status
    assert capsys.readouterr().err == line


def test_status_and_words_of_a_command_that_succeeds():
    assert run_command(len, ["a", "b", "c"]) == 3


@pytest.mark.parametrize("error", [ValueError("bad"), OSError(errno.EIO, "no file named")])
def test_an_unexpected_error_keeps_its_traceback(error):
    def main(argv):
        raise error

    with pytest.raises(type(error)):
        run_command(main, [])
