"""Milliseconds of numpy decode and NMS of one image, on fixed maps made up for it.

The maps hold 22,743 predictions of 80 classes.

Two cases, with 3,000 and 23,000 candidates above 0.001; the median of 15 calls in a process of its
own, then of --pairs processes. What is kept is compared with a plain greedy walk. The second figure
of each case holds our suppression alone, on the same candidates, against torchvision's batched_nms;
where torchvision has no build that runs here, against the same thing in plain PyTorch.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common.measure import compare, in_turns, make_parser, run_json, run_module
from benchmarks.common.report import figure, pairs_figure
from benchmarks.peers.environments import peer_python
from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.evaluation.nms import detect_objects, non_max_suppression

CASES = {3000: 15.0, 23000: 40.0}  # candidates -> bound, milliseconds
RATIO_BOUND = 1.5
SIZE = 608
CLASSES = 80
CALLS = 15
SETTINGS = EvaluateConfig()  # 0.001, IoU 0.6, several labels per box, 300 detections
LOGIT_FAR = -12.0
LOGIT_SPREAD = 1.0


def main() -> int:
    """Measure both cases; return 1 where a bound is missed."""
    parser = make_parser("benchmarks.nms", __doc__, pairs=3)
    parser.add_argument(
        "--case", type=int, choices=CASES, help="measure one case in this process and print JSON"
    )
    parser.add_argument(
        "--candidates", type=Path, help="with --case: file to write its candidates to"
    )
    options = parser.parse_args()
    if options.case:
        print(json.dumps(one_case(options.case, options.candidates)))
        return 0
    python = peer_python("torch")
    kept = True
    for case, bound_ms in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            kept &= measure_case(
                case, bound_ms, python, Path(folder) / "candidates.npz", options.pairs
            )
    return 0 if kept else 1


def measure_case(case: int, bound_ms: float, python: Path, candidates: Path, pairs: int) -> bool:
    """Print the two figures of a case and return whether both bounds are kept."""
    whole: list[float] = []

    def ours() -> float:
        result = run_module("nms", case=case, candidates=candidates)
        whole.append(result["whole_ms"])
        return result["suppression_ms"]

    def peer() -> float:
        words = [candidates, SETTINGS.iou_thres]
        result = run_json([python, "-m", "benchmarks.peers.torch_nms", *words])
        print(f"  {result['what']}")
        return result["median_ms"]

    ours()  # writes the candidates
    print(f"{case} candidates, milliseconds of suppression:", flush=True)
    values = in_turns({"ours": ours, "peer": peer}, pairs)
    kept = figure(f"nms_{case}_ms", statistics.median(whole), bound_ms)
    compared = compare(values["ours"], values["peer"])
    return pairs_figure(f"nms_{case}_batched", compared, RATIO_BOUND) and kept


def one_case(count: int, candidates: Path | None) -> dict[str, float]:
    """Time one case and check what it keeps."""
    anchors = ModelConfig().anchor_set
    maps = made_maps(anchors, count)
    boxes, scores, class_ids = all_candidates(maps, anchors)
    if len(scores) != count:
        raise SystemExit(f"{len(scores)} candidates, not {count}")
    kept = non_max_suppression(boxes, scores, class_ids, SETTINGS)
    if kept.tolist() != plain_greedy(boxes, scores, class_ids):
        raise SystemExit("not what a plain greedy NMS keeps")
    if len(detect_objects(maps, anchors, SETTINGS)) != len(kept):
        raise SystemExit("detect_objects keeps another number")
    if candidates is not None:
        np.savez(candidates, boxes=boxes, scores=scores, class_ids=class_ids)
    return {
        "whole_ms": median_ms(lambda: detect_objects(maps, anchors, SETTINGS)),
        "suppression_ms": median_ms(
            lambda: non_max_suppression(boxes, scores, class_ids, SETTINGS)
        ),
    }


def made_maps(anchors: AnchorSet, count: int) -> list[np.ndarray]:
    """Return raw maps with exactly `count` pairs of box and class above the threshold."""
    rng = np.random.default_rng(count)
    maps = [
        rng.normal(
            0, LOGIT_SPREAD, (len(level.anchor_ids), 5 + CLASSES, *[SIZE // level.stride] * 2)
        ).astype(np.float32)
        for level in anchors.levels
    ]
    shares = np.array([one[:, 4].size for one in maps], float)
    per_level = np.floor(count * shares / shares.sum()).astype(int)
    per_level[0] += count - per_level.sum()
    for one, wanted in zip(maps, per_level, strict=True):
        one[:, 4:] = LOGIT_FAR
        flat = one[:, 5:].reshape(-1)  # a copy: filled, then written back
        chosen = rng.choice(flat.size, int(wanted), replace=False)
        flat[chosen] = rng.uniform(-4, 4, len(chosen))
        one[:, 5:] = flat.reshape(one[:, 5:].shape)
        cells = (one[:, 5:] > LOGIT_FAR).any(axis=1)
        one[:, 4][cells] = rng.uniform(-2, 4, int(cells.sum()))
    return [one.reshape(-1, *one.shape[2:]) for one in maps]


def all_candidates(maps: list[np.ndarray], anchors: AnchorSet) -> tuple[np.ndarray, ...]:
    """Return boxes, scores and classes of all candidates: our decode without suppression."""
    settings = EvaluateConfig(iou_thres=1.0, max_det=10**6)
    found = detect_objects(maps, anchors, settings)
    return found.boxes_xyxy_px, found.scores, found.class_ids


def plain_greedy(boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray) -> list[int]:
    """Return what greedy suppression keeps, box by box."""
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for index in np.argsort(-scores, kind="stable").tolist():
        mine = [other for other in kept if class_ids[other] == class_ids[index]]
        low = np.maximum(boxes[mine, :2], boxes[index, :2])
        inside = np.maximum(np.minimum(boxes[mine, 2:], boxes[index, 2:]) - low, 0).prod(axis=1)
        if (inside <= SETTINGS.iou_thres * (areas[mine] + areas[index] - inside)).all():
            kept.append(index)
        if len(kept) == SETTINGS.max_det:
            break
    return kept


def median_ms(call: Callable[[], object]) -> float:
    """Return the median milliseconds of CALLS calls after two."""
    values = []
    for _ in range(2 + CALLS):
        started = time.perf_counter()
        call()
        values.append((time.perf_counter() - started) * 1000)
    return statistics.median(values[2:])


if __name__ == "__main__":
    sys.exit(main())
