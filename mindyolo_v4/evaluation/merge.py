"""Detections of several views of one image -> the detections of the image.

Each view is suppressed by itself first, so that it gives at most `max_det` detections. Then those
of all views enter one suppression of the kind that `evaluate.nms` names.

An object at the seam of two tiles is whole in one of them, if it is not larger than the overlap,
or in the view of the whole image. The part of it that another tile sees is a smaller box, which
the IoU would not suppress. Such a cut box is dropped where more than `iou_thres` of its area lies
in a box of its class that is not cut and has at least half of its score.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.boxes import FloatArray, area_xyxy
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.data.views import View
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.evaluation.nms import detect_objects, suppress

_WHOLE_SCORE = 0.5  # of the cut box's score, which the whole one must have


@dataclass(frozen=True, eq=False)
class ViewDetections:
    """What the network has found in one view, in original pixels."""

    detections: Detections
    is_cut: NDArray[np.bool_]  # (N,) the box ends where its tile ends inside the image


def view_settings(settings: EvaluateConfig) -> EvaluateConfig:
    """Return how each of several views is suppressed: by IoU where the merge suppresses nothing."""
    return settings if settings.nms == "diou" else replace(settings, nms="iou")


def detect_in_view(
    raw_maps: Sequence[FloatArray],
    anchors: AnchorSet,
    settings: EvaluateConfig,
    view: View,
    chosen: Collection[int] | None = None,
) -> ViewDetections:
    """Turn the raw maps of one view into detections in original pixels, as `detect_objects`."""
    own = settings if view.count == 1 else view_settings(settings)
    detections = detect_objects(raw_maps, anchors, own, chosen).to_original(view)
    return ViewDetections(detections, view.is_cut(detections.boxes_xyxy_px))


def merge_views(
    parts: Sequence[ViewDetections], settings: EvaluateConfig, predictors: int
) -> Detections:
    """Return the detections of an image, of those of its views; one view is returned as it is.

    Args:
        predictors: how many views show one object: the variants of test-time augmentation.
    """
    if len(parts) == 1:
        return parts[0].detections
    found = [part.detections for part in parts]
    joined = Detections(
        np.concatenate([detections.boxes_xyxy_px for detections in found]),
        np.concatenate([detections.scores for detections in found]),
        np.concatenate([detections.class_ids for detections in found]),
    )
    is_cut = np.concatenate([part.is_cut for part in parts])
    dropped = is_cut.copy()
    dropped[is_cut] = _seen_whole(joined.take(is_cut), joined.take(~is_cut), settings.iou_thres)
    return suppress(joined.take(~dropped), settings, predictors)


def _seen_whole(cut: Detections, whole: Detections, least_share: float) -> NDArray[np.bool_]:
    """Return which cut boxes lie in a whole one."""
    seen = np.zeros(len(cut), bool)
    for class_id in np.unique(cut.class_ids):
        rivals = whole.take(whole.class_ids == class_id)
        for number in np.flatnonzero(cut.class_ids == class_id):
            shares = _shares_inside(cut.boxes_xyxy_px[number], rivals.boxes_xyxy_px)
            is_certain = rivals.scores >= _WHOLE_SCORE * cut.scores[number]
            seen[number] = ((shares > least_share) & is_certain).any()
    return seen


def _shares_inside(box: FloatArray, others: FloatArray) -> FloatArray:
    """Return the share of a box's area (4,) that lies in each of others (N, 4)."""
    low = np.maximum(others[:, :2], box[:2])
    high = np.minimum(others[:, 2:], box[2:])
    return area_xyxy(np.concatenate([low, high], axis=1)) / area_xyxy(box)
