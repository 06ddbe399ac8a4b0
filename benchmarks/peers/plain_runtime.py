"""An ONNX file in a runtime as its manual calls it, the peer of the figures of deployment.

It imports nothing of the package. It uses all cores of the process, and prints one JSON object.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.common.clock import time_calls

Run = Callable[[np.ndarray], object]


def openvino(path: str, threads: int) -> Run:
    """Return a call of OpenVINO for one request at a time, in float32."""
    # Otherwise OpenVINO reports its use over the network.
    sys.modules["openvino_telemetry"] = None
    import openvino as ov

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda images: request.infer({0: images})


def onnxruntime(path: str, threads: int) -> Run:
    """Return a call of ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def opencv(path: str, threads: int) -> Run:
    """Return a call of OpenCV's DNN module."""
    import cv2

    cv2.setNumThreads(threads)
    network = cv2.dnn.readNetFromONNX(path)
    names = network.getUnconnectedOutLayersNames()

    def run(images: np.ndarray) -> object:
        network.setInput(images, "images")
        return network.forward(names)

    return run


RUNTIMES = {"openvino": openvino, "onnxruntime": onnxruntime, "opencv": opencv}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.peers.plain_runtime")
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("--model", required=True, help="ONNX file of one image of one size")
    parser.add_argument("--img_size", type=int, required=True)
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    run = RUNTIMES[options.runtime](options.model, len(os.sched_getaffinity(0)))
    shape = (1, 3, options.img_size, options.img_size)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    print(json.dumps(time_calls(lambda: run(images), options.steps)))


if __name__ == "__main__":
    main()
