"""The size and the scans of a JPEG from its own segments, in a fraction of Pillow's time.

ITU-T T.81, annex B: after FF D8 come segments of a marker FF xx, a length that counts its own two
bytes, and content. That of a frame header begins with precision (1 byte), height and width (2 bytes
each) and the number of components (1 byte), then 3 bytes for each component, its number first.
That of a scan header begins with a number of components and 2 bytes for each; then come the first
and the last of the 64 coefficients that the scan holds, and a byte whose lower half counts the bits
that later scans add to them.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

_SUFFIXES = (".jpg", ".jpeg", ".JPG", ".JPEG")
JPEG_START = b"\xff\xd8\xff"
_EXIF = 0xE1  # or XMP
_SCAN = 0xDA  # after it come the pixels
_END = 0xD9
_READ_BYTES = 16384  # hold all segments of most files
_AFTER_PIXELS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # FF 00 is one byte, FF D0 a restart
_COEFFICIENTS = 64
_LEAST_SEGMENT = 10  # bytes of a frame or scan header, and those of the pixels after them


def jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """Return width and height in the frame header of a JPEG, None for other data."""
    for marker, start in _segments(data):
        if _is_frame(marker):
            height, width = struct.unpack_from(">HH", data, start + 1)
            return width, height
    return None


def plain_jpeg_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of a JPEG of three colours, 8 bits each, without EXIF.

    None stands for every other file, and for one whose first segments do not lead to a scan: it
    needs a closer look. Raises OSError for a file that cannot be read.
    """
    if not path.name.endswith(_SUFFIXES):
        return None
    with path.open("rb", buffering=0) as file:
        data = memoryview(file.read(_READ_BYTES))
    size = None
    for marker, start in _segments(data):
        if marker == _EXIF:
            return None
        if _is_frame(marker):
            precision, height, width, components = struct.unpack_from(">BHHB", data, start)
            is_plain = precision == 8 and components == 3 and min(width, height) > 0
            size = (width, height) if is_plain else None
        if marker == _SCAN:
            return size
    return None


def may_have_exif(data: memoryview) -> bool:
    """Return whether a JPEG has EXIF or XMP before its pixels, or needs a closer look."""
    for marker, _ in _segments(data):
        if marker in (_EXIF, _SCAN):
            return marker == _EXIF
    return True


def has_end(data: memoryview) -> bool:
    """Return whether a JPEG has its end marker, whatever follows it."""
    # most files end with it; a marker in the last bytes is not a segment
    is_last = bytes([0xFF, _END]) in bytes(data[-_LEAST_SEGMENT:])
    return is_last or any(marker == _END for marker, _ in _segments(data))


def has_all_scans(data: memoryview) -> bool:
    """Return whether the scans of a JPEG bring every bit of its coefficients.

    A progressive image has several scans, of which each makes the picture finer.
    """
    missing: set[tuple[int, int]] = set()  # component and coefficient
    for marker, start in _segments(data):
        if _is_frame(marker):
            components = data[start + 6 : start + 6 + 3 * data[start + 5] : 3]
            missing = {(one, number) for one in components for number in range(_COEFFICIENTS)}
        if marker == _SCAN:
            stop = start + 1 + 2 * data[start]
            parameters = data[stop : stop + 3]
            if len(parameters) == 3 and parameters[2] & 15 == 0:
                held = range(parameters[0], parameters[1] + 1)
                missing -= {(one, number) for one in data[start + 1 : stop : 2] for number in held}
    return not missing


def _is_frame(marker: int) -> bool:
    # C4, C8 and CC: tables, reserved, conditioning of the arithmetic coder
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def _segments(data: memoryview) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment up to the end, and where its content begins."""
    if bytes(data[: len(JPEG_START)]) != JPEG_START:
        return
    start = 2
    while start + _LEAST_SEGMENT <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if marker == 0xFF:  # fills
            start += 1
            continue
        yield marker, start + 4
        if marker == _END:
            return
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker == _SCAN:
            found = _AFTER_PIXELS.search(data, start)
            start = found.start() if found else len(data)
