"""Which tracks are believed, and which are given up."""

from typing import Any

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.records import BROWNIAN, POSITION, Flags, Indices, States, X, Y

MOST_MISSES_OUTSIDE = 3
"""A particle that left the image is not dark: it is not waited for."""


@compiled
def confirm_and_terminate(
    states: States,
    slots: Indices,
    now: int,
    confirmed: Flags,
    sure: float,
    doubtful: float,
    max_misses: int,
    height: int,
    width: int,
) -> tuple[Indices, Indices]:
    """Go through the live tracks at the end of an update.

    Parameters
    ----------
    confirmed
        Shape (capacity,): whether the track in each slot was ever confirmed; set for those that are now.
    sure, doubtful
        Existence from which a track is confirmed, and below which it is given up.
    max_misses
        It is given up, too, when it was missed more often in a row, outside the image more than `MOST_MISSES_OUTSIDE`.
    height, width
        Of the image, px.

    Returns
    -------
    Slots of the tracks that are confirmed for the first time, and of those that are given up.
    """
    new, over = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64)
    n_new = n_over = 0
    for slot in slots:
        track = states[slot, now]
        if track["existence"] >= sure and not confirmed[slot]:
            confirmed[slot] = True
            new[n_new] = slot
            n_new += 1
        gone = track["misses"] > MOST_MISSES_OUTSIDE and not is_inside(track, height, width)
        if gone or track["misses"] > max_misses or track["existence"] < doubtful:
            over[n_over] = slot
            n_over += 1
    return new[:n_new], over[:n_over]


@compiled
def is_inside(track: Any, height: int, width: int) -> bool:
    """Return whether a track is expected in the image."""
    place = track["mean"][BROWNIAN]
    inside: bool = 0.0 <= place[Y, POSITION] < height and 0.0 <= place[X, POSITION] < width
    return inside
