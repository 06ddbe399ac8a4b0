"""Acc@1 and Acc@5 by hand, with ties and with fewer than five classes."""

import numpy as np
import pytest

from mindyolo_v4.evaluation.top_k import TopK, best_classes, format_top_k, top_k_metrics


def test_ties_go_to_the_lower_class_and_no_number_is_no_hit():
    scores = np.array(
        [[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [np.nan, 1.0, 2.0]], np.float32
    )
    ranks = [1, 0, 1, 3]  # of the true classes
    for row, class_id, rank in zip(scores, [2, 0, 1, 0], ranks, strict=True):
        counter = TopK()
        counter.add(row[None], np.array([class_id]))
        assert counter.counts == [1, int(rank < 1), int(rank < 3)]
    assert best_classes(scores, 2).tolist() == [[1, 2], [0, 1], [0, 1], [2, 1]]


def test_counts_do_not_depend_on_the_batches(rng):
    scores = rng.normal(size=(50, 20)).astype(np.float32)
    ids = rng.integers(0, 20, 50)
    order = np.argsort(-scores, axis=1)
    expected = {
        "acc1": 100 * np.mean(order[:, 0] == ids),
        "acc5": 100 * np.mean((order[:, :5] == ids[:, None]).any(axis=1)),
        "images": 50,
    }
    for size in (1, 7, 50):
        counter = TopK()
        for first in range(0, 50, size):
            counter.add(scores[first : first + size], ids[first : first + size])
        assert top_k_metrics(counter.counts) == pytest.approx(expected)


def test_few_classes_and_none():
    counter = TopK()
    counter.add(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0, 1]))
    assert top_k_metrics(counter.counts) == {"acc1": 50.0, "acc5": 100.0, "images": 2}
    assert top_k_metrics(TopK().counts) == {"acc1": 0.0, "acc5": 0.0, "images": 0}
    assert best_classes(np.array([0.2, 0.8]), 5).tolist() == [1, 0]


def test_equal_scores_of_a_dead_network_are_no_hits():
    counter = TopK()
    counter.add(np.zeros((10, 10)), np.arange(10))
    assert top_k_metrics(counter.counts) == {"acc1": 10.0, "acc5": 50.0, "images": 10}


def test_line():
    assert format_top_k({"acc1": 76.644, "acc5": 93.0}) == " * Acc@1 76.644 Acc@5 93.000"
