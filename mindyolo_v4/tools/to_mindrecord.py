"""Command that packs a split of a classification set into MindRecord files with an index.

python -m mindyolo_v4.tools.to_mindrecord --data_path DIR --split train --output PACKED
"""

import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from mindspore.mindrecord import FileReader, FileWriter
from tqdm import tqdm

from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.config.recipe import load_config, print_config
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import read_encoded
from mindyolo_v4.data.readers.imagenet import read_imagenet
from mindyolo_v4.data.readers.mindrecord import INDEX_VERSION, index_path, read_arrays
from mindyolo_v4.errors import UserError, printable, require
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.files import whole_file

IMAGES_PER_SHARD = 10_000
WRITE_AT_ONCE = 64  # images handed to MindRecord in one call
_COLUMNS = ("offsets", "lengths", "crc32")  # of the index: where each image lies, its checksum
_SCHEMA = {"image": {"type": "bytes"}, "label": {"type": "int32"}, "name": {"type": "string"}}


def main(argv: Sequence[str]) -> int:
    """Pack a split, or go on where an interrupted command stopped; return the exit status."""
    options = ("data_dir", "data_path", "split")
    parser = build_parser(
        command_for("to-mindrecord"), "Pack a split into MindRecord files.", options
    )
    text = "folder for the files; the value of data.mindrecord afterwards"
    parser.add_argument("--output", help=text)
    text = f"number of files (default: one per {IMAGES_PER_SHARD} images)"
    parser.add_argument("--shards", help=text)
    arguments = parse(parser, argv)
    if arguments.config is None:
        defaults = {"data.format": "imagenet", "data.train": "train", "data.val": "val"}
        for key, text in defaults.items():
            arguments = arguments.with_default(key, text)
    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        return print_config(config)
    output = arguments.options["output"]
    require(output is not None, "--output", "missing", expected="a folder")
    split = config.evaluate.split
    dataset = read_imagenet(config.data, split)
    count = _shard_count(arguments.options["shards"], len(dataset))
    Packing(dataset, split, Path(str(output)), count).run()
    packed = f"{len(dataset)} images of {printable(dataset.source)} in {count} files"
    print(f"{packed}, every checksum right: {printable(str(output))}")
    return 0


def _shard_count(text: Any, images: int) -> int:
    if text is None:
        return -(-images // IMAGES_PER_SHARD)
    is_count = str(text).isdecimal() and len(str(text)) <= len(str(images))
    if not is_count or not 0 < int(text) <= images:
        raise UserError("--shards", "not a number of files", text, f"1 to {images}")
    return int(text)


@dataclass(frozen=True)
class Packing:
    """One split that is being packed; each finished file has its part of the index beside it."""

    dataset: ClassImages
    split: str
    folder: Path
    shards: int

    def run(self) -> None:
        """Write what is missing, verify everything, and write the index."""
        self.folder.mkdir(parents=True, exist_ok=True)
        images = len(self.dataset)
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

    def _finished(self, number: int, images: range) -> dict[str, np.ndarray] | None:
        """Return the index part of a file that an earlier command finished and that is whole."""
        path = self.path(number)
        try:
            piece = read_arrays(self._piece_path(number), ("names", "size", *_COLUMNS))
        except UserError:
            return None
        same = np.array_equal(piece["names"], self.dataset.names[images.start : images.stop])
        whole = same and path.is_file() and path.stat().st_size == int(piece["size"])
        return piece if whole and self._is_right(path, piece) else None

    def _write(self, number: int, images: range) -> dict[str, np.ndarray]:
        path = self.path(number)
        writer = FileWriter(str(path), shard_num=1, overwrite=True)
        writer.add_schema(_SCHEMA, "images as they are, classes and file names")
        sums = []
        lengths = []
        for start in range(0, len(images), WRITE_AT_ONCE):
            rows = [self._row(image) for image in images[start : start + WRITE_AT_ONCE]]
            writer.write_raw_data(rows)
            sums += [crc32(row["image"]) for row in rows]
            lengths += [len(row["image"]) for row in rows]
        writer.commit()
        path.chmod(0o644)
        path.with_name(f"{path.name}.db").chmod(0o644)  # MindRecord's own index
        piece = {
            "names": self.dataset.names[images.start : images.stop],
            "offsets": self._locate(path, images),
            "lengths": np.array(lengths, np.int64),
            "crc32": np.array(sums, np.uint32),
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

    def _row(self, image: int) -> dict[str, Any]:
        name = bytes(self.dataset.names[image]).decode("utf-8", "backslashreplace")
        label = int(self.dataset.class_ids[image])
        return {"image": self.dataset.encoded(image).tobytes(), "label": label, "name": name}

    def _locate(self, path: Path, images: range) -> np.ndarray:
        """Find each image's bytes in the file, most likely after those of the image before."""
        offsets = []
        end = 0
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with content:
            for image in images:
                encoded = self.dataset.encoded(image).tobytes()
                offset = content.find(encoded, end)
                if offset < 0:
                    offset = content.find(encoded)
                if offset < 0:
                    problem = "does not hold the bytes of an image"
                    raise UserError(path, problem, str(self.dataset.path(image)))
                offsets.append(offset)
                end = offset + len(encoded)
        return np.array(offsets, np.int64)

    def _is_right(self, path: Path, piece: dict[str, np.ndarray]) -> bool:
        """Tell whether every image read back from the file has its checksum."""
        rows = zip(*(piece[name].tolist() for name in _COLUMNS), strict=True)
        return all(crc32(read_encoded(path, start, size)) == right for start, size, right in rows)

    def _write_index(self, pieces: list[dict[str, np.ndarray]]) -> None:
        counts = [len(piece["names"]) for piece in pieces]
        joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in _COLUMNS}
        index = {
            "version": np.array(INDEX_VERSION),
            "files": np.array([self.path(number).name for number in range(self.shards)]),
            "sizes": np.array([int(piece["size"]) for piece in pieces], np.int64),
            "class_names": np.array(self.dataset.class_names),
            "names": self.dataset.names,
            "class_ids": self.dataset.class_ids,
            "shard_ids": np.repeat(np.arange(self.shards, dtype=np.int32), counts),
            **joined,
        }
        _save(index_path(self.folder, self.split), index)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with whole_file(path) as unfinished:
        np.savez(unfinished, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(run_command(main))
