"""Means that are learnt frame by frame."""

import numpy as np
from numpy.typing import NDArray


class RunningMean:
    """Weighted mean that forgets what is more than ``memory`` of weight ago.

    Parameters
    ----------
    first
        The mean before any evidence: a number, or an array of shape (K,).
    weight
        How much evidence ``first`` is worth; 0 for none.
    memory
        In units of weight.

    Attributes
    ----------
    total, weight
        Weighted sum, and sum of the weights: all that has to be saved.
    """

    def __init__(self, first: NDArray[np.float64] | float, weight: float, memory: float) -> None:
        self.total = first * weight
        self.weight = weight
        self._memory = memory

    def add(self, total: NDArray[np.float64] | float, weight: float) -> None:
        """Take in evidence: the weighted sum of new values, and the sum of their weights."""
        keep = max(0.0, 1.0 - weight / self._memory)
        self.total = keep * self.total + total
        self.weight = keep * self.weight + weight

    @property
    def value(self) -> NDArray[np.float64] | float:
        """The mean, of the shape of ``first``."""
        return self.total / self.weight
