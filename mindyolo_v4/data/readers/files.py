"""The data set's folder, and how the files in it are found."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import dropwhile
from pathlib import Path

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.errors import UserError

_NO_DATA = "__MACOSX"  # what archives of macOS hold beside the data


def data_root(data: DataConfig) -> Path:
    """Return the data set's absolute folder, links kept. Raises UserError where there is none."""
    if data.root is None:
        expected = "the folder of the data set (--data_dir DIR, for ImageNet --data_path DIR)"
        raise UserError("data.root", "missing", expected=expected)
    root = user_path(data.root)
    if not root.is_dir():
        raise UserError("data.root", "folder not found", str(root))
    return Path(os.path.realpath(root)) if ".." in root.parts else root.absolute()


def user_path(path: str | Path) -> Path:
    """Return a path with ~ expanded; that of an unknown user stays, where Path's method raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def is_data_folder(name: str) -> bool:
    """Tell whether a folder may hold data: it is not hidden (.ipynb_checkpoints) nor __MACOSX."""
    return not name.startswith(".") and name != _NO_DATA


def files_below(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Iterator[str]:
    """Yield the files of a folder and its subfolders, relative to it, in no order.

    Links to folders are followed, but each folder is read once, under its own path where the links
    lead to a folder that is read anyway. A link to a folder that holds this one is not followed.
    """
    visited = {
        (state.st_dev, state.st_ino)
        for path in (os.path.abspath(folder), os.path.realpath(folder))  # noqa: PTH100
        for state in map(os.stat, Path(path).parents)
    }
    waiting = [""]
    links: list[str] = []
    while waiting or links:
        inside = waiting.pop() if waiting else links.pop()
        state = os.stat(folder / inside)  # noqa: PTH116 - also of bytes that are no UTF-8
        if (state.st_dev, state.st_ino) in visited:
            continue
        visited.add((state.st_dev, state.st_ino))
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                if entry.is_dir():
                    if is_data_folder(entry.name):
                        (links if entry.is_symlink() else waiting).append(f"{inside}{entry.name}/")
                elif entry.name.lower().endswith(suffixes) and not entry.name.startswith("."):
                    yield f"{inside}{entry.name}"
        links.sort(reverse=True)


def files_of(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Return the names of the files of a folder, without those of its subfolders."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    return [name for name in names if name.lower().endswith(suffixes) and name[0] != "."]


class FileFinder:
    """Files by folder and name, whatever capitals and accents; every folder is listed once."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, path: Path) -> Path | None:
        """Return the file of this path, else one whose name differs in its spelling only."""
        names = self._names.get(path.parent)
        if names is None:
            names = self._names[path.parent] = _list_names(path.parent)
        name = names.get(path.name) or names.get(plain_name(path.name))
        return None if name is None else path.parent / name


def _list_names(folder: Path) -> dict[str, str]:
    """Return the files of a folder, by their names and by their plain names."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file())
    return {plain_name(name): name for name in names} | {name: name for name in names}


def plain_name(name: str) -> str:
    """Return a name in small letters, an accent and its letter as one (macOS parts them)."""
    small = name.lower()
    return small if small.isascii() else unicodedata.normalize("NFC", small)


def spellings(name: str, is_typed: bool = False) -> list[str]:
    """Return the paths that may be meant by one in a list, a COCO file or a split, likeliest first.

    As it stands; with / for the backslashes of Windows; what follows a folder `data`, which darknet
    and labelling tools put before the paths of a set that is unpacked elsewhere; the ends of an
    absolute path, which may be that of another machine; without ../ at its start, which data.yaml
    of some exports has; with accents as others and as macOS write them.

    Args:
        is_typed: a user has typed the path for this machine; an absolute one has no other ends.
    """
    parts = name.replace("\\", "/").split("/")
    is_absolute = not is_typed and (parts[0] == "" or parts[0][1:] == ":")
    starts = [k + 1 for k, part in enumerate(parts[:-1]) if is_absolute or part == "data"]
    ends = ["/".join(parts[k:]) for k in starts if any(parts[k:])]
    inside = "/".join(dropwhile(lambda part: part in ("..", "."), parts)) or "."
    spelled = [name, "/".join(parts), *ends, inside]
    if not name.isascii():
        composed = [unicodedata.normalize("NFC", text) for text in spelled]
        spelled += [*composed, *(unicodedata.normalize("NFD", text) for text in composed)]
    return list(dict.fromkeys(spelled))


def first_present(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """Return the first path of these names, in each of these folders, that exists."""
    paths = (Path(os.path.normpath(folder / name)) for name in names for folder in folders)
    return next((path for path in paths if os.path.exists(path)), None)  # noqa: PTH110 - no NUL
