"""Reading of small text files that people wrote."""

from pathlib import Path

from mindyolo_v4.errors import UserError


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, with or without byte order mark.

    Raises:
        UserError: the file cannot be opened, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(path, "not UTF-8 text", error.reason) from None
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file without their ends; only newlines separate them, as editors count."""
    return [line.rstrip("\r") for line in read_text(path).split("\n")]
