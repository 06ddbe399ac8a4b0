"""The exceptions that end a command: a mistake that the user can mend, and a signal to stop."""

import errno
import signal
from typing import TypeGuard

# The last one stands for a limit of the process or of the file system.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST_MESSAGE = 500  # characters of an unexpected error in one line


class UserError(Exception):
    """Name the file or key that is wrong, what is wrong with it, and what was expected.

    Args:
        subject: the file (with `:line` where there is one) or the dotted configuration key.
        problem: what is wrong with it, in a few words.
        got: the offending value, if there is one to show.
        expected: what would have been accepted.
    """

    exit_status = 2  # of the command that ends with this error

    def __init__(self, subject: object, problem: str, got: object = None, expected: object = None):
        self.subject = str(subject)
        self.problem = problem
        self.got = got
        self.expected = expected
        details = [
            f"{word} {value if isinstance(value, str) else repr(value)}"
            for word, value in (("got", got), ("expected", expected))
            if value is not None
        ]
        suffix = f" ({', '.join(details)})" if details else ""
        super().__init__(f"{self.subject}: {problem}{suffix}".replace("\n", " "))


class StoppedError(Exception):
    """A signal has ended a training; its log says at which step."""

    def __init__(self, number: signal.Signals):
        self.signal = number
        self.exit_status = 128 + number  # as a shell has it: 143 for SIGTERM, 130 for SIGINT
        super().__init__(number.name)


def error_line(error: BaseException) -> str:
    """Return what to say of an error in one line."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if is_of_the_system(error):
        return f"{error.filename or 'writing'}: {error.strerror}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST_MESSAGE]}"


def is_of_the_system(error: BaseException) -> TypeGuard[OSError]:
    """Tell whether an error is about a file that it names, or about a full disk."""
    return isinstance(error, OSError) and (error.filename is not None or error.errno in FULL_DISK)


def require(
    condition: bool, key: object, problem: str, got: object = None, expected: object = None
) -> None:
    """Raise UserError unless `condition` holds."""
    if not condition:
        raise UserError(key, problem, got, expected)


def require_range(
    key: str, value: float, low: float, high: float = float("inf"), open_low: bool = False
) -> None:
    """Raise UserError unless low <= value <= high (low < value when `open_low`)."""
    is_above = value > low if open_low else value >= low
    if is_above and value <= high:
        return
    bound = f"{'>' if open_low else '>='} {low:g}"
    if high != float("inf"):
        bound += f" and <= {high:g}"
    raise UserError(key, "out of range", value, bound)
