"""Anchors fitted to box sizes: k-means with an IoU distance, then genetic refinement.

Each output level is fitted to the boxes that it can resolve: those whose side (the square root of
the area) is at least 3 of its strides, and below 3 strides of the next level; the finest level
takes all smaller ones. The smallest anchors of YOLOv4's levels are of about this size: 36 x 75 px
is 3.2 strides of 16, and 142 x 110 px is 3.9 strides of 32. Where objects hardly differ in size,
one fit to all boxes would give all levels nearly the same anchors. Then the coarsest level would
have to find several objects in one cell.

k-means minimises d = 1 - shape IoU (Redmon and Farhadi 2017, YOLO9000, arXiv:1612.08242, section 2;
started as k-means++, Arthur and Vassilvitskii 2007). Its means do not maximise the IoU, so random
changes follow, of which only better ones are kept (as "auto-anchor" of ultralytics' YOLOv5, with
YOLOv4's shape IoU in place of its ratio of sides): each generation multiplies a random nine tenths
of the widths and heights by

    1 + 0.1 u z,    u ~ U(0, 1) once, z ~ N(0, 1) for each,    kept within 0.3 to 3

and the fitness is the mean over the boxes of their best shape IoU, where a box whose best IoU does
not exceed 0.213 counts as 0. The share of the other boxes is the best possible recall.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import resize_geometry, shape_iou
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.data.records import Dataset

RECALL_IOU = 0.213  # yolov4.cfg's iou_thresh, the default of loss.anchor_threshold
LEAST_RECALL = 0.95  # best possible recall below which a training warns
GENERATIONS = 1000
_LEAST_STRIDES = 3  # of the side of a level's boxes; the finest level takes smaller ones too
_STARTS = 8  # k-means ends in a local optimum: the best of this many random starts is kept
_ROUNDS = 200
_SAMPLE = 10_000  # boxes; more change no anchor by a pixel and only cost time
_MUTATED = 0.9  # share of the numbers that a generation changes
_SPREAD = 0.1
_SMALLEST_PX = 2.0

Sizes = NDArray[np.floating]  # (N, 2) width and height, pixels


def box_sizes(dataset: Dataset, data: DataConfig) -> NDArray[np.float64]:
    """Return width and height (N, 2) of the trainable boxes in pixels of the network's input."""
    records = dataset.records
    boxes_xyxy_px = records.boxes().astype(np.float64)
    owners, _ = records.objects()
    image_sizes, kinds = np.unique(records.sizes_wh_px, axis=0, return_inverse=True)
    kind_of_box = kinds.reshape(-1)[owners]

    # one geometry per size of images, of which a large data set has few
    order = np.argsort(kind_of_box, kind="stable")
    bounds = np.searchsorted(kind_of_box[order], np.arange(len(image_sizes) + 1))
    for kind, (width, height) in enumerate(image_sizes.tolist()):
        rows = order[bounds[kind] : bounds[kind + 1]]
        geometry = resize_geometry(data.resize, width, height, data.img_size, data.img_height)
        boxes_xyxy_px[rows] = geometry.to_input(boxes_xyxy_px[rows])
    return boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]


def with_fitted_anchors(
    model: ModelConfig, sizes_wh_px: Sizes, seed: int
) -> tuple[ModelConfig, list[int]]:
    """Return the model with anchors fitted to box sizes (N, 2), and the strides that were fitted.

    The anchors of a level are whole pixels, sorted by area. A level with fewer different sizes than
    anchors keeps the anchors of the architecture. An anchor of several levels belongs to the finest
    one. An anchor that no level uses, as the first one of yolov4-tiny, becomes 1 x 1 pixel, so that
    no box is matched to it.
    """
    levels = ModelConfig(model.architecture).anchor_set.levels
    masks = model.anchor_masks or [level.anchor_ids for level in levels]
    rng = np.random.default_rng(seed)
    sides = np.sqrt(sizes_wh_px.prod(axis=1))
    least_sides = [_LEAST_STRIDES * level.stride for level in levels[1:]]
    level_of_box = np.searchsorted(least_sides, sides, side="right")

    anchors = np.ones((max(model.used_anchors) + 1, 2))
    placed: set[int] = set()
    fitted = []
    for index, (level, mask) in enumerate(zip(levels, masks, strict=True)):
        numbers = sorted(set(mask) - placed)
        placed.update(numbers)
        own = sizes_wh_px[level_of_box == index]
        if len(np.unique(own, axis=0)) < len(numbers):
            # its first numbers may be those of a finer level
            own_wh_px = level.anchors_wh_px[-len(numbers) :]
            anchors[numbers] = np.resize(own_wh_px, (len(numbers), 2))
        elif numbers:
            anchors[numbers] = fit_anchors(own, len(numbers), rng)
            fitted.append(level.stride)
    pairs = tuple((float(width), float(height)) for width, height in anchors)
    return replace(model, anchors_wh_px=pairs), fitted


def network_anchors(model: ModelConfig) -> Sizes:
    """Return the anchors (A, 2) that the levels use; of `auto` those of the architecture."""
    if model.anchors_wh_px == "auto":
        model = ModelConfig(model.architecture)
    return np.array(model.anchor_set.anchors_wh_px)[list(model.used_anchors)]


def describe_anchors(sizes_wh_px: Sizes, named: Sequence[tuple[str, Sizes]]) -> list[str]:
    """Return a line for each set of anchors: how well it fits the box sizes (N, 2)."""
    lines = []
    for name, anchors in named:
        mean_iou, recall = anchor_quality(sizes_wh_px, anchors)
        above = f"best IoU > {RECALL_IOU:g} for {recall:.2%} of the boxes"
        lines.append(f"{name:<8} mean best IoU {mean_iou:.4f}, {above}")
    return lines


def anchor_quality(sizes_wh_px: Sizes, anchors_wh_px: Sizes) -> tuple[float, float]:
    """Return the mean best shape IoU of boxes (N, 2) with anchors (A, 2), and the best possible
    recall: the share of the boxes whose best IoU exceeds 0.213."""
    best = _best_iou(sizes_wh_px, anchors_wh_px)
    return float(best.mean()), float((best > RECALL_IOU).mean())


def fit_anchors(
    sizes_wh_px: Sizes, count: int, rng: np.random.Generator, generations: int = GENERATIONS
) -> Sizes:
    """Return the anchors (count, 2) for box sizes (N, 2), whole pixels, by ascending area."""
    sample = sizes_wh_px
    if len(sample) > _SAMPLE:
        sample = sample[rng.choice(len(sample), _SAMPLE, replace=False)]
    anchors = refine(sample, cluster(sample, count, rng), rng, generations)
    anchors = np.maximum(np.rint(anchors), 1)
    return anchors[np.argsort(anchors.prod(axis=1), kind="stable")]


def cluster(sizes: Sizes, count: int, rng: np.random.Generator) -> Sizes:
    """Return the centres (count, 2) of k-means, the best of eight starts."""
    fits = [_improve(sizes, _first_centres(sizes, count, rng)) for _ in range(_STARTS)]
    return max(fits, key=lambda fit: fit[0])[1]


def refine(sizes: Sizes, anchors: Sizes, rng: np.random.Generator, generations: int) -> Sizes:
    """Change anchors (A, 2) at random as long as that makes them fitter."""
    best = fitness(sizes, anchors)
    for _ in range(generations):
        is_mutated = rng.random(anchors.shape) < _MUTATED
        factors = 1 + is_mutated * _SPREAD * rng.random() * rng.standard_normal(anchors.shape)
        child = np.maximum(anchors * np.clip(factors, 0.3, 3.0), _SMALLEST_PX)
        value = fitness(sizes, child)
        if value > best:
            best = value
            anchors = child
    return anchors


def fitness(sizes: Sizes, anchors: Sizes) -> float:
    """Return the mean best shape IoU; a best IoU up to 0.213 counts as 0."""
    best = _best_iou(sizes, anchors)
    return float((best * (best > RECALL_IOU)).mean())


def _best_iou(sizes: Sizes, anchors: Sizes) -> NDArray[np.floating]:
    best = np.zeros(len(sizes))
    for anchor in anchors:  # one anchor at a time: N x A x 2 would be large for COCO
        best = np.maximum(best, shape_iou(sizes, anchor[None])[:, 0])
    return best


def _first_centres(sizes: Sizes, count: int, rng: np.random.Generator) -> Sizes:
    """Draw centres among the sizes, by the squared distance to those drawn before."""
    centres = [sizes[rng.integers(len(sizes))]]
    distance = 1 - shape_iou(sizes, centres[0][None])[:, 0]
    while len(centres) < count:
        weight = np.maximum(distance, 0) ** 2
        # no weight: every size is a centre already
        chances = weight / weight.sum() if weight.any() else None
        centres.append(sizes[rng.choice(len(sizes), p=chances)])
        distance = np.minimum(distance, 1 - shape_iou(sizes, centres[-1][None])[:, 0])
    return np.array(centres)


def _improve(sizes: Sizes, centres: Sizes) -> tuple[float, Sizes]:
    """Alternate assignment and means; return the best (mean IoU, centres) met.

    The mean does not strictly minimise 1 - IoU, so rounds may also make it worse; the best is kept.
    """
    best: tuple[float, Sizes] = (-1.0, centres)
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
