"""Where class names come from when the configuration or a side file gives them."""

import re
from pathlib import Path
from typing import Any

from mindyolo_v4.config.data import DataConfig, check_names
from mindyolo_v4.config.text_files import parse_yaml, read_lines, read_text
from mindyolo_v4.data.readers.files import first_present, spellings, user_path
from mindyolo_v4.errors import UserError

# looked for in this order, then *.names
_NAME_FILES = ("data.yaml", "data.yml", "classes.txt", "labels/classes.txt")
_MOST_KEY_POINTS = 1000
_SETTING = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*")  # a line of darknet's obj.data
_KEYS = frozenset(("classes", "train", "valid", "names", "backup", "eval"))  # of which it has some


def configured_names(data: DataConfig, root: Path) -> tuple[str, ...] | None:
    """Return data.names as a tuple, read from its file when it is one; None when it is not given.

    A file name is relative to `root`, else to the working folder.
    """
    if data.names is None:
        return None
    if not isinstance(data.names, str):
        return tuple(data.names)
    path = _names_file(data, root)
    if path is None:
        raise UserError("data.names", "file not found", data.names, f"a list, or a file in {root}")
    return read_names(path)


def _names_file(data: DataConfig, root: Path) -> Path | None:
    """Return the file that data.names names, None where it names none or the file is missing."""
    if not isinstance(data.names, str):
        return None
    named = user_path(data.names)
    return next((path for path in (root / named, named) if path.is_file()), None)


def names_beside_labels(root: Path) -> tuple[str, ...]:
    """Return the names in the one file of `root` that has them. Raises UserError without one."""
    for name in _NAME_FILES:
        if (root / name).is_file():
            return read_names(root / name)
    paths = sorted(root.glob("*.names"))
    if not paths:
        problem = f"missing, and {root} holds no {', '.join(_NAME_FILES)} or *.names"
        raise UserError("data.names", problem)
    if len(paths) > 1:
        several = ", ".join(path.name for path in paths)
        raise UserError("data.names", f"missing, and {root} holds several", several)
    return read_names(paths[0])


def read_names(path: Path, skip_empty: bool = False) -> tuple[str, ...]:
    """Read names: one per line, `names` of a YAML file, or the file that darknet's obj.data names.

    Args:
        skip_empty: an empty line between names is not an error.

    Raises:
        UserError: names the file, and the line, that is wrong.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return check_names(_yaml_names(path), path)
    settings = read_settings(path)
    if len(_KEYS & settings.keys()) < 2:
        return _check_lines(_lines(path), path, skip_empty)
    named = settings.get("names", "")
    names = first_present([path.parent, Path()], spellings(named)) if named else None
    if names is None or names == path or not names.is_file():
        problem = "describes a data set for darknet, and the names file in it was not found"
        raise UserError(path, problem, named or "no names =", f"a file in {path.parent}")
    return _check_lines(_lines(names), names, skip_empty)


def read_settings(path: Path) -> dict[str, str]:
    """Return what the lines `key = value` of a file say, such as those of darknet's obj.data."""
    lines = [line.partition("#")[0] for line in read_lines(path)]
    matches = [match for line in lines if (match := _SETTING.fullmatch(line))]
    # Of a key that stands twice darknet takes the first (option_find).
    return {match[1]: match[2] for match in reversed(matches)}


def _check_lines(lines: list[str], path: Path, skip_empty: bool) -> tuple[str, ...]:
    names = [line for line in lines if line or not skip_empty]
    return check_names(names, path, are_lines=len(names) == len(lines))


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _yaml_entry(path: Path, key: str) -> Any:
    """Return a value at the top of a YAML file, None where there is none."""
    content = parse_yaml(read_text(path), path)
    return content.get(key) if isinstance(content, dict) else None


def _yaml_names(path: Path) -> list[str]:
    names = _yaml_entry(path, "names")
    if isinstance(names, dict):
        ids = [str(number) for number in range(len(names))]
        if set(names) != set(ids):
            problem = "class ids under names: are not 0, 1, 2, ..."
            raise UserError(path, problem, ", ".join(map(str, names)))
        names = [names[number] for number in ids]
    if not isinstance(names, list):
        raise UserError(path, "has no list of class names", expected="names: [..]")
    return names


def key_point_shape(data: DataConfig, root: Path) -> tuple[int, int] | None:
    """Return `kpt_shape` of the set's YAML file: key points per row, numbers per key point.

    No key points per row means that rows of more than a box are polygons.
    """
    for path in (_names_file(data, root), root / "data.yaml", root / "data.yml"):
        if path is None or path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
            continue
        shape = _yaml_entry(path, "kpt_shape")
        if shape is None:
            continue
        try:
            points, numbers = (int(value) for value in shape)
        except (TypeError, ValueError):
            points = numbers = 0
        is_valid = isinstance(shape, list) and 0 <= points <= _MOST_KEY_POINTS
        if not is_valid or numbers not in (2, 3):
            raise UserError(path, "malformed kpt_shape", shape, "[number of points, 2 or 3]")
        return points, numbers
    return None


def check_class_count(data: DataConfig, names: tuple[str, ...], source: str) -> None:
    """Raise UserError unless the names are text, and as many as data.num_classes says."""
    for name in names:
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(source, "class name is not text that can be written", name)
    if data.num_classes is not None and data.num_classes != len(names):
        problem = f"disagrees with the class names of {source}"
        raise UserError("data.num_classes", problem, data.num_classes, len(names))
