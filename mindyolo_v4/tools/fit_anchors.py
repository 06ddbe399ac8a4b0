"""Command that fits anchors to the boxes of a training split.

python -m mindyolo_v4.tools.fit_anchors --config configs/yolov4/bccd.yaml --data_dir DIR
"""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import shape_iou
from mindyolo_v4.config.command_line import build_parser, parse
from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import require
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools.check_data import box_sizes

_STARTS = 8  # k-means ends in a local optimum: the best of this many random starts is kept
_ROUNDS = 200
_SAMPLE = 50_000  # boxes; more change no anchor by a pixel and only cost time


def main(argv: Sequence[str]) -> int:
    """Print the fitted anchors as a line for the recipe; return the exit status."""
    options = ("data_dir", "img_size", "seed")
    parser = build_parser("fit_anchors", "Fit anchors to the training boxes.", options)
    text = "number of anchors; default: as many as the network has"
    parser.add_argument("--clusters", type=int, help=text)
    arguments = parse(parser, argv)
    config = load_config(arguments.config, arguments.overrides)
    architecture = config.model.architecture
    has_anchors = architecture != "cspdarknet53"
    require(has_anchors, "model.architecture", "has no anchors", architecture)
    present = np.array(config.model.anchor_set.anchors_wh_px)
    clusters = arguments.options["clusters"]
    clusters = len(present) if clusters is None else int(str(clusters))
    sizes = box_sizes(read_split(config.data, "train", check_headers=False), config.data)
    distinct = len(np.unique(sizes, axis=0))
    expected = f"1 to {distinct}, the number of different box sizes"
    require(1 <= clusters <= distinct, "--clusters", "out of range", clusters, expected)
    centres = fit_anchors(sizes, clusters, np.random.default_rng(config.seed))
    fitted = np.maximum(np.rint(centres), 1)
    threshold = config.loss.anchor_threshold
    print(f"{len(sizes)} boxes of data.train, {config.data.resize} to {config.data.img_size} px")
    for name, anchors in (("present", present), ("fitted", fitted)):
        mean, share = anchor_quality(sizes, anchors, threshold)
        above = f"best IoU > {threshold:g} for {share:.2%} of the boxes"
        print(f"{name:<8} mean best IoU {mean:.4f}, {above}")
    pairs = ", ".join(f"[{width:.0f}, {height:.0f}]" for width, height in fitted)
    print(f"model: {{anchors_wh_px: [{pairs}]}}")
    return 0


def anchor_quality(
    sizes_wh_px: NDArray[np.floating], anchors_wh_px: NDArray[np.floating], threshold: float
) -> tuple[float, float]:
    """Return the mean best shape IoU of boxes (N, 2) with anchors (A, 2), and the share above."""
    best = np.zeros(len(sizes_wh_px))
    for anchor in anchors_wh_px:  # one anchor at a time: N x A x 2 would be large for COCO
        best = np.maximum(best, shape_iou(sizes_wh_px, anchor[None])[:, 0])
    return float(best.mean()), float((best > threshold).mean())


def fit_anchors(
    sizes_wh_px: NDArray[np.floating], clusters: int, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Cluster box sizes (N, 2) by k-means with distance 1 - shape IoU.

    YOLO9000 (arXiv:1612.08242), section 2; started as k-means++ (Arthur and Vassilvitskii, 2007).

    Returns:
        The centres (clusters, 2) by ascending area.
    """
    sample = sizes_wh_px
    if len(sample) > _SAMPLE:
        sample = sample[rng.choice(len(sample), _SAMPLE, replace=False)]
    fits = [_improve(sample, _first_centres(sample, clusters, rng)) for _ in range(_STARTS)]
    _, centres = max(fits, key=lambda fit: fit[0])
    return centres[np.argsort(centres.prod(axis=1), kind="stable")]


def _first_centres(
    sizes: NDArray[np.floating], clusters: int, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Draw centres among the sizes, by the squared distance to those drawn before."""
    centres = [sizes[rng.integers(len(sizes))]]
    distance = 1 - shape_iou(sizes, centres[0][None])[:, 0]
    while len(centres) < clusters:
        weight = np.maximum(distance, 0) ** 2
        # no weight: every size is a centre already
        chances = weight / weight.sum() if weight.any() else None
        centres.append(sizes[rng.choice(len(sizes), p=chances)])
        distance = np.minimum(distance, 1 - shape_iou(sizes, centres[-1][None])[:, 0])
    return np.array(centres)


def _improve(
    sizes: NDArray[np.floating], centres: NDArray[np.floating]
) -> tuple[float, NDArray[np.floating]]:
    """Alternate assignment and means; return the best (mean IoU, centres) met.

    The mean does not strictly minimise 1 - IoU, so rounds may also make it worse; the best is kept.
    """
    best: tuple[float, NDArray[np.floating]] = (-1.0, centres)
    owners = np.full(len(sizes), -1)
    for _ in range(_ROUNDS):
        overlaps = shape_iou(sizes, centres)
        if overlaps.max(axis=1).mean() > best[0]:
            best = (float(overlaps.max(axis=1).mean()), centres)
        new_owners = overlaps.argmax(axis=1)
        if np.array_equal(owners, new_owners):
            break
        owners = new_owners
        members = np.bincount(owners, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, owners, sizes)
        # a centre that lost all its members stays where it is
        centres = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres)
    return best


if __name__ == "__main__":
    sys.exit(run_command(main))
