"""The part of a data set that is used: some of its classes or images, one class for all."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.errors import UserError

ONE_CLASS = "object"  # name of the class of data.single_cls


def select(dataset: Dataset, data: DataConfig, split: str) -> Dataset:
    """Return a split with the classes of `data.classes`, as one if `data.single_cls`.

    Boxes of other classes are left out, and their images remain. Of the split "train" the share
    `data.fraction` of the images is kept, at equal distances in their order.

    Raises:
        UserError: `data.classes` names a class that the data set does not have.
    """
    is_part = split == "train" and data.fraction < 1
    if data.classes is None and not data.single_cls and not is_part:
        return dataset

    names = dataset.class_names
    category_ids = dataset.category_ids
    kept = list(range(len(names)))
    if data.classes is not None:
        kept = class_numbers(data.classes, names, "data.classes")
    new_ids = np.full(len(names), -1, np.int64)
    new_ids[kept] = 0 if data.single_cls else np.arange(len(kept))
    if data.single_cls:
        names = (ONE_CLASS,)
        category_ids = (1,)
    else:
        names = tuple(names[number] for number in kept)
        category_ids = tuple(category_ids[number] for number in kept)

    count = max(1, round(len(dataset) * data.fraction)) if is_part else len(dataset)
    images = np.arange(count) * len(dataset) // count
    records = Records(_with_ids(dataset.records[image], new_ids) for image in images.tolist())
    return replace(dataset, records=records, class_names=names, category_ids=category_ids)


def class_numbers(classes: Sequence[str], class_names: Sequence[str], key: str) -> list[int]:
    """Return the numbers, ascending, of classes that are given by name or by number.

    Raises UserError, which names `key`, where one of them is not there, or is given twice.
    """
    number_of = {str(number): number for number in range(len(class_names))}
    number_of |= {name: number for number, name in enumerate(class_names)}
    numbers: list[int] = []
    for text in classes:
        if text not in number_of:
            expected = f"{', '.join(class_names)}, or 0 to {len(class_names) - 1}"
            raise UserError(key, "there is no such class", text, expected)
        if number_of[text] in numbers:
            raise UserError(key, "names a class twice", text)
        numbers.append(number_of[text])
    return sorted(numbers)


def _with_ids(record: ImageRecord, new_ids: NDArray[np.int64]) -> ImageRecord:
    """Return a record with the new class of each box; boxes whose new class is -1 are left out."""
    kept = record.with_boxes(new_ids[record.class_ids] >= 0)
    return replace(kept, class_ids=new_ids[kept.class_ids])
