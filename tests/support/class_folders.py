"""A small classification set in ImageNet's layout, whose classes differ by colour."""

from pathlib import Path

import cv2
import numpy as np

SYNSETS = ("n00000010", "n00000020", "n00000030", "n00000040", "n00000050", "n00000060")
COLOURS = (
    (230, 30, 30),
    (30, 220, 30),
    (30, 30, 230),
    (220, 220, 20),
    (20, 210, 220),
    (210, 20, 220),
)


def write_image(path: Path, label: int, number: int, width: int = 48, height: int = 40) -> None:
    """Write a JPEG of the class's colour with noise that depends on the number."""
    rng = np.random.default_rng((label, number, 7))
    noise = rng.integers(-25, 25, (height, width, 3))
    pixels = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    good, encoded = cv2.imencode(".jpg", pixels[..., ::-1])
    assert good
    path.write_bytes(encoded.tobytes())


def write_imagenet(root: Path, train: int, val: int, classes: int = 3) -> Path:
    """Write `train` and `val` images a class; return the root."""
    for split, count in (("train", train), ("val", val)):
        for label, synset in enumerate(SYNSETS[:classes]):
            for number in range(count):
                name = (
                    f"{synset}_{number}.JPEG"
                    if split == "train"
                    else f"{split}_{label}{number}.JPEG"
                )
                write_image(root / split / synset / name, label, number + 1000 * (split == "val"))
    return root
