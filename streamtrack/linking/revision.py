"""Which decisions of a frame were close, and which of its labels a revision changed."""

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.records import NONE, Floats, Indices, States

CLOSE = 3.0
"""Decisions that cost less than this against their alternative are looked at again: in units of log-likelihood."""


@compiled
def owners(slots: Indices, detection_of: Indices, n: int) -> Indices:
    """Return the slot of the track that has each of ``n`` detections, -1 for none."""
    owner = np.empty(n, np.int64)
    for d in range(n):
        owner[d] = NONE
    for row in range(len(slots)):
        if detection_of[row] != NONE:
            owner[detection_of[row]] = slots[row]
    return owner


@compiled
def ambiguous_pairs(
    slots: Indices,
    start: Indices,
    detection: Indices,
    gain: Floats,
    detection_of: Indices,
    owner: Indices,
    particle: Indices,
) -> tuple[Indices, Floats]:
    """List the pairs of tracks of which the first could also have taken the detection of the second.

    Parameters
    ----------
    slots
        Shape (N,): of the tracks that were linked.
    start, detection, gain
        Candidates of the n-th track and their gains, at ``start[n]`` to ``start[n + 1] - 1``.
    detection_of
        Shape (N,): the detection of each, -1 for none.
    owner
        Shape (D,): slot of the track that has each detection now, new ones included.
    particle
        Shape (capacity,): id of the track in each slot.

    Returns
    -------
    Shapes (P, 4) and (P,): slots and ids of the pairs, and what an exchange would have cost; below `CLOSE`.
    """
    row_of = np.empty(len(owner), np.int64)
    for d in range(len(owner)):
        row_of[d] = NONE
    for n in range(len(slots)):
        if detection_of[n] != NONE:
            row_of[detection_of[n]] = n
    pairs = np.empty((len(detection), 4), np.int64)
    costs = np.empty(len(detection))
    n_pairs = 0
    for n in range(len(slots)):
        own = detection_of[n]
        own_gain = _gain(n, own, start, detection, gain)
        for k in range(start[n], start[n + 1]):
            wanted = detection[k]
            if gain[k] <= 0.0 or wanted == own:
                continue
            rival = row_of[wanted]
            mutual = _gain(rival, own, start, detection, gain)
            if mutual > 0.0 and rival < n:
                continue  # the pair is listed from the other side
            cost = own_gain + _gain(rival, wanted, start, detection, gain) - gain[k] - mutual
            if cost < CLOSE:
                pairs[n_pairs, 0], pairs[n_pairs, 1], costs[n_pairs] = slots[n], owner[wanted], cost
                pairs[n_pairs, 2], pairs[n_pairs, 3] = particle[slots[n]], particle[owner[wanted]]
                n_pairs += 1
    return pairs[:n_pairs], costs[:n_pairs]


@compiled
def _gain(row: int, wanted: int, start: Indices, detection: Indices, gain: Floats) -> float:
    """Return the gain of a pair if it is worth linking, else 0."""
    if row == NONE or wanted == NONE:
        return 0.0
    for k in range(start[row], start[row + 1]):
        if detection[k] == wanted:
            return max(float(gain[k]), 0.0)
    return 0.0


@compiled
def due(
    particle: Indices,
    early: Indices,
    early_costs: Floats,
    early_update: int,
    late: Indices,
    late_costs: Floats,
    late_update: int,
) -> tuple[Indices, Floats]:
    """Join two lists from `ambiguous_pairs`, with their updates; pairs of which a track has ended are left out.

    Returns
    -------
    Shapes (P, 3) and (P,): slots, and the update at which their tails begin; the costs.
    """
    pairs = np.empty((len(early) + len(late), 3), np.int64)
    costs = np.empty(len(pairs))
    n = 0
    for k in range(len(pairs)):
        is_early = k < len(early)
        pair = early[k] if is_early else late[k - len(early)]
        if particle[pair[0]] == pair[2] and particle[pair[1]] == pair[3]:
            pairs[n, 0], pairs[n, 1], pairs[n, 2] = pair[0], pair[1], early_update if is_early else late_update
            costs[n] = early_costs[k] if is_early else late_costs[k - len(early)]
            n += 1
    return pairs[:n], costs[:n]


@compiled
def relabel(
    states: States, slots: Indices, born: Indices, particle: Indices, first: int, last: int, labels: Indices
) -> Indices:
    """Write down whose the detections of the updates from ``first`` to ``last`` are now.

    Parameters
    ----------
    slots
        Of the tracks to go through.
    particle
        Shape (capacity,): id of the track in each slot.
    labels
        Shape (depth, most detections): id of the track of each detection, as announced; changed in place.

    Returns
    -------
    Shape (R, 3): update, detection and slot of what changed.
    """
    changed = np.empty((len(slots) * (last + 1 - first), 3), np.int64)
    n = 0
    for slot in slots:
        for u in range(max(first, born[slot]), last + 1):
            place = u % len(labels)
            d = states[slot, place]["detection"]
            if d != NONE and labels[place, d] != particle[slot]:
                labels[place, d] = particle[slot]
                changed[n, 0], changed[n, 1], changed[n, 2] = u, d, slot
                n += 1
    return changed[:n]
