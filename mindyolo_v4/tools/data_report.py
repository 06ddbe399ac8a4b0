"""What `tools.check_data` tells of a data set: faults, tables, and the same as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.anchor_fit import box_sizes
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.readers.faults import Fault
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import printable

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
_INFOS_SHOWN = 5  # of each kind

Datasets = Mapping[str, Dataset | ClassImages]


def fault_lines(faults: Sequence[Fault]) -> list[str]:
    """Return a line for every fault, and for the first infos of each kind."""
    wrong = [fault for fault in faults if not fault.is_info]
    lines = [f"{len(wrong)} faults" if len(wrong) != 1 else "1 fault"] if wrong else ["no faults"]
    lines += [f"  {fault.kind}  {fault}" for fault in wrong]
    infos = [fault for fault in faults if fault.is_info]
    if infos:
        lines += ["", "worth knowing"]
    for kind in dict.fromkeys(fault.kind for fault in infos):
        own = [fault for fault in infos if fault.kind == kind]
        lines += [f"  {kind}  {fault}" for fault in own[:_INFOS_SHOWN]]
        if len(own) > _INFOS_SHOWN:
            lines.append(f"  {kind}  ... and {len(own) - _INFOS_SHOWN} more (--json FILE has all)")
    return lines


def describe_datasets(datasets: Datasets, data: DataConfig) -> list[str]:
    """Return the tables of the splits, as lines."""
    lines: list[str] = []
    detectors = {name: one for name, one in datasets.items() if isinstance(one, Dataset)}
    if detectors:
        lines += ["", *_split_table(detectors, data)]
    else:
        lines += ["", *(f"{name:<6} {one.summary()}" for name, one in datasets.items())]
    if datasets:
        lines += ["", *_class_table(datasets)]
    for split, dataset in detectors.items():
        lines += ["", *_size_table(split, dataset, data)]
    return lines


def as_json(faults: Sequence[Fault], datasets: Datasets, data: DataConfig) -> dict[str, Any]:
    """Return faults and counts for other programs."""
    counts = {split: _counts(dataset, data) for split, dataset in datasets.items()}
    return {"faults": [asdict(fault) for fault in faults], "counts": counts}


def class_counts(dataset: Dataset | ClassImages) -> NDArray[np.int64]:
    """Count the trainable boxes, or the images, (C,) of every class."""
    images = dataset if isinstance(dataset, ClassImages) else dataset.records
    return np.bincount(images.objects()[1], minlength=len(dataset.class_names))


def _counts(dataset: Dataset | ClassImages, data: DataConfig) -> dict[str, Any]:
    classes = dict(zip(dataset.class_names, class_counts(dataset).tolist(), strict=True))
    counts: dict[str, Any] = {"source": dataset.source, "images": len(dataset)}
    if isinstance(dataset, ClassImages):
        return {**counts, "classes": classes}
    trained = dataset.records.objects_per_image().tolist()
    counts["images_without_boxes"] = sum(len(one.class_ids) == 0 for one in dataset.records)
    counts["images_without_annotation"] = sum(not one.label_path for one in dataset.records)
    counts["boxes"] = sum(trained)
    counts["ignored_boxes"] = sum(int(record.ignore.sum()) for record in dataset.records)
    counts["most_boxes_per_image"] = max(trained, default=0)
    counts["classes"] = classes
    sizes = {
        name: dict(zip(map(str, PERCENTILES), values, strict=True))
        for name, values in _size_percentiles(dataset, data).items()
    }
    return {**counts, "box_sizes_px": sizes}


def _split_table(datasets: Mapping[str, Dataset], data: DataConfig) -> list[str]:
    numbers = f"{'images':>8}{'negatives':>11}{'boxes':>9}{'ignored':>9}{'unlabelled':>12}"
    lines = [f"{'split':<6}{numbers}{'most per image':>16}  source"]
    for split, dataset in datasets.items():
        counts = _counts(dataset, data)
        unlabelled = counts["images_without_annotation"]
        negatives = counts["images_without_boxes"] - unlabelled
        numbers = f"{counts['images']:>8}{negatives:>11}{counts['boxes']:>9}"
        numbers += f"{counts['ignored_boxes']:>9}{unlabelled:>12}"
        most = counts["most_boxes_per_image"]
        lines.append(f"{split:<6}{numbers}{most:>16}  {printable(dataset.source)}")
    return lines


def _class_table(datasets: Datasets) -> list[str]:
    names = [printable(name) for name in next(iter(datasets.values())).class_names]
    counts = [class_counts(dataset) for dataset in datasets.values()]
    width = max(len(name) for name in (*names, "class"))
    lines = [f"{'id':>4}  {'class':<{width}}" + "".join(f"{split:>9}" for split in datasets)]
    for class_id, name in enumerate(names):
        cells = "".join(f"{count[class_id] if class_id < len(count) else 0:>9}" for count in counts)
        lines.append(f"{class_id:>4}  {name:<{width}}{cells}")
    return lines


def _size_table(split: str, dataset: Dataset, data: DataConfig) -> list[str]:
    title = f"{split}: box sizes in input pixels ({data.resize} to {data.img_size}), percentiles"
    rows = _size_percentiles(dataset, data)
    if not rows:
        return [title, "  no boxes"]
    lines = [title, f"{'':<10}" + "".join(f"{p:>8}%" for p in PERCENTILES)]
    for name, values in rows.items():
        lines.append(f"{name:<10}" + "".join(f"{value:>9.1f}" for value in values))
    return lines


def _size_percentiles(dataset: Dataset, data: DataConfig) -> dict[str, list[float]]:
    sizes = box_sizes(dataset, data)
    if not len(sizes):
        return {}
    sides = {"width": sizes[:, 0], "height": sizes[:, 1]}
    rows = {**sides, "root area": np.sqrt(sizes.prod(axis=1))}
    return {name: np.percentile(values, PERCENTILES).tolist() for name, values in rows.items()}
