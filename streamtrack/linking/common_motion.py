"""How far the whole field moved between two frames: a stage that was moved, or a sample that drifts.

Looked for only where most tracks find no detection. Then the differences between all detections and all predictions
pile up at the shift: each particle adds one difference there, and all others anywhere.
"""

import math

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.confirmation import is_inside
from streamtrack.linking.records import (
    N_MODELS,
    NONE,
    POSITION,
    Flags,
    Floats,
    Indices,
    States,
    X,
    Y,
)

FEWEST = 3
"""So many tracks must agree on a shift; with fewer of them none is looked for."""

LEAST_SHARE = 0.5
"""Tracks that find less than this share of the detections expected are taken to have been moved, and as many of them
must agree where to."""

REACH_PX = 128.0
"""Greatest shift along each axis."""

BIN_PX = 3.0
"""A peak is the sum over 3 x 3 bins: what particles step and positions are off does not spread it further."""

SIGNIFICANCE = 5.0
"""A peak must lie so many standard deviations above a chance one."""

MOST_TRACKS = 256
"""Pairs are counted for so many tracks: enough to find any shift, and bounded in time."""

N_BINS = 2 * math.ceil(REACH_PX / BIN_PX) + 3
"""Along each axis; the outermost stay empty."""


@compiled
def lost_tracks(
    states: States,
    slots: Indices,
    now: int,
    confirmed: Flags,
    detection_of: Indices,
    visible: float,
    height: int,
    width: int,
) -> Indices:
    """Return the slots of the tracks that tell of the field, if most of them found no detection; else none.

    These are the confirmed ones or, where there are too few of them, all; but not those that left the image.
    """
    here = np.empty(len(slots), np.int64)
    n_here = n_linked = n_confirmed = n_confirmed_linked = 0
    for n in range(len(slots)):
        linked = detection_of[n] != NONE
        if linked or is_inside(states[slots[n], now], height, width):
            here[n_here] = slots[n]
            n_here += 1
            n_linked += linked
            n_confirmed += confirmed[slots[n]]
            n_confirmed_linked += linked and confirmed[slots[n]]
    few = n_confirmed < FEWEST
    n_tracks, n_linked = (n_here, n_linked) if few else (n_confirmed, n_confirmed_linked)
    lost = np.empty(n_tracks if n_linked < LEAST_SHARE * visible * n_tracks else 0, np.int64)
    n = 0
    for slot in here[: n_here if len(lost) else 0]:
        if few or confirmed[slot]:
            lost[n] = slot
            n += 1
    return lost[: MOST_TRACKS if n >= FEWEST else 0]


@compiled
def common_shift(states: States, slots: Indices, now: int, y: Floats, x: Floats) -> tuple[float, float, int]:
    """Return the shift (y, x), px, on which most tracks agree with the detections, and how many do; 0 if none is sure.

    Parameters
    ----------
    slots
        Of the tracks, as predicted for the frame at ``now``.
    y, x
        Positions of the frame's detections, px.
    """
    places = _places(states, slots, now)
    counts, n_pairs = _count(places, y, x)
    best, row, column = 0, 0, 0
    for i in range(1, N_BINS - 1):
        for j in range(1, N_BINS - 1):
            here = counts[i - 1 : i + 2, j - 1 : j + 2].sum() if counts[i, j] else 0
            if here > best:
                best, row, column = here, i, j
    chance = 9.0 * n_pairs / (N_BINS - 2) ** 2
    if best < max(float(FEWEST), LEAST_SHARE * len(slots), chance + SIGNIFICANCE * math.sqrt(chance)):
        return 0.0, 0.0, 0
    dy, dx = (row - N_BINS // 2) * BIN_PX, (column - N_BINS // 2) * BIN_PX
    for _ in range(3):
        dy, dx = _refine(places, y, x, dy, dx)
    return dy, dx, best


@compiled
def _places(states: States, slots: Indices, now: int) -> Floats:
    """Return where tracks are expected, the mean over their models: shape (N, 2)."""
    places = np.zeros((len(slots), 2))
    for n in range(len(slots)):
        track = states[slots[n], now]
        for j in range(N_MODELS):
            for axis in range(2):
                places[n, axis] += track["probability"][j] * track["mean"][j, axis, POSITION]
    return places


@compiled
def _count(places: Floats, y: Floats, x: Floats) -> tuple[Indices, int]:
    """Return how many pairs are how far apart, shape (N_BINS, N_BINS), and how many pairs there are."""
    counts = np.zeros((N_BINS, N_BINS), np.int64)
    n_pairs = 0
    for n in range(len(places)):
        for d in range(len(y)):
            dy, dx = y[d] - places[n, Y], x[d] - places[n, X]
            if abs(dy) <= REACH_PX and abs(dx) <= REACH_PX:
                n_pairs += 1
                row, column = math.floor(dy / BIN_PX + 0.5), math.floor(dx / BIN_PX + 0.5)
                counts[row + N_BINS // 2, column + N_BINS // 2] += 1
    return counts, n_pairs


@compiled
def _refine(places: Floats, y: Floats, x: Floats, dy: float, dx: float) -> tuple[float, float]:
    """Return the mean of the differences near a shift."""
    sum_y, sum_x, n = 0.0, 0.0, 0
    for k in range(len(places)):
        for d in range(len(y)):
            off_y, off_x = y[d] - places[k, Y] - dy, x[d] - places[k, X] - dx
            if off_y * off_y + off_x * off_x <= (1.5 * BIN_PX) ** 2:
                sum_y, sum_x, n = sum_y + off_y, sum_x + off_x, n + 1
    return (dy + sum_y / n, dx + sum_x / n) if n else (dy, dx)
