"""Splits packed by `tools.to_mindrecord`: an index beside the files locates each image."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.class_images import ClassImages, Shards
from mindyolo_v4.data.readers.class_names import check_class_count, configured_names
from mindyolo_v4.data.readers.files import user_path
from mindyolo_v4.data.readers.imagenet import read_imagenet
from mindyolo_v4.errors import UserError

INDEX_VERSION = 1
_FIELDS = (
    *("version", "files", "sizes", "class_names", "names", "class_ids"),
    *("shard_ids", "offsets", "lengths"),
)


def index_path(folder: Path, split: str) -> Path:
    """Return where the index of a split lies."""
    return folder / f"{split}.index.npz"


def read_classes(data: DataConfig, split: str) -> ClassImages:
    """Read one split: packed where `data.mindrecord` holds it, else from `data.root`.

    Raises:
        UserError: names the configuration key or the file that is wrong.
    """
    if data.format != "imagenet":
        raise UserError("data.format", "is for detectors", data.format, "imagenet")
    if data.mindrecord is not None:
        folder = user_path(data.mindrecord).absolute()
        if not any(folder.glob(index_path(Path(), "*").name)):
            expected = "what tools.to_mindrecord wrote"
            raise UserError("data.mindrecord", "holds no packed split", str(folder), expected)
        if index_path(folder, split).is_file():
            return _read_packed(data, folder, split)
    return read_imagenet(data, split)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the named arrays of an .npz file. Raises UserError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, LookupError, EOFError, BadZipFile, zlib.error) as error:
        raise UserError(path, f"is no index of packed images: {error}") from None


def _read_packed(data: DataConfig, folder: Path, split: str) -> ClassImages:
    source = index_path(folder, split)
    fields = read_arrays(source, _FIELDS)
    paths = tuple(folder / str(name) for name in fields["files"])
    sizes = fields["sizes"].tolist()
    version = fields["version"].tolist()
    if version != INDEX_VERSION:
        problem = "was written by another version of tools.to_mindrecord"
        raise UserError(source, problem, version, INDEX_VERSION)
    for path, size in zip(paths, sizes, strict=True):
        size_now = path.stat().st_size if path.is_file() else None
        if size_now != size:
            problem = "is missing or not the file that was packed"
            raise UserError(path, problem, size_now, f"{size} bytes")
    packed = tuple(str(name) for name in fields["class_names"])
    names = configured_names(data, Path(data.root or folder)) or packed
    if len(names) != len(packed):
        problem = f"not as many as the classes of {source}"
        raise UserError("data.names", problem, len(names), len(packed))
    if set(names) == set(packed) and names != packed:
        problem = f"in another order than in {source}"
        raise UserError("data.names", problem, list(names[:3]), list(packed[:3]))
    check_class_count(data, names, str(source))
    shards = Shards(paths, fields["shard_ids"], fields["offsets"], fields["lengths"])
    return ClassImages(folder, fields["names"], fields["class_ids"], names, str(source), (), shards)
