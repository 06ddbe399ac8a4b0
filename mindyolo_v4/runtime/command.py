"""How a command ends: its exit status, and one line on stderr for any mistake of the user."""

import sys
from collections.abc import Callable, Sequence

from mindyolo_v4.errors import StoppedError, UserError, error_line, is_of_the_system

INTERRUPTED = 130  # as a shell has it for SIGINT


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; an unexpected error keeps its traceback."""
    try:
        return main(sys.argv[1:] if argv is None else argv)
    except StoppedError as stop:
        return stop.exit_status
    except KeyboardInterrupt as error:
        print(error_line(error), file=sys.stderr, flush=True)
        return INTERRUPTED
    except (UserError, OSError) as error:
        if not isinstance(error, UserError) and not is_of_the_system(error):
            raise
        print(f"error: {error_line(error)}", file=sys.stderr, flush=True)
        return error.exit_status if isinstance(error, UserError) else UserError.exit_status
