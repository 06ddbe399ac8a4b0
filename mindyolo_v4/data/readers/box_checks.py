"""The checks of all boxes of a split, in arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.readers.faults import Faults, Kind
from mindyolo_v4.data.readers.raw import Labels, RawBox

# fractions may leave [0, 1] by this much: rounding and unclipped boxes, not pixels
FRACTION_TOLERANCE = 0.01
_OVER_BORDER = 1.0  # pixels by which a box may reach out of its image without being mentioned


def refuse_fractions(boxes_xyxy: NDArray[np.float64], labels: Labels, faults: Faults) -> None:
    """Refuse boxes (N, 4) all of whose numbers lie within 0 to 1, where they have an area.

    The numbers are the edges, or in COCO files the left and upper edge and the sides. If only some
    boxes lie within 0 to 1, each of them is a warning. If faults are collected and all boxes lie in
    their images, they are turned, in place, into pixels; otherwise their first two numbers may be
    centres.
    """
    has_area = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
    if not has_area.any():
        return
    ends = boxes_xyxy[:, 2:]
    if labels.have_ids:
        ends = ends - boxes_xyxy[:, :2]
    numbers = np.abs(np.concatenate([boxes_xyxy[:, :2], ends], axis=1))
    is_fraction = has_area & (numbers <= 1 + FRACTION_TOLERANCE).all(axis=1)
    if (is_fraction != has_area).any():
        for index in np.flatnonzero(is_fraction):
            got = _shown(boxes_xyxy[index])
            problem = f"within 0 to 1, where other boxes are in pixels (got {got})"
            faults.warn("fractions-for-pixels", labels.location(index), problem)
        return
    first = int(has_area.argmax())
    got = _shown(boxes_xyxy[first])
    problem = "all boxes are fractions of the image"
    expected = "pixels: multiply by the image's width and height"
    faults.refuse("fractions-for-pixels", labels.location(first), problem, got, expected)
    if boxes_xyxy[has_area].max() > 1 + FRACTION_TOLERANCE:
        return
    boxes_xyxy *= labels.limits
    faults.edits += [labels.edit(index, boxes_xyxy[index]) for index in np.flatnonzero(has_area)]


def kept_boxes(
    boxes_xyxy_px: NDArray[np.float64],
    clipped: NDArray[np.float32],
    are_turned: NDArray[np.bool_],
    labels: Labels,
    faults: Faults,
) -> NDArray[np.bool_]:
    """Return which boxes (N,) are kept; `faults` learns of the others.

    Args:
        boxes_xyxy_px: boxes (N, 4) as they are annotated.
        clipped: the same, clipped to their image.
        are_turned: boxes (N,) that are no longer as in their file.
    """
    reasons: dict[Kind, tuple[str, NDArray[np.bool_]]] = {
        "box-without-area": ("no area", (boxes_xyxy_px[:, 2:] <= boxes_xyxy_px[:, :2]).any(axis=1)),
        "box-outside": ("outside the image", (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)),
    }
    if not labels.have_ids:
        repeated = _repeated(labels.boxes, boxes_xyxy_px)
        reasons["repeated-box"] = ("repeats an earlier one", repeated)
    kept = ~np.any([applies for _, applies in reasons.values()], axis=0)
    for index in np.flatnonzero(~kept):
        kind = next(kind for kind, (_, applies) in reasons.items() if applies[index])
        got = _shown(boxes_xyxy_px[index])
        problem = f"{reasons[kind][0]}, box dropped (got {got})"
        faults.warn(kind, labels.location(index), problem, labels.edit(index, None))
    if faults.collects:
        _note_clipped(boxes_xyxy_px, kept & ~are_turned, labels, faults)
    if faults.collects and labels.have_ids:
        for index in np.flatnonzero(kept & _repeated(labels.boxes, boxes_xyxy_px)):
            edit = labels.edit(index, None)
            faults.note("repeated-box", labels.location(index), "repeats an earlier one", edit)
    return kept


def _note_clipped(
    boxes_xyxy_px: NDArray[np.float64], are_kept: NDArray[np.bool_], labels: Labels, faults: Faults
) -> None:
    """Report the boxes (N, 4) that reach over the border of their image (N, 4)."""
    limits = labels.limits
    over_px = np.maximum(-boxes_xyxy_px, boxes_xyxy_px - limits).max(axis=1, initial=0)
    for index in np.flatnonzero(are_kept & (over_px > _OVER_BORDER)):
        got = _shown(boxes_xyxy_px[index])
        size = "{:g} x {:g}".format(*limits[index, :2])
        problem = f"reaches over the border of the image, clipped (got {got}, image {size})"
        corners = np.clip(boxes_xyxy_px[index], 0, limits[index])
        if labels.are_fractions:
            corners /= limits[index]
        has_points = labels.boxes[index].has_points
        edit = None if has_points else labels.edit(index, corners)
        faults.note("box-over-border", labels.location(index), problem, edit)


def _repeated(boxes: Sequence[RawBox], boxes_xyxy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which boxes (N,) an earlier box of the same image, class and flag equals."""
    labels = [(box.image, box.class_id, box.ignore) for box in boxes]
    return are_repeated(np.array(labels, np.float64).reshape(-1, 3), boxes_xyxy)


def are_repeated(
    labels: NDArray[np.float64], boxes_xyxy: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Tell which boxes (N, 4) an earlier box with the same labels (N, K) equals."""
    rows = np.concatenate([labels, boxes_xyxy], axis=1)
    is_repeated = np.ones(len(rows), bool)
    is_repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
    return is_repeated


def _shown(box: NDArray[np.float64]) -> str:
    """Return the four numbers of a box as a message shows them."""
    return "{:g} {:g} {:g} {:g}".format(*box)
