"""The log of a command: the console, a file in its run folder, and a file per rank."""

import logging
import sys
from pathlib import Path

from mindyolo_v4 import environment
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.errors import printable

PACKAGE_LOGGER = logging.getLogger("mindyolo_v4")
_LONGEST = 10**5  # characters of a line


class Escaped(logging.Formatter):
    """Lines in which the control characters and undecoded bytes of names are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        lines = super().format(record).split("\n")
        return "\n".join(printable(line, _LONGEST) for line in lines)


class LogFile(logging.FileHandler):
    """A log file on a disk that may be full: the console still shows each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Print no traceback for a line that could not be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_to_console(ranks: Ranks) -> None:
    """Direct the package's log to the console alone."""
    for handler in list(PACKAGE_LOGGER.handlers):
        PACKAGE_LOGGER.removeHandler(handler)
        handler.close()
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(Escaped("%(message)s"))
    console.setLevel(logging.INFO if ranks.rank == 0 else logging.WARNING)
    PACKAGE_LOGGER.addHandler(console)
    is_verbose = ranks.rank == 0 or ranks.size > 1
    PACKAGE_LOGGER.setLevel(logging.INFO if is_verbose else logging.WARNING)
    PACKAGE_LOGGER.propagate = False


def setup_logger(folder: Path, file_name: str, ranks: Ranks) -> None:
    """Direct the package's log to the console and to `file_name` in the folder.

    Of several devices, each writes its lines to rank_<r>.log as well; `file_name` has those of rank
    0. Warnings of the other ranks go to their consoles, which msrun keeps as worker_<r>.log.
    """
    log_to_console(ranks)
    names = [file_name] if ranks.rank == 0 else []
    if ranks.size > 1:
        folder.mkdir(parents=True, exist_ok=True)  # another machine may not see rank 0's folder
        names.append(f"rank_{ranks.rank}.log")
    for name in names:
        handler = LogFile(folder / name, encoding="utf-8")
        handler.setFormatter(Escaped("%(asctime)s %(levelname)s %(message)s"))
        PACKAGE_LOGGER.addHandler(handler)

    for note in environment.prepare():
        PACKAGE_LOGGER.info("%s", note)
