"""The images and classes of one split of a classification set, in a few flat arrays."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.images import Packed, read_encoded, read_packed
from mindyolo_v4.data.records import WarningLines
from mindyolo_v4.errors import printable


@dataclass(frozen=True, eq=False)
class Shards:
    """Where each image lies inside the MindRecord files of `tools.to_mindrecord`."""

    paths: tuple[Path, ...]
    shard_ids: NDArray[np.int32]  # (N,) index into `paths`
    packed: NDArray[np.int64]  # (N, 3) the fields of `Packed`


@dataclass(frozen=True, eq=False)
class ClassImages(WarningLines):
    """One split, read and checked. Forked loader workers share the arrays' memory."""

    folder: Path  # that the names are relative to
    names: NDArray[np.bytes_]  # (N,) file names
    class_ids: NDArray[np.int32]  # (N,) index into class_names
    class_names: tuple[str, ...]
    source: str  # folder or list, for messages and reports
    warnings: tuple[str, ...] = ()
    shards: Shards | None = None  # None: the images are files

    def __len__(self) -> int:
        return len(self.names)

    def summary(self) -> str:
        """Return one line for the log."""
        return f"{printable(self.source)}: {len(self)} images, {len(self.class_names)} classes"

    def path(self, index: int) -> Path:
        """Return the file of image `index`, which only names it where the images lie in shards."""
        return self.folder / os.fsdecode(bytes(self.names[index]))

    def objects(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the number (N,) and the class (N,) of every image."""
        return np.arange(len(self)), self.class_ids.astype(np.int64)

    def encoded(self, index: int) -> NDArray[np.uint8]:
        """Return the bytes of image file `index`. Raises ImageReadError where they are missing."""
        shards = self.shards
        if shards is None:
            return read_encoded(self.path(index))
        packed = Packed(*shards.packed[index].tolist())
        return read_packed(shards.paths[shards.shard_ids[index]], packed, self.path(index))
