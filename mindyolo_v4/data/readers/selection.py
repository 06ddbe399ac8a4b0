"""The part of a data set that is used: some of its classes or images, one class for all."""

from dataclasses import replace

import numpy as np

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
    if data.classes is not None:
        dataset = _with_classes(dataset, class_numbers(data.classes, dataset.class_names))
    if data.single_cls:
        records = Records(_one_class(record) for record in dataset.records)
        dataset = replace(dataset, records=records, class_names=(ONE_CLASS,), category_ids=(1,))
    if split == "train" and data.fraction < 1:
        count = max(1, round(len(dataset) * data.fraction))
        numbers = np.arange(count) * len(dataset) // count
        records = Records(dataset.records[number] for number in numbers.tolist())
        dataset = replace(dataset, records=records)
    return dataset


def class_numbers(classes: tuple[str, ...], class_names: tuple[str, ...]) -> list[int]:
    """Return the numbers, ascending, of classes that are given by name or by number.

    Raises:
        UserError: one of them is not there, or is given twice.
    """
    number_of = {str(number): number for number in range(len(class_names))}
    number_of |= {name: number for number, name in enumerate(class_names)}
    numbers: list[int] = []
    for text in classes:
        if text not in number_of:
            expected = f"{', '.join(class_names)}, or 0 to {len(class_names) - 1}"
            raise UserError("data.classes", "no class of the data set", text, expected)
        if number_of[text] in numbers:
            raise UserError("data.classes", "names a class twice", text)
        numbers.append(number_of[text])
    return sorted(numbers)


def _with_classes(dataset: Dataset, numbers: list[int]) -> Dataset:
    new_ids = np.full(len(dataset.class_names), -1, np.int64)
    new_ids[numbers] = np.arange(len(numbers))
    records = []
    for record in dataset.records:
        kept = record.with_boxes(new_ids[record.class_ids] >= 0)
        records.append(replace(kept, class_ids=new_ids[kept.class_ids]))
    return replace(
        dataset,
        records=Records(records),
        class_names=tuple(dataset.class_names[number] for number in numbers),
        category_ids=tuple(dataset.category_ids[number] for number in numbers),
    )


def _one_class(record: ImageRecord) -> ImageRecord:
    return replace(record, class_ids=np.zeros_like(record.class_ids))
