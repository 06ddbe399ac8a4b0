"""The exceptions that end a command: "the user can mend this", printed as one line; and "told to stop"."""

import errno
import signal

FULL_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
)  # the last one: a limit of the process or the file system


class UserError(Exception):
    """Tell the user which file or key is wrong, how, and what was expected.

    Args:
        subject: the file (with `:line` where there is one) or the dotted configuration key.
        problem: what is wrong with it, in a few words.
        got: the offending value, if there is one to show.
        expected: what would have been accepted.
    """

    exit_status = 2  # of the command that ends with this error

    def __init__(self, subject: object, problem: str, got: object = None, expected: object = None):
        self.subject, self.problem, self.got, self.expected = str(subject), problem, got, expected
        details = [
            f"{word} {value if isinstance(value, str) else repr(value)}"
            for word, value in (("got", got), ("expected", expected))
            if value is not None
        ]
        suffix = f" ({', '.join(details)})" if details else ""
        super().__init__(f"{self.subject}: {problem}{suffix}".replace("\n", " "))


class StoppedError(Exception):
    """A training was told to stop by a signal; its log says where it stands."""

    def __init__(self, number: signal.Signals):
        self.signal = number
        self.exit_status = 128 + number  # as a shell has it: 143 for SIGTERM, 130 for SIGINT
        super().__init__(number.name)


def require(
    condition: bool, key: str, problem: str, got: object = None, expected: object = None
) -> None:
    """Raise UserError unless `condition` holds."""
    if not condition:
        raise UserError(key, problem, got, expected)


def require_range(
    key: str, value: float, low: float, high: float = float("inf"), open_low: bool = False
) -> None:
    """Raise UserError unless low <= value <= high (low < value when `open_low`)."""
    above = value > low if open_low else value >= low
    if not (above and value <= high):
        bound = f"{'>' if open_low else '>='} {low:g}" + (
            "" if high == float("inf") else f" and <= {high:g}"
        )
        raise UserError(key, "out of range", value, bound)
