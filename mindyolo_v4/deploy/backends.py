"""The programs that run an exported network: ONNX Runtime, OpenVINO, OpenCV.

Each takes images uint8 RGB (B, 3, H, W) and returns the raw maps, smallest stride first, or the
logits. Their libraries are loaded when a back-end is opened.
"""

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.deploy.exported import ExportedFile
from mindyolo_v4.deploy.extras import import_extra
from mindyolo_v4.environment import cores_of_process
from mindyolo_v4.errors import UserError

Maps = tuple[NDArray[np.float32], ...]
Sizes = Sequence[tuple[int, int]]  # height and width of inputs, pixels

EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}  # back-end -> the extra that has it


class Backend(Protocol):
    """What runs a network. Several threads may call it."""

    name: str
    card: Card
    path: Path  # of the file that it runs

    def __call__(self, images: NDArray[np.uint8]) -> Maps:
        """Return the raw maps, or the logits (B, C), of images (B, 3, H, W)."""


class _FileBackend:
    """What runs a file that may fix the shape of its input; a subclass provides `_run`.

    Args:
        shape: batch, channels, height, width of the input; no number: it may change.
        outputs: their names.
        sizes_hw: the inputs that there will be.
    """

    def __init__(
        self, file: ExportedFile, shape: Sequence[object], outputs: Sequence[str], sizes_hw: Sizes
    ):
        self.card = file.card
        self.path = file.path
        batch, _, *fixed_hw = [side if isinstance(side, int) else None for side in shape]
        self._batch = batch
        for size in sizes_hw:
            if any(fixed not in (None, side) for fixed, side in zip(fixed_hw, size, strict=True)):
                height, width = size
                problem = f"{file.path} was exported for another size"
                expected = f"{fixed_hw[1]} x {fixed_hw[0]}, or a file exported with --dynamic"
                raise UserError("data.img_size", problem, f"{width} x {height}", expected)
        _require_maps(file, outputs)

    def __call__(self, images: NDArray[np.uint8]) -> Maps:
        """Return the raw maps, or the logits (B, C), of images (B, 3, H, W)."""
        size = self._batch or len(images)  # as the file fixes it
        parts = []
        for first in range(0, len(images), size):
            part = images[first : first + size].astype(np.float32)
            filled = np.zeros((size, *part.shape[1:]), np.float32)
            filled[: len(part)] = part
            parts.append([output[: len(part)] for output in self._run(filled)])
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))

    def _run(self, images: NDArray[np.float32]) -> Maps:
        """Return the outputs for a whole batch."""
        raise NotImplementedError


def _require_maps(file: ExportedFile, outputs: Sequence[str]) -> None:
    """Raise UserError where a file has other outputs than raw maps or logits."""
    if any(not name.startswith(("map", "logits")) for name in outputs):
        expected = "a file exported without --decode and --nms"
        raise UserError(file.path, "has no raw maps", ", ".join(outputs), expected)


def _unreadable(path: Path, program: str, error: object, expected: str | None = None) -> UserError:
    text = " ".join(str(error).split())
    return UserError(path, f"cannot be read by {program}: {text}", expected=expected)


class OnnxRuntimeBackend(_FileBackend):
    """ONNX Runtime on the cores of this process."""

    name = "onnxruntime"

    def __init__(self, file: ExportedFile, sizes_hw: Sizes):
        ort = import_extra("onnxruntime", EXTRAS[self.name])
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores_of_process(1)
        options.log_severity_level = 3  # errors only
        try:
            providers = ["CPUExecutionProvider"]
            self._session = ort.InferenceSession(str(file.path), options, providers=providers)
        except Exception as error:
            raise _unreadable(file.path, self.name, error) from error
        outputs = [output.name for output in self._session.get_outputs()]
        super().__init__(file, self._session.get_inputs()[0].shape, outputs, sizes_hw)

    def _run(self, images: NDArray[np.float32]) -> Maps:
        return tuple(self._session.run(None, {"images": images}))


class OpenVinoBackend(_FileBackend):
    """OpenVINO on the CPU, in float32; a compiled model for each shape of the input."""

    name = "openvino"

    def __init__(self, file: ExportedFile, sizes_hw: Sizes):
        ov = import_extra("openvino", EXTRAS[self.name])
        self._core = ov.Core()
        try:
            self._model = self._core.read_model(file.path)
        except Exception as error:
            raise _unreadable(file.path, self.name, error) from error
        partial = self._model.input(0).partial_shape
        shape = [side.get_length() if side.is_static else None for side in partial]
        outputs = [output.any_name for output in self._model.outputs]
        super().__init__(file, shape, outputs, sizes_hw)
        self._requests: dict[tuple[int, ...], Any] = {}
        self._lock = threading.Lock()

    def _run(self, images: NDArray[np.float32]) -> Maps:
        with self._lock:
            request = self._requests.get(images.shape)
            if request is None:
                request = self._compiled(images.shape)
                self._requests[images.shape] = request
            results = request.infer({0: images})
            return tuple(np.array(one) for one in results.values())

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        """Return the request of a model whose shapes are known, which makes it faster."""
        model = self._model.clone()
        model.reshape(list(shape))
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(cores_of_process(1)),
        }
        return self._core.compile_model(model, "CPU", hints).create_infer_request()


class OpenCvBackend:
    """OpenCV's DNN module, which must read one size, and then runs every size.

    It sets the number of OpenCV's threads in this process.
    """

    name = "opencv"

    def __init__(self, file: ExportedFile, sizes_hw: Sizes):
        cv2.setNumThreads(cores_of_process(1))
        level = cv2.setLogLevel(0)  # one line of ours says it
        try:
            self._network = cv2.dnn.readNetFromONNX(str(file.path))
        except cv2.error as error:
            node = re.search(r"Node \[(\w+)", str(error))
            problem = f"it lacks this form of the operator {node[1]}" if node else error.err
            expected = "a file exported without --dynamic, --decode and --nms"
            raise _unreadable(file.path, self.name, problem, expected) from error
        finally:
            cv2.setLogLevel(level)
        self.card = file.card
        self.path = file.path
        names = self._network.getUnconnectedOutLayersNames()
        _require_maps(file, names)
        # "map8", "map16", "map32", or "logits"
        self._outputs = sorted(names, key=lambda name: (len(name), name))
        self._lock = threading.Lock()

    def __call__(self, images: NDArray[np.uint8]) -> Maps:
        """Return the raw maps, or the logits (B, C), of images (B, 3, H, W)."""
        with self._lock:
            self._network.setInput(images.astype(np.float32), "images")
            return tuple(np.array(one) for one in self._network.forward(self._outputs))


FOREIGN = {
    "openvino": OpenVinoBackend,
    "onnxruntime": OnnxRuntimeBackend,
    "opencv": OpenCvBackend,
}  # by falling speed on a CPU
BACKENDS = ("auto", "mindspore", *FOREIGN)
