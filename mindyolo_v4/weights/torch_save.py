"""Write a state dict as PyTorch does, where PyTorch is installed."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.files import write_whole


def write_pth(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Save arrays as a state dict that torch.load(weights_only=True) takes; `path` appears whole or not at all."""
    try:
        import torch
    except ImportError as error:
        other = path.with_suffix(".safetensors")
        raise UserError(
            path, "PyTorch is not installed, which writes this format", None, f"{other}"
        ) from error
    # PyTorch warns of tensors over read-only memory, hence the copies.
    state = OrderedDict(
        (name, torch.from_numpy(np.array(array, order="C"))) for name, array in tensors.items()
    )

    def write(unfinished: Path) -> None:
        with unfinished.open(
            "wb"
        ) as file:  # given a path, PyTorch would put its name into the file
            torch.save(state, file)

    write_whole({path: write})
