"""What a generated scene shows besides its shapes: backgrounds, distractors, colours, noise."""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_MIN_CONTRAST = 70.0  # distance in RGB between an object and the mean of what it covers


def draw_background(rng: np.random.Generator, size: int) -> Image:
    """Return a straight or round gradient of two or three colours with texture (size, size, 3)."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        along = rows * np.sin(angle) + columns * np.cos(angle)
    else:
        along = np.hypot(rows - rng.random(), columns - rng.random())
    along = (along - along.min()) / np.ptp(along)
    colors = rng.uniform(20, 235, (int(rng.integers(2, 4)), 3))
    stops = np.linspace(0, 1, len(colors))
    channels = [np.interp(along, stops, colors[:, k]) for k in range(3)]
    canvas = np.stack(channels, axis=-1).astype(np.float32)

    # soft texture, and stripes now and then
    coarse = rng.normal(0, rng.uniform(0, 22), (int(rng.integers(4, 24)),) * 2).astype(np.float32)
    canvas += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)[:, :, None]
    if rng.random() < 0.3:
        angle = rng.uniform(0, np.pi)
        waves = rng.uniform(8, 40)
        phase = 2 * np.pi * waves * (rows * np.sin(angle) + columns * np.cos(angle))
        canvas += rng.uniform(4, 14) * np.sin(phase)[:, :, None]
    return np.clip(canvas, 0, 255).astype(np.uint8)


def draw_distractors(rng: np.random.Generator, image: Image) -> None:
    """Draw lines, parts of outlines, soft blobs and speckle, which are not objects."""
    for _ in range(int(rng.integers(0, 4))):
        _draw_blob(rng, image)
    for _ in range(int(rng.integers(0, 3))):
        _draw_speckle(rng, image)
    for _ in range(int(rng.integers(2, 9))):
        _draw_stroke(rng, image)


def _draw_blob(rng: np.random.Generator, image: Image) -> None:
    """Blend in a cloud without an edge."""
    size = image.shape[0]
    spread = rng.uniform(0.04, 0.15, 2) * size
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    centre = rng.uniform(0, size, 2)
    down = ((rows - centre[0]) / spread[0]) ** 2
    across = ((columns - centre[1]) / spread[1]) ** 2
    cloud = np.exp(-down - across)
    share = (cloud * rng.uniform(0.3, 0.8))[:, :, None]
    image[:] = np.clip(image + share * (rng.uniform(0, 255, 3) - image), 0, 255).astype(np.uint8)


def _draw_speckle(rng: np.random.Generator, image: Image) -> None:
    """Scatter dots of one colour, far smaller than any object, around a point."""
    size = image.shape[0]
    centre = rng.uniform(0, size, 2)
    spread = rng.uniform(0.03, 0.12) * size
    points = rng.normal(centre, spread, (int(rng.integers(15, 60)), 2))
    color = _random_color(rng)
    for x, y in points.astype(int).tolist():
        cv2.circle(image, (x, y), int(rng.integers(1, 3)), color, cv2.FILLED, cv2.LINE_AA)


def _draw_stroke(rng: np.random.Generator, image: Image) -> None:
    """Draw a straight line, an open arc or an open zigzag."""
    size = image.shape[0]
    color = _random_color(rng)
    width = int(rng.integers(1, 4))
    kind = int(rng.integers(3))
    if kind == 0:
        (x1, y1), (x2, y2) = rng.integers(0, size, (2, 2)).tolist()
        cv2.line(image, (x1, y1), (x2, y2), color, width, cv2.LINE_AA)
    elif kind == 1:
        x, y = rng.integers(0, size, 2).tolist()
        axes = rng.integers(8, max(9, size // 6), 2).tolist()
        start = rng.uniform(0, 360)
        end = start + rng.uniform(50, 200)
        turn = rng.uniform(0, 180)
        cv2.ellipse(image, (x, y), axes, turn, start, end, color, width, cv2.LINE_AA)
    else:
        corners = int(rng.integers(3, 6))
        steps = rng.uniform(-0.12, 0.12, (corners, 2)) * size
        path = rng.uniform(0, size, 2) + np.cumsum(steps, axis=0)
        cv2.polylines(image, [np.rint(path).astype(np.int32)], False, color, width, cv2.LINE_AA)


def pick_color(rng: np.random.Generator, under: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a random colour (3,) that stands out from `under` (3,), the mean below it."""
    while True:
        color = rng.uniform(0, 255, 3)
        if np.linalg.norm(color - under) >= _MIN_CONTRAST:
            return color


def shade(
    rng: np.random.Generator, color: NDArray[np.float64], coverage: Image
) -> NDArray[np.float32]:
    """Return the paint (h, w, 3) of one object: brighter to one side, now and then with a rim."""
    height, width = coverage.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    tilt = rng.uniform(-25, 25, 2)
    light = tilt[0] * (rows / height - 0.5) + tilt[1] * (columns / width - 0.5)
    paint = (color + light[:, :, None]).astype(np.float32)
    if rng.random() < 0.3:
        kernel = np.ones((3, 3), np.uint8)
        inside = cv2.erode(coverage, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
        paint[inside < 128] *= 0.6
    return np.clip(paint, 0, 255)


def add_noise(rng: np.random.Generator, image: Image) -> Image:
    """Return the picture with up to two thin lines over everything, slight blur, sensor noise."""
    noisy = image.copy()
    size = image.shape[0]
    for _ in range(int(rng.integers(0, 3))):
        (x1, y1), (x2, y2) = rng.integers(0, size, (2, 2)).tolist()
        cv2.line(noisy, (x1, y1), (x2, y2), _random_color(rng), 1, cv2.LINE_AA)
    if rng.random() < 0.3:
        noisy[:] = cv2.GaussianBlur(noisy, (3, 3), 0)
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 12))
    return np.clip(noisy + grain, 0, 255).astype(np.uint8)


def _random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue
