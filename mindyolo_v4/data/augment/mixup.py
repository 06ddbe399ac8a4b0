"""Mixup: two images blended into one that has the boxes of both."""

import cv2
import numpy as np

from mindyolo_v4.data.sample import Sample


def mixup(first: Sample, second: Sample, rng: np.random.Generator, beta: float) -> Sample:
    """Return w first + (1 - w) second, w ~ Beta(beta, beta), with the boxes of both."""
    weight = float(rng.beta(beta, beta))
    return Sample(
        cv2.addWeighted(first.image, weight, second.image, 1 - weight, 0.0),
        np.concatenate([first.boxes_xyxy_px, second.boxes_xyxy_px]),
        np.concatenate([first.class_ids, second.class_ids]),
    )
