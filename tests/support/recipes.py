"""The recipe of a detector that trains in seconds on drawn scenes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes


def write_tiny_recipe(path: Path, scenes: Path, **sections: Mapping[str, Any]) -> Path:
    """Write a recipe for drawn scenes and return its path; `sections` change single keys."""
    recipe: dict[str, Any] = {
        "model": {"architecture": "yolov4-tiny", "width": 0.0625, "objectness_prior": 0.3},
        "data": {
            "format": "yolo",
            "root": str(scenes),
            "train": "images/train",
            "val": "images/val",
            "img_size": 64,
            "num_workers": 2,
            "max_truths": 20,
            "augment": {"mosaic": "canvas", "mosaic_prob": 0.5, "scale": 0.3, "flip_prob": 0.5},
        },
        "optimizer": {"lr": 1.0e-5},
        "schedule": {"warmup_steps": 2},
        # The graph of the validation loss takes seconds to compile.
        "train": {"per_batch_size": 2, "val_loss": False, "ema": {"decay": 0.9, "ramp_steps": 2}},
        "device_target": "CPU",
    }
    for name, changes in sections.items():
        recipe[name] |= changes
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    return path


def draw_scenes(root: Path, train: int, val: int, img_size: int = 128) -> Path:
    """Draw a few scenes and return their folder."""
    write_scenes(root, SceneSet(train=train, val=val, img_size=img_size, seed=0))
    return root
