"""Which tracks are believed, and which are given up."""

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.records import Flags, Indices, States


@compiled
def confirm_and_terminate(
    states: States, slots: Indices, now: int, confirmed: Flags, sure: float, doubtful: float, max_misses: int
) -> tuple[Indices, Indices]:
    """Go through the live tracks at the end of an update.

    Parameters
    ----------
    confirmed
        Shape (capacity,): whether the track in each slot was ever confirmed; set for those that are now.
    sure, doubtful
        Existence from which a track is confirmed, and below which it is given up.
    max_misses
        It is given up, too, when it was missed more often in a row.

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
        if track["misses"] > max_misses or track["existence"] < doubtful:
            over[n_over] = slot
            n_over += 1
    return new[:n_new], over[:n_over]
