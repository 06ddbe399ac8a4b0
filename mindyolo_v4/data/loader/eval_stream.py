"""Batches of test images: every image of a split, or every view of it, once."""

import math
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import Image, ImageReadError, channels_first, fit_image, grey_image
from mindyolo_v4.data.loader.epoch import ImageFiles, decode_number
from mindyolo_v4.data.loader.pipeline import Row, RowBatches, run, worker_count
from mindyolo_v4.data.loader.stream import Ranks
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.data.views import ImageViews


class EvalStream:
    """Every image of a split once, in batches of one size; device r has images r, r + size, ...

    Every device has the same number of batches. Grey images fill them up.

    Args:
        views: what the network sees of each image instead of the whole: a row is a region, with one
            column per variant.
    """

    def __init__(
        self,
        dataset: Dataset | ClassImages,
        data: DataConfig,
        per_batch_size: int,
        num_workers: int | None,
        ranks: Ranks,
        views: ImageViews | None = None,
    ):
        self._files: ImageFiles = dataset.records if isinstance(dataset, Dataset) else dataset
        self._data = data
        self._per_batch_size = per_batch_size
        self._workers = worker_count(num_workers, ranks.size)
        self._views = views
        self._sizes_wh = [(data.img_size, data.img_height or data.img_size)]
        if views is not None:
            self._sizes_wh = [(one.input_width, one.input_height) for one in views.variants]
        shares = [self._rows_of(rank, ranks.size) for rank in range(ranks.size)]
        self._batch_count = -(-max(len(share) for share in shares) // per_batch_size)
        self._numbers = shares[ranks.rank]
        self._decoded: tuple[int, Image] | None = None  # the last image, and its number
        self._unreadable: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many inputs of the network this device has."""
        return len(self._numbers) * len(self._sizes_wh)

    def batches(self) -> Iterator[tuple[ms.Tensor, NDArray[np.int64]]]:
        """Yield images, uint8 (B, 3, H, W), and the numbers (n,) of the first n.

        A number is that of the image in the data set, or that of the view. All variants of a batch
        of regions follow one another.
        """
        if self._batch_count == 0:
            return
        numbers = RowBatches(self._row, self._per_batch_size, 0, self._batch_count)
        columns = len(self._sizes_wh) + 1
        # the square that has as many pixels as all inputs of a row
        side = math.isqrt(sum(width * height for width, height in self._sizes_wh))
        with closing(run(numbers, columns, self._workers, side)) as pipeline:
            for *inputs, notes in pipeline:
                rows, unreadable = notes.asnumpy().T
                for row in rows[unreadable == 1]:
                    self._unreadable[str(self._files.path(self._image_of(int(row))))] = 1
                rows = rows[rows >= 0]
                for variant, images in enumerate(inputs):
                    yield images, rows * len(inputs) + variant

    def report(self) -> dict[str, Any]:
        """Return {"unreadable": {path: 1}}: images that the network saw as plain grey."""
        return {"unreadable": dict(self._unreadable)}

    def _rows_of(self, rank: int, size: int) -> NDArray[np.int64]:
        """Return the images, or the regions of the images, of one device."""
        images = np.arange(rank, len(self._files), size)
        return images if self._views is None else self._views.regions_of(images)

    def _image_of(self, row: int) -> int:
        return row if self._views is None else self._views.image_of(row)

    def _row(self, number: int) -> Row:
        """Make the inputs of a row and its notes: [number, or -1 for padding; 1: unreadable]."""
        row = int(self._numbers[number]) if number < len(self._numbers) else -1
        pad = self._data.pad_value
        inputs = [grey_image(width, pad, height) for width, height in self._sizes_wh]
        is_unreadable = False
        if row >= 0:
            try:
                inputs = self._inputs(row)
            except ImageReadError:
                is_unreadable = True
        return *(channels_first(image) for image in inputs), np.array(
            [row, is_unreadable], np.int64
        )

    def _inputs(self, row: int) -> list[Image]:
        """Return the input of each variant. Raises ImageReadError."""
        if self._views is None:
            return [fit_image(self._decode(row), self._data)]
        image = self._views.image_of(row)
        if self._decoded is None or self._decoded[0] != image:
            self._decoded = None  # two large images do not lie in memory at once
            self._decoded = image, self._decode(image)
        count = len(self._sizes_wh)
        views = [self._views.view(number) for number in range(row * count, (row + 1) * count)]
        return [view.fit(self._decoded[1], self._data.pad_value) for view in views]

    def _decode(self, image: int) -> Image:
        return decode_number(self._files, image, self._data.max_megapixels)
