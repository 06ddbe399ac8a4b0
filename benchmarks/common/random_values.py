"""Random values for the parameters of a network."""

import numpy as np


def random_values(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], gain: float = 4.0
) -> np.ndarray:
    """Return values for a parameter that keep the activations of a deep network near 1.

    Kernels are U(-1, 1) sqrt(gain / fan_in).
    """
    uniform = rng.random(shape)
    if name.endswith((".gamma", ".moving_variance")):
        values = 0.5 + uniform
    elif name.endswith((".beta", ".moving_mean", ".bias")):
        values = 0.2 * (uniform - 0.5)
    else:
        values = (2 * uniform - 1) * np.sqrt(gain / np.prod(shape[1:]))
    return values.astype(np.float32)
