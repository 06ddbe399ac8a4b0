"""Mixup: two images blended into one that has the boxes of both."""

import cv2
import numpy as np

from mindyolo_v4.data.sample import Sample


def mixup(first: Sample, second: Sample, rng: np.random.Generator, beta: float) -> Sample:
    """Blend two samples of equal size by weights w ~ Beta(beta, beta) and 1 - w."""
    return blend(first, second, float(rng.beta(beta, beta)))


def blend(first: Sample, second: Sample, weight: float) -> Sample:
    """Return weight x first + (1 - weight) x second, with the boxes of both."""
    return Sample(
        cv2.addWeighted(first.image, weight, second.image, 1 - weight, 0.0),
        np.concatenate([first.boxes_xyxy_px, second.boxes_xyxy_px]),
        np.concatenate([first.class_ids, second.class_ids]),
    )
