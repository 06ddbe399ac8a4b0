"""Parts of an image that another image covers (CutMix, copy-paste) or noise (random erasing).

What is covered is a mask of the S x S image. A box that is covered in part keeps the enclosing box
of its visible pixels, and is dropped by `data.augment.min_visible` and `min_box_px`. A box of the
other image is covered wherever that image is not shown.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import AugmentConfig
from mindyolo_v4.data.augment.rectangles import Box, draw_cutmix, draw_erased
from mindyolo_v4.data.images import Image
from mindyolo_v4.data.sample import BoxArray, Sample

Mask = NDArray[np.bool_]  # (S, S)


def cutmix(
    first: Sample, second: Sample, rng: np.random.Generator, augment: AugmentConfig
) -> Sample:
    """Show a rectangle of the second sample, with its boxes, in the first one, at the same place.

    Yun et al. 2019, CutMix (arXiv:1905.04899), with boxes in place of mixed labels; the rectangle
    is `draw_cutmix`'s.
    """
    shown = _rectangle(draw_cutmix(rng, first.image.shape[0]), first.image)
    return show_part(first, second, shown, augment)


def copy_paste(
    first: Sample, second: Sample, rng: np.random.Generator, augment: AugmentConfig
) -> Sample:
    """Paste a random half of the second sample's boxes into the first one, at the same place.

    Ghiasi et al. 2021, Simple copy-paste (arXiv:2012.07177), with boxes in place of masks, because
    records hold boxes only: the surroundings inside a box are pasted with the object, and the edge
    is hard (the paper's results are the same without blending). Each box is chosen with probability
    1/2. A box that was not chosen, but lies under a chosen one, comes along as far as it is shown.
    The paper drops objects that are covered whole; here `min_visible` may drop more.
    """
    chosen = rng.random(len(second.class_ids)) < 0.5
    shown = np.zeros(first.image.shape[:2], bool)
    for left, top, right, bottom in _whole_pixels(second.boxes_xyxy_px[chosen]):
        shown[top:bottom, left:right] = True
    return show_part(first, second, shown, augment)


def show_part(first: Sample, second: Sample, shown: Mask, augment: AugmentConfig) -> Sample:
    """Return the first sample where `shown` is False and the second one where it is True."""
    image = cv2.copyTo(second.image, shown.astype(np.uint8), first.image.copy())
    own_boxes, own = visible_parts(first.boxes_xyxy_px, ~shown, augment)
    new_boxes, new = visible_parts(second.boxes_xyxy_px, shown, augment)
    return Sample(
        image,
        np.concatenate([own_boxes[own], new_boxes[new]]),
        np.concatenate([first.class_ids[own], second.class_ids[new]]),
    )


def erase(sample: Sample, rng: np.random.Generator, augment: AugmentConfig) -> Sample:
    """Fill a rectangle with noise; drop the boxes of which less than `min_visible` is left.

    Zhong et al. 2020, Random erasing (arXiv:1708.04896), one rectangle per image. The other boxes
    stay as they are: an object whose part is hidden is still there.
    """
    box = draw_erased(rng, sample.image.shape[0])
    visible = ~_rectangle(box, sample.image)
    _, kept = visible_parts(sample.boxes_xyxy_px, visible, augment)
    image = erase_part(sample.image, box, rng)
    return Sample(image, sample.boxes_xyxy_px[kept], sample.class_ids[kept])


def erase_part(image: Image, box: Box, rng: np.random.Generator) -> Image:
    """Fill a rectangle of the image (H, W, 3) with random levels 0 to 255, each by itself."""
    left, top, width, height = box
    erased = image.copy()
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    erased[top : top + height, left : left + width] = noise
    return erased


def visible_parts(
    boxes_xyxy_px: BoxArray, visible: Mask, augment: AugmentConfig
) -> tuple[BoxArray, Mask]:
    """Cut boxes (N, 4) to the part that is visible, and tell (N,) which are worth keeping.

    Shares are counted in whole pixels, of the box as it is given.
    """
    cut = boxes_xyxy_px.copy()
    kept = np.zeros(len(cut), bool)
    for number, (left, top, right, bottom) in enumerate(_whole_pixels(boxes_xyxy_px)):
        part = visible[top:bottom, left:right]
        share = part.mean()
        if share == 0:
            continue
        columns = np.flatnonzero(part.any(axis=0))
        rows = np.flatnonzero(part.any(axis=1))
        inner = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
        cut[number, :2] = np.maximum(cut[number, :2], inner[:2])
        cut[number, 2:] = np.minimum(cut[number, 2:], inner[2:])
        is_large = (cut[number, 2:] - cut[number, :2] >= augment.min_box_px).all()
        kept[number] = is_large and share >= augment.min_visible
    return cut, kept


def _whole_pixels(boxes_xyxy_px: BoxArray) -> list[tuple[int, int, int, int]]:
    """Return the edges of all pixels that each box (N, 4) touches."""
    return [
        (math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
        for left, top, right, bottom in boxes_xyxy_px.tolist()
    ]


def _rectangle(box: Box, image: Image) -> Mask:
    left, top, width, height = box
    mask = np.zeros(image.shape[:2], bool)
    mask[top : top + height, left : left + width] = True
    return mask
