"""A PyTorch checkpoint (zip layout), written without PyTorch."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def write_pth(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write tensors as `torch.save` writes a state dict."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        items = b""
        for number, (name, value) in enumerate(tensors.items()):
            items += _text(name) + _tensor(value, str(number))
            archive.writestr(f"net/data/{number}", value.astype("<f4").tobytes())
        pickled = b"\x80\x02" + _ORDERED_DICT + b"(" + items + b"u."
        archive.writestr("net/data.pkl", pickled)
        archive.writestr("net/version", "3\n")


def _tensor(value: NDArray[np.float32], key: str) -> bytes:
    """Return the pickle of torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, ...)."""
    storage = _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu")
    strides = tuple(stride // value.itemsize for stride in value.strides)
    arguments = b"(" + storage + _integer(value.size) + b"tQ" + _integer(0)
    arguments += _integers(value.shape) + _integers(strides) + b"\x89" + _ORDERED_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _integer(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _integers(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_integer(number) for number in numbers) + b"t"
