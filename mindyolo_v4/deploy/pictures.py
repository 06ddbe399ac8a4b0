"""Images of a split with ground truth and predictions, as files of a run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import Image, ImageReadError, grey_image
from mindyolo_v4.data.loader.epoch import decode_number
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.deploy.outputs import write_jpeg
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.evaluation.sheets import class_beside_prediction, sheet, truth_beside_prediction

IMAGES_PER_PICTURE = 4


def shown_images(images: int, pictures: int) -> NDArray[np.int64]:
    """Return the numbers of the images that `pictures` pictures show, spread over the split."""
    count = min(images, pictures * IMAGES_PER_PICTURE)
    return np.arange(count) * images // max(count, 1)


def draw_validation(
    dataset: Dataset, detections: Mapping[int, Detections], data: DataConfig, folder: Path
) -> None:
    """Write val_1.jpg, val_2.jpg, ...: four images each, ground truth beside prediction.

    Args:
        detections: of the images that are drawn, by their number in the data set.
    """
    pairs = []
    for index, found in sorted(detections.items()):
        record = dataset.records[index]
        image = read_or_grey(dataset, index, data)
        pairs.append(truth_beside_prediction(image, record, found, dataset.class_names))
    _write_pairs(pairs, folder)


def draw_class_validation(
    dataset: ClassImages, outputs: NDArray[np.float32], data: DataConfig, folder: Path
) -> None:
    """Write val_1.jpg, val_2.jpg, ...: four images each, class beside prediction.

    Args:
        outputs: (N, 1 + C) number and logits of the images that are drawn.
    """
    pairs = []
    for row in outputs[outputs[:, 0].argsort()]:
        index = int(row[0])
        image = read_or_grey(dataset, index, data)
        name = dataset.path(index).name
        class_id = int(dataset.class_ids[index])
        names = dataset.class_names
        pairs.append(class_beside_prediction(image, name, class_id, row[1:], names))
    _write_pairs(pairs, folder)


def _write_pairs(pairs: Sequence[Image], folder: Path) -> None:
    for first in range(0, len(pairs), IMAGES_PER_PICTURE):
        path = folder / f"val_{first // IMAGES_PER_PICTURE + 1}.jpg"
        write_jpeg(path, sheet(pairs[first : first + IMAGES_PER_PICTURE], 1))


def read_or_grey(
    dataset: Dataset | ClassImages,
    index: int,
    data: DataConfig,
    unreadable: list[str] | None = None,
) -> Image:
    """Return an image of a split; if it cannot be read, a grey one.

    That has the size which the split states of it, or else that of the network's input.

    Args:
        unreadable: takes what is wrong with an image that cannot be read.
    """
    files = dataset.records if isinstance(dataset, Dataset) else dataset
    try:
        return decode_number(files, index, data.max_megapixels)
    except ImageReadError as error:
        if unreadable is not None:
            unreadable.append(str(error))
    if isinstance(dataset, Dataset):
        record = dataset.records[index]
        return grey_image(record.width, data.pad_value, record.height)
    return grey_image(data.img_size, data.pad_value)
