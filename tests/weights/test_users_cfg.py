"""A user's cfg through conversion and prediction: the boxes are those that OpenCV's DNN finds."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.deploy.predictor import Predictor
from mindyolo_v4.models.topology import parameter_shapes
from mindyolo_v4.weights.darknet_cfg import write_cfg
from tests.weights.narrow import DETECTOR, TINY, random_tensors, run

OWN = ((12, 16), (30, 34), (52, 40), (80, 96), (150, 120), (250, 240))
CUSTOM = replace(TINY, anchor_masks=((0, 1, 2), (3, 4, 5)))
SEVEN = (*((7.5, 9.25), (20, 18)), *OWN[1:])
NETWORKS = {  # model, width and height of the input, whether the image is letterboxed
    "anchors": (replace(TINY, anchors_wh_px=OWN), 320, 320, False),
    "tiny-custom": (CUSTOM, 320, 320, False),
    "7 anchors": (
        replace(TINY, anchors_wh_px=SEVEN, anchor_masks=((0, 1, 2, 3), (4, 5, 6))),
        *(224, 224, False),
    ),
    "no square": (TINY, 608, 352, False),
    "no square, letterbox": (CUSTOM, 352, 608, True),
    "yolov4": (replace(DETECTOR, anchor_masks=((0, 1), (2, 3, 4, 5), (8,))), 160, 96, False),
}


def write_files(folder: Path, model: ModelConfig, width: int, height: int, box: bool) -> Path:
    """Write obj.cfg and obj_best.weights, as darknet names them, of random values."""
    (folder / "obj.cfg").write_text(write_cfg(model, 3, width, box, height))
    tensors = random_tensors(parameter_shapes(model, 3))
    content = np.array([0, 2, 5, 0, 0], "<i4").tobytes()
    content += b"".join(value.tobytes() for value in tensors.values())
    (folder / "obj_best.weights").write_bytes(content)
    return folder / "obj_best.weights"


def opencv_boxes(folder: Path, blob: NDArray, geometry: tuple[float, ...]) -> list[tuple]:
    """Return (class, score, corners in pixels of the image) of the best boxes inside the image."""
    net = cv2.dnn.readNetFromDarknet(str(folder / "obj.cfg"), str(folder / "obj_best.weights"))
    net.setInput(blob)
    rows = np.concatenate(net.forward(net.getUnconnectedOutLayersNames()))
    scale_x, scale_y, left, top, width, height = geometry
    size = np.array([blob.shape[3], blob.shape[2]])
    centre, extent = rows[:, :2] * size, rows[:, 2:4] * size
    corners = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    corners = (corners - np.array([left, top] * 2)) / np.array([scale_x, scale_y] * 2)
    inside = (corners[:, :2] > 1).all(1) & (corners[:, 2:] < [width - 1, height - 1]).all(1)
    best = np.argsort(-np.where(inside, rows[:, 5:].max(1), 0))[:5]
    return [(int(rows[k, 5:].argmax()), float(rows[k, 5:].max()), corners[k]) for k in best]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_are_those_of_opencv(name: str, tmp_path: Path) -> None:
    model, width, height, is_letterbox = NETWORKS[name]
    weights = write_files(tmp_path, model, width, height, is_letterbox)
    assert run("darknet", weights, tmp_path / "net.ckpt") == 0
    coarse = np.random.default_rng(3).integers(0, 255, (5, 9, 3), np.uint8)
    image = cv2.resize(coarse, (150, 90), interpolation=cv2.INTER_CUBIC)

    # The same image for OpenCV, with a border where the cfg says letter_box.
    scale = min(width / 150, height / 90)
    inner = (round(150 * scale), round(90 * scale)) if is_letterbox else (width, height)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas = np.full((height, width, 3), 114, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner)
    blob = cv2.dnn.blobFromImage(canvas, 1 / 255)
    expected = opencv_boxes(tmp_path, blob, (inner[0] / 150, inner[1] / 90, left, top, 150, 90))

    settings = {"ms_mode": "pynative"}
    predictor = Predictor(tmp_path / "net.ckpt", "mindspore", 0.001, 0.9999, settings=settings)
    prediction = predictor(image).to_dict()
    assert len(expected) == 5
    for class_id, score, corners in expected:
        nearest = min(
            float(np.abs(np.array(found["box_xyxy_px"]) - corners).max())
            for found in prediction["detections"]
            if found["class_id"] == class_id and abs(found["score"] - score) < 1e-3
        )
        assert nearest <= 0.05
