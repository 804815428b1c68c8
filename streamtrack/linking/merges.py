"""Particles that merge: of two tracks side by side one ends, and the other goes on with the mass of both.

It is looked for afterwards, in the tracks of a whole movie: only what comes after tells two that stay together from two
that pass each other. An end is a merge or not, and what tells them apart is the mass of what goes on, against the sum
of the two and against the one alone, and how near the other is. How often an end is a merge, how far apart two are when
they are last seen as two, and how much masses scatter, is learnt from the movie.
"""

from typing import NamedTuple

import numpy as np

from streamtrack.linking.records import MASS, NONE, SETTLED_HITS, Floats, Indices
from streamtrack.linking.sweeps import Scene, tracks_of

STAYS = 8
"""Detections for which two have to be one, at least: others only pass."""

WINDOW = 15
"""Detections before and after a merge of which the masses count: their median."""

FIRST_SHARE, SHARE_WEIGHT = 0.1, 20.0
"""Share of ends that are merges: until the movie says otherwise, and for how many ends that counts."""

FIRST_APART, APART_WEIGHT, FAR = 0.25, 4.0, 4.0
"""How far apart two are along each axis when they are last seen as two, rms, as a share of the mean distance of
particles; for how many merges that counts; and where it is too far, in standard deviations."""

MOST_MISSES = 3
"""Frames for which the one that goes on may be missed, before and after."""

FIRST_SPREAD, LEAST_SPREAD = 0.2, 0.05
"""Standard deviation of the logarithm of a mass over that of the same particle before: where there are too few tracks
to tell, and at least."""

OTHERWISE = 0.1, 0.7
"""Share of masses that change for other reasons, and the same of theirs."""

LEAST_SUPPORT = 1.0
"""Log-likelihood ratio of the masses below which nothing else makes a merge."""

ROUNDS = 5


class _Pairs(NamedTuple):
    """Ends of tracks and those that go on beside them, shape (P,) each.

    Attributes
    ----------
    end
        The last detection of the one.
    after
        The first detection of the other after that.
    square
        Of the distance between the two at the end, px².
    support
        Log-likelihood ratio of the masses, of a merge against none.
    """

    end: Indices
    after: Indices
    square: Floats
    support: Floats


def cut_merges(scene: Scene, following: Indices, divided: Indices) -> tuple[Indices, Indices]:
    """Find the particles that merge, and let the tracks of both end there.

    Parameters
    ----------
    following
        Shape (R,): which detection follows on each, -1 for none.
    divided
        Last detections of particles that divide, whose ends are explained.

    Returns
    -------
    The same without what follows on particles that merge; and, shape (R,), of the last detection of each of them the
    first one of what they become, otherwise -1.
    """
    previous, linked = np.full(len(following), NONE), np.flatnonzero(following != NONE)
    previous[following[linked]] = linked
    is_end = (following == NONE) & (scene.update_of < len(scene.frames) - 1)
    is_end[divided] = False
    tracks = _Tracks(scene, following, previous)
    is_end &= tracks.before(np.arange(len(following))) >= SETTLED_HITS
    density = max(len(following) / len(scene.frames), 1.0) / (scene.shape[0] * scene.shape[1])
    pairs = _pairs(scene, tracks, np.flatnonzero(is_end), FAR**2 * FIRST_APART**2 / density)
    merged = _choose(pairs, int(is_end.sum()), density)
    following, into = following.copy(), np.full(len(following), NONE)
    end, after = pairs.end[merged], pairs.after[merged]
    into[end] = into[previous[after]] = after
    following[previous[after]] = NONE
    return following, into


def _choose(pairs: _Pairs, n_ends: int, density: float) -> Indices:
    """Return the pairs that merge, and learn from them how pairs do; each end is that of one at most."""
    apart_var, share, chosen = FIRST_APART**2 / density, FIRST_SHARE, np.empty(0, np.int64)
    for _ in range(ROUNDS):
        near = -0.5 * pairs.square / apart_var - np.log(2.0 * np.pi * apart_var * density)
        odds = np.log(share / (1.0 - share)) + near + pairs.support
        order = np.argsort(-odds, kind="stable")
        _, firsts = np.unique(pairs.end[order], return_index=True)
        chosen = order[firsts][odds[order[firsts]] > 0.0]
        weight = APART_WEIGHT + len(chosen)
        apart_var = (APART_WEIGHT * FIRST_APART**2 / density + 0.5 * pairs.square[chosen].sum()) / weight
        share = (SHARE_WEIGHT * FIRST_SHARE + len(chosen)) / (SHARE_WEIGHT + n_ends)
    return chosen


def _pairs(scene: Scene, tracks: "_Tracks", ends: Indices, farthest: float) -> _Pairs:
    """Return the ends and what goes on beside them, as far as masses support it."""
    spread, found = tracks.spread(), []
    for end in ends.tolist():
        update = int(tracks.update_of[end])
        last = min(update + 1 + MOST_MISSES, len(scene.frames) - 1)
        after = np.arange(scene.first[update + 1], scene.first[last + 1])
        after = after[tracks.previous[after] != NONE]
        before = tracks.previous[after]
        ago = update - tracks.update_of[before]
        after = after[(ago >= 0) & (ago <= MOST_MISSES) & (tracks.before(before) >= SETTLED_HITS)]
        square = ((tracks.place_at(after, update) - scene.seen[end, :2]) ** 2).sum(axis=1)
        for k in np.flatnonzero((square <= farthest) & (tracks.after(after) >= STAYS)).tolist():
            support = tracks.support(end, int(after[k]), spread)
            if support >= LEAST_SUPPORT:
                found.append((end, int(after[k]), float(square[k]), support))
    columns = np.array(found, np.float64).reshape(-1, 4).T
    return _Pairs(columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2], columns[3])


class _Tracks:
    """The tracks of a movie, and the masses along each."""

    def __init__(self, scene: Scene, following: Indices, previous: Indices) -> None:
        self.previous, self.update_of, self._seen = previous, scene.update_of, scene.seen
        particle = tracks_of(following)
        order = np.argsort(particle, kind="stable")
        self._at = np.empty(len(order), np.int64)
        self._at[order] = np.arange(len(order))  # where each detection stands, track by track
        self._mass = scene.seen[order, MASS]
        n = np.bincount(particle, minlength=1)
        starts = np.cumsum(n) - n
        self._start, self._end = starts[particle], (starts + n)[particle]
        self._middles = order[(starts + n // 2)[n >= 2 * SETTLED_HITS]]

    def before(self, rows: Indices) -> Indices:
        """Return how many detections tracks have up to some of them, these included."""
        return self._at[rows] - self._start[rows] + 1

    def after(self, rows: Indices) -> Indices:
        """Return how many they have from those on."""
        return self._end[rows] - self._at[rows]

    def place_at(self, rows: Indices, update: int) -> Floats:
        """Return where tracks were at an update, (N, 2), px: between the detections in rows and those before."""
        before = self.previous[rows]
        then, here = self.update_of[before], self.update_of[rows]
        part = ((update - then) / np.maximum(here - then, 1))[:, None]
        place: Floats = (1.0 - part) * self._seen[before, :2] + part * self._seen[rows, :2]
        return place

    def mass_before(self, row: int) -> float:
        """Return the mass up to a detection, this included."""
        at = self._at[row]
        return float(np.median(self._mass[max(self._start[row], at + 1 - WINDOW) : at + 1]))

    def mass_after(self, row: int) -> float:
        """Return the mass from a detection on."""
        at = self._at[row]
        return float(np.median(self._mass[at : min(self._end[row], at + WINDOW)]))

    def spread(self) -> float:
        """Return the standard deviation of the logarithm of a mass over that before: of tracks, cut in the middle."""
        pairs = [(self.mass_before(int(self.previous[row])), self.mass_after(row)) for row in self._middles.tolist()]
        masses = np.array([pair for pair in pairs if min(pair) > 0.0]).reshape(-1, 2)
        if len(masses) < SETTLED_HITS:
            return FIRST_SPREAD
        return max(1.4826 * float(np.median(np.abs(np.log(masses[:, 1] / masses[:, 0])))), LEAST_SPREAD)

    def support(self, end: int, after: int, spread: float) -> float:
        """Return the log-likelihood ratio of the masses, of a merge against none; -inf where they are not known."""
        one, other, both = self.mass_before(end), self.mass_before(int(self.previous[after])), self.mass_after(after)
        if min(one, other, both) <= 0.0:
            return -np.inf
        share, otherwise = OTHERWISE
        alone = np.log(both / other)
        no_merge = (1.0 - share) * _normal(alone, spread) + share * _normal(alone, otherwise)
        return float(np.log(_normal(np.log(both / (one + other)), spread) + 1e-300) - np.log(no_merge))


def _normal(value: float, spread: float) -> float:
    return float(np.exp(-0.5 * (value / spread) ** 2) / (np.sqrt(2.0 * np.pi) * spread))
