"""Acc@1 and Acc@5: how often the true class is the best, and among the five best."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KS = (1, 5)


def best_classes(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the `count` best classes of scores (..., C), best first.

    Ties go to the lower class; scores that are not numbers come last.
    """
    return np.argsort(-scores, axis=-1, kind="stable")[..., :count]


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the softmax (C,) of logits (C,)."""
    numbers = logits.astype(np.float64)
    scaled: NDArray[np.float64] = np.exp(numbers - numbers.max())
    return scaled / scaled.sum()


class TopK:
    """Count hits over batches of any size."""

    def __init__(self) -> None:
        self.counts = [0] * (1 + len(KS))  # images, then hits among the best k

    def add(self, scores: NDArray[np.floating], class_ids: NDArray[np.integer]) -> None:
        """Count the rows of scores (N, C) with true classes (N,); NaN is not a hit."""
        best = best_classes(scores, max(KS))  # (N, 5)
        is_number = ~np.isnan(np.take_along_axis(scores, best, axis=1))
        hits = (best == class_ids[:, None]) & is_number
        self.counts[0] += len(hits)
        for index, k in enumerate(KS, start=1):
            self.counts[index] += int(hits[:, :k].sum())


def top_k_metrics(counts: Sequence[int]) -> dict[str, float]:
    """Return acc1 and acc5 in percent, and images, from `TopK.counts` or the sum of several."""
    images, *hits = counts
    accuracies = {f"acc{k}": 100.0 * hit / max(images, 1) for k, hit in zip(KS, hits, strict=True)}
    return accuracies | {"images": images}


def format_top_k(metrics: dict[str, float]) -> str:
    """Return the line that the field's training scripts print."""
    return f" * Acc@1 {metrics['acc1']:.3f} Acc@5 {metrics['acc5']:.3f}"
