"""Images of other programs, arrays and PIL's, as the readers return them: RGB (H, W, 3) uint8."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageOps

from mindyolo_v4.data.images import Image, sixteen_to_eight_bits
from mindyolo_v4.errors import UserError

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L")  # PIL's modes of a grey image
_NO_CERTAIN_RANGE = ("I", "F")
_MODES = "L, RGB, RGBA, P, CMYK or I;16"
_ANY_RANGE = "an RGB image (H, W, 3) of whole numbers 0 to 255, or of numbers 0 to 1"
_CAMERA_TYPES = (np.uint8, np.uint16)
_CAMERA_RANGE = "an RGB image (H, W, 3) uint8, or uint16"


def rgb_pixels(array: object, name: str, expected: str = _ANY_RANGE) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) uint8 of an array whose meaning is certain.

    It may be grey, RGB or RGBA (the last is left out), channels last or first, of whole numbers 0
    to 255, of 16 bits (uint16, of which the largest number tells the bits in use), or of numbers
    0 to 1.

    Raises:
        UserError: it is something else; the message has `name` and `expected`.
    """
    if not isinstance(array, np.ndarray):
        raise UserError(name, "is not an array", type(array).__name__, f"a path, or {expected}")
    pixels = array.astype(array.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise UserError(name, "is not an image", f"shape {pixels.shape}", expected)
    if pixels.dtype.kind not in "buif":
        raise UserError(name, "is not an image", f"type {pixels.dtype}", expected)

    pixels = pixels[:, :, [0, 0, 0] if pixels.shape[2] == 1 else [0, 1, 2]]
    low = float(pixels.min())
    high = float(pixels.max())
    is_whole = pixels.dtype.kind != "f" or bool((pixels == np.rint(pixels)).all())
    if pixels.dtype == np.uint16:
        pixels = sixteen_to_eight_bits(pixels)
    elif pixels.dtype.kind in "bf" and 0 <= low <= high <= 1:
        pixels = np.rint(pixels * 255.0)
    elif not (is_whole and 0 <= low <= high <= 255):
        raise UserError(name, "is not an image", f"values {low:g} to {high:g}", expected)
    return np.ascontiguousarray(pixels, np.uint8)


def camera_pixels(image: object, name: str) -> Image:
    """Return the pixels of an array of uint8 or uint16 as `rgb_pixels` does, or of a PIL image.

    Raises UserError for anything else; the range of floating point is not certain.
    """
    if isinstance(image, PilImage.Image):
        return _pil_pixels(image, name)
    if isinstance(image, np.ndarray) and image.dtype.newbyteorder("=") not in _CAMERA_TYPES:
        problem = "is of no certain range"
        raise UserError(name, problem, f"type {image.dtype}", _CAMERA_RANGE)
    return rgb_pixels(image, name, _CAMERA_RANGE)


def _pil_pixels(image: PilImage.Image, name: str) -> Image:
    """Return the pixels of a PIL image as of a file: EXIF applied, alpha left out.

    Raises UserError where PIL cannot read or convert it: it is cut short, closed, of a rare mode.
    """
    mode = f"PIL's mode {image.mode}"
    if image.mode in _NO_CERTAIN_RANGE:
        raise UserError(name, "is of no certain range", mode, _MODES)
    try:
        upright = ImageOps.exif_transpose(image)
        if image.mode in _SIXTEEN_BITS:
            pixels = np.asarray(upright).astype(np.uint16)
        else:
            pixels = np.asarray(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # as PIL's decoders raise them
        problem = f"cannot be read by PIL: {error}"
        raise UserError(name, problem, mode, f"an open image of mode {_MODES}") from error
    return rgb_pixels(pixels, name, _CAMERA_RANGE)
