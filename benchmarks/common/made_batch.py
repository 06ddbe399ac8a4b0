"""One training batch in a file, so that every framework is given the same.

It holds images, the assigner's tables and the settings of the loss.
"""

from pathlib import Path

import numpy as np

from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.losses.assign import Assigner

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "yolov4" / "yolov4.yaml"
CLASSES = 80
BOXES_PER_IMAGE = 30  # about a mosaic of four COCO images


def recipe(img_size: int, *overrides: tuple[str, str]) -> Config:
    """Return the configuration that is measured: YOLOv4's recipe at this input size, on CPU."""
    fixed = (("data.img_size", str(img_size)), ("device_target", "CPU"), ("seed", "2"))
    return build_config(read_tree(RECIPE, (*fixed, *overrides)))


def made_boxes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (N, 4), centre and size as fractions of the side, and classes (N,)."""
    sizes = np.exp(rng.uniform(np.log(0.02), np.log(0.5), (BOXES_PER_IMAGE, 2)))
    centres = rng.uniform(sizes / 2, 1 - sizes / 2)
    boxes = np.concatenate([centres, sizes], axis=1).astype(np.float32)
    return boxes, rng.integers(0, CLASSES, BOXES_PER_IMAGE)


def make_assigner(config: Config) -> Assigner:
    """Return the assigner that a training by this configuration uses."""
    anchors = config.model.anchor_set
    data = config.data
    threshold = config.loss.anchor_threshold
    return Assigner(anchors, data.img_size, CLASSES, data.max_truths, threshold)


def write_batch(path: Path, config: Config, batch: int) -> Path:
    """Write the batch and return the path; equal arguments give an equal batch."""
    rng = np.random.default_rng(0)
    size = config.data.img_size
    loss = config.loss
    assign = make_assigner(config)
    tables = [assign(*made_boxes(rng)) for _ in range(batch)]
    ids, values, truths = (np.stack(column) for column in zip(*tables, strict=True))
    np.savez(
        path,
        images=rng.integers(0, 256, (batch, 3, size, size), np.uint8),
        match_ids=ids,
        match_values=values,
        truths_xyxy_px=truths,
        gains=np.array([loss.box_gain, loss.obj_gain, loss.cls_gain]),
        ignore_threshold=np.array(loss.ignore_threshold),
    )
    return path
