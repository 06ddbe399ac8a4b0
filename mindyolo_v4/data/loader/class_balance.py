"""Class-balanced sampling: images of rare classes are read more often than others.

Repeat factors of Gupta, Dollar and Girshick 2019, LVIS (arXiv:1908.03195), with t =
`data.class_balance` and f(c) the share of the images that hold class c:

    r(c) = max(1, sqrt(t / f(c))),    r(i) = max of r(c) over the classes c of image i

LVIS reads image i r(i) times per epoch on average, so that epochs grow. Here an epoch keeps its N
samples: image i is expected n(i) = N r(i) / sum of all r times, and is read floor(n(i)) or
ceil(n(i)) times. t = 0 changes nothing. With t = 1 and one class per image, a class is read in
proportion to sqrt(f(c)).
"""

import numpy as np
from numpy.typing import NDArray


def repeat_factors(
    image_ids: NDArray[np.integer], class_ids: NDArray[np.integer], images: int, threshold: float
) -> NDArray[np.float64]:
    """Return r(i) (images,).

    Args:
        image_ids, class_ids: image and class of every object (M,); an image may have none.
        threshold: t, 0 to 1.
    """
    factors = np.ones(images)
    # each class once per image that holds it
    holders, held = np.unique(np.stack([image_ids, class_ids]), axis=1)
    share = np.bincount(held) / images
    np.maximum.at(factors, holders, np.sqrt(threshold / share[held]))
    return factors


def balanced_order(
    order: NDArray[np.int64], factors: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the images (N,) of an epoch, drawn by their factors; read-only.

    Systematic sampling: the expected counts are laid end to end in a random order, and an image is
    read once for each whole number, plus one random offset, that lies in its part.

    Args:
        order: a random permutation (N,) of the images.
        factors: r of each image (N,).
    """
    count = len(order)
    ends = np.cumsum(factors[order])
    points = (rng.random() + np.arange(count)) * (ends[-1] / count)
    chosen = np.minimum(np.searchsorted(ends, points, side="right"), count - 1)
    # an image that is read twice should not meet itself in a mosaic
    images = rng.permutation(order[chosen])
    images.setflags(write=False)
    return images
