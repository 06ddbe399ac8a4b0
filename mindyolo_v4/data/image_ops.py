"""Reading images and fitting them into the network's square input."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import ResizeGeometry

Image = NDArray[Any]  # uint8 (H, W, 3) RGB; Any because OpenCV does not declare what it returns


class ImageReadError(OSError):
    """Report that an image file is missing or cannot be decoded in full."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        super().__init__(f"{path}: cannot be read as an image")


def read_image(path: Path | str) -> Image:
    """Decode an image file as RGB (H, W, 3), EXIF orientation applied, greyscale repeated to three channels.

    Raises ImageReadError for a file that is missing, empty, not an image or cut short: decoding from memory refuses a
    truncated JPEG, where cv2.imread fills the missing part with grey and only prints a warning.
    """
    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageReadError(path) from error
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise ImageReadError(path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def grey_image(size: int, pad_value: int) -> Image:
    """Return a (size, size, 3) image of one grey level."""
    return np.full((size, size, 3), pad_value, np.uint8)


def resize_image(image: Image, geometry: ResizeGeometry, pad_value: int) -> Image:
    """Fit an image (H, W, 3) into (S, S, 3): area interpolation when shrinking, bilinear otherwise, grey border."""
    width, height = geometry.resized_width, geometry.resized_height
    shrinks = width < geometry.width or height < geometry.height
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if (width, height) != (geometry.width, geometry.height):
        image = cv2.resize(image, (width, height), interpolation=interpolation)
    if (width, height) == (geometry.size, geometry.size):
        return image
    canvas = grey_image(geometry.size, pad_value)
    canvas[geometry.pad_top : geometry.pad_top + height, geometry.pad_left : geometry.pad_left + width] = image
    return canvas
