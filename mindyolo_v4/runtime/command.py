"""How a command ends: its exit status, and one line on stderr for any mistake of the user."""

import sys
from collections.abc import Callable, Sequence

from mindyolo_v4.distributed.heartbeat import WATCH
from mindyolo_v4.errors import FULL_DISK, StoppedError, UserError


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; a mistake of the user ends in one line on stderr."""
    try:
        status = main(sys.argv[1:] if argv is None else argv)
    except StoppedError as stop:
        status = stop.exit_status
    except UserError as error:
        return _fail(f"error: {error}", error.exit_status)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Exception as error:
        if isinstance(error, OSError) and (error.filename is not None or error.errno in FULL_DISK):
            return _fail(
                f"error: {error.filename or 'writing'}: {error.strerror}", UserError.exit_status
            )
        WATCH.failed(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
        raise
    WATCH.done()
    return status


def _fail(line: str, status: int) -> int:
    """Tell why the command ends, here and on the other devices; return the status to end with."""
    print(line, file=sys.stderr, flush=True)
    WATCH.failed(line.removeprefix("error: "))
    return status
