"""Outlines of the generated scenes' classes."""

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("circle", "square", "triangle", "star")
_CIRCLE_CORNERS = 64


def shape_outline(rng: np.random.Generator, class_name: str) -> NDArray[np.float64]:
    """Return the corners (N, 2) of one shape, a little stretched, then freely turned."""
    corners = _corners(rng, class_name)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (corners * [stretch, 1 / stretch]) @ turn


def _corners(rng: np.random.Generator, class_name: str) -> NDArray[np.float64]:
    if class_name == "square":
        return np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    if class_name == "star":
        return _regular(10, np.tile([1.0, rng.uniform(0.38, 0.5)], 5))
    return _regular({"circle": _CIRCLE_CORNERS, "triangle": 3}[class_name])


def _regular(corners: int, radii: NDArray[np.float64] | float = 1.0) -> NDArray[np.float64]:
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.reshape(radii, (-1, 1))
