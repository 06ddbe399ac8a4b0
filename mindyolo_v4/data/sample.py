"""What the augmentations work on: one image with its boxes or classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import area_xyxy, xyxy_to_cxcywh
from mindyolo_v4.data.images import Image

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
