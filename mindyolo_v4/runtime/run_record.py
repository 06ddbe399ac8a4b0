"""What started a run."""

import shlex
import sys


def command_line() -> str:
    """Return the command that started this process, as a shell takes it."""
    return shlex.join(sys.orig_argv)
