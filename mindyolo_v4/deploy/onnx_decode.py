"""The decode of `anchors.decode_boxes` as ONNX nodes, and ONNX's own suppression."""

import numpy as np

from mindyolo_v4.anchors import MAX_SIZE_LOGIT, AnchorLevel, AnchorSet
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.deploy.onnx_writer import OnnxWriter


def add_decode(
    graph: OnnxWriter,
    maps: list[str],
    anchors: AnchorSet,
    classes: int,
    size_hw_px: tuple[int, int] | None,
) -> tuple[str, str]:
    """Append boxes (B, N, 4), corners in input pixels, and scores (B, N, C); return their names.

    The N predictions are ordered by level, anchor, row and column.

    Args:
        maps: the raw maps, smallest stride first.
        size_hw_px: of the input; None: it may change, and the graph computes the cells.
    """
    boxes: list[str] = []
    scores: list[str] = []
    for raw, level in zip(maps, anchors.levels, strict=True):
        planes = _add_level(graph, raw, level, classes, size_hw_px)
        for plane, values, rows in zip(planes, (boxes, scores), (4, classes), strict=True):
            # (B, A, 4 or C, HW) -> (B, A HW, 4 or C)
            last = graph.add("Transpose", [plane], f"{plane}.last", perm=[0, 1, 3, 2])
            shape = graph.integers(0, -1, rows)
            values.append(graph.add("Reshape", [last, shape], f"{plane}.list"))
    return (
        graph.add("Concat", boxes, "boxes", axis=1),
        graph.add("Concat", scores, "scores", axis=1),
    )


def _add_level(
    graph: OnnxWriter,
    raw: str,
    level: AnchorLevel,
    classes: int,
    size_hw_px: tuple[int, int] | None,
) -> tuple[str, str]:
    """Append one level: a raw map -> corners (B, A, 4, HW) and scores (B, A, C, HW)."""
    prefix = f"decode{level.stride}"
    count = len(level.anchor_ids)
    shape = graph.integers(0, count, 5 + classes, -1)
    flat = graph.add("Reshape", [raw, shape], f"{prefix}.flat")  # (B, A, 5 + C, HW)
    centre_logits = graph.slice(flat, 2, 0, 2, f"{prefix}.centre_logits")
    size_logits = graph.slice(flat, 2, 2, 4, f"{prefix}.size_logits")
    object_logits = graph.slice(flat, 2, 4, 5, f"{prefix}.object_logits")
    class_logits = graph.slice(flat, 2, 5, 5 + classes, f"{prefix}.class_logits")

    # b_x = (i + s sigma(t_x) - (s - 1) / 2) stride
    scale = level.scale_x_y
    shares = graph.add("Sigmoid", [centre_logits], f"{prefix}.shares")
    reach = graph.constant(f"{prefix}.reach", scale * level.stride)
    moved = graph.add("Mul", [shares, reach], f"{prefix}.moved")
    starts = _add_cells(graph, raw, level, size_hw_px, prefix)
    centres = graph.add("Add", [moved, starts], f"{prefix}.centres")

    # Half of b_w = a_w e^{t_w}, or of a_w (2 sigma(t_w))^2
    anchors = np.array(level.anchors_wh_px, np.float64).reshape(1, count, 2, 1)
    if level.box_decode == "square":
        sigma = graph.add("Sigmoid", [size_logits], f"{prefix}.sigma")
        factors = graph.add("Mul", [sigma, sigma], f"{prefix}.factors")
        anchors = 4 * anchors
    else:
        limit = graph.constant("largest_size_logit", MAX_SIZE_LOGIT)
        limited = graph.add("Min", [size_logits, limit], f"{prefix}.limited")
        factors = graph.add("Exp", [limited], f"{prefix}.factors")
    halves = graph.constant(f"{prefix}.half_anchors", anchors / 2)
    half_sizes = graph.add("Mul", [factors, halves], f"{prefix}.half_sizes")
    first = graph.add("Sub", [centres, half_sizes], f"{prefix}.first")
    second = graph.add("Add", [centres, half_sizes], f"{prefix}.second")
    corners = graph.add("Concat", [first, second], f"{prefix}.corners", axis=2)

    objectness = graph.add("Sigmoid", [object_logits], f"{prefix}.objectness")
    probabilities = graph.add("Sigmoid", [class_logits], f"{prefix}.probabilities")
    scores = graph.add("Mul", [objectness, probabilities], f"{prefix}.scores")
    return corners, scores


def _add_cells(
    graph: OnnxWriter, raw: str, level: AnchorLevel, size_hw_px: tuple[int, int] | None, prefix: str
) -> str:
    """Append (cell - (s - 1) / 2) stride as (2, HW), columns first."""
    offset = -(level.scale_x_y - 1) / 2 * level.stride
    if size_hw_px is not None:
        cells = np.indices([side // level.stride for side in size_hw_px]).reshape(2, -1)
        return graph.constant(f"{prefix}.starts", cells[::-1] * level.stride + offset)
    shape = graph.add("Shape", [raw], f"{prefix}.shape")
    height = graph.slice(shape, 0, 2, 3, f"{prefix}.height")
    width = graph.slice(shape, 0, 3, 4, f"{prefix}.width")
    area = graph.add("Mul", [height, width], f"{prefix}.area")
    count = graph.add("Squeeze", [area, graph.integers(0)], f"{prefix}.count")
    zero = graph.constant("zero", 0, np.int64)
    one = graph.constant("one", 1, np.int64)
    numbers = graph.add("Range", [zero, count, one], f"{prefix}.numbers")
    columns = graph.add("Mod", [numbers, width], f"{prefix}.columns")
    rows = graph.add("Div", [numbers, width], f"{prefix}.rows")
    axis = graph.integers(0)
    listed = [graph.add("Unsqueeze", [name, axis], f"{name}.row") for name in (columns, rows)]
    both = graph.add("Concat", listed, f"{prefix}.both", axis=0)
    floats = graph.add("Cast", [both], f"{prefix}.floats", to=1)  # 1 is float32
    stride = graph.constant(f"{prefix}.stride", level.stride)
    corners = graph.add("Mul", [floats, stride], f"{prefix}.cell_px")
    return graph.add(
        "Add", [corners, graph.constant(f"{prefix}.offset", offset)], f"{prefix}.start"
    )


def add_suppression(graph: OnnxWriter, boxes: str, scores: str, settings: EvaluateConfig) -> str:
    """Append ONNX's suppression per class; return the name of its result (M, 3) int64.

    Each row holds image, class and number of a prediction.
    """
    per_class = graph.add("Transpose", [scores], "scores.per_class", perm=[0, 2, 1])
    limits = [
        graph.constant("max_det", [settings.max_det], np.int64),
        graph.constant("iou_thres", [settings.iou_thres]),
        graph.constant("conf_thres", [settings.conf_thres]),
    ]
    return graph.add("NonMaxSuppression", [boxes, per_class, *limits], "selected")
