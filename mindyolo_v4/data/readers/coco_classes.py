"""The classes of a COCO file: its categories, without those that only group others."""

from pathlib import Path
from typing import Any

from mindyolo_v4.config.text_files import split_lines
from mindyolo_v4.data.readers.coco_file import CocoFile
from mindyolo_v4.data.readers.faults import FaultError, Faults, Location
from mindyolo_v4.errors import UserError, first_names


def read_classes(
    file: CocoFile, given: tuple[str, ...] | None, faults: Faults
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Return the class names, and the class of every category id.

    Exports of labelling tools have a category without annotations that is the supercategory of the
    others, or one class under two ids.
    """
    source = file.source
    name_of: dict[int, str] = {}
    categories = []
    for number, category in enumerate(file.entries("categories")):
        category_id: Any = category.get("id")
        name = _name(category)
        if not is_integer(category_id) or name is None:
            location = Location(str(source), file.line("categories", number))
            expected = "an integer id and a name of one line"
            faults.refuse("malformed-entry", location, "malformed category", category, expected)
            continue
        if category_id in name_of:
            location = file.location("categories", number, f"category {category_id}")
            faults.refuse("malformed-entry", location, "its id occurs twice", name)
            continue
        name_of[category_id] = name
        categories.append({**category, "name": name})

    for category_id in _mere_parents(categories, file.entries("annotations")):
        name = name_of[category_id]
        if name not in (given or ()):
            del name_of[category_id]
            problem = "is only the supercategory of others, no class"
            problem = f"category {category_id} {name!r} {problem}"
            faults.warn("info-category", Location(str(source)), problem)
    if not name_of:
        problem = "has no categories that are classes"
        raise FaultError("malformed-file", Location(str(source)), problem)
    ids = sorted(name_of)
    names = given or tuple(dict.fromkeys(name_of[category_id] for category_id in ids))
    if set(names) != set(name_of.values()):
        absent = sorted(set(names) - set(name_of.values()))
        unnamed = sorted(set(name_of.values()) - set(names))
        raise _names_differ(source, absent, unnamed)
    if len(ids) > len(names):
        problem = f"{len(ids)} categories have {len(names)} names, each one class"
        faults.warn("info-category", Location(str(source)), problem)
    class_of = {name: number for number, name in enumerate(names)}
    return names, {category_id: class_of[name_of[category_id]] for category_id in ids}


def _name(category: dict[str, Any]) -> str | None:
    """Return the name without spaces around it, as other formats hold it; None where it is none."""
    name = category.get("name")
    stripped = name.strip() if isinstance(name, str) else ""
    return stripped if stripped and len(split_lines(stripped)) == 1 else None


def _mere_parents(categories: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> list[int]:
    """Return the ids without annotations whose name is the supercategory of other categories.

    A category that is its own supercategory, like COCO's person, is a class.
    """
    parents = {str(category.get("supercategory")).strip() for category in categories}
    suspects = [
        category["id"]
        for category in categories
        if category["name"] in parents and category.get("supercategory") != category["name"]
    ]
    if not suspects:
        return []
    annotated = {str(entry.get("category_id")) for entry in annotations}
    return [category_id for category_id in suspects if str(category_id) not in annotated]


def _names_differ(source: Path, absent: list[str], unnamed: list[str]) -> UserError:
    """Return the error of class names that are not the categories, a few of each kind."""
    parts = []
    for names, problem in ((absent, "not in the file"), (unnamed, "in the file only")):
        if names:
            parts.append(f"{first_names(names, 3)} {problem}")
    problem = f"differs from the categories of {source}"
    expected = "the same names; without data.names, those of the training split or the checkpoint"
    return UserError("data.names", problem, "; ".join(parts), expected)


def is_integer(value: Any) -> bool:
    """Tell whether a value of a JSON file is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
