"""Random numbers that a test chooses."""

import numpy as np


class Script:
    """A generator that gives the numbers of a list, whatever is asked."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def uniform(self, low=0.0, high=1.0, size=None):
        if size is None:
            return self.numbers.pop(0)
        return np.array([self.numbers.pop(0) for _ in range(size)])

    def integers(self, low, high=None, size=None, endpoint=False):
        if size is None:
            return self.numbers.pop(0)
        return np.array([self.numbers.pop(0) for _ in range(size)])

    def random(self):
        return self.numbers.pop(0)
