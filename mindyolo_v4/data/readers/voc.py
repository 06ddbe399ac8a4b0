"""Pascal VOC: `ImageSets/Main/<list>.txt`, `Annotations/<name>.xml`, `JPEGImages/<name>.*`.

A folder in place of a list stands for all annotations in it, whose images lie beside them or in
JPEGImages. Coordinates count as the edges of the box. (VOC's own are 1-based pixel indices, both
inclusive, so the strict edges would be xmin - 1 and ymin - 1; the tools that write this format
today mean edges.)
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import configured_names
from mindyolo_v4.data.readers.faults import Edit, FaultError, Faults, Location, annotation_lines
from mindyolo_v4.data.readers.files import (
    FileFinder,
    files_below,
    files_of,
    first_present,
    spellings,
)
from mindyolo_v4.data.readers.ground_truth import build_records, warn_of_unlabelled
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.data.readers.raw import ListedImage, RawBox
from mindyolo_v4.data.readers.voc_file import VocAnnotation, read_annotation
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError


def read_voc(data: DataConfig, root: Path, key: str, split: Any, faults: Faults) -> Dataset:
    """Read the images of an `ImageSets/Main` list; `difficult` objects become ignored boxes.

    Without data.names the classes are the sorted names in the annotations of all splits that the
    configuration has, so that training and validation agree.

    Args:
        key: configuration key of the split, for messages.
        split: name of the list, or a list file or a folder relative to `root`.

    Raises:
        UserError: names the list or XML file and the line that is wrong.
    """
    if not isinstance(split, str):
        expected = "the name of a list in ImageSets/Main"
        raise UserError(key, "not a split of data.format voc", split, expected)
    source = _source(root, split)
    if source is None:
        listing = str(root / "ImageSets" / "Main" / f"{split}.txt")
        expected = f"that list, or {key} . for all annotations below {root}"
        raise UserError(key, "list not found", listing, expected)
    images = _images(source, root, faults)
    if not images:
        raise FaultError("no-images", Location(str(source)), "lists no images")
    expected = str(root / "Annotations" / f"{images[0].path.stem}.xml")
    warn_of_unlabelled(images, str(source), "an annotation file", expected, 0.0, faults)
    annotations = [_annotation(image.label_path, faults) for image in images]
    names = configured_names(data, root)
    names = names or _names_of_all_splits(data, root, source, annotations, faults)
    boxes = _boxes(images, annotations, names, faults)
    listed = [
        replace(image, image_id=number, stated_size=annotation.stated_size)
        for number, (image, annotation) in enumerate(zip(images, annotations, strict=True), 1)
    ]
    records = build_records(listed, boxes, faults, data.max_megapixels)
    category_ids = tuple(range(1, len(names) + 1))
    return Dataset(records, names, category_ids, str(source), tuple(faults.warnings))


def _boxes(
    images: list[ListedImage],
    annotations: list[VocAnnotation],
    names: tuple[str, ...],
    faults: Faults,
) -> list[RawBox]:
    class_of = {name: class_id for class_id, name in enumerate(names)}
    boxes = []
    for index, annotation in enumerate(annotations):
        for item in annotation.objects:
            class_id = class_of.get(item.name)
            if class_id is None:
                label = images[index].label_path
                problem = "class is not among data.names"
                location = Location(label, item.line)
                edit = Edit(label, "object", item.number, None)
                faults.refuse("unknown-class", location, problem, item.name, ", ".join(names), edit)
                continue
            box = RawBox(
                image=index,
                box_xyxy=item.box_xyxy_px,
                class_id=class_id,
                number=item.number,
                line=item.line,
                ignore=item.difficult,
            )
            boxes.append(box)
    return boxes


def _annotation(label: str, faults: Faults) -> VocAnnotation:
    """Return what is right of an annotation file; nothing for the name ""."""
    if label:
        with faults.go_on():
            return read_annotation(Path(label), faults)
    return VocAnnotation(None, ())


def _source(root: Path, split: str) -> Path | None:
    """Return the list, or the folder, that a split names."""
    lists = root / "ImageSets" / "Main"
    candidates = (lists / f"{split}.txt", lists / split)
    listed = next((path for path in candidates if path.is_file()), None)
    return listed or first_present((root,), spellings(split, is_typed=True))


def _images(source: Path, root: Path, faults: Faults) -> list[ListedImage]:
    """Return the images of a list with their annotations, or the annotations of a folder."""
    finder = FileFinder()
    images = []
    if source.is_dir():
        for name in sorted(files_below(source, (".xml",))):
            label = source / name
            where = Location(str(label))
            path = _image_file(label.with_suffix("").name, _image_folders(label, root), finder)
            if path is None:
                expected = f"an image {label.stem} beside it or in JPEGImages"
                problem = "its image is missing"
                faults.refuse("annotation-without-image", where, problem, None, expected)
                continue
            images.append(ListedImage(path, 0, str(label), where))
        if not images:
            expected = "annotations, or a list of images"
            raise FaultError(
                "no-images", Location(str(source)), "holds no XML file", None, expected
            )
        return images
    for number, line in enumerate(annotation_lines(source), 1):
        name = line.strip()
        if not name:
            continue
        where = Location(str(source), number)
        found = (_image_file(text, [root / "JPEGImages"], finder) for text in spellings(name))
        path = next((path for path in found if path is not None), None)
        removal = Edit(where.file, "line", number, None)
        if path is None:
            got = str(root / "JPEGImages" / name)
            expected = f"that name with one of {' '.join(IMAGE_SUFFIXES)}"
            faults.refuse("missing-image", where, "image is missing", got, expected, removal)
            continue
        label_path = str(_label_file(name, root, finder) or "")
        images.append(ListedImage(path, 0, label_path, where, removal=removal))
    if faults.collects:
        _note_labels_without_image(root, finder, faults)
    return images


def _note_labels_without_image(root: Path, finder: FileFinder, faults: Faults) -> None:
    folder = root / "Annotations"
    for name in sorted(files_of(folder, (".xml",))) if folder.is_dir() else ():
        stem = name[: -len(".xml")]
        if _image_file(stem, [root / "JPEGImages"], finder) is None:
            problem = f"no image of this name in {root / 'JPEGImages'}"
            faults.note("annotation-without-image", Location(str(folder / name)), problem)


def _label_file(name: str, root: Path, finder: FileFinder) -> Path | None:
    """Return the annotation of a name in a list, which may have the suffix of the image."""
    for text in spellings(name):
        stems = [Path(text)]
        if text.lower().endswith(IMAGE_SUFFIXES):
            stems.append(Path(text).with_suffix(""))
        for stem in stems:
            label = finder.find(root / "Annotations" / f"{stem}.xml")
            if label is not None:
                return label
    return None


def _image_folders(label: Path, root: Path) -> list[Path]:
    """Return where the image of an annotation may lie, if no list names it."""
    beside = label.parent
    parts = ["JPEGImages" if part == "Annotations" else part for part in beside.parts]
    return [beside, Path(*parts), root / "JPEGImages", root / "images"]


def _image_file(name: str, folders: list[Path], finder: FileFinder) -> Path | None:
    """Return the image of a name with or without suffix."""
    suffixes = ("", *IMAGE_SUFFIXES) if name.lower().endswith(IMAGE_SUFFIXES) else IMAGE_SUFFIXES
    paths = (folder / f"{name}{suffix}" for folder in folders for suffix in suffixes)
    return next((found for path in paths if (found := finder.find(path))), None)


def _names_of_all_splits(
    data: DataConfig, root: Path, source: Path, annotations: list[VocAnnotation], faults: Faults
) -> tuple[str, ...]:
    names = {item.name for annotation in annotations for item in annotation.objects}
    splits = [split for split in data.splits.values() if isinstance(split, str)]
    others = {other for split in splits if (other := _source(root, split)) is not None} - {source}
    finder = FileFinder()
    labels: set[Path] = set()
    for other in others:
        if other.is_dir():
            labels |= {other / name for name in files_below(other, (".xml",))}
        else:
            lines = filter(None, (line.strip() for line in annotation_lines(other)))
            found = (_label_file(name, root, finder) for name in lines)
            labels |= {label for label in found if label is not None}
    of_others = Faults(faults.collects)  # whoever reads the other splits reports their faults
    for label in labels:
        names.update(item.name for item in _annotation(str(label), of_others).objects)
    if not names:
        problem = "its annotations hold no objects, and data.names is missing"
        raise FaultError("no-boxes", Location(str(source)), problem)
    return tuple(sorted(names))
