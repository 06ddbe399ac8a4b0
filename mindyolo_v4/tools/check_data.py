"""Command that reads a data set as training would, and tells what is in it.

python -m mindyolo_v4.tools.check_data --config configs/yolov4/bccd.yaml --data_dir DIR
python -m mindyolo_v4.tools.check_data --data.format voc --data.root DIR --data.train train
"""

import itertools
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.recipe import load_config, print_config
from mindyolo_v4.data.anchor_fit import box_sizes
from mindyolo_v4.data.readers.data_file import located
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset, ImageRecord
from mindyolo_v4.errors import printable, require
from mindyolo_v4.runtime.command import run_command

_PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)


def main(argv: Sequence[str]) -> int:
    """Print what every configured split holds; return the exit status."""
    description = "Read a data set as training would and tell what is in it."
    flat_names = ("data", "data_dir", "single_cls")
    parser = build_parser(command_for("check-data"), description, flat_names)
    arguments = parse(parser, argv)
    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        return print_config(config)
    data = located(config.data)
    locations = {"train": data.train, "val": data.val, "test": data.test}
    splits = [split for split, location in locations.items() if location is not None]
    expected = "at least one of data.train, data.val, data.test"
    require(bool(splits), "data.train", "missing", expected=expected)
    print(describe_datasets({split: read_split(data, split) for split in splits}, data))
    return 0


def describe_datasets(datasets: dict[str, Dataset], data: DataConfig) -> str:
    """Return the report on the splits as text."""
    lines = [
        f"data set {printable(str(data.root))} ({data.format})",
        "",
        *_split_table(datasets),
        "",
        *_class_table(datasets),
    ]
    for split, dataset in datasets.items():
        lines += ["", *_size_table(split, dataset, data)]
    warnings = set_warnings(datasets, data)
    for dataset in datasets.values():
        warnings += dataset.warning_lines()
    title = "warnings" if warnings else "no warnings"
    lines += ["", title, *(f"  {warning}" for warning in warnings)]
    return "\n".join(lines)


def set_warnings(datasets: dict[str, Dataset], data: DataConfig) -> list[str]:
    """Return what is doubtful about the splits together; the readers warn about single files."""
    warnings = []
    for first, second in itertools.combinations(datasets, 2):
        paths = [{record.path for record in datasets[name].records} for name in (first, second)]
        shared = paths[0] & paths[1]
        if shared:
            example = printable(str(min(shared)))
            warnings.append(
                f"{len(shared)} images are in {first} and in {second}, such as {example}"
            )
        if datasets[first].class_names != datasets[second].class_names:
            warnings.append(f"classes of {first} and {second} differ")
    if "train" in datasets:
        train = datasets["train"]
        counts = class_counts(train)
        absent = [name for name, count in zip(train.class_names, counts, strict=True) if count == 0]
        if absent:
            names = printable(", ".join(absent[:10]))
            warnings.append(f"{len(absent)} classes have no box to train on: {names}")
        most = max(_trained(record) for record in train.records)
        limit = data.max_truths
        if most > limit:
            warnings.append(f"an image has {most} boxes, more than data.max_truths {limit}")
    return warnings


def class_counts(dataset: Dataset) -> NDArray[np.int64]:
    """Count the trainable boxes (C,) of every class."""
    ids = [record.class_ids[~record.ignore] for record in dataset.records]
    return np.bincount(np.concatenate(ids), minlength=len(dataset.class_names))


def _trained(record: ImageRecord) -> int:
    return int((~record.ignore).sum())


def _split_table(datasets: dict[str, Dataset]) -> list[str]:
    numbers = f"{'images':>8}{'negatives':>11}{'boxes':>9}{'ignored':>9}{'unlabelled':>12}"
    lines = [f"{'split':<6}{numbers}{'most per image':>16}  source"]
    for split, dataset in datasets.items():
        trained = [_trained(record) for record in dataset.records]
        ignored = sum(int(record.ignore.sum()) for record in dataset.records)
        unlabelled = sum(not record.label_path for record in dataset.records)
        negatives = sum(len(record.class_ids) == 0 for record in dataset.records) - unlabelled
        numbers = f"{len(trained):>8}{negatives:>11}{sum(trained):>9}{ignored:>9}{unlabelled:>12}"
        lines.append(f"{split:<6}{numbers}{max(trained):>16}  {printable(dataset.source)}")
    return lines


def _class_table(datasets: dict[str, Dataset]) -> list[str]:
    names = [printable(name) for name in next(iter(datasets.values())).class_names]
    counts = [class_counts(dataset) for dataset in datasets.values()]
    width = max(len(name) for name in (*names, "class"))
    lines = [f"{'id':>4}  {'class':<{width}}" + "".join(f"{split:>9}" for split in datasets)]
    for class_id, name in enumerate(names):
        cells = "".join(f"{count[class_id] if class_id < len(count) else 0:>9}" for count in counts)
        lines.append(f"{class_id:>4}  {name:<{width}}{cells}")
    return lines


def _size_table(split: str, dataset: Dataset, data: DataConfig) -> list[str]:
    sizes = box_sizes(dataset, data)
    title = f"{split}: box sizes in input pixels ({data.resize} to {data.img_size}), percentiles"
    if not len(sizes):
        return [title, "  no boxes"]
    lines = [title, f"{'':<10}" + "".join(f"{p:>8}%" for p in _PERCENTILES)]
    rows = {"width": sizes[:, 0], "height": sizes[:, 1], "root area": np.sqrt(sizes.prod(axis=1))}
    for name, values in rows.items():
        cells = "".join(f"{value:>9.1f}" for value in np.percentile(values, _PERCENTILES))
        lines.append(f"{name:<10}{cells}")
    return lines


if __name__ == "__main__":
    sys.exit(run_command(main))
