"""The SHA-256 beside a checkpoint: `<name>.sha256`, a line that `sha256sum -c` reads.

The sum is taken away before its file is replaced and written again after it. So a process that is killed anywhere in
between leaves a whole file with its own sum, or a whole file without one, which its inner checksum vouches for; never a
good file beside the sum of another.
"""

import hashlib
from pathlib import Path

from mindyolo_v4.checkpoint.formats import FormatError
from mindyolo_v4.runtime.files import write_text


def sidecar_path(path: Path) -> Path:
    """Return where the sum of a file lies."""
    return path.with_name(f"{path.name}.sha256")


def write_sidecar(path: Path) -> None:
    """Write the sum of a file beside it; a reader finds the whole line or none."""
    write_text(sidecar_path(path), f"{_sha256(path)}  {path.name}\n")


def remove_sidecar(path: Path) -> None:
    """Take the sum of a file away, for good even if the machine fails; nothing to do where there is none."""
    beside = sidecar_path(path)
    if beside.exists():
        beside.unlink()


def matches_sidecar(path: Path) -> bool:
    """Tell whether a sum lies beside the file and was compared. Raises FormatError where it is not the file's."""
    told = _read(path)
    while told is not None:
        if told.split(maxsplit=1)[:1] == [_sha256(path)]:
            return True
        again = _read(path)
        if again == told:
            beside = sidecar_path(path).name
            raise FormatError(
                f"its SHA-256 is not the one in {beside}: the file is damaged, or the sum is another's"
            )
        told = again  # a training has replaced the file meanwhile
    return False


def _read(path: Path) -> str | None:
    try:
        return sidecar_path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
