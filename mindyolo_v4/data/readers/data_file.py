"""The files that describe a whole data set: data.yaml of ultralytics and Roboflow, and obj.data.

`data.file` names one. It stands in place of `data.format`, `root`, `train`, `val`, `test`, `names`
and `num_classes`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.text_files import is_null, parse_yaml, read_text
from mindyolo_v4.data.readers.class_names import read_names, read_settings
from mindyolo_v4.data.readers.files import first_present, spellings, user_path
from mindyolo_v4.errors import UserError, require, require_file

_EXPECTED = "a data.yaml, with names, or darknet's obj.data, with classes, train, valid and names"


@dataclass(frozen=True)
class _Described:
    """What a file says of a data set."""

    folders: Sequence[Path]  # that its paths may be relative to, likeliest first
    splits: Mapping[str, Any]  # train, val, test: a path, a list of paths, or None
    names: Path  # file of the class names
    count_key: str  # key by which the file states the number of classes
    count: Any  # None: not stated


def located(data: DataConfig) -> DataConfig:
    """Return the data set with the fields that `data.file` decides; unchanged if there is none.

    Paths below the folder of the data set are relative to it, so that another `data.root` moves
    them too. A path that does not exist stays as it is: reading that split then reports it.
    Raises UserError where the file is missing, or does not describe a data set.
    """
    if data.file is None:
        return data
    path = user_path(data.file)
    require_file(path, "data.file")
    path = Path(os.path.normpath(path.absolute()))
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    described = _read_yaml(path) if is_yaml else _read_obj_data(path)

    names = read_names(described.names)
    count = described.count
    if not is_null(count) and str(count) != str(len(names)):
        problem = f"{described.count_key} disagrees with the class names of {described.names}"
        raise UserError(path, problem, count, len(names))
    root = _root(described)
    splits = {split: _found(entry, described, root) for split, entry in described.splits.items()}
    return replace(
        data,
        file=None,
        format="yolo",
        root=str(root),
        names=_below(root, described.names),
        num_classes=None,
        **splits,
    )


def _read_yaml(path: Path) -> _Described:
    content = parse_yaml(read_text(path), path)
    if not isinstance(content, dict) or "names" not in content:
        hint = "; a recipe is given by --config" if _is_recipe(content) else ""
        raise UserError(path, f"describes no data set{hint}", None, _EXPECTED)
    base = content.get("path")
    folders = [path.parent]
    if not is_null(base):
        if not isinstance(base, str):
            raise UserError(path, "path is not a folder", base, "path: FOLDER")
        folder = user_path(base)
        folders = [path.parent / folder, Path.cwd() / folder, path.parent]
    val_key = "val" if "val" in content or "valid" not in content else "valid"
    keys = {"train": "train", "val": val_key, "test": "test"}
    splits = {split: _paths(content.get(key), path, key) for split, key in keys.items()}
    return _Described(folders, splits, path, "nc", content.get("nc"))


def _is_recipe(content: Any) -> bool:
    return isinstance(content, dict) and not {"data", "model", "__BASE__"}.isdisjoint(content)


def _read_obj_data(path: Path) -> _Described:
    settings = read_settings(path)
    if "names" not in settings or not {"train", "valid"} & set(settings):
        raise UserError(path, "describes no data set", None, _EXPECTED)
    # darknet takes paths from the folder that it is started in
    folders = [path.parent, Path.cwd(), path.parent.parent]
    names = first_present(folders, spellings(settings["names"]))
    if names is None or not names.is_file():
        expected = f"a file in one of {', '.join(map(str, folders))}"
        raise UserError(path, "its file of names was not found", settings["names"], expected)
    keys = {"train": "train", "val": "valid", "test": "test"}
    splits = {split: settings.get(key) or None for split, key in keys.items()}
    return _Described(folders, splits, names, "classes", settings.get("classes"))


def _paths(entry: Any, path: Path, key: str) -> Any:
    """Return a path or a list of paths of data.yaml. Raises UserError for anything else."""
    if is_null(entry):
        return None
    entries = entry if isinstance(entry, list) else [entry]
    are_paths = bool(entries) and all(isinstance(one, str) and one for one in entries)
    require(are_paths, path, f"{key} is not a path", entry, f"{key}: PATH, or a list of paths")
    return [str(one) for one in entry] if isinstance(entry, list) else str(entry)


def _found(entry: Any, described: _Described, root: Path) -> Any:
    """Return where each path leads, if it leads somewhere."""
    if isinstance(entry, list):
        return [_found(one, described, root) for one in entry]
    path = None if entry is None else first_present(described.folders, spellings(entry))
    return entry if path is None else _below(root, path)


def _below(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _root(described: _Described) -> Path:
    """Return the folder that the paths of the first split that is there are relative to."""
    folders = [Path(os.path.normpath(folder)) for folder in described.folders if folder.is_dir()]
    for entry in described.splits.values():
        names = spellings(entry[0] if isinstance(entry, list) else entry) if entry else []
        for folder in folders:
            if first_present([folder], names) is not None:
                return folder
    return folders[0]
