"""Conditions on what was measured, from a rule's table to the frame."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamtrack.columns import of_frame, of_track, unknown
from streamtrack.config import ConditionConfig
from streamtrack.errors import ConfigError
from streamtrack.types import Column, SourceInfo, Values


@dataclass(frozen=True, slots=True)
class Condition:
    """That the value of a column lies between two others, ends left out, or is the number of a class.

    Attributes
    ----------
    of_frame
        Whether the value is the whole frame's, not each track's.
    """

    column: str
    above: float
    below: float
    code: float | None
    of_frame: bool

    def holds(self, measured: Mapping[str, NDArray[np.float32]], frame_values: Values) -> NDArray[np.bool_] | bool:
        """Return for which of N tracks it holds, or whether for all; never for what was not measured, NaN."""
        value = frame_values.get(self.column, math.nan) if self.of_frame else measured[self.column]
        if self.code is not None:
            return value == self.code
        return (value > self.above) & (value < self.below)


def conditions(where: Sequence[ConditionConfig], source: SourceInfo) -> tuple[Condition, ...]:
    """Return a rule's conditions for a run; raises ConfigError on a column or class that there is not."""
    return tuple(_condition(each, source) for each in where)


def _condition(config: ConditionConfig, source: SourceInfo) -> Condition:
    tracks_column = of_track(config.column, source)
    column = tracks_column or of_frame(config.column, source)
    if column is None:
        raise unknown(config.column, source)
    above = -math.inf if config.above is None else config.above
    below = math.inf if config.below is None else config.below
    return Condition(column.name, above, below, _code(config, column), tracks_column is None)


def _code(config: ConditionConfig, column: Column) -> float | None:
    if config.is_ is None:
        if column.classes:
            raise ConfigError(
                f'column {column.name!r} holds classes: ask {{column = "{column.name}", is = "{column.classes[0]}"}}'
            )
        return None
    if config.is_ not in column.classes:
        what = f"known: {', '.join(column.classes)}" if column.classes else "it is a number: ask above or below"
        raise ConfigError(f"column {column.name!r} has no class {config.is_!r} ({what})")
    return float(column.classes.index(config.is_))
