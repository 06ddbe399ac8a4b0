"""Write a state dict as PyTorch does, where PyTorch is installed."""

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mindyolo_v4.schema.errors import UserError


def write_pth(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Save arrays as a state dict that torch.load(weights_only=True) takes; `path` appears whole or not at all."""
    try:
        import torch
    except ImportError as error:
        other = path.with_suffix(".safetensors")
        raise UserError(path, "PyTorch is not installed, which writes this format", None, f"{other}") from error
    # PyTorch warns of tensors over read-only memory, hence the copies.
    state = OrderedDict((name, torch.from_numpy(np.array(array, order="C"))) for name, array in tensors.items())
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
