"""Particles that divide: two tracks on both sides of where one was a frame before.

Three things tell a division from a track that goes on beside another that begins: where the middle between the two is,
how far they are apart, and how often tracks begin out of nothing. How often particles divide, and how far apart the two
are when they are first seen as two, is learnt from those that were found.
"""

import math
from typing import Any

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.records import (
    BROWNIAN,
    DIRECTED,
    MASS,
    N_MODELS,
    NONE,
    SETTLED_HITS,
    VAR,
    Flags,
    Floats,
    Frames,
    Indices,
    Measured,
    States,
    X,
    Y,
)
from streamtrack.linking.running_mean import RunningMean

FIRST_RATE, RATE_WEIGHT, RATE_MEMORY = 0.003, 1000.0, 20000.0
"""Share of particles that divide in a frame: until the movie says otherwise, and for how many particles that counts."""

FIRST_APART, APART_WEIGHT, APART_MEMORY = 0.25, 4.0, 100.0
"""How far apart the two are along each axis, rms, as a share of the mean distance of particles; the same for it."""

OFF_MIDDLE = 0.2
"""The middle between the two is off the place where the one was by that share of how far they are apart."""

MOST_MISSES = 3
"""Frames in which a particle may be missed before it is found as two."""

HALF, HALF_BESIDE, ITSELF, ANY = (-0.5, 0.3), (-0.3, 0.2), (0.0, 0.15), (-0.5, 1.5)
"""Mean and standard deviation of the logarithm of a mass, over that of the particle so far: of a half; of a half which
was taken for the particle, whose other half is near; of a particle that has not divided; of any other."""

AT_BORDER = 1.0
"""Who begins so near to the border may have come in: in units of how far the two are apart along an axis."""

TINY = 1e-300

FAR = 4.0
"""In standard deviations of how far the two are apart."""

SURE = 0.95
"""Existence from which a track counts."""


class Divisions:
    """Learns how often particles divide, and how far apart the two are then."""

    def __init__(self) -> None:
        self._rate = RunningMean(FIRST_RATE, RATE_WEIGHT, RATE_MEMORY)
        self._apart = RunningMean(FIRST_APART**2, APART_WEIGHT, APART_MEMORY)

    def expected(self, density: float) -> tuple[float, float]:
        """Return the share of particles that divide in a frame, and the variance per axis of their distance, px²."""
        return float(self._rate.value), float(self._apart.value) / density

    def learn(self, apart: Floats, n_particles: int, density: float) -> None:
        """Take in the divisions of a frame: distances (D, 2), px, among so many particles, so many of them a px²."""
        self._rate.add(float(len(apart)), float(n_particles))
        self._apart.add(0.5 * float((apart**2).sum()) * density, float(len(apart)))

    @property
    def learnt(self) -> tuple[RunningMean, ...]:
        """All that was learnt, to be saved and restored."""
        return self._rate, self._apart


@compiled
def log_odds(
    before: Floats,
    one: Floats,
    other: Floats,
    mass: float,
    intervals: float,
    frame: Any,
    goes_on: bool,
    rate: float,
    apart_var: float,
) -> float:
    """Return the log-odds of a division against tracks that have nothing to do with each other.

    Parameters
    ----------
    before
        Y, x (px) and variance (px²) of the particle when it was last seen.
    one, other
        What is measured of the two.
    mass
        Of the particle, so far; only where all three masses are above 0 do they count.
    intervals
        Frame intervals since it was seen.
    frame
        Of ``FRAME``: how particles move, begin and go.
    goes_on
        Whether ``one`` would be the particle itself without a division; otherwise it would have gone.
    rate, apart_var
        See `Divisions.expected`.
    """
    dy, dx = other[Y] - one[Y], other[X] - one[X]
    apart = dy * dy + dx * dx
    place_y, place_x = before[Y] + frame["shift"][Y], before[X] + frame["shift"][X]
    off_y, off_x = 0.5 * (one[Y] + other[Y]) - place_y, 0.5 * (one[X] + other[X]) - place_x
    var = before[VAR] + 0.25 * (one[VAR] + other[VAR]) + intervals * frame["step_var"][BROWNIAN] + OFF_MIDDLE**2 * apart
    middle = math.exp(_log_normal(off_y * off_y + off_x * off_x, var))
    two = math.log(rate) + _log_normal(apart, apart_var)
    if mass > 0.0 and one[MASS] > 0.0 and other[MASS] > 0.0:
        two += _log_ratio(one[MASS] / mass, goes_on) + _log_ratio(other[MASS] / mass, False)
    if not goes_on:
        gone = math.log(1.0 - frame["survival"] * frame["detection"])
        return two + math.log(middle + TINY) - gone - 2.0 * math.log(frame["birth"])
    step_y, step_x = one[Y] - place_y, one[X] - place_x
    alone = TINY
    for j in range(N_MODELS):
        var = before[VAR] + one[VAR] + intervals * frame["step_var"][j]
        if j == DIRECTED:
            var += intervals * intervals * frame["speed_var"]
        alone += frame["prior"][j] * math.exp(_log_normal(step_y * step_y + step_x * step_x, var))
    return two + math.log(0.5 * middle + 0.5 * alone) - math.log(alone) - math.log(frame["birth"])


@compiled
def _log_ratio(ratio: float, is_itself: bool) -> float:
    """Return the log-likelihood ratio of a half's mass over the whole one's, against no division."""
    r = math.log(ratio)
    if is_itself:
        return _log_density(r, *HALF_BESIDE) - _log_density(r, *ITSELF)
    return _log_density(r, *HALF) - _log_density(r, *ANY)


@compiled
def _log_density(value: float, mean: float, spread: float) -> float:
    return -0.5 * ((value - mean) / spread) ** 2 - math.log(spread)


@compiled
def _log_normal(square: float, var: float) -> float:
    """Return the log-density, 1/px², of a distance in two dimensions whose square is given."""
    return -0.5 * square / var - math.log(2.0 * math.pi * var)


@compiled
def divided(
    states: States,
    frames: Frames,
    measured: Measured,
    slots: Indices,
    born: Indices,
    then: int,
    now: int,
    shape: tuple[int, int],
    rate: float,
    apart_var: float,
) -> Indices:
    """Find the particles that were found as two in an earlier frame.

    Parameters
    ----------
    slots
        Of the live tracks.
    born
        Shape (capacity,): update with which the track in each slot began.
    then, now
        The update to look at, and the last one: the more are between, the surer it is what a track is.
    shape
        Of the image, (H, W) px.
    rate, apart_var
        See `Divisions.expected`.

    Returns
    -------
    Shape (D, 3): slots of the track that divided and of the two; the second may be the first, which goes on as that.
    """
    young = np.empty(len(slots), np.int64)
    n_young, margin = 0, AT_BORDER * math.sqrt(apart_var)
    for slot in slots:
        track = states[slot, now % states.shape[1]]
        y, x = track["origin"][Y], track["origin"][X]
        is_inside = margin <= min(y, x, shape[0] - 1.0 - y, shape[1] - 1.0 - x)
        if born[slot] == then and track["existence"] >= SURE and track["hits"] > 1 and is_inside:
            young[n_young] = slot
            n_young += 1
    found = np.empty((n_young, 3), np.int64)
    taken = np.zeros(len(born), np.bool_)
    n_found = 0
    for slot in young[:n_young]:
        best = 0.0
        for old in slots:
            if taken[slot] or taken[old] or born[old] >= then:
                continue
            other, odds = _best_other(
                states,
                frames,
                measured[then % len(measured)],
                young[:n_young],
                taken,
                slot,
                old,
                then,
                now,
                rate,
                apart_var,
            )
            if odds > best:
                best = odds
                found[n_found, 0], found[n_found, 1], found[n_found, 2] = old, other, slot
        if best > 0.0:
            for k in range(3):
                taken[found[n_found, k]] = True
            n_found += 1
    return found[:n_found]


@compiled
def _best_other(
    states: States,
    frames: Frames,
    seen: Floats,
    young: Indices,
    taken: Flags,
    slot: int,
    old: int,
    then: int,
    now: int,
    rate: float,
    apart_var: float,
) -> tuple[int, float]:
    """Return which track would be the other of the two if ``old`` had divided into ``slot`` and that, and the odds."""
    depth = states.shape[1]
    before, here, frame = states[old, (then - 1) % depth], states[old, then % depth], frames[then % depth]
    last, mass, place = before["last"], before["mass"], seen[states[slot, then % depth]["detection"]]
    intervals = 1.0 + before["since"]
    is_far = (place[Y] - last[Y]) ** 2 + (place[X] - last[X]) ** 2 > FAR**2 * apart_var
    if before["hits"] < SETTLED_HITS or before["misses"] > MOST_MISSES or is_far:
        return NONE, -np.inf
    if here["detection"] != NONE:
        return old, log_odds(last, seen[here["detection"]], place, mass, intervals, frame, True, rate, apart_var)
    other, best = NONE, -np.inf
    if states[old, now % depth]["hits"] > before["hits"]:
        return other, best
    for each in young:
        if each != slot and not taken[each]:
            found = seen[states[each, then % depth]["detection"]]
            odds = log_odds(last, found, place, mass, intervals, frame, False, rate, apart_var)
            if odds > best:
                other, best = each, odds
    return other, best
