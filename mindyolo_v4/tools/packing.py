"""Splits written as MindRecord files with an index; what was written is verified.

The images are stored as their bytes, so that `data/readers/mindrecord.py` reads them with the index
alone, and MindSpore's own MindDataset with the columns `image`, `name` and those of the task.
"""

import json
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from mindspore.mindrecord import FileReader, FileWriter
from numpy.typing import NDArray
from tqdm import tqdm

from mindyolo_v4.data.images import read_encoded, required_bytes
from mindyolo_v4.data.readers.mindrecord import (
    BOX_FIELDS,
    INDEX_VERSION,
    LOCATIONS,
    Arrays,
    index_path,
    read_arrays,
)
from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.data.writers import SplitContent
from mindyolo_v4.errors import UserError, require
from mindyolo_v4.runtime.files import whole_file

IMAGES_PER_SHARD = 10_000
WRITE_AT_ONCE = 64  # images handed to MindRecord in one call
_PAGE_BYTES = (2**25, 2**28)  # MindRecord's default, and its limit
_ROOM = 1024  # bytes of a page beside those of an image
_SCHEMA = {"image": {"type": "bytes"}, "name": {"type": "string"}}


@dataclass(frozen=True)
class Packable:
    """A split as it is packed; images are numbered from 0."""

    names: NDArray[np.bytes_]  # (N,) of the images
    encoded: Callable[[int], NDArray[np.uint8]]  # number of an image -> its bytes
    columns: Mapping[str, str]  # name -> type of what else the MindRecord files hold
    values: Callable[[int], dict[str, Any]]  # number of an image -> its values of these columns
    index: Arrays  # what the index holds beside the names and where the images lie


@dataclass(frozen=True)
class Packing:
    """One split that is being packed; each finished file has its part of the index beside it."""

    content: Packable
    split: str
    folder: Path
    shards: int

    def run(self) -> None:
        """Write what is missing, verify everything, and write the index."""
        self.folder.mkdir(parents=True, exist_ok=True)
        images = len(self.content.names)
        bounds = np.linspace(0, images, self.shards + 1).astype(np.int64).tolist()
        pieces = []
        bar = tqdm(total=images, unit="image", desc=f"packing {self.split}", disable=None)
        with bar:
            for number, (start, stop) in enumerate(pairwise(bounds)):
                piece = self._finished(number, range(start, stop))
                pieces.append(piece or self._write(number, range(start, stop)))
                bar.update(stop - start)
        self._write_index(pieces)

    def path(self, number: int) -> Path:
        """Return where a file lies."""
        return self.folder / f"{self.split}-{number:05d}-of-{self.shards:05d}.mindrecord"

    def _piece_path(self, number: int) -> Path:
        return self.path(number).with_suffix(".piece.npz")

    def _finished(self, number: int, images: range) -> Arrays | None:
        """Return the index part of a file that an earlier command finished.

        None: it is not whole, or the split has other images or values today.
        """
        path = self.path(number)
        try:
            piece = read_arrays(self._piece_path(number), ("names", "size", "values", *LOCATIONS))
        except UserError:
            return None
        same = np.array_equal(piece["names"], self.content.names[images.start : images.stop])
        same = same and np.array_equal(piece["values"], self._sums_of_values(images))
        whole = same and path.is_file() and path.stat().st_size == int(piece["size"])
        if not whole or not self._is_right(path, piece):
            return None
        sums = (crc32(self._bytes(image)) for image in images)
        are_same = all(one == other for one, other in zip(sums, piece["crc32"], strict=True))
        return piece if are_same else None

    def _write(self, number: int, images: range) -> Arrays:
        path = self.path(number)
        lengths = [len(self._bytes(image)) for image in images]
        page_bytes = self._page_bytes(images, lengths)
        try:
            sums = self._write_rows(path, images, page_bytes)
        except RuntimeError as error:  # of MindRecord: a full disk, for example
            cause = str(error).partition("[ERROR]")[2].splitlines() or [str(error)]
            raise UserError(path, f"cannot be written: {cause[0].strip()}") from None
        path.chmod(0o644)
        path.with_name(f"{path.name}.db").chmod(0o644)  # MindRecord's own index
        piece = {
            "names": self.content.names[images.start : images.stop],
            "offsets": self._locate(path, images),
            "lengths": np.array(lengths, np.int64),
            "crc32": np.array(sums, np.uint32),
            "values": self._sums_of_values(images),
            "size": np.array(path.stat().st_size, np.int64),
        }
        reader = FileReader(str(path), num_consumer=1)
        count = reader.len()
        reader.close()
        is_right = count == len(images) and self._is_right(path, piece)
        expected = f"{len(images)} images"
        require(is_right, str(path), "does not hold what was written to it", count, expected)
        _save(self._piece_path(number), piece)
        return piece

    def _write_rows(self, path: Path, images: range, page_bytes: int) -> list[int]:
        """Write a MindRecord file; return the checksum of each image."""
        writer = FileWriter(str(path), shard_num=1, overwrite=True)
        writer.set_page_size(page_bytes)
        columns = {name: {"type": kind} for name, kind in self.content.columns.items()}
        writer.add_schema(_SCHEMA | columns, "images as they are, with labels and names")
        sums = []
        for start in range(0, len(images), WRITE_AT_ONCE):
            rows = [self._row(image) for image in images[start : start + WRITE_AT_ONCE]]
            writer.write_raw_data(rows)
            sums += [crc32(row["image"]) for row in rows]
        writer.commit()
        return sums

    def _row(self, image: int) -> dict[str, Any]:
        name = _text(self.content.names[image])
        return {"image": self._bytes(image), "name": name, **self.content.values(image)}

    def _sums_of_values(self, images: range) -> NDArray[np.uint32]:
        """Return a checksum (N,) of what a row holds beside image and name."""
        texts = [json.dumps(self.content.values(image), sort_keys=True) for image in images]
        return np.array([crc32(text.encode()) for text in texts], np.uint32)

    def _bytes(self, image: int) -> bytes:
        return required_bytes(partial(self.content.encoded, image))

    def _page_bytes(self, images: range, lengths: list[int]) -> int:
        """Return a page size that holds the largest image. Raises UserError where none does."""
        smallest, largest = _PAGE_BYTES
        number = int(np.argmax(lengths))
        page = 1 << (lengths[number] + _ROOM).bit_length()
        name = _text(self.content.names[images[number]])
        expected = f"at most {largest // 2**20} MB"
        problem = "has more bytes than a MindRecord file takes"
        require(page <= largest, name, problem, lengths[number], expected)
        return max(page, smallest)

    def _locate(self, path: Path, images: range) -> np.ndarray:
        """Find each image's bytes in the file, most likely after those of the image before."""
        offsets = []
        end = 0
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with content:
            for image in images:
                encoded = self._bytes(image)
                offset = content.find(encoded, end)
                if offset < 0:
                    offset = content.find(encoded)
                if offset < 0:
                    problem = "does not hold the bytes of an image"
                    raise UserError(path, problem, _text(self.content.names[image]))
                offsets.append(offset)
                end = offset + len(encoded)
        return np.array(offsets, np.int64)

    def _is_right(self, path: Path, piece: Arrays) -> bool:
        """Tell whether every image read back from the file has its checksum."""
        rows = zip(*(piece[name].tolist() for name in LOCATIONS), strict=True)
        return all(crc32(read_encoded(path, start, size)) == right for start, size, right in rows)

    def _write_index(self, pieces: list[Arrays]) -> None:
        counts = [len(piece["names"]) for piece in pieces]
        joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in LOCATIONS}
        index = {
            "version": np.array(INDEX_VERSION),
            "files": np.array([self.path(number).name for number in range(self.shards)]),
            "sizes": np.array([int(piece["size"]) for piece in pieces], np.int64),
            "names": self.content.names,
            "shard_ids": np.repeat(np.arange(self.shards, dtype=np.int32), counts),
            **joined,
            **self.content.index,
        }
        _save(index_path(self.folder, self.split), index)


def shard_count(images: int) -> int:
    """Return in how many files so many images are packed by default."""
    return -(-images // IMAGES_PER_SHARD)


def pack_detector(folder: Path, split: str, content: SplitContent) -> None:
    """Pack a split of a detector's data set, which was read and checked."""
    Packing(_packable(content), split, folder, shard_count(len(content.images))).run()
    for piece in folder.glob("*.piece.npz"):  # nobody goes on with this packing
        piece.unlink()


def _packable(content: SplitContent) -> Packable:
    for number in content.category_ids:
        is_held = -(2**63) <= number < 2**63
        require(is_held, "categories", "an id has more than 64 bits", number)
    records = [image.record for image in content.images]
    joined = {
        name: np.concatenate([vars(record)[field] for record in records])
        for name, field in BOX_FIELDS.items()
    }
    index = {
        "class_names": np.array(content.class_names),
        "category_ids": np.array(content.category_ids, np.int64),
        "image_ids": np.array([json.dumps(record.image_id) for record in records], np.bytes_),
        "sizes_wh_px": np.array([(record.width, record.height) for record in records], np.int64),
        "boxes_per_image": np.array([len(record.class_ids) for record in records], np.int64),
        **joined,
    }
    return Packable(
        names=np.array([os.fsencode(image.name) for image in content.images], np.bytes_),
        encoded=lambda image: records[image].encoded(),
        columns={"image_id": "string", "width": "int32", "height": "int32", "boxes": "string"},
        values=lambda image: _columns(records[image]),
        index=index,
    )


def _columns(record: ImageRecord) -> dict[str, Any]:
    """Return what MindRecord holds of an image; it has no empty arrays, so the boxes are JSON."""
    columns = [vars(record)[field].tolist() for field in BOX_FIELDS.values()]
    boxes = [dict(zip(BOX_FIELDS, row, strict=True)) for row in zip(*columns, strict=True)]
    return {
        "image_id": json.dumps(record.image_id),
        "width": record.width,
        "height": record.height,
        "boxes": json.dumps(boxes),
    }


def _text(name: bytes) -> str:
    return bytes(name).decode("utf-8", "backslashreplace")


def _save(path: Path, arrays: Arrays) -> None:
    with whole_file(path) as unfinished:
        np.savez(unfinished, **arrays)  # type: ignore[arg-type]
