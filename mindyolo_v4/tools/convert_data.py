"""Command that writes a data set in another annotation format, and reads it back to compare.

python -m mindyolo_v4.tools.convert_data --data data.yaml --to coco --output DIR
python -m mindyolo_v4.tools.convert_data --config configs/yolov4/bccd.yaml --to yolo --output DIR
"""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mindyolo_v4.config.command_line import Arguments, build_parser, command_for, parse
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.recipe import load_config, print_config
from mindyolo_v4.data.images import required_bytes
from mindyolo_v4.data.readers.box_checks import are_repeated
from mindyolo_v4.data.readers.data_file import located
from mindyolo_v4.data.readers.files import user_path
from mindyolo_v4.data.readers.split import configured_splits, read_split
from mindyolo_v4.data.records import Dataset, ImageRecord, Records, box_areas_px
from mindyolo_v4.data.writers import (
    CLASSES,
    DATA_YAML,
    Contents,
    NamedImage,
    SplitContent,
    image_folder,
    options_of,
    split_location,
    write_annotations,
)
from mindyolo_v4.errors import UserError, printable, require
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.files import is_free_folder, whole_folder

SPLITS = ("train", "val", "test")
_RESIDUE_PX = 1e-5  # below it, fractions of a large image do not hold all digits
FORMATS = ("coco", "yolo", "voc", "mindrecord")
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # how Python holds the other bytes of a file name


def main(argv: Sequence[str]) -> int:
    """Convert every configured split; return the exit status."""
    description = "Write a data set in another annotation format."
    flat_names = ("data", "data_dir", "single_cls", "seed")
    parser = build_parser(command_for("convert-data"), description, flat_names)
    parser.add_argument("--to", help=f"format to write: {' | '.join(FORMATS)}")
    parser.add_argument("--output", metavar="DIR", help="folder to write, new or empty")
    text = "divide all images anew, at random by --seed: shares of train, val and test, as 8,1,1"
    parser.add_argument("--shares", help=f"{text} (the splits stay)")
    parser.add_argument("--link", action="store_true", help="link the images, do not copy them")
    arguments = parse(parser, argv)
    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        return print_config(config)
    form, output = _target(arguments)
    data = located(config.data)
    link = bool(arguments.options["link"])
    is_packed = "mindrecord" in (form, data.format)
    problem = "images in MindRecord files are not files of their own"
    require(not (link and is_packed), "--link", problem, expected="copies, without --link")

    datasets = _read_all(data, config.data.file)
    shares = arguments.options["shares"]
    if shares is not None:
        datasets = divide(datasets, _shares(str(shares)), config.seed)
    contents, notes = plan(datasets, form)
    with whole_folder(output) as folder:
        _write(contents, form, folder, link)
        _compare(contents, form, folder, data.max_megapixels)

    for split, content in contents.items():
        boxes = sum(len(image.record.class_ids) for image in content.images)
        print(f"{split}: {len(content.images)} images, {boxes} boxes, equal when read back")
    print("\n".join([*notes, f"to use it: {options_of(form, output, list(contents))}"]))
    return 0


def _target(arguments: Arguments) -> tuple[str, Path]:
    form = arguments.options["to"]
    require(form is not None, "--to", "missing", expected=" | ".join(FORMATS))
    require(form in FORMATS, "--to", "unknown format", form, " | ".join(FORMATS))
    given = arguments.options["output"]
    require(given is not None, "--output", "missing", expected="a folder")
    output = user_path(str(given))
    problem = "is not an empty folder"
    require(is_free_folder(output), "--output", problem, given, "a new or an empty folder")
    return str(form), output


def _read_all(data: DataConfig, file: str | None) -> dict[str, Dataset]:
    """Read the configured splits. Raises UserError where they have other classes.

    Exports name a test split whatever they hold: of `file`, one that is not there is left out.
    """
    datasets: dict[str, Dataset] = {}
    for split in configured_splits(data):
        try:
            datasets[split] = read_split(data, split)
        except UserError as error:
            if file is None or error.subject != "data.test" or not datasets:
                raise
            print(f"{error}; the split is left out")
    first, *others = datasets.values()
    for other in others:
        problem = f"its classes are not those of {first.source}"
        is_same = other.class_names == first.class_names
        require(is_same, other.source, problem, list(other.class_names), list(first.class_names))
    return datasets


def _shares(text: str) -> dict[str, float]:
    """Return the share of each split. Raises UserError where they are not shares."""
    expected = "shares of train, val and test, as 8,1,1 or 0.8,0.2"
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        raise UserError("--shares", "not numbers", text, expected) from None
    are_shares = 1 <= len(numbers) <= len(SPLITS) and all(0 <= one < 1e9 for one in numbers)
    require(are_shares and sum(numbers) > 0, "--shares", "no shares", text, expected)
    return {
        split: number / sum(numbers)
        for split, number in zip(SPLITS, numbers, strict=False)
        if number > 0
    }


def divide(datasets: dict[str, Dataset], shares: dict[str, float], seed: int) -> dict[str, Dataset]:
    """Return the images of all splits, each once, divided at random into splits of these shares.

    Raises:
        UserError: a share is so small that its split has no image.
    """
    first = next(iter(datasets.values()))
    by_path = {record.path: record for dataset in datasets.values() for record in dataset.records}
    records = [by_path[path] for path in sorted(by_path)]
    order = np.random.default_rng(seed).permutation(len(records))
    bounds = np.rint(np.cumsum([0.0, *shares.values()]) * len(records)).astype(int).tolist()
    divided = {}
    for number, split in enumerate(shares):
        part = np.sort(order[bounds[number] : bounds[number + 1]])
        problem = f"leaves no image for {split}"
        require(len(part) > 0, "--shares", problem, f"{len(records)} images")
        divided[split] = replace(first, records=Records(records[index] for index in part.tolist()))
    return divided


def plan(datasets: dict[str, Dataset], form: str) -> tuple[Contents, list[str]]:
    """Return what is written, and a line for whatever the format cannot hold."""
    counts = dict.fromkeys(_LOSSES, 0)
    taken: dict[tuple[Path, str], Path] = {}  # (folder, stem) -> the image that has it
    contents = {}
    for split, dataset in datasets.items():
        images: dict[Path, NamedImage] = {}
        for record in dataset.records:
            if record.path in images:
                counts["lines"] += 1
                continue
            name = _free_name(record.path, image_folder(form, split), taken)
            images[record.path] = NamedImage(_fit(record, form, counts), name)
        ids = dataset.category_ids
        if form == "coco" and list(ids) != sorted(ids):
            ids = tuple(range(1, len(ids) + 1))
        named = _with_own_ids(list(images.values()))
        contents[split] = SplitContent(named, dataset.class_names, ids)
    return contents, [f"{count} {_LOSSES[kind]}" for kind, count in counts.items() if count]


_LOSSES = {
    "lines": "lines that repeat an image are left out",
    "repeated": "boxes that repeat another one are left out",
    "ignored": "crowd or difficult boxes are left out: YOLO labels have no mark for them",
    "crowd": "crowd boxes become difficult ones",
    "difficult": "difficult boxes become crowd boxes",
    "areas": "areas are now those of the boxes: only COCO files state areas",
}


def _with_own_ids(images: list[NamedImage]) -> list[NamedImage]:
    """Return the images with other ids where those of several splits repeat one another."""
    if len({image.record.image_id for image in images}) == len(images):
        return images
    return [
        replace(image, record=replace(image.record, image_id=number))
        for number, image in enumerate(images, 1)
    ]


def _free_name(path: Path, folder: Path, taken: dict[tuple[Path, str], Path]) -> str:
    """Return the name of an image in a folder where each stem is there once, in UTF-8."""
    number = 1
    first = stem = _NOT_UTF8.sub("_", path.stem)
    while taken.setdefault((folder, stem.lower()), path) != path:
        number += 1
        stem = f"{first}_{number}"
    return f"{stem}{_NOT_UTF8.sub('_', path.suffix)}"


def _fit(record: ImageRecord, form: str, counts: dict[str, int]) -> ImageRecord:
    """Return a record as the format can hold it; count what is lost."""
    if form == "mindrecord":
        return record
    if form == "coco":
        counts["difficult"] += int((record.ignore & ~record.crowd).sum())
        return replace(record, crowd=record.ignore)
    if form == "yolo":
        counts["ignored"] += int(record.ignore.sum())
        record = _snapped(record.with_boxes(~record.ignore))
    else:
        counts["crowd"] += int(record.crowd.sum())
    labels = np.stack([record.class_ids, record.ignore], axis=1).astype(np.float64)
    is_repeated = are_repeated(labels, record.boxes_xyxy_px)
    counts["repeated"] += int(is_repeated.sum())
    record = record.with_boxes(~is_repeated)
    own_areas = box_areas_px(record.boxes_xyxy_px)
    counts["areas"] += int((record.areas_px != own_areas).sum())
    return replace(record, crowd=np.zeros(len(own_areas), bool), areas_px=own_areas)


def _snapped(record: ImageRecord) -> ImageRecord:
    """Move coordinates that rounding left beside an edge of the image onto it.

    Fractions of the image hold 2.8e-14 px as 0, or not exactly.
    """
    boxes = record.boxes_xyxy_px
    limits = np.array([record.width, record.height] * 2, boxes.dtype)
    snapped = np.where(boxes < _RESIDUE_PX, boxes.dtype.type(0), boxes)
    snapped = np.where(limits - boxes < _RESIDUE_PX, limits, snapped)
    is_own = record.areas_px == box_areas_px(boxes)
    areas = np.where(is_own, box_areas_px(snapped), record.areas_px)
    return replace(record, boxes_xyxy_px=snapped, areas_px=areas)


def _write(contents: Contents, form: str, folder: Path, link: bool) -> None:
    if form == "mindrecord":
        from mindyolo_v4.tools.packing import pack_detector  # the one format that needs MindSpore

        for split, content in contents.items():
            pack_detector(folder, split, content)
        return
    _place_images(contents, form, folder, link)
    write_annotations(form, folder, contents)


def _place_images(contents: Contents, form: str, folder: Path, link: bool) -> None:
    images = [(split, image) for split, content in contents.items() for image in content.images]
    for split, image in tqdm(images, unit="image", desc="images", disable=None):
        target = folder / image_folder(form, split) / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or target.exists():  # VOC: an image of two splits
            continue
        if link:
            target.symlink_to(os.path.realpath(image.record.path))
        else:
            target.write_bytes(required_bytes(image.record.encoded))


def _compare(contents: Contents, form: str, folder: Path, max_megapixels: float) -> None:
    """Read every split back. Raises UserError where a record is not the one that was written."""
    if form == "yolo":
        data = located(DataConfig(file=str(folder / DATA_YAML)))
    else:
        names = CLASSES if form == "voc" else None
        data = DataConfig(format=form, root=str(folder), names=names)
    data = replace(data, max_megapixels=max_megapixels)
    for split, content in contents.items():
        if form != "yolo":
            place = split_location(form, split)
            data = replace(data, train=place, val=place, test=place)
        read = read_split(data, split)
        names = list(content.class_names)
        problem = "does not hold the class names that were written"
        is_same = read.class_names == content.class_names
        require(is_same, read.source, problem, list(read.class_names), names)
        problem = "does not hold the images that were written"
        count = len(content.images)
        require(len(read) == count, read.source, problem, len(read), count)
        for image, record in zip(content.images, read.records, strict=True):
            problem = f"does not hold the boxes of {printable(str(image.record.path))}"
            require(_is_equal(image, record), read.source, problem)


def _is_equal(image: NamedImage, record: ImageRecord) -> bool:
    written = image.record
    return (
        record.path.name == image.name
        and (record.width, record.height) == (written.width, written.height)
        and np.array_equal(record.boxes_xyxy_px, written.boxes_xyxy_px)
        and np.array_equal(record.class_ids, written.class_ids)
        and np.array_equal(record.ignore, written.ignore)
        and np.array_equal(record.crowd, written.crowd)
        and np.array_equal(record.areas_px, written.areas_px)
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
