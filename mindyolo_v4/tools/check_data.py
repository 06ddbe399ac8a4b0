"""Command that reports every fault of a data set, and tells what is in it.

python -m mindyolo_v4.tools.check_data --config configs/yolov4/bccd.yaml --data_dir DIR
python -m mindyolo_v4.tools.check_data --data.format voc --data.root DIR --data.train train
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.recipe import load_config, print_config
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.image_check import Picture, ReadBytes, decode_all, note_shared
from mindyolo_v4.data.images import read_encoded
from mindyolo_v4.data.readers.data_file import located
from mindyolo_v4.data.readers.faults import Edit, Fault, FaultError, Faults, Location
from mindyolo_v4.data.readers.files import IMAGE_SUFFIXES, data_root, files_of
from mindyolo_v4.data.readers.headers import read_headers
from mindyolo_v4.data.readers.imagenet import read_imagenet
from mindyolo_v4.data.readers.split import configured_splits, read_split
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError, printable, require
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.files import is_free_folder, write_json
from mindyolo_v4.tools.corrected_annotations import write_corrected
from mindyolo_v4.tools.data_report import as_json, class_counts, describe_datasets, fault_lines


@dataclass
class CheckedSplit:
    """One split that was read as far as it can be read."""

    faults: Faults
    dataset: Dataset | ClassImages | None = None  # None: nothing of it could be read
    pictures: list[Picture] = field(default_factory=list)  # none where only headers were read

    def has(self, kind: str) -> bool:
        """Return whether a fault of this kind was found."""
        return any(fault.kind == kind for fault in self.faults.found)


def main(argv: Sequence[str]) -> int:
    """Print faults and counts of the splits; return 0 without faults, 1 with faults."""
    description = "Report every fault of a data set, and tell what is in it."
    program = command_for("check-data")
    defaults = {"split": "all that are configured"}
    flat_names = ("data", "data_dir", "single_cls", "split")
    parser = build_parser(program, description, flat_names, defaults=defaults)
    text = "file for faults and counts, for other programs"
    parser.add_argument("--json", type=Path, metavar="FILE", help=text)
    text = "new folder for a corrected copy of the annotations"
    parser.add_argument("--fix", type=Path, metavar="DIR", help=text)
    text = "read the headers of the images, and decode none"
    parser.add_argument("--quick", action="store_true", help=text)
    arguments = parse(parser, argv)
    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        return print_config(config)
    data = replace(located(config.data), fraction=1.0)  # the whole set
    json_file: Path | None = arguments.options["json"]
    fix: Path | None = arguments.options["fix"]
    _require_outputs(json_file, fix, data)
    is_one = "evaluate.split" in dict(arguments.overrides)
    splits = [config.evaluate.split] if is_one else configured_splits(data)

    is_quick = bool(arguments.options["quick"])
    checked = _check_splits(data, splits, config.data.file, is_quick)
    faults = all_faults(checked, data)
    datasets = {split: one.dataset for split, one in checked.items() if one.dataset is not None}
    lines = [
        f"data set {printable(str(data.root))} ({data.format})",
        "",
        *fault_lines(faults),
        *describe_datasets(datasets, data),
    ]
    print("\n".join(lines))
    if json_file is not None:
        write_json(json_file, as_json(faults, datasets, data), indent=1)
    if fix is not None:
        print("\n".join(["", *_fix(checked, data, fix)]))
    return int(any(not fault.is_info for fault in faults))


def _require_outputs(json_file: Path | None, fix: Path | None, data: DataConfig) -> None:
    """Refuse before the long work what cannot be written after it."""
    if json_file is not None:
        is_free = json_file.is_file() or not json_file.exists()  # neither folder nor device
        is_file = json_file.parent.is_dir() and is_free
        require(is_file, "--json", "cannot be written", str(json_file), "a file in a folder")
    if fix is not None:
        problem = "is not a new or empty folder"
        require(is_free_folder(fix), "--fix", problem, str(fix), "a folder to be made")
        has_files = data.format != "mindrecord"
        expected = "the data set that was packed"
        require(has_files, "--fix", "corrects no packed annotations", data.format, expected)


def _check_splits(
    data: DataConfig, splits: Sequence[str], file: str | None, is_quick: bool
) -> dict[str, CheckedSplit]:
    """Read the splits; one that is not there is a fault of the file that describes the data set.

    Exports name a test split whatever they hold. Raises UserError where no split is there.
    """
    checked: dict[str, CheckedSplit] = {}
    absent: list[UserError] = []
    for split in splits:
        try:
            checked[split] = check_split(data, split, is_quick)
        except UserError as error:
            if file is None or error.subject != f"data.{split}":
                raise
            absent.append(error)
            checked[split] = CheckedSplit(Faults(collects=True))
            checked[split].faults.note("no-images", Location(file), str(error))
    if len(absent) == len(splits):
        raise absent[0]
    return checked


def check_split(data: DataConfig, split: str, is_quick: bool) -> CheckedSplit:
    """Read one split, and decode its images unless `is_quick`.

    Raises:
        UserError: the configuration is wrong, so that the split cannot be read at all.
    """
    checked = CheckedSplit(Faults(collects=True))
    faults = checked.faults
    images: dict[Path, ReadBytes]  # each once
    try:
        if data.format == "imagenet":
            classes = read_imagenet(data, split, faults)
            checked.dataset = classes
            paths = [classes.path(index) for index in range(len(classes))]
            headers = read_headers(
                paths, [Location(str(path)) for path in paths], data.max_megapixels, faults
            )
            images = {
                path: partial(read_encoded, path)
                for path, header in zip(paths, headers, strict=True)
                if header is not None
            }
        else:
            dataset = read_split(data, split, faults=faults)
            checked.dataset = dataset
            images = {record.path: record.encoded for record in dataset.records}
    except FaultError as error:
        faults.found.append(error.fault)
        return checked
    if not is_quick:
        limit = data.max_megapixels
        checked.pictures = decode_all(images, limit, data.num_workers, faults, split)
    return checked


def all_faults(checked: dict[str, CheckedSplit], data: DataConfig) -> list[Fault]:
    """Return the faults of the splits, and those of the splits together, each once."""
    together = Faults(collects=True)
    for first, second in itertools.combinations(checked, 2):
        _compare(first, checked[first], checked[second], together)
    train = checked["train"].dataset if "train" in checked else None
    if train is not None:
        _note_training(train, data, together)
    found = [fault for one in checked.values() for fault in one.faults.found]
    if len(checked) > 1:
        _note_unused(checked, {fault.file for fault in found}, together)
    return list(dict.fromkeys([*found, *together.found]))


def _compare(first_name: str, first: CheckedSplit, second: CheckedSplit, faults: Faults) -> None:
    if first.dataset is None or second.dataset is None:
        return
    if first.dataset.class_names != second.dataset.class_names:
        problem = f"has other classes than {first_name}"
        faults.note("classes-differ", Location(second.dataset.source), problem)
    if first.pictures and second.pictures:
        note_shared(first.pictures, second.pictures, first_name, faults)
        return
    if isinstance(first.dataset, Dataset) and isinstance(second.dataset, Dataset):
        paths = {record.path for record in first.dataset.records}
        for path in sorted({record.path for record in second.dataset.records} & paths):
            faults.note("shared-image", Location(str(path)), f"is in {first_name}, too")


def _note_unused(checked: dict[str, CheckedSplit], bad: set[str], faults: Faults) -> None:
    """Report the images beside those of the splits that no split uses."""
    detectors = [one.dataset for one in checked.values() if isinstance(one.dataset, Dataset)]
    used = {one.path for dataset in detectors for one in dataset.records if one.packed is None}
    for folder in sorted({path.parent for path in used}):
        paths = [folder / name for name in sorted(files_of(folder, IMAGE_SUFFIXES))]
        unused = [path for path in paths if path not in used and str(path) not in bad]
        if unused:
            problem = f"{len(unused)} images are in none of the splits, such as {unused[0].name}"
            faults.note("info-unused-image", Location(str(folder)), problem)


def _note_training(train: Dataset | ClassImages, data: DataConfig, faults: Faults) -> None:
    location = Location(train.source)
    counts = class_counts(train)
    absent = [name for name, count in zip(train.class_names, counts, strict=True) if count == 0]
    if absent:
        names = printable(", ".join(absent[:10]))
        problem = f"{len(absent)} classes have no box to train on: {names}"
        faults.note("info-class-without-boxes", location, problem)
    if isinstance(train, Dataset):
        most = int(train.records.objects_per_image().max(initial=0))
        if most > data.max_truths:
            problem = f"an image has {most} boxes, more than data.max_truths {data.max_truths}"
            faults.note("info-many-boxes", location, problem)


def _fix(checked: dict[str, CheckedSplit], data: DataConfig, folder: Path) -> list[str]:
    """Write the corrected annotations; return what was changed, and what was not."""
    files: list[Path] = []
    edits: list[Edit] = []
    for one in checked.values():
        edits += one.faults.edits
        if one.dataset is None:
            continue
        sources: Sequence[Path] = [Path(one.dataset.source)]
        if isinstance(one.dataset, Dataset):
            files += [Path(one.label_path) for one in one.dataset.records if one.label_path]
            sources = one.dataset.sources or sources
        files += [path for path in sources if path.is_file()]
    lines = []
    with_shift = [one for one in checked.values() if one.has("class-ids-from-one")]
    if 0 < len(with_shift) < len(checked):
        edits = [edit for edit in edits if edit.part != "line" or not isinstance(edit.value, int)]
        lines.append("class ids stay: not all splits show that they start at 1")
    root = data_root(data)
    changes = write_corrected(files, edits, root, folder)
    outside = sorted({edit.file for edit in edits if not Path(edit.file).is_relative_to(root)})
    if outside:
        text = f"{len(outside)} corrected files belong outside {root}, such as {outside[0]}"
        lines.append(printable(f"{text}: copy each to its place; here it has its whole path", 900))
    title = f"{len(changes)} changes in {printable(str(folder))}"
    return [title, *(f"  {line}" for line in (*lines, *changes))]


if __name__ == "__main__":
    sys.exit(run_command(main))
