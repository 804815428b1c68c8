"""Links of a whole movie, reconsidered frame by frame with all that comes before and after them.

A sweep is the online filter once more, with one difference: a detection is linked to a track for what becomes of both
(`streamtrack.linking.lookahead`), since what follows on it is linked already. Whatever gains is taken: two tracks
exchange what follows, one goes on with what another had, or begins, or ends. The same backwards, from the last frame to
the first, judges by what came before; particles have no direction of time.
"""

from typing import NamedTuple

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.assignment import assign
from streamtrack.linking.depth import depth_of, most_by_depth
from streamtrack.linking.gating import candidates, empty_grid
from streamtrack.linking.imm_filter import begin, correct, gates, predict
from streamtrack.linking.lookahead import values_ahead
from streamtrack.linking.records import CLUTTER, N_MEASURED, NONE, Z_VAR, Floats, Frames, Indices, Z
from streamtrack.linking.track_table import TrackTable

LEAST_EXISTENCE = 0.003
"""A track less probable than this takes no more detections."""

MOST_MISSES = 40
"""Nor does one that was missed more often in a row, lost frames included."""

WIDER = 0.05
"""A link is looked at though its detection alone were so many times too improbable: what follows may make up for it."""

OF_STEPS = ("lost", "substeps", "step", "shift", "survival", "detection", "reappearance")
"""Fields of a frame that are about the step from the frame before."""


class Scene(NamedTuple):
    """What was detected in a movie of U frames, R detections, and how particles move and are missed there.

    Attributes
    ----------
    shape
        Of the image, (H, W) px.
    frames
        Shape (U,), of ``FRAME``.
    seen
        Shape (R, N_MEASURED): what is measured of each detection, frame by frame.
    first
        Shape (U + 1,): the first detection of each frame; those of frame u end before ``first[u + 1]``.
    """

    shape: tuple[int, int]
    frames: Frames
    seen: Floats
    first: Indices

    @property
    def update_of(self) -> Indices:
        """The number of each detection's frame, shape (R,)."""
        return np.repeat(np.arange(len(self.frames)), np.diff(self.first))

    def backwards(self) -> "Scene":
        """Return it from the last frame to the first, the detections of each in reverse order, too."""
        frames = self.frames[::-1].copy()
        for name in OF_STEPS:
            frames[name][1:] = self.frames[name][:0:-1]
        frames["shift"] *= -1.0
        frames["index"] *= -1
        return Scene(self.shape, frames, self.seen[::-1].copy(), len(self.seen) - self.first[::-1])


class Swept(NamedTuple):
    """What a sweep leaves.

    Attributes
    ----------
    following
        Shape (R,): which detection follows on each, -1 for none.
    existence
        Shape (R,): probability that the track follows a real particle, as far as it is known by then.
    log_likelihood
        Of all tracks, against calling each detection new or false.
    depth
        Shape (R, 2): where each track is along the optical axis by then, px, and the variance; NaN without z.
    """

    following: Indices
    existence: Floats
    log_likelihood: float
    depth: Floats

    def backwards(self) -> "Swept":
        """Return the same links of the scene backwards."""
        following = reversed_links(self.following)
        return Swept(following, self.existence[::-1].copy(), self.log_likelihood, self.depth[::-1].copy())


def smoothed_depth(scene: Scene, following: Indices) -> Floats:
    """Return where tracks are along the optical axis by all that comes before and after: shape (R,), px.

    Both filters know the detection itself, which counts once.
    """
    before = sweep(scene, following, decides=False).depth
    after = sweep(scene.backwards(), reversed_links(following), decides=False).depth[::-1]
    once = np.where(np.isfinite(scene.seen[:, Z]), 1.0 / scene.seen[:, Z_VAR], 0.0)
    weights = np.stack([1.0 / before[:, 1], 1.0 / after[:, 1], -once])
    places = np.stack([before[:, 0], after[:, 0], np.nan_to_num(scene.seen[:, Z])])
    smoothed: Floats = (weights * places).sum(axis=0) / weights.sum(axis=0)
    return smoothed


def reversed_links(following: Indices) -> Indices:
    """Return what follows on each detection where all are counted from the last one."""
    last = len(following) - 1
    linked = np.flatnonzero(following != NONE)
    backwards = np.full(len(following), NONE)
    backwards[last - following[linked]] = last - linked
    return backwards


def links_of(particle: Indices) -> Indices:
    """Return which detection follows on each, given the track of each, -1 for none: shape (R,)."""
    order = np.argsort(particle, kind="stable")
    same = (np.diff(particle[order]) == 0) & (particle[order[1:]] != NONE)
    following = np.full(len(particle), NONE)
    following[order[:-1][same]] = order[1:][same]
    return following


@compiled
def tracks_of(following: Indices) -> Indices:
    """Return the track of each detection, given which follows on each: numbered in the order in which they begin."""
    particle = np.full(len(following), NONE)
    n_tracks = 0
    for row in range(len(following)):
        if particle[row] == NONE:
            particle[row] = n_tracks
            n_tracks += 1
        if following[row] != NONE:
            particle[following[row]] = particle[row]
    return particle


def sweep(scene: Scene, following: Indices, *, decides: bool = True) -> Swept:
    """Go through a movie, and link what gains.

    Parameters
    ----------
    following
        Shape (R,): which detection follows on each, -1 for none.
    decides
        Whether links are changed; otherwise they are only looked at.
    """
    under_way = Sweep(scene, following)
    for update in range(len(scene.frames)):
        under_way.predict(update)
        if decides:
            under_way.decide(update)
        under_way.go_on(update)
    return Swept(under_way.following, under_way.existence, under_way.log_likelihood, under_way.depth)


class Sweep:
    """Links and tracks of a movie at some frame of a sweep.

    Attributes
    ----------
    tracks
        With their states at the last ``depth`` frames.
    head
        Shape (capacity,): last detection of the track in each slot.
    following, existence, log_likelihood, depth
        See `Swept`; as far as they are known by then.
    """

    def __init__(self, scene: Scene, following: Indices, depth: int = 2) -> None:
        self._scene, self._update_of = scene, scene.update_of
        self.tracks = TrackTable(depth, is_3d=scene.seen.shape[1] > N_MEASURED)
        self._cells = empty_grid(scene.shape)
        self.head = np.full(len(self.tracks.particle), NONE)
        self.following = following.copy()
        self.existence, self.log_likelihood = np.empty(len(following)), 0.0
        self.depth = np.full((len(following), 2), np.nan)

    def predict(self, update: int) -> None:
        """Carry the tracks on to a frame; those end that cannot be told apart by then."""
        tracks, frame = self.tracks, self._scene.frames[update]
        first, end = self._scene.first[update : update + 2].tolist()
        tracks.next_frame(end - first)
        now = tracks.now
        tracks.frames[now], tracks.measured[now, : end - first] = frame, self._scene.seen[first:end]
        gone = tracks.live[tracks.states["misses"][tracks.live, now - 1] + frame["lost"] > MOST_MISSES]
        self.following[self.head[gone]] = NONE
        tracks.end(gone)
        predict(tracks.states, tracks.frames, tracks.live, now - 1, now)

    def decide(self, update: int) -> None:
        """Link the frame's detections to the tracks for which both go on best together."""
        scene, tracks = self._scene, self.tracks
        live, now, frame = tracks.live, tracks.now, scene.frames[update]
        first, end = scene.first[update : update + 2].tolist()
        y, x, var, clutter = scene.seen[first:end, : CLUTTER + 1].T.copy()
        least = WIDER * (clutter.min(initial=np.inf) + frame["birth"]) - frame["birth"]
        deeper = most_by_depth(scene.seen[first:end])
        boxes = gates(tracks.states, tracks.frames, live, now, least, var.max(initial=0.0), deeper)
        start, candidate = candidates(boxes, y, x, self._cells)
        detections = scene.frames, scene.seen, self._update_of, self.following
        gain = values_ahead(tracks.states, live, now, start, candidate, *detections, self.head, update, first)
        detection_of = assign(start, candidate, gain, end - first)
        _link(self.following, self.head, live, self._update_of, update, first, detection_of)

    def go_on(self, update: int) -> None:
        """Take in the detections that are linked, and begin tracks at the others."""
        tracks, (first, end) = self.tracks, self._scene.first[update : update + 2].tolist()
        live, now = tracks.live, tracks.now
        detection_of = _linked(self.following, self.head, live, self._update_of, update, first)
        correct(tracks.states, tracks.frames, tracks.measured, live, now, detection_of)
        self.log_likelihood += float(tracks.states["log_likelihood"][live, now].sum())
        left = np.setdiff1d(np.arange(end - first), detection_of)
        new = tracks.add(len(left))
        begin(tracks.states, tracks.frames, tracks.measured, new, now, left)
        self.head = np.append(self.head, np.full(len(tracks.particle) - len(self.head), NONE))
        is_seen = detection_of != NONE
        seen = np.append(live[is_seen], new)
        self.head[seen] = first + np.append(detection_of[is_seen], left)
        self.existence[self.head[seen]] = tracks.states["existence"][seen, now]
        if self._scene.seen.shape[1] > N_MEASURED:
            self.depth[self.head[seen]] = np.stack(depth_of(tracks.states, seen, now), axis=1)
        self._end()

    def _end(self) -> None:
        """End the tracks that take no more detections."""
        tracks = self.tracks
        state = tracks.states[tracks.live, tracks.now]
        over = (state["existence"] < LEAST_EXISTENCE) | (state["misses"] > MOST_MISSES)
        tracks.end(tracks.live[over & (self.following[self.head[tracks.live]] == NONE)])


@compiled
def _linked(following: Indices, head: Indices, slots: Indices, update_of: Indices, update: int, first: int) -> Indices:
    """Return the detection in a frame of each track, -1 for none."""
    detection_of = np.full(len(slots), NONE)
    for n in range(len(slots)):
        row = following[head[slots[n]]]
        if row != NONE and update_of[row] == update:
            detection_of[n] = row - first
    return detection_of


@compiled
def _link(
    following: Indices,
    head: Indices,
    slots: Indices,
    update_of: Indices,
    update: int,
    first: int,
    detection_of: Indices,
) -> None:
    """Let each track go on with its detection in a frame; who loses one ends, unless it goes on after that."""
    for n in range(len(slots)):
        row = following[head[slots[n]]]
        if row != NONE and update_of[row] == update:
            following[head[slots[n]]] = NONE
    for n in range(len(slots)):
        if detection_of[n] != NONE:
            following[head[slots[n]]] = first + detection_of[n]
