"""How a command ends: status and the one line on stderr."""

import errno
import os
import signal
import subprocess
import sys

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


SCRIPT = """
import sys
from mindyolo_v4.runtime.command import run_command

def main(argv):
    print("a line\\n" * int(argv[0]))
    print("to stderr", file=sys.stderr)
    return 0

sys.exit(run_command(main))
"""


def run_script(redirection: str, lines: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a command that prints, with its streams redirected; the status is the command's."""
    command = f"set -o pipefail; '{sys.executable}' -c \"$SCRIPT\" {lines} {redirection}"
    words = ["bash", "-c", command]
    environment = {**os.environ, "SCRIPT": SCRIPT, "PYTHONUNBUFFERED": ""}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("redirection", "status", "line"),
    [
        (">&-", 0, "to stderr\n"),
        ("2>&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("> /dev/full", 2, "to stderr\nerror: writing: No space left on device\n"),
        ("2> /dev/full", 2, ""),
        ("| head -c 0", 141, "to stderr\n"),
    ],
)
def test_streams_that_are_closed_or_full(redirection, status, line):
    done = run_script(redirection)
    assert (done.returncode, done.stderr) == (status, line)


def test_a_reader_that_leaves_ends_the_command_quietly():
    done = run_script("| head -1", lines=100_000)
    assert (done.returncode, done.stdout, done.stderr) == (141, "a line\n", "")


def test_a_file_never_takes_the_number_of_a_closed_stream(tmp_path):
    script = (
        "import os, sys\n"
        "from mindyolo_v4.runtime.command import run_command\n"
        "def main(argv):\n"
        "    with open(argv[0], 'wb') as file:\n"
        "        os.write(1, b'what a library prints')\n"
        "        return file.fileno()\n"
        "sys.exit(run_command(main))\n"
    )
    path = tmp_path / "file"
    command = f"'{sys.executable}' -c \"$SCRIPT\" '{path}' <&- >&- 2>&-"
    environment = {**os.environ, "SCRIPT": script}
    done = subprocess.run(["bash", "-c", command], env=environment, check=False)
    assert done.returncode > 2
    assert path.read_bytes() == b""


def test_names_that_the_terminal_cannot_show_are_escaped():
    code = "import sys; from mindyolo_v4.runtime.command import run_command as run\n"
    code += "sys.exit(run(lambda argv: print('\\uac00') or 0))"
    environment = {**os.environ, "PYTHONIOENCODING": "gbk"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\uac00\n", b"")
