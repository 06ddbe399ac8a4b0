"""MindSpore checkpoints made by hand, byte by byte."""

import struct
from pathlib import Path


def field(number: int, payload: bytes) -> bytes:
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


def value(name: str, shape: tuple[int, ...], dtype: str, content: bytes) -> bytes:
    dims = b"".join(bytes([8, size]) for size in shape)
    return field(
        1, field(1, name.encode()) + field(2, dims + field(2, dtype.encode()) + field(3, content))
    )


WEIGHT = value("conv.weight", (2, 1), "Float32", struct.pack("<2f", 1.0, 2.0))
CARD = value("card", (0,), "str", '{"ä":1}'.encode("utf-32-le"))


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "file.ckpt"
    path.write_bytes(data)
    return path
