"""Reading images and fitting them into the network's input."""

import logging
import multiprocessing
import os
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import ResizeGeometry, resize_geometry
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.headers import encoded_size, require_size, significant_bits
from mindyolo_v4.data.readers.jpeg_header import JPEG_START, has_all_scans, has_end
from mindyolo_v4.data.tiff_webp import stated_orientation, tiff_without_alpha, turn_image
from mindyolo_v4.errors import UserError

logger = logging.getLogger(__name__)

_JPEG_END = b"\xff\xd9"
_MANY_ZEROS = 64  # bytes; hardly any picture ends with so many
_MORE_DATA = (bytes(range(1, 65)), bytes(range(254, 190, -1)))
# the eight restart markers with data after each, from the first on and from the fifth on
_MORE_RESTARTS = tuple(
    b"".join(bytes([0xFF, 0xD0 + (first + step) % 8]) + _MORE_DATA[1] for step in range(8))
    for first in (0, 4)
)
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
REDUCTIONS = tuple(_FLAGS)  # by which a JPEG can be decoded smaller, ascending
_USUAL_BITS = (8, 10, 12, 14, 16)  # of a camera's pixels

Image = NDArray[Any]  # uint8 (H, W, 3) RGB; Any because OpenCV does not declare what it returns


class Packed(NamedTuple):
    """Where the bytes of an image lie in a MindRecord file, and what they are."""

    offset: int  # bytes from the start of the file
    length: int  # bytes
    crc32: int


class ImageReadError(OSError):
    """Report that an image file is missing or cannot be decoded in full."""

    def __init__(self, path: Path | str, problem: str = "cannot be read as an image"):
        self.path = Path(path)
        self.problem = problem
        super().__init__(f"{path}: {problem}")


def read_image(path: Path | str, max_megapixels: float = DataConfig.max_megapixels) -> Image:
    """Decode an image file as RGB (H, W, 3), EXIF orientation applied, greyscale in three channels.

    Raises ImageReadError for a file that is missing, empty, not an image, too large or cut short.
    """
    return decode_image(read_encoded(path), path, max_megapixels=max_megapixels)


def read_encoded(path: Path | str, offset: int = 0, length: int = -1) -> NDArray[np.uint8]:
    """Return a file's bytes, or `length` of them from `offset` on. Raises ImageReadError."""
    if not os.path.isfile(path):  # noqa: PTH113 - takes no Path apart
        # a pipe would be waited for, and a device may never end
        raise ImageReadError(path, "is missing, or not a regular file")
    try:
        encoded = np.fromfile(path, np.uint8, length, offset=offset)
    except OSError as error:
        raise ImageReadError(path, f"cannot be read: {error.strerror or error}") from error
    if length not in (-1, len(encoded)):
        raise ImageReadError(path)
    return encoded


def required_bytes(encoded: Callable[[], NDArray[np.uint8]]) -> bytes:
    """Return the bytes of an image that a command cannot do without.

    Raises UserError where they are missing.
    """
    try:
        return encoded().tobytes()
    except ImageReadError as error:
        raise UserError(error.path, error.problem) from None


def read_packed(file: Path, packed: Packed, path: Path) -> NDArray[np.uint8]:
    """Return the bytes of an image in a MindRecord file; `path` is for the message alone.

    Raises ImageReadError where they are not those that were packed.
    """
    encoded = read_encoded(file, packed.offset, packed.length)
    if zlib.crc32(encoded.data) != packed.crc32:
        raise ImageReadError(path, f"is not in {file} as it was packed")
    return encoded


def decode_image(
    encoded: NDArray[np.uint8],
    path: Path | str,
    factor: int = 1,
    max_megapixels: float = DataConfig.max_megapixels,
) -> Image:
    """Decode the bytes of an image file as `read_image` does; `path` is for the message alone.

    A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size (`factor`; sides are rounded up), which
    leaves out most of the work; it is then an average of the full image. Other formats ignore the
    factor. Decoding from memory refuses a truncated JPEG, where cv2.imread fills the missing part
    with grey. A JPEG that lacks nothing but its end marker is read; one that lacks data is not,
    even if it is progressive and ends between two scans, where a coarse picture could be shown.
    """
    is_jpeg = encoded[: len(JPEG_START)].tobytes() == JPEG_START
    orientation = stated_orientation(encoded)
    flag = _FLAGS[factor] if is_jpeg else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    flag |= cv2.IMREAD_IGNORE_ORIENTATION  # of TIFF it is applied all the same
    try:
        size = encoded_size(encoded)
        if size is not None:
            require_size(*size, max_megapixels)
        image = tiff_without_alpha(encoded)
        if image is None:
            image = cv2.imdecode(encoded, flag)
        if is_jpeg and (image is None or not has_end(encoded.data)):
            image = _decode_unterminated(encoded, flag)
    except cv2.error as error:
        raise ImageReadError(path, f"cannot be decoded: {error.err}") from None
    except OSError as error:
        raise ImageReadError(path, str(error)) from None
    if image is None:
        raise ImageReadError(path, "is cut short or damaged, or of a kind that is not decoded")
    if image.dtype != np.uint8:
        image = _to_eight_bits(image, significant_bits(encoded), path)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return image if orientation == 1 else turn_image(image, orientation)


def _decode_unterminated(encoded: NDArray[np.uint8], flag: int) -> Image | None:
    """Decode a JPEG without its end marker; return None where it lacks data, too.

    Complete data give the same pixels whatever follows them. Where some data are missing, the
    decoder takes what follows for them: other data, or the next restart. A progressive image that
    ends between two scans is complete in this sense, but not in its scans.
    """
    if not has_all_scans(encoded.data):
        return None
    data = encoded.tobytes().rstrip(_JPEG_END[:1])
    # an interrupted download may have its whole length, filled with zeros
    without_zeros = data.rstrip(b"\0")
    if len(data) - len(without_zeros) >= _MANY_ZEROS:
        data = without_zeros
    image = None
    for more in (*_MORE_DATA, *_MORE_RESTARTS):
        decoded = cv2.imdecode(np.frombuffer(data + more + _JPEG_END, np.uint8), flag)
        if decoded is None or (image is not None and not np.array_equal(decoded, image)):
            return None
        image = decoded
    return image


def _to_eight_bits(image: NDArray[Any], stated_bits: int | None, path: Path | str) -> Image:
    """Return an image of larger numbers as uint8, by the range that the file states or fills."""
    if multiprocessing.parent_process() is None:
        _say_scaled()  # of the images of a split, its warnings have said so
    if image.dtype == np.uint16:
        return sixteen_to_eight_bits(image, stated_bits)
    if np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1:
        return np.rint(image * 255).astype(np.uint8)
    expected = "8 or 16 bits, or fractions from 0 to 1"
    raise ImageReadError(path, f"has {image.dtype} pixels of no certain range, expected {expected}")


def sixteen_to_eight_bits(
    image: NDArray[np.uint16], stated_bits: int | None = None
) -> NDArray[np.uint8]:
    """Return 16-bit pixels as uint8.

    Cameras use 10, 12 or 14 of the 16 bits. The range is 2^bits for the stated bits, or else for
    the first usual number of bits, that holds the largest pixel.
    """
    largest = int(image.max(initial=0))
    choices = (max(8, stated_bits or 0), *_USUAL_BITS)
    bits = next(bits for bits in choices if largest < 2**bits <= 2**16)
    return (image >> (bits - 8)).astype(np.uint8)


@lru_cache(maxsize=1)
def _say_scaled() -> None:
    logger.warning("images of more than 8 bits per channel are scaled by the range of their pixels")


def channels_first(image: Image) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) as planes (3, H, W)."""
    planes = np.empty((image.shape[2], *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))  # takes a twentieth of the time of a transposed copy
    return planes


def grey_image(width: int, pad_value: int, height: int | None = None) -> Image:
    """Return an image (height, width, 3) of one grey level; `height` None means a square."""
    return np.full((height or width, width, 3), pad_value, np.uint8)


def resize_image(image: Image, geometry: ResizeGeometry, pad_value: int) -> Image:
    """Fit an image (H, W, 3) into the input with a grey border."""
    width = geometry.resized_width
    height = geometry.resized_height
    image = scale_image(image, width, height)
    if (width, height) == (geometry.input_width, geometry.input_height):
        return image
    canvas = grey_image(geometry.input_width, pad_value, geometry.input_height)
    top = geometry.pad_top
    left = geometry.pad_left
    canvas[top : top + height, left : left + width] = image
    return canvas


def fit_image(image: Image, data: DataConfig) -> Image:
    """Fit a test image (H, W, 3) into the input as `data.resize` says."""
    if data.resize in ("crop", "stretch_crop"):
        return centre_crop(image, data.img_size, data.crop_fraction, data.resize == "crop")
    height, width = image.shape[:2]
    geometry = resize_geometry(data.resize, width, height, data.img_size, data.img_height)
    return resize_image(image, geometry, data.pad_value)


def centre_crop(image: Image, size: int, fraction: float, keep_aspect: bool) -> Image:
    """Scale the short side, or both sides, to round(size / fraction) and cut S x S from the centre.

    The long side is rounded down, and the cut's corner to the nearest pixel, half to even, as
    torchvision does.
    """
    height, width = image.shape[:2]
    side = round(size / fraction)
    new_width = new_height = side
    if keep_aspect:
        short = min(height, width)
        new_width = side * width // short
        new_height = side * height // short
    scaled = scale_image(image, new_width, new_height)
    left = round((new_width - size) / 2)
    top = round((new_height - size) / 2)
    return scaled[top : top + size, left : left + size]


def scale_image(image: Image, width: int, height: int) -> Image:
    """Resize to width x height pixels: by area when a side shrinks, bilinear otherwise."""
    if (width, height) == (image.shape[1], image.shape[0]):
        return image
    shrinks = width < image.shape[1] or height < image.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=interpolation)
