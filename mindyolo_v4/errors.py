"""The exceptions that end a command: a mistake that the user can mend, and a signal to stop."""

import errno
import reprlib
import signal
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

# The last one stands for a limit of the process or of the file system.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST_TEXT = 200  # characters of a file name, a class name or a value in a message
_LONGEST_PROBLEM = 500  # characters of what is wrong: it may list several names
_LONGEST_LINE = 950  # characters of a whole message


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
            f"{word} {_shown(value)}"
            for word, value in (("got", got), ("expected", expected))
            if value is not None
        ]
        suffix = f" ({', '.join(details)})" if details else ""
        text = printable(" ".join(problem.splitlines()), _LONGEST_PROBLEM)
        self.statement = f"{text}{suffix}"  # the message without its subject
        super().__init__(printable(f"{printable(self.subject)}: {self.statement}", _LONGEST_LINE))


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
        return f"{printable(str(error.filename or 'writing'))}: {error.strerror}"
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()), _LONGEST_PROBLEM)}"


def printable(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Return text of others for a terminal or a log: on one line, and of bounded length.

    Control characters, and the bytes of file names that are no UTF-8, are escaped. Of longer text
    the middle is left out, so that the end of a path remains.
    """
    escaped = "".join(
        letter
        if letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in _without_middle(text, longest)
    )
    return _without_middle(escaped, longest)


def first_names(names: Sequence[str], count: int) -> str:
    """Return the first `count` names, and how many more there are."""
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest


def _without_middle(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


class _BoundedRepr(reprlib.Repr):
    """Shows the first items of large and nested values."""

    def __init__(self) -> None:
        super().__init__()
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = 20
        self.maxstring = self.maxother = self.maxlong = _LONGEST_TEXT

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write an integer of more than 4300 digits as text.
        is_long = x.bit_length() > 4 * _LONGEST_TEXT
        return f"an integer of {x.bit_length()} bits" if is_long else repr(x)


def _shown(value: Any) -> str:
    """Return a value as a message shows it."""
    if isinstance(value, Path):
        value = str(value)
    text = value if isinstance(value, str) else _BoundedRepr().repr(value)
    return printable(" ".join(text.splitlines()))


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


def require_ranges(
    record: Any,
    section: str,
    names: Sequence[str],
    low: float,
    high: float = float("inf"),
    open_low: bool = False,
) -> None:
    """Raise UserError for the first field of `names` outside low..high; None passes.

    Args:
        section: dotted name of the record in the configuration, for the error.
        open_low: `low` itself is refused too.
    """
    for name in names:
        value = getattr(record, name)
        if value is not None:
            require_range(f"{section}.{name}", value, low, high, open_low)


def require_file(path: str | Path, subject: object = None) -> None:
    """Raise UserError unless `path` is a file; a pipe or a device, which could block, is none.

    Args:
        subject: what the message is about, for instance an option; default: the path.
    """
    path = Path(path)
    if path.is_file():
        return
    problem = "no such file"
    if path.is_dir():
        problem = "a folder, not a file"
    elif path.exists():
        problem = "a pipe or a device, not a file"
    raise UserError(subject or path, problem, None if subject is None else str(path))


def utf8_path(path: str | Path) -> str:
    """Return a path for a library that takes UTF-8 only; OpenCV crashes at any other.

    Raises:
        UserError: a folder or file in it has another name.
    """
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(text, "its name is not UTF-8, rename it") from None
    return text
