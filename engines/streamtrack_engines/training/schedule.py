"""How the learning rate falls over a run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from streamtrack_engines.training.recipe import Recipe

_EPOCHS = 100
_PATIENCE_EPOCHS = 10
_FACTOR = 0.1
_LEAST_GAIN = 1e-4  # of a loss that has fallen, of itself


def learning_rate(
    recipe: Recipe, step: int, fraction: float, losses: Sequence[Mapping[str, float]], weights: Mapping[str, float]
) -> float:
    """Return the rate at a step.

    Parameters
    ----------
    recipe
        Says how it falls, after a linear warm-up.
    step
        Number of the step, from 0.
    fraction
        Part of the run that is over, 0 to 1.
    losses
        Rows of the log so far.
    weights
        Of the head's terms of the loss, by name: what shall have fallen.
    """
    warm_up = min(1.0, (step + 1) / (recipe.warmup_steps + 1))
    if recipe.schedule == "cosine":
        return recipe.learning_rate * warm_up * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2
    return recipe.learning_rate * warm_up * _FACTOR ** plateaus(_epoch_means(recipe, fraction, losses, weights))


def plateaus(means: Iterable[float]) -> int:
    """Return how often the mean loss of ten epochs in a row was not lower than the lowest before them."""
    lowest, n_since, n = math.inf, 0, 0
    for mean in means:
        fell = mean < lowest * (1 - _LEAST_GAIN)
        lowest, n_since = min(lowest, mean), 0 if fell else n_since + 1
        if n_since > _PATIENCE_EPOCHS:
            n, n_since = n + 1, 0
    return n


def _epoch_means(
    recipe: Recipe, fraction: float, losses: Sequence[Mapping[str, float]], weights: Mapping[str, float]
) -> Iterable[float]:
    """Yield the mean weighted loss of each hundredth of the run that is over."""

    def epoch(row: Mapping[str, float]) -> int:
        done = row["step"] / recipe.steps if recipe.steps is not None else row["elapsed_s"] / (60 * recipe.minutes)
        return int(done * _EPOCHS)

    for number, rows in groupby(losses, epoch):
        if number < int(fraction * _EPOCHS):
            totals = [sum(weight * row[name] for name, weight in weights.items()) for row in rows]
            yield sum(totals) / len(totals)
