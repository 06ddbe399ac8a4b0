"""Time batched NMS of a file's candidates, run by its own environment.

torchvision's operator comes in builds for CUDA or for CPU; where the one installed does not load,
plain PyTorch does the same here, class by class: all overlaps at once, then a greedy walk.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

CALLS = 15

Operator = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]


def main() -> int:
    """Print the median milliseconds and what was measured."""
    found = dict(np.load(sys.argv[1]))
    boxes, scores, class_ids = (
        torch.from_numpy(found[name]) for name in ("boxes", "scores", "class_ids")
    )
    operator, what = find_operator()
    taken = []
    for _ in range(2 + CALLS):
        started = time.perf_counter()
        operator(boxes, scores, class_ids, float(sys.argv[2]))
        taken.append((time.perf_counter() - started) * 1000)
    print(json.dumps({"median_ms": statistics.median(taken[2:]), "what": what}))
    return 0


def find_operator() -> tuple[Operator, str]:
    """Return torchvision's operator, or ours in plain PyTorch, and its name."""
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:  # RuntimeError: its operators did not load
        what = f"plain PyTorch {torch.__version__}; torchvision does not load: {error}"
        return plain_batched_nms, what
    return torchvision.ops.batched_nms, f"torchvision {torchvision.__version__}"


def plain_batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, class_ids: torch.Tensor, limit: float
) -> torch.Tensor:
    """Return the indices kept, best first."""
    kept = []
    for class_id in class_ids.unique():
        mine = (class_ids == class_id).nonzero()[:, 0]
        mine = mine[scores[mine].argsort(descending=True, stable=True)]
        kept.append(mine[greedy(boxes[mine], limit)])
    together = torch.cat(kept)
    return together[scores[together].argsort(descending=True, stable=True)]


def greedy(ranked: torch.Tensor, limit: float) -> torch.Tensor:
    """Return which of the boxes of one class are kept; best first."""
    areas = (ranked[:, 2:] - ranked[:, :2]).prod(1)
    low = torch.maximum(ranked[:, None, :2], ranked[None, :, :2])
    inside = (torch.minimum(ranked[:, None, 2:], ranked[None, :, 2:]) - low).clamp_(0).prod(2)
    suppresses = inside > limit * (areas[:, None] + areas - inside)
    alive = torch.ones(len(ranked), dtype=torch.bool)
    for place in range(len(ranked)):
        if alive[place]:
            alive[place + 1 :] &= ~suppresses[place, place + 1 :]
    return alive


if __name__ == "__main__":
    sys.exit(main())
