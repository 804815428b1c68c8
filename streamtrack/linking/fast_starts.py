"""How fast particles are that outrun every gate: three unlinked detections in a row on a straight line.

The spread of velocities is learnt from links, and there are none while particles move further than it allows. Looked
at only where more detections are unlinked than new particles and false detections explain.
"""

import math

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.records import Floats, Indices, States, X, Y

SUSPICIOUS_SHARE = 0.25
"""Of a frame's detections, so many begin new tracks only where particles outrun their gates (or at once appear)."""

REACH_PX = 60.0
"""Greatest speed that is looked for, px/frame."""

TOLERANCE_PX = 4.0
"""How far from the line the third detection may lie: wobble, and twice the localisation errors."""

FEWEST, SIGNIFICANCE = 3.0, 4.0
"""More triples than chance has: by more than the former, and by so many standard deviations."""

MOST_TRACKS = 256
"""Of each frame: what there are more is left out."""


@compiled
def fast_steps(states: States, slots: Indices, now: int, area_px: float) -> tuple[float, float]:
    """Return what triples of unlinked detections say of the speed.

    Parameters
    ----------
    slots
        Of the live tracks, those that began in this frame included.
    area_px
        Size of the image, px².

    Returns
    -------
    Sum of squared velocities per axis, (px per frame)², and the number of triples, both beyond chance; zero if there
    may be none.
    """
    earlier, later = _single(states, slots, now, 2), _single(states, slots, now, 1)
    new = _single(states, slots, now, 0)
    chance_per_pair = len(new) * math.pi * TOLERANCE_PX**2 / area_px
    n, chance, squares = 0.0, 0.0, 0.0
    for i in range(len(earlier)):
        for j in range(len(later)):
            vy, vx = later[j, Y] - earlier[i, Y], later[j, X] - earlier[i, X]
            square = 0.5 * (vy * vy + vx * vx)
            if 2.0 * square <= REACH_PX**2:
                found = _count_near(new, later[j, Y] + vy, later[j, X] + vx)
                n += found
                chance += chance_per_pair
                squares += square * (found - chance_per_pair)
    if n - chance < FEWEST + SIGNIFICANCE * math.sqrt(chance):
        return 0.0, 0.0
    return max(squares, 0.0), n - chance


@compiled
def _single(states: States, slots: Indices, now: int, misses: int) -> Floats:
    """Return where the tracks are, shape (N, 2), that were seen once, so many frames ago."""
    places = np.empty((min(len(slots), MOST_TRACKS), 2))
    n = 0
    for slot in slots:
        track = states[slot, now]
        if n < len(places) and track["hits"] == 1 and track["misses"] == misses:
            places[n, Y], places[n, X] = track["last"][Y], track["last"][X]
            n += 1
    return places[:n]


@compiled
def _count_near(places: Floats, y: float, x: float) -> int:
    n = 0
    for k in range(len(places)):
        dy, dx = places[k, Y] - y, places[k, X] - x
        n += dy * dy + dx * dx <= TOLERANCE_PX**2
    return n
