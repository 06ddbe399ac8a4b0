"""Image sizes from file headers, as the decoder will deliver them, without decoding a pixel."""

import os
import stat
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from mindyolo_v4.data.readers.faults import Faults, Kind, Location
from mindyolo_v4.data.readers.jpeg_header import jpeg_size, plain_jpeg_size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
TIFF_STARTS = (b"II*\0", b"MM\0*")
_DECODED_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "TIFF", "PPM")
# how files begin that people find under the name of an image -> what they are
_OTHER_FILES = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<?xml": "an XML file",
    b"<svg": "an SVG file",
    b"%pdf": "a PDF file",
    b"version https://git-lfs": "a Git LFS pointer instead of the image",
}
PNG_START = b"\x89PNG"
_ORIENTATION_TAG = 0x0112
_MAX_SAMPLE_TAG = 281  # of TIFF
# how the files of a format may be called, where others go by the name of the format
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "DIB": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
}
_NOTES: dict[Kind, str] = {
    "info-grey-image": "is greyscale, and read as three equal channels",
    "info-deep-image": "has more than 8 bits per channel, scaled by the range of its pixels",
    "info-cmyk-image": "is in CMYK, and read as RGB",
    "info-rotated-image": "is stored rotated or mirrored, and turned as its EXIF entry says",
    "info-animated-image": "has several pictures, of which the first is read",
    "info-wrong-suffix": "has the suffix of another format, and is read by its content",
}
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_ORIENTED_FORMATS = ("JPEG", "MPO", "PNG", "WEBP")  # TIFF: Pillow and OpenCV have turned it
# what Pillow raises for headers that hold nonsense
HEADER_ERRORS = (
    *(ValueError, SyntaxError, TypeError, LookupError, OverflowError, EOFError, RuntimeError),
    *(struct.error, zlib.error, AttributeError, MemoryError),
)
_THREADS = 16  # more than cores: network disks make them wait
_CHUNK = 64  # files per task, so that scheduling costs less than reading


@dataclass(frozen=True)
class ImageHeader:
    """Size of the decoded image, and the EXIF orientation (1 to 8) that the decoder applies."""

    width: int  # pixels, after orientation
    height: int
    orientation: int
    notes: tuple[Kind, ...] = ()  # what is unusual about the file, and read all the same


class ImageHeaderError(OSError):
    """Report what kind of fault an image file has."""

    def __init__(self, kind: Kind, problem: str):
        super().__init__(problem)
        self.kind = kind


def read_header(path: Path, max_megapixels: float) -> ImageHeader:
    """Read an image's size; EXIF orientation 5 to 8 swaps the sides, as read_image does.

    Raises:
        ImageHeaderError: the file is missing, empty, too large or no image.
    """
    try:
        state = os.stat(path)  # noqa: PTH116 - a tenth of the cost of Path.stat
        if state.st_size == 0:
            if not stat.S_ISREG(state.st_mode):
                raise ImageHeaderError("unreadable-image", "not a file")
            raise ImageHeaderError("empty-image", "image has zero bytes")
        plain = plain_jpeg_size(path)
        if plain is not None:
            require_size(*plain, max_megapixels)
            return ImageHeader(*plain, orientation=1)
        with open_image(path) as image:
            width, height = image.size
            if image.format not in _DECODED_FORMATS:
                problem = f"is a {image.format} file, which is not read"
                raise ImageHeaderError("unreadable-image", problem)
            orientation = exif_orientation(image)
            notes = _notes(image, path, orientation)
    except FileNotFoundError:
        raise ImageHeaderError("missing-image", "image is missing") from None
    except IsADirectoryError:
        raise ImageHeaderError("unreadable-image", "not a readable image") from None
    except Image.UnidentifiedImageError:
        raise ImageHeaderError("unreadable-image", _other_file(path)) from None
    except HEADER_ERRORS as error:
        problem = f"image header is broken: {error}"
        raise ImageHeaderError("unreadable-image", problem) from None
    if min(width, height) < 1:
        problem = f"image header is broken: it has {width} x {height} pixels"
        raise ImageHeaderError("unreadable-image", problem)
    require_size(width, height, max_megapixels)
    if orientation >= 5:
        width, height = height, width
    return ImageHeader(width, height, orientation, notes)


def _notes(image: ImageFile.ImageFile, path: Path, orientation: int) -> tuple[Kind, ...]:
    notes: list[Kind] = []
    if image.mode in _GREY_MODES or image.mode.startswith("I;16"):
        notes.append("info-grey-image")
    if image.mode[0] in "IF" or any(";16" in str(tile) for tile in image.tile):
        notes.append("info-deep-image")
    if image.mode == "CMYK":
        notes.append("info-cmyk-image")
    if orientation != 1:
        notes.append("info-rotated-image")
    if image.format in ("PNG", "WEBP") and image.is_animated:  # type: ignore[attr-defined]
        notes.append("info-animated-image")
    form = str(image.format)
    if path.suffix.lower() not in _SUFFIXES.get(form, (f".{form.lower()}",)):
        notes.append("info-wrong-suffix")
    return tuple(notes)


def encoded_size(encoded: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Return width and height that the header of an image in memory states.

    None for a TIFF of a kind that OpenCV alone knows.

    Raises OSError for what OpenCV should not see: a PNG whose chunks do not end, no image, and
    other formats. Damaged files of rare ones can end OpenCV, and with it the process.
    """
    data = encoded.data
    if bytes(data[:4]) == PNG_START:
        return _png_size(data)
    size = jpeg_size(data)
    if size is not None:
        return size
    try:
        with open_image(BytesIO(data)) as image:
            if image.format in _DECODED_FORMATS:
                return image.size
    except (OSError, *HEADER_ERRORS):
        if bytes(data[:4]) in TIFF_STARTS:
            return None
    raise OSError("cannot be read as an image")


def _png_size(data: memoryview) -> tuple[int, int]:
    """Read the size of a PNG all of whose chunks end inside the file.

    OpenCV reserves gigabytes for a chunk that says that it has them.
    """
    start = 8
    while start + 12 <= len(data) and bytes(data[start + 4 : start + 8]) != b"IEND":
        start += 12 + int.from_bytes(data[start : start + 4], "big")
    ends_whole = start == len(data) or start + 12 <= len(data)  # else in the head of a chunk
    if start < 33 or not ends_whole or bytes(data[12:16]) != b"IHDR":
        raise OSError("is cut short or damaged")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def significant_bits(encoded: NDArray[np.uint8]) -> int | None:
    """Return how many bits of its 16 a PNG (sBIT) or TIFF (MaxSampleValue) says that it uses."""
    data = encoded.tobytes()
    if data.startswith(PNG_START):
        _, found, chunk = data[: data.find(b"IDAT")].partition(b"sBIT")
        length = int.from_bytes(data[: data.find(b"sBIT")][-4:], "big")
        return max(chunk[:length], default=None) if found else None
    try:
        with open_image(BytesIO(data)) as image:
            if not isinstance(image, TiffImagePlugin.TiffImageFile):
                return None
            largest = image.tag_v2.get(_MAX_SAMPLE_TAG)
    except (OSError, *HEADER_ERRORS):
        return None
    largest = max(largest) if isinstance(largest, tuple) else largest
    return int(largest).bit_length() if largest else None


def open_image(source: Any) -> ImageFile.ImageFile:
    """Open a path or a file by Pillow, of whatever size."""
    Image.MAX_IMAGE_PIXELS = None  # data.max_megapixels takes the place of Pillow's own limit
    return Image.open(source)


def require_size(width: int, height: int, max_megapixels: float) -> None:
    """Raise ImageHeaderError for an image of more pixels than may be decoded."""
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        limit = f"data.max_megapixels, {max_megapixels:g}"
        problem = f"has {megapixels:.4g} megapixels, more than {limit}"
        raise ImageHeaderError("large-image", problem)


def _other_file(path: Path) -> str:
    """Return what is wrong with a file that is not known as an image."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start[4:8] == b"ftyp":  # the family of AVIF and HEIC; then comes which
        return f"is a file of the format {start[8:12].decode('ascii', 'replace').upper()}, not read"
    kinds = [kind for begins, kind in _OTHER_FILES.items() if start.startswith(begins)]
    return f"is {kinds[0]}" if kinds else "not a readable image"


def exif_orientation(image: Image.Image) -> int:
    """Return the orientation (1 to 8) that an opened image states, and that is applied to it."""
    # Image.getexif would also read XMP, which OpenCV does not, and decode a PNG to look for it
    block = image.info.get("exif")
    if not block or image.format not in _ORIENTED_FORMATS:
        return 1
    exif = Image.Exif()
    try:
        exif.load(block)
        orientation = exif.get(_ORIENTATION_TAG, 1)
    except (OSError, *HEADER_ERRORS):
        return 1  # the decoder ignores a broken block as well
    return orientation if orientation in range(1, 9) else 1


def read_headers(
    paths: Sequence[Path], entries: Sequence[Location], max_megapixels: float, faults: Faults
) -> list[ImageHeader | None]:
    """Read the header of every image, in parallel and in order.

    Args:
        paths: image files.
        entries: for each of them, what names it ("train.txt:7"), for the message.
        faults: where they are collected, a bad image has the header None.

    Raises:
        FaultError: names the first bad image and its entry, and how many more are bad.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
        read = pool.map(lambda chunk: _read_chunk(chunk, max_megapixels), chunks)
        results = [result for chunk in read for result in chunk]
    bad = sum(isinstance(result, ImageHeaderError) for result in results)
    further = f"; {bad - 1} more bad images follow" if bad > 1 else ""
    headers: list[ImageHeader | None] = []
    for result, path, entry in zip(results, paths, entries, strict=True):
        if isinstance(result, ImageHeaderError):
            _report(result, path, entry, further, faults)
            headers.append(None)
        else:
            for kind in result.notes:
                faults.note(kind, Location(str(path)), _NOTES[kind])
            headers.append(result)
    return headers


def warn_of_deep(
    paths: Sequence[Path], headers: Sequence[ImageHeader | None], faults: Faults
) -> None:
    """Warn once of all images of more than 8 bits per channel."""
    deep = [
        path
        for path, header in zip(paths, headers, strict=True)
        if header is not None and "info-deep-image" in header.notes
    ]
    if deep:
        problem = "more than 8 bits per channel and are scaled by the range of their pixels"
        faults.warnings.append(f"{len(deep)} images, such as {deep[0]}, have {problem}")


def _report(
    error: ImageHeaderError, path: Path, entry: Location, further: str, faults: Faults
) -> None:
    if not faults.collects or error.kind == "missing-image" or entry.file == str(path):
        problem = str(error) if faults.collects else f"{error}{further}"
        faults.refuse(error.kind, entry, problem, str(path), "an image file")
    else:
        faults.refuse(error.kind, Location(str(path)), f"{error}, named by {entry}")


def _read_chunk(
    paths: Sequence[Path], max_megapixels: float
) -> list[ImageHeader | ImageHeaderError]:
    results: list[ImageHeader | ImageHeaderError] = []
    for path in paths:
        try:
            results.append(read_header(path, max_megapixels))
        except ImageHeaderError as error:
            results.append(error)
        except OSError as error:
            results.append(ImageHeaderError("unreadable-image", error.strerror or str(error)))
    return results


def turn_boxes(boxes_xyxy_px: NDArray[np.float64], header: ImageHeader) -> NDArray[np.float64]:
    """Move boxes (N, 4) from stored to decoded pixels of an image with EXIF orientation 5 to 8.

    EXIF 2.3, tag 0x0112: 5 transposes, 6 turns a quarter clockwise, 7 transposes on the other
    diagonal, 8 turns a quarter counter-clockwise.
    """
    # transposed: stored y runs along the decoded x
    columns = boxes_xyxy_px[:, 1::2]
    rows = boxes_xyxy_px[:, 0::2]
    if header.orientation in (6, 7):
        columns = header.width - columns[:, ::-1]
    if header.orientation in (7, 8):
        rows = header.height - rows[:, ::-1]
    return np.stack([columns[:, 0], rows[:, 0], columns[:, 1], rows[:, 1]], axis=1)
