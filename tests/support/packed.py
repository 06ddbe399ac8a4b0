"""A packed split of a detector without MindSpore: bytes in a row, and the index."""

import json
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

SHARD = "train-00000-of-00001.mindrecord"


def write_packed(folder: Path, images: dict[str, bytes], **changed: object) -> Path:
    """Write a split "train" with a box in each image; return the file of the images.

    Args:
        images: bytes by name.
        changed: arrays of the index that are to be others; None leaves one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shard = folder / SHARD
    shard.write_bytes(b"".join(images.values()))
    lengths = [len(content) for content in images.values()]
    count = len(images)
    index = {
        "version": 1,
        "files": [SHARD],
        "sizes": [sum(lengths)],
        "class_names": ["cat", "dog"],
        "category_ids": [3, 7],
        "names": np.array([name.encode() for name in images]),
        "image_ids": np.array([json.dumps(5 + number) for number in range(count)], np.bytes_),
        "sizes_wh_px": [Image.open(BytesIO(content)).size for content in images.values()],
        "shard_ids": [0] * count,
        "offsets": np.cumsum([0, *lengths])[:-1],
        "lengths": lengths,
        "crc32": np.array([zlib.crc32(content) for content in images.values()], np.uint32),
        "boxes_per_image": [1] * count,
        "box_xyxy_px": np.array([[1, 2, 30, 40]] * count, np.float32),
        "box_class_id": np.ones(count, np.int64),
        "box_ignore": np.zeros(count, bool),
        "box_crowd": np.zeros(count, bool),
        "box_area_px": np.full(count, 1102.0),
    }
    written = {name: value for name, value in (index | changed).items() if value is not None}
    np.savez(folder / "train.index.npz", **written)
    return shard
