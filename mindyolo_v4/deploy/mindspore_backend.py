"""The back-end that runs a checkpoint with MindSpore, on any device."""

import threading
from functools import cache

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.config.root import Config
from mindyolo_v4.models.forward import inference
from mindyolo_v4.runtime.device import Runtime, start
from mindyolo_v4.runtime.precision import to_mixed_precision


@cache
def _one_at_a_time() -> threading.Lock:
    """Return the lock of MindSpore's state, which belongs to the process."""
    return threading.Lock()


class MindSporeBackend:
    """A checkpoint's network as a compiled graph, one for each shape of its input.

    Of several threads, one works at a time.

    Args:
        runtime: where MindSpore was started already.
    """

    name = "mindspore"

    def __init__(self, checkpoint: Checkpoint, config: Config, runtime: Runtime | None = None):
        with _one_at_a_time():
            runtime = runtime or start(config)
            network = load_network(checkpoint, None)
            network = to_mixed_precision(network, runtime.amp_level, runtime.amp_dtype)
            self.forward = inference(config, network)
        self.card = checkpoint.card
        self.path = checkpoint.path

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Return the raw maps, or the logits, of images (B, 3, H, W)."""
        with _one_at_a_time():
            output = self.forward(ms.Tensor(images))
            levels = output if isinstance(output, tuple) else (output,)
            return tuple(level.asnumpy() for level in levels)
