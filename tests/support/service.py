"""A service with a stand-in for the network, and uploads for it."""

import contextlib
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.deploy.prediction import Named, Prediction
from mindyolo_v4.tools.make_scenes import draw_scene
from tests.support.launch import free_port

CONFIG = Config(
    data=DataConfig(max_megapixels=50.0), evaluate=EvaluateConfig(conf_thres=0.05, iou_thres=0.45)
)


class StandIn:
    """Finds a cat (0.9) in the left half of every picture, and a dog (0.3) in the right one."""

    def __init__(self, task: str = "detect", delay_s: float = 0.0):
        self.card = Card(task=task, class_names=("cat", "dog"))  # type: ignore[arg-type]
        self.config = CONFIG
        self.delay_s = delay_s
        self.batches: list[int] = []

    def stream(self, images: Iterable[Named], batch_size: int = 1) -> Iterator[Prediction]:
        batch = list(images)
        assert len(batch) == batch_size
        self.batches.append(batch_size)
        time.sleep(self.delay_s)
        for name, image in batch:
            height, width = image.shape[:2]
            boxes = np.float32([[0, 0, width / 2, height], [width / 2, 0, width, height]])
            yield Prediction(
                name,
                image,
                boxes if self.card.task == "detect" else None,
                np.array([0.9, 0.3]),
                np.array([0, 1]),
                self.card.class_names,
            )


def scene(side: int = 160, seed: int = 0) -> bytes:
    """Return a drawn picture as PNG."""
    image, _, _ = draw_scene(np.random.default_rng(seed), side)
    return encode(image, ".png")


def encode(image: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def png_of_size(width: int, height: int, rows: int = 0) -> bytes:
    """Return a grey PNG that states a size, with so many rows of pixels, well compressed."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * rows), 9)
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        crc = zlib.crc32(kind + data)
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
    return content


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[int]:
    """Serve an application in a thread; yield its port."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield port
    finally:
        server.should_exit = True
        thread.join()


def wait_until(holds: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until a condition holds."""
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)
