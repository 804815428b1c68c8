"""Detections that two tracks got are given to each other, wherever that makes both together more probable.

The last frames are remembered, so that a decision can be taken back when later frames tell more.
"""

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.imm_filter import begin_one, hit, miss, predict_one
from streamtrack.linking.records import NONE, Frames, Indices, Measured, States


@compiled
def revise(states: States, frames: Frames, measured: Measured, born: Indices, pairs: Indices, update: int) -> Indices:
    """Exchange the tails of pairs of tracks where that raises the likelihood of both together.

    A tail is what a track got from some update on. One of the two tracks may have begun with its tail: then the other
    takes that over or, if it has nothing of its own to give, swallows the track.

    Parameters
    ----------
    born
        Shape (capacity,): update with which the track in each slot began; changed where that changes, and set beyond
        ``update`` for a track that is no more.
    pairs
        Shape (P, 3): two slots, and the update at which their tails begin. All are among those remembered.
    update
        Number of this update; that of number u has place ``u % depth`` of the ring.

    Returns
    -------
    Slots of the tracks that took part in an exchange, ascending.
    """
    touched = np.zeros(len(born), np.bool_)
    one, other = np.empty(states.shape[1], states.dtype), np.empty(states.shape[1], states.dtype)
    for k in range(len(pairs)):
        a, b, tail = pairs[k, 0], pairs[k, 1], pairs[k, 2]
        if (born[a] >= tail and born[b] >= tail) or max(born[a], born[b]) > update:
            continue
        now = _sum(states[a], max(tail, born[a]), update) + _sum(states[b], max(tail, born[b]), update)
        a_born = _replay(states, frames, measured, born, a, b, tail, update, one)
        b_born = _replay(states, frames, measured, born, b, a, tail, update, other)
        if _sum(one, max(tail, a_born), update) + _sum(other, max(tail, b_born), update) > now:
            for u in range(tail, update + 1):
                states[a, u % len(one)] = one[u % len(one)]
                states[b, u % len(one)] = other[u % len(one)]
            born[a], born[b] = a_born, b_born
            touched[a] = touched[b] = True
    return np.flatnonzero(touched)


@compiled
def _sum(track: States, first: int, last: int) -> float:
    """Return what the updates from ``first`` to ``last`` added to the log-likelihood of a track."""
    total = 0.0
    for u in range(first, last + 1):
        total += track[u % len(track)]["log_likelihood"]
    return total


@compiled
def _replay(
    states: States,
    frames: Frames,
    measured: Measured,
    born: Indices,
    head: int,
    tail: int,
    first: int,
    last: int,
    replayed: States,
) -> int:
    """Filter a track anew from update ``first`` on, with the detections of another; return when it was born then."""
    mixed = np.empty(1, states.dtype)
    depth = len(replayed)
    since = born[head] if born[head] < first else last + 1
    for u in range(first, last + 1):
        now = u % depth
        d = states[tail, now]["detection"] if u >= born[tail] else NONE
        if u > since:
            before = states[head, (u - 1) % depth] if u == first else replayed[(u - 1) % depth]
            predict_one(before, frames[now], mixed[0], replayed[now])
            if d < 0:
                miss(replayed[now], frames[now])
            else:
                hit(replayed[now], frames[now], measured[now, d], d)
        elif d >= 0:
            begin_one(replayed[now], frames[now], measured[now, d], d)
            since = u
    return since
