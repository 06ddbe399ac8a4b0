"""Random values for the parameters of a network."""

import numpy as np


def random_values(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return values for a parameter that keep the activations of a deep network near 1."""
    uniform = rng.random(shape)
    if name.endswith((".gamma", ".moving_variance")):
        values = 0.5 + uniform
    elif name.endswith((".beta", ".moving_mean", ".bias")):
        values = 0.2 * (uniform - 0.5)
    else:
        values = (2 * uniform - 1) * np.sqrt(4 / np.prod(shape[1:]))
    return values.astype(np.float32)
