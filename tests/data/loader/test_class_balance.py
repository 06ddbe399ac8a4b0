"""Repeat factors by hand, and how often an epoch reads an image."""

import numpy as np

from mindyolo_v4.data.loader.class_balance import balanced_order, repeat_factors

# Class 0 is in all four images, class 1 in image 2 (two boxes), class 2 in images 2 and 3.
IMAGE_IDS = np.array([0, 1, 2, 2, 2, 3, 2, 3])
CLASS_IDS = np.array([0, 0, 0, 1, 1, 0, 2, 2])


def test_factors_by_hand() -> None:
    """f = 1, 1/4, 1/2. With t = 1: r = 1, 2, sqrt 2; with t = 0.5: r = 1, sqrt 2, 1."""
    root = np.sqrt(2)
    np.testing.assert_allclose(repeat_factors(IMAGE_IDS, CLASS_IDS, 4, 1.0), [1, 1, 2, root])
    np.testing.assert_allclose(repeat_factors(IMAGE_IDS, CLASS_IDS, 4, 0.5), [1, 1, root, 1])
    np.testing.assert_allclose(repeat_factors(IMAGE_IDS, CLASS_IDS, 4, 0.25), [1, 1, 1, 1])


def test_an_image_without_objects_has_factor_1() -> None:
    """f(7) = 1/3: r = sqrt 3."""
    factors = repeat_factors(np.array([1]), np.array([7]), 3, 1.0)
    np.testing.assert_allclose(factors, [1, np.sqrt(3), 1])


def test_an_image_is_read_as_often_as_expected(rng: np.random.Generator) -> None:
    """N r / sum r = 6 x (1, 1, 1, 1, 3, 5) / 12 = 0.5 (four times), 1.5, 2.5."""
    factors = np.array([1.0, 1, 1, 1, 3, 5])
    drawn = [balanced_order(rng.permutation(6), factors, rng) for _ in range(2000)]
    counts = np.array([np.bincount(order, minlength=6) for order in drawn])
    assert (counts.sum(axis=1) == 6).all()
    assert set(counts[:, 0]) == {0, 1} and set(counts[:, 4]) == {1, 2}
    assert set(counts[:, 5]) == {2, 3}
    np.testing.assert_allclose(counts.mean(axis=0), 6 * factors / 12, atol=0.05)
    # every position may hold any image
    first = np.bincount([order[0] for order in drawn], minlength=6) / 2000
    np.testing.assert_allclose(first, factors / 12, atol=0.05)


def test_equal_factors_read_every_image_once(rng: np.random.Generator) -> None:
    order = balanced_order(rng.permutation(1000), np.full(1000, 1.7), rng)
    assert sorted(order.tolist()) == list(range(1000))
