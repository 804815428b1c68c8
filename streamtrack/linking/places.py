"""Places where tracks ended, and how many tracks began there too often for chance: particles that went dark."""

import math
from typing import Any

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.records import SETTLED_HITS, VAR, Floats, Indices, States, X, Y

MOST_PLACES = 128
"""The last ones; in a crowd that loses more of them there are other gaps to learn from."""

MOST_GAP = 20
"""Frames after which a place is forgotten."""

REACH = 2.5
"""A track began at a place if it did so within so many standard deviations of where the particle may have got to."""

MEMORY = 0.97
"""Share of the counts that is kept from frame to frame."""

FEWEST, SIGNIFICANCE = 2.0, 2.0
"""Excess over chance that is believed: more than the former, and than so many standard deviations of a chance count."""

INDEX, PLACE_Y, PLACE_X, STEP_VAR, PLACE_VAR = range(5)
"""Columns of a place: frame of the last detection; y, x (px); own step and localisation variance (px²)."""


class Places:
    """Where settled tracks ended, and which later tracks began there.

    Attributes
    ----------
    table
        Shape (MOST_PLACES, 5): see the columns above; the oldest is overwritten.
    counts
        Shape (4,): beginnings at places, those expected by chance, and the frames of the gaps before them, the same.
    written
        Places so far.
    """

    def __init__(self) -> None:
        self.table = np.full((MOST_PLACES, 5), -np.inf)
        self.counts = np.zeros(4)
        self.written = 0

    def look(
        self, states: States, new: Indices, ended: Indices, now: int, area_px: float
    ) -> tuple[int, tuple[float, float]]:
        """Look whether newly confirmed tracks began at a place; remember where settled tracks ended, all by slot.

        Returns
        -------
        How many settled tracks ended; and beginnings at places beyond chance, with the frames of the gaps before them:
        zero if there may be none.
        """
        found_again = _count(states, new, now, area_px, self.table, self.counts)
        n_ended = _keep(states, ended, now, self.table, self.written)
        self.written += n_ended
        return n_ended, found_again


@compiled
def _count(
    states: States, new: Indices, now: int, area_px: float, places: Floats, counts: Floats
) -> tuple[float, float]:
    for k in range(len(counts)):
        counts[k] *= MEMORY
    for slot in new:
        track = states[slot, now]
        for k in range(len(places)):
            gap = track["born_index"] - places[k, INDEX] - 1.0
            if 0.0 < gap <= MOST_GAP:
                _count_one(track, gap, places[k], area_px, counts)
    excess = counts[0] - counts[1]
    if excess < FEWEST + SIGNIFICANCE * math.sqrt(counts[1]):
        return 0.0, 0.0
    return excess, max(counts[2] - counts[3], excess)


@compiled
def _count_one(track: Any, gap: float, place: Floats, area_px: float, counts: Floats) -> None:
    var = (gap + 1.0) * place[STEP_VAR] + 2.0 * place[PLACE_VAR]
    expected = min(math.pi * REACH * REACH * var / area_px, 1.0)
    counts[1] += expected
    counts[3] += expected * gap
    dy, dx = track["origin"][Y] - place[PLACE_Y], track["origin"][X] - place[PLACE_X]
    if dy * dy + dx * dx <= REACH * REACH * var:
        counts[0] += 1.0
        counts[2] += gap


@compiled
def _keep(states: States, ended: Indices, now: int, places: Floats, written: int) -> int:
    n = 0
    for slot in ended:
        if states[slot, now]["hits"] < SETTLED_HITS:
            continue
        track, place = states[slot, now], places[(written + n) % len(places)]
        place[INDEX], place[PLACE_Y], place[PLACE_X] = track["last_index"], track["last"][Y], track["last"][X]
        place[STEP_VAR] = max(track["squared_steps"] / (2.0 * max(track["squared_steps_time"], 1.0)), 0.0)
        place[PLACE_VAR] = track["last"][VAR]
        n += 1
    return n
