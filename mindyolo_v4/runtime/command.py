"""How a command ends: its exit status, and one line on stderr for any mistake of the user."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TextIO

from mindyolo_v4.errors import StoppedError, UserError, error_line, is_of_the_system
from mindyolo_v4.runtime.signals import StopSignals

INTERRUPTED = 130  # as a shell has it for SIGINT
READER_LEFT = 141  # as a shell has it for SIGPIPE


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; an unexpected error keeps its traceback."""
    sys.stdout = sys.stdout or _open_closed(1)
    sys.stderr = sys.stderr or _open_closed(2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    try:
        status = main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # a full disk behind it is an error as well
        return status
    except StoppedError as stop:
        return stop.exit_status
    except BrokenPipeError:  # of `| head`, say
        return READER_LEFT
    except KeyboardInterrupt as error:
        _say(error_line(error))
        return INTERRUPTED
    except (UserError, OSError) as error:
        if not isinstance(error, UserError) and not is_of_the_system(error):
            raise
        _say(f"error: {error_line(error)}")
        return error.exit_status if isinstance(error, UserError) else UserError.exit_status
    finally:
        _drop_unwritable_output()


def run_stoppable(main: Callable[..., int], argv: Sequence[str] | None = None) -> int:
    """Run a command that takes `signals` and obeys them at boundaries of its own."""
    signals = StopSignals().listen()  # before any library starts threads
    return run_command(partial(main, signals=signals), argv)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody reads it any more
        print(line, file=sys.stderr, flush=True)


def _open_closed(descriptor: int) -> TextIO:
    """Open a closed standard stream that leads nowhere.

    Otherwise the next file opened gets its number, and with it what libraries print.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.fstat(descriptor)
    except OSError:
        os.dup2(null, descriptor)
    return os.fdopen(null, "w")


def _drop_unwritable_output() -> None:
    """Discard what a stream cannot write: the interpreter would fail on it at its end."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
