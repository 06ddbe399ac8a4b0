"""What the augmentations work on: one image with its boxes or classes; a split packed flat."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import area_xyxy, xyxy_to_cxcywh
from mindyolo_v4.data.images import Image, read_encoded
from mindyolo_v4.data.records import ImageRecord

BoxArray = NDArray[np.float32]  # (N, 4)
ClassArray = NDArray[np.int64]  # (N,)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with the boxes that are trained; a transform returns a new one.

    Boxes and geometry are in pixels of `wh_px`. That is the size of `image`, except for an image of
    the data set that was decoded at a reduced size.
    """

    image: Image  # (H, W, 3) RGB
    boxes_xyxy_px: BoxArray  # (N, 4) inside the image
    class_ids: ClassArray  # (N,)
    original_wh_px: tuple[int, int] | None = None  # None: as the image

    @property
    def wh_px(self) -> tuple[int, int]:
        """Return width and height of the image at its original size."""
        return self.original_wh_px or (self.image.shape[1], self.image.shape[0])

    @property
    def enlargement(self) -> tuple[float, float]:
        """Return how many original pixels in x and y one pixel of `image` stands for."""
        width, height = self.wh_px
        return width / self.image.shape[1], height / self.image.shape[0]

    def targets(self) -> tuple[BoxArray, ClassArray]:
        """Return boxes (N, 4) as cx cy w h in fractions of a square image, and classes (N,)."""
        return xyxy_to_cxcywh(self.boxes_xyxy_px) / np.float32(self.image.shape[0]), self.class_ids


@dataclass(frozen=True, eq=False)
class ClassSample:
    """One image with its classes; M = 1, or the most images that are mixed into one."""

    image: Image  # (S, S, 3) RGB
    class_ids: NDArray[np.int32]  # (M,) a class may occur twice
    shares: NDArray[np.float32]  # (M,) of the image's area, sum 1; 0 for what is not used

    def targets(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return classes (M,) and their shares (M,)."""
        return self.class_ids, self.shares


def keep_largest(sample: Sample, limit: int) -> Sample:
    """Keep the `limit` boxes of largest area, in their order; the first wins among equals."""
    if len(sample.class_ids) <= limit:
        return sample
    by_area = np.argsort(-area_xyxy(sample.boxes_xyxy_px), kind="stable")
    kept = np.sort(by_area[:limit])
    return Sample(sample.image, sample.boxes_xyxy_px[kept], sample.class_ids[kept])


class PackedRecords:
    """Paths, sizes and trainable boxes of a split in a few flat arrays.

    Forked loader workers share the arrays' memory. A hundred thousand record objects would be
    copied page by page, because reading a Python object writes its reference count.
    """

    def __init__(self, records: Sequence[ImageRecord]):
        trained = [~record.ignore for record in records]
        counts = [int(mask.sum()) for mask in trained]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        boxes = [record.boxes_xyxy_px[mask] for record, mask in zip(records, trained, strict=True)]
        ids = [record.class_ids[mask] for record, mask in zip(records, trained, strict=True)]
        self._boxes = np.concatenate([np.zeros((0, 4), np.float32), *boxes]).astype(np.float32)
        self._class_ids = np.concatenate([np.zeros(0, np.int64), *ids]).astype(np.int64)
        self._paths = np.array([os.fsencode(record.path) for record in records], dtype=np.bytes_)
        sizes = [(record.width, record.height) for record in records]
        self.sizes_wh_px = np.array(sizes, np.int64).reshape(-1, 2)  # (N, 2) of the decoded image

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def are_jpeg(self) -> NDArray[np.bool_]:
        """Return which files (N,) are JPEGs by their name."""
        names = np.char.lower(self._paths)
        return np.char.endswith(names, b".jpg") | np.char.endswith(names, b".jpeg")

    def path(self, index: int) -> Path:
        """Return the file of image `index`."""
        return Path(os.fsdecode(bytes(self._paths[index])))

    def encoded(self, index: int) -> NDArray[np.uint8]:
        """Return the bytes of image file `index`. Raises ImageReadError where they are missing."""
        return read_encoded(self.path(index))

    def objects(self) -> tuple[NDArray[np.int64], ClassArray]:
        """Return the image (M,) and the class (M,) of every trainable box."""
        return np.repeat(np.arange(len(self)), np.diff(self._starts)), self._class_ids

    def targets(self, index: int) -> tuple[BoxArray, ClassArray]:
        """Return the trainable boxes (N, 4) in original pixels and classes (N,) of an image."""
        part = slice(self._starts[index], self._starts[index + 1])
        return self._boxes[part], self._class_ids[part]
