"""Where OpenCV differs from Pillow, which reads the headers: alpha in TIFF, EXIF orientation."""

from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from mindyolo_v4.data.readers.headers import (
    HEADER_ERRORS,
    PNG_START,
    TIFF_STARTS,
    exif_orientation,
    open_image,
)
from mindyolo_v4.data.readers.jpeg_header import JPEG_START, may_have_exif

_BITS_TAG = 258  # BitsPerSample, of each channel
_EXTRA_TAG = 338  # ExtraSamples, one for each channel after the colours
_PLAIN_ALPHA = (2,)  # one, by which the colours are not yet multiplied


def tiff_without_alpha(encoded: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the colours (H, W, 3) BGR of a TIFF of 8 bits with alpha, None for all other files.

    OpenCV would multiply them by alpha, as it does for no other format.

    Raises OSError where the pixels are damaged.
    """
    if encoded[:4].tobytes() not in TIFF_STARTS:
        return None
    try:
        image: Any = open_image(BytesIO(encoded.data))
    except (OSError, *HEADER_ERRORS):
        return None
    with image:
        if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode != "RGBA":
            return None
        bits = set(image.tag_v2.get(_BITS_TAG, ()))
        if image.tag_v2.get(_EXTRA_TAG) != _PLAIN_ALPHA or bits != {8}:
            return None
        try:
            pixels = np.asarray(image)
        except (OSError, *HEADER_ERRORS) as error:
            raise OSError(f"is cut short or damaged: {error}") from None
    return np.ascontiguousarray(pixels[..., 2::-1])


def stated_orientation(encoded: NDArray[np.uint8]) -> int:
    """Return the EXIF orientation (1 to 8) of a JPEG, PNG or WebP; 1 for other files.

    It is that of `read_header`. OpenCV would find others in some files, and none in a WebP.
    """
    if not _may_have_exif(encoded.data):
        return 1
    try:
        with open_image(BytesIO(encoded.data)) as image:
            return exif_orientation(image)
    except (OSError, *HEADER_ERRORS):
        return 1


def _may_have_exif(data: memoryview) -> bool:
    """Tell whether a closer look at an image is needed: most have no EXIF before their pixels."""
    head = bytes(data[:12])
    if head.startswith(JPEG_START):
        return may_have_exif(data)
    if not head.startswith(PNG_START):
        return head.startswith(b"RIFF") and head.endswith(b"WEBP")
    start = 8
    while start + 8 <= len(data):
        kind = bytes(data[start + 4 : start + 8])
        if kind in (b"eXIf", b"IDAT"):
            return kind == b"eXIf"
        start += 12 + int.from_bytes(data[start : start + 4], "big")
    return False


def turn_image(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an image (H, W, C) as its EXIF orientation means it; 5 to 8 exchange H and W.

    EXIF 2.3, tag 0x0112: 2 mirrors left and right, 3 turns by 180 degrees, 4 mirrors top and
    bottom, 5 mirrors at the main diagonal, 6 turns clockwise, 7 mirrors at the other diagonal, 8
    turns counter-clockwise.
    """
    if orientation >= 5:
        image = cv2.transpose(image)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
