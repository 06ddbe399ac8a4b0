"""Decode every image of a split, and find the pictures that two splits share."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mindyolo_v4.data.images import ImageReadError, decode_image
from mindyolo_v4.data.readers.faults import Faults, Location
from mindyolo_v4.environment import cores_of_process

_MOST_THREADS = 8
_THUMBNAIL = 16  # pixels
# near-duplicates: bits of 64 that differ, and grey levels of the thumbnails that differ on average
_BITS = 3
_LEVELS = 6.0
_BAND_BITS = 16  # of two hashes with at most 3 different bits, one of 4 bands is equal

ReadBytes = Callable[[], NDArray[np.uint8]]  # returns the bytes of an image


class Picture(NamedTuple):
    """What tells the pixels of an image from others."""

    path: Path
    digest: bytes  # of all pixels
    gradient_hash: int  # 64 bits: which of two neighbours in a row of 9 x 8 pixels is brighter
    thumbnail: NDArray[np.uint8]  # (16, 16) grey


def decode_all(
    images: Mapping[Path, ReadBytes],
    max_megapixels: float,
    workers: int | None,
    faults: Faults,
    title: str,
) -> list[Picture]:
    """Decode images in threads; `faults` learns of those that cannot be decoded whole."""
    count = workers or min(cores_of_process(1), _MOST_THREADS)
    pictures = []
    with ThreadPoolExecutor(count) as pool:
        decoded = pool.map(_picture, images, images.values(), repeat(max_megapixels))
        bar = tqdm(decoded, total=len(images), unit="image", desc=title, disable=None)
        for path, picture in zip(images, bar, strict=True):
            if isinstance(picture, Picture):
                pictures.append(picture)
            else:
                faults.note("damaged-image", Location(str(path)), picture.problem)
    return pictures


def _picture(path: Path, read: ReadBytes, max_megapixels: float) -> Picture | ImageReadError:
    try:
        pixels = decode_image(read(), path, max_megapixels=max_megapixels)
    except ImageReadError as error:
        return error
    digest = hashlib.blake2b(pixels.data, digest_size=16)
    digest.update(str(pixels.shape).encode())
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    thumbnail = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return Picture(path, digest.digest(), int.from_bytes(bits.tobytes(), "big"), thumbnail)


def note_shared(
    first: Sequence[Picture], second: Sequence[Picture], first_name: str, faults: Faults
) -> None:
    """Report the images of `second` that are in `first` too, and those that look nearly alike."""
    by_digest = {picture.digest: picture.path for picture in reversed(first)}
    bands: dict[tuple[int, int], list[Picture]] = {}
    for picture in first:
        for key in _bands(picture.gradient_hash):
            bands.setdefault(key, []).append(picture)
    for picture in second:
        equal = by_digest.get(picture.digest)
        location = Location(str(picture.path))
        if equal is not None:
            faults.note("shared-image", location, f"the same picture is in {first_name}: {equal}")
            continue
        candidates = (
            other for key in _bands(picture.gradient_hash) for other in bands.get(key, ())
        )
        near = _first_near(picture, candidates)
        if near is not None:
            problem = f"looks nearly like a picture of {first_name}: {near.path}"
            faults.note("info-near-duplicate", location, problem)


def _bands(gradient_hash: int) -> list[tuple[int, int]]:
    mask = 2**_BAND_BITS - 1
    return [(shift, gradient_hash >> shift & mask) for shift in range(0, 64, _BAND_BITS)]


def _first_near(picture: Picture, candidates: Iterable[Picture]) -> Picture | None:
    for other in candidates:
        if (picture.gradient_hash ^ other.gradient_hash).bit_count() > _BITS:
            continue
        levels = np.abs(picture.thumbnail.astype(np.int16) - other.thumbnail)
        if levels.mean() <= _LEVELS:
            return other
    return None
