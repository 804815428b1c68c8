"""What a track and the detections that follow say of each other, when all that follow are known.

The filter of :mod:`streamtrack.linking.imm_filter` goes on from a track through detections that are linked already: so
a link is judged by where the particle goes afterwards, and not by one position.
"""

from typing import Any

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.imm_filter import begin_one, hit, miss, predict_one
from streamtrack.linking.records import NONE, Floats, Frames, Indices, States

MOST_HITS = 5
"""So many detections on, nothing is left of where a track came from."""

MOST_LOST = 40
"""Nobody can tell who is who after so many frames."""

LEAST_EXISTENCE = 1e-3
"""A track less probable than this is over: what is missed after that adds nothing."""


@compiled
def values_ahead(
    states: States,
    slots: Indices,
    now: int,
    start: Indices,
    candidate: Indices,
    frames: Frames,
    seen: Floats,
    update_of: Indices,
    following: Indices,
    head: Indices,
    update: int,
    first_row: int,
) -> Floats:
    """Return what each candidate link gains over the best that the track has without it, in log-likelihood.

    Parameters
    ----------
    states, slots, now
        Tracks, predicted for the frame of ``update``.
    start, candidate
        Candidates of the n-th track are the frame's detections ``candidate[start[n]:start[n + 1]]``.
    frames
        Shape (U,): of all updates.
    seen, update_of, following
        Shapes (R, N_MEASURED), (R,), (R,): what is measured of all detections, their updates, and which detection
        follows on each, -1 for none.
    head
        Shape (capacity,): last detection of the track in each slot.
    first_row
        The frame's first detection.
    """
    gain = np.empty(len(candidate))
    track, mixed = np.empty(1, states.dtype), np.empty(1, states.dtype)
    n_here = 0
    for k in range(len(candidate)):
        n_here = max(n_here, candidate[k] + 1)
    born = np.full(n_here, np.nan)
    for n in range(len(slots)):
        if start[n] == start[n + 1]:
            continue
        slot = slots[n]
        track[0] = states[slot, now]
        fallback = _ahead(track[0], mixed[0], NONE, frames, seen, update_of, following, update)
        own = following[head[slot]]
        if own != NONE and update_of[own] > update:
            track[0] = states[slot, now]
            value = _ahead(track[0], mixed[0], own, frames, seen, update_of, following, update)
            value -= _born(track[0], mixed[0], own, frames, seen, update_of, following)
            fallback = max(fallback, value)
        for k in range(start[n], start[n + 1]):
            d = candidate[k]
            row = first_row + d
            if np.isnan(born[d]):
                born[d] = _born(track[0], mixed[0], row, frames, seen, update_of, following)
            track[0] = states[slot, now]
            value = _ahead(track[0], mixed[0], row, frames, seen, update_of, following, update)
            gain[k] = value - born[d] - fallback
    return gain


@compiled
def _born(
    track: Any,
    mixed: Any,
    row: int,
    frames: Frames,
    seen: Floats,
    update_of: Indices,
    following: Indices,
) -> float:
    """Return the log-likelihood of a track that begins at a detection and goes on with what follows."""
    update = update_of[row]
    begin_one(track, frames[update], seen[row], row)
    if update + 1 == len(frames):
        return 0.0
    if frames[update + 1]["lost"] > MOST_LOST:
        return 0.0
    predict_one(track, frames[update + 1], mixed, track)
    return _ahead(track, mixed, following[row], frames, seen, update_of, following, update + 1, 1)


@compiled
def _ahead(
    track: Any,
    mixed: Any,
    row: int,
    frames: Frames,
    seen: Floats,
    update_of: Indices,
    following: Indices,
    update: int,
    n_hits: int = 0,
) -> float:
    """Carry a track, predicted for an update, on through a detection and those that follow; return what they add.

    Once there is none, it is missed until it is over.
    """
    total = 0.0
    for u in range(update, len(frames)):
        if u > update:
            if track["misses"] + frames[u]["lost"] > MOST_LOST:
                break
            predict_one(track, frames[u], mixed, track)
        if row != NONE and update_of[row] == u:
            hit(track, frames[u], seen[row], row)
            n_hits += 1
            row = following[row]
        else:
            miss(track, frames[u])
        total += track["log_likelihood"]
        if n_hits > MOST_HITS or (row == NONE and track["existence"] < LEAST_EXISTENCE):
            break
    return total
