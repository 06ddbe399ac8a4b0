"""The data set's folder, and the text files in it that people wrote."""

from pathlib import Path

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.errors import UserError


def data_root(data: DataConfig) -> Path:
    """Return the absolute folder of the data set; links stay as the user names them.

    Raises:
        UserError: none is configured, or it does not exist.
    """
    if data.root is None:
        expected = "the folder of the data set (--data_dir DIR, for ImageNet --data_path DIR)"
        raise UserError("data.root", "missing", expected=expected)
    root = Path(data.root).expanduser()
    if not root.is_dir():
        raise UserError("data.root", "folder not found", str(root))
    return root.resolve() if ".." in root.parts else root.absolute()


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
    """Return the lines of a UTF-8 file; only newlines separate them, as editors count."""
    return [line.rstrip("\r") for line in read_text(path).split("\n")]
