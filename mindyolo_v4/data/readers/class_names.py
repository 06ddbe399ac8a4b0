"""Where class names come from when the configuration or a side file gives them."""

from pathlib import Path

import yaml

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.files import read_lines
from mindyolo_v4.errors import UserError

# looked for in this order, then *.names
_NAME_FILES = ("data.yaml", "data.yml", "classes.txt", "labels/classes.txt")


def configured_names(data: DataConfig, root: Path) -> tuple[str, ...] | None:
    """Return data.names as a tuple, read from its file when it is one; None when it is not given.

    A file name is relative to `root`, else to the working folder.
    """
    if data.names is None:
        return None
    if not isinstance(data.names, str):
        return tuple(data.names)
    path = next((p for p in (root / data.names, Path(data.names)) if p.is_file()), None)
    if path is None:
        raise UserError("data.names", "file not found", data.names, f"a list, or a file in {root}")
    return read_names(path)


def names_beside_labels(root: Path) -> tuple[str, ...]:
    """Return the names of the one file in `root` that holds them.

    Raises:
        UserError: there is none, or several `*.names`.
    """
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


def read_names(path: Path) -> tuple[str, ...]:
    """Read names, one per line, or the `names` entry (list, or id: name) of a YAML file."""
    numbered = _yaml_names(path) if path.suffix in (".yaml", ".yml") else _text_names(path)
    seen: set[str] = set()
    for where, name in numbered:
        if not name:
            raise UserError(where, "empty class name")
        if name in seen:
            raise UserError(where, "class name occurs twice", name)
        seen.add(name)
    if not numbered:
        raise UserError(path, "holds no class names")
    return tuple(name for _, name in numbered)


def _text_names(path: Path) -> list[tuple[str, str]]:
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    return [(f"{path}:{number}", line) for number, line in enumerate(lines, 1)]


def _yaml_names(path: Path) -> list[tuple[str, str]]:
    try:
        content = yaml.safe_load("\n".join(read_lines(path)))
    except yaml.YAMLError as error:
        raise UserError(path, f"not valid YAML: {error}") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            problem = "class ids under names: are not 0, 1, 2, ..."
            raise UserError(path, problem, sorted(names, key=str))
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise UserError(path, "has no list of class names", expected="names: [..]")
    return [(str(path), str(name)) for name in names]


def check_class_count(data: DataConfig, names: tuple[str, ...], source: str) -> None:
    """Raise UserError when data.num_classes is given and is not the number of names."""
    if data.num_classes is not None and data.num_classes != len(names):
        problem = f"disagrees with the class names of {source}"
        raise UserError("data.num_classes", problem, data.num_classes, len(names))
