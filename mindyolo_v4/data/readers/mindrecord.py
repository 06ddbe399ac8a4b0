"""Splits that `tools.to_mindrecord` has packed: an index beside the MindRecord files says where each image lies."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.class_images import ClassImages, Shards
from mindyolo_v4.data.readers.class_names import check_class_count, configured_names
from mindyolo_v4.data.readers.imagenet import read_imagenet
from mindyolo_v4.errors import UserError

INDEX_VERSION = 1


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
        folder = Path(data.mindrecord).expanduser().absolute()
        if not any(folder.glob(index_path(Path(), "*").name)):
            raise UserError(
                "data.mindrecord",
                "holds no packed split",
                str(folder),
                "what tools.to_mindrecord wrote",
            )
        if index_path(folder, split).is_file():
            return _read_packed(data, folder, split)
    return read_imagenet(data, split)


def _read_packed(data: DataConfig, folder: Path, split: str) -> ClassImages:
    source = index_path(folder, split)
    try:
        with np.load(source, allow_pickle=False) as index:
            fields = {name: index[name] for name in index.files}
        files = [
            (folder / str(name), int(size))
            for name, size in zip(fields["files"], fields["sizes"], strict=True)
        ]
        version = int(fields["version"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(source, f"is no index of packed images: {error}") from None
    if version != INDEX_VERSION:
        raise UserError(
            source, "was written by another version of tools.to_mindrecord", version, INDEX_VERSION
        )
    for path, size in files:
        there = path.stat().st_size if path.is_file() else None
        if there != size:
            raise UserError(
                path, "is missing or not the file that was packed", there, f"{size} bytes"
            )
    held = tuple(str(name) for name in fields["class_names"])
    names = (
        held if data.names is None else configured_names(data, Path(data.root or folder)) or held
    )
    if len(names) != len(held):
        raise UserError(
            "data.names", f"not as many as the classes of {source}", len(names), len(held)
        )
    if set(names) == set(held) and names != held:
        raise UserError(
            "data.names", f"in another order than in {source}", list(names[:3]), list(held[:3])
        )
    check_class_count(data, names, str(source))
    shards = Shards(
        tuple(path for path, _ in files), fields["shard_ids"], fields["offsets"], fields["lengths"]
    )
    return ClassImages(folder, fields["names"], fields["class_ids"], names, str(source), (), shards)
