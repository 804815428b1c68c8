"""The linker of streamtrack: online, one frame at a time, nothing to tune."""

from collections.abc import Mapping
from typing import Annotated, Any

import numba
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import ConfigError, LinkerError
from streamtrack.linking.assignment import assign
from streamtrack.linking.calibration import MotionCalibration
from streamtrack.linking.common_motion import common_shift, lost_tracks
from streamtrack.linking.confirmation import confirm_and_terminate
from streamtrack.linking.dark_states import Blinking
from streamtrack.linking.depth import SMOOTHED, Depth, most_by_depth, said_of
from streamtrack.linking.divisions import Divisions, divided
from streamtrack.linking.exchange import revise
from streamtrack.linking.fast_starts import SUSPICIOUS_SHARE, fast_steps
from streamtrack.linking.field_shifts import Assignment, FieldShifts
from streamtrack.linking.gating import candidates, empty_grid
from streamtrack.linking.imm_filter import begin, correct, gains, gates, predict
from streamtrack.linking.measurement import measure
from streamtrack.linking.pace import FrameIntervals
from streamtrack.linking.places import Places
from streamtrack.linking.readout import describe
from streamtrack.linking.records import CLUTTER, NONE, Evidence, Floats, Indices
from streamtrack.linking.revision import ambiguous_pairs, due, owners, relabel
from streamtrack.linking.running_mean import RunningMean
from streamtrack.linking.track_table import TrackTable
from streamtrack.settings import Positive, checks_settings
from streamtrack.types import CONFIRMED, MOTION_MODES, Column, Detections, Revision, TrackMotion, TrackUpdate

CROWD_MEMORY_FRAMES = 20.0
"""The density of particles is a mean over about this many frames, or that of this frame where it is higher."""

LEAST_EXISTENCE = 0.003
"""A track less probable than this is given up."""

MOST_SUBSTEPS = 16
"""In which tracks are carried across a time without frames: one for each frame interval, up to this many."""

MOST_REVISIONS = 600
"""Decisions looked at again in one frame, the closest first. Not a time: the same movie has to give the same tracks on
any machine. In a crowd that reaches it they take about 2 ms."""


@checks_settings
class ImmLinker:
    """Links by motion-model filters, probabilities of existence and a sparse optimal assignment.

    Every track follows its particle with three motion models (Brownian, directed, tethered). A detection is linked
    where that is more probable than a new particle or a false detection, all detections of a frame at once. So
    there is no search range to choose. What a detection's score and sigma say enters these probabilities. The Brownian
    step, the share of each motion model and the density of particles are learnt from the movie. Lost frames and
    uneven intervals are predicted across.

    Close decisions are looked at again when later frames have come: see `TrackUpdate.revised`.

    Where the engine measures z (`see_depth`), it is a third axis of all that.

    Parameters
    ----------
    lag
        Frames after which a decision is final; 0 for no revision.
    detection_probability
        Probability that a particle is detected in a frame; None to learn it.
    step_px
        Brownian step per frame and axis; None to learn it.
    max_misses
        A track ends when its particle was not seen in more than this many frames in a row, lost frames included; and
        sooner where it is improbable that it comes back.
    blinking
        Whether particles go dark for some frames and come back: true, false, or "auto" to learn how often and for how
        long. Where `detection_probability` is given, "auto" is false.
    divisions
        Whether particles divide, as cells do: one that is found as two ends, and the two are new tracks of which it is
        the ``parent``. It is decided ``lag`` frames later, 1 at least.

    Raises
    ------
    ConfigError
        A setting is out of its range.

    Notes
    -----
    Sources: :mod:`streamtrack.linking.imm_filter`, :mod:`streamtrack.linking.assignment`.
    """

    def __init__(
        self,
        *,
        lag: Annotated[int, Field(ge=0, le=10)] = 2,
        detection_probability: Annotated[float, Field(gt=0, lt=1)] | None = None,
        step_px: Positive | None = None,
        max_misses: Annotated[int, Field(ge=0)] = 15,
        blinking: Blinking = "auto",
        divisions: bool = False,
    ) -> None:
        if divisions and not lag:
            raise ConfigError("divisions needs a lag of 1 or more: they are seen by what comes after")
        self._lag = lag
        self._detection_probability = detection_probability
        self._step_px = step_px
        self._max_misses = max_misses
        self._blinking = blinking
        self._is_dividing = divisions
        self._depth: Depth | None = None
        self._start_over((0, 0))

    def _start_over(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._cells = empty_grid(shape)
        self._tracks = TrackTable(self._lag + 2, is_3d=self._depth is not None)
        self._depth = Depth(self._depth.pixel_size_um) if self._depth is not None else None
        self._close = [_no_pairs() for _ in range(self._lag + 2)]
        self._calibration = MotionCalibration(self._step_px, self._detection_probability, self._blinking)
        self._divisions = Divisions()
        self._places = Places()
        self._crowd = RunningMean(0.0, 0.0, CROWD_MEMORY_FRAMES)
        self._intervals = FrameIntervals()
        self._density = 0.0
        self._field = FieldShifts()
        self._ignored = self._revised = self._not_revised = 0

    @property
    def info(self) -> Mapping[str, Any]:
        """Settings, what was learnt so far, and what was counted: detections without a place, revisions."""
        return {
            "linker": "imm",
            "numba": numba.__version__,
            "lag": self._lag,
            "detection_probability": self._detection_probability,
            "step_px": self._step_px,
            "max_misses": self._max_misses,
            "blinking": self._blinking,
            "divisions": self._is_dividing,
            "z": self._depth is not None,
            "learnt_detection_probability": self._calibration.dark.detection,
            "learnt_dark_frames": self._calibration.dark.gap_frames,
            "learnt_lifetime_frames": 1.0 / self._calibration.death,
            "learnt_step_px": self._calibration.step_px,
            "learnt_speed_px": self._calibration.speed_px,
            "learnt_motion": dict(zip(MOTION_MODES, self._calibration.prior.tolist(), strict=True)),
            "ignored_detections": self._ignored,
            "shifts_found": self._field.n_found,
            "shifts_told": self._field.n_told,
            "revised_detections": self._revised,
            "decisions_beyond_budget": self._not_revised,
        }

    @property
    def tracks(self) -> TrackTable:
        """What is followed, and what the last frames were like: only to look at."""
        return self._tracks

    def prepare(self, shape: tuple[int, int]) -> None:
        """Make ready for frames of (H, W) px: compile what is not compiled yet, forget everything from before."""
        self._start_over(shape)
        ones = np.ones(2, np.float32)
        for index in range(2):
            self.update(Detections(ones, ones, ones, ones, ones), index, float(index))
        if self._lag:
            self._reconsider(np.empty((0, 3), np.int64))
        self._find_shift(self._tracks.live, self._tracks.measured[0, :0].T.copy())
        if self._is_dividing:
            self._tracks.update = self._lag + 1
            self._divide(Revision.none())
        self._start_over(shape)

    def begin_again(self) -> None:
        """Forget all tracks and go through a movie anew, with what was learnt of it."""
        calibration = self._calibration
        self._start_over(self._shape)
        self._calibration = calibration
        calibration.dark.is_decided = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """What it says of each detection besides its track: ``parent`` where particles divide, z where it is used."""
        parent = (Column("parent", "index"),) if self._is_dividing else ()
        return (*parent, SMOOTHED) if self._depth is not None else parent

    def see_depth(self, pixel_size_um: float) -> None:
        """Use z, before `prepare`: see `streamtrack.protocols.SeesDepth`."""
        self._depth = Depth(pixel_size_um)
        self._start_over((0, 0))

    def expect_shift(self, shift_px: tuple[float, float], possible_px: tuple[float, float] | None = None) -> None:
        """Take how far the stage took the whole field: see `streamtrack.protocols.ToldShifts`.

        What fits neither is looked for as if nobody had told.
        """
        self._field.expect(shift_px, possible_px)

    def update(self, detections: Detections, frame_index: int, time_s: float) -> TrackUpdate:
        """Link the detections of the next frame.

        Parameters
        ----------
        detections
            Those more than a pixel outside the image, or with a position, score or sigma that is not finite, get no
            track and are counted.
        frame_index
            Rises; a gap means frames without information.
        time_s
            Exposure time, s; the predicted motion is scaled with its differences.

        Raises
        ------
        LinkerError
            ``frame_index`` does not rise, or ``prepare`` was not called.
        """
        if not self._shape[0]:
            raise LinkerError("the linker does not know the frames' size: call prepare(shape) before update()")
        lost, intervals = self._intervals.advance(frame_index, time_s)
        tracks = self._tracks
        tracks.next_frame(len(detections))
        n = self._measure(detections)
        self._describe_frame(frame_index, lost, intervals)
        faded = self._end_across(lost)
        first_new = tracks.next_particle
        self._link(n)
        revised, vanished = self._revise()
        if self._is_dividing:
            revised, divided = self._divide(revised)
            vanished = np.concatenate((vanished, divided))
        particle, existence, motion = self._outcome(len(detections))
        parent = self._parents(len(detections)) if self._is_dividing else None
        z_um = self._z_um(len(detections)) if self._depth is not None else None
        height, width = self._shape
        new, over = confirm_and_terminate(
            tracks.states,
            tracks.live,
            tracks.now,
            tracks.confirmed,
            CONFIRMED,
            LEAST_EXISTENCE,
            self._max_misses,
            height,
            width,
        )
        confirmed = tracks.particle[new]
        self._learn(new, over)
        ended = tracks.end(over)
        return TrackUpdate(
            particle,
            existence,
            started=np.arange(first_new, tracks.next_particle),
            confirmed=confirmed,
            ended=np.concatenate((faded, vanished, ended)),
            n_live=len(tracks.live),
            final_index=self._final_index(),
            revised=revised,
            motion=motion,
            parent=parent,
            z_um=z_um,
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that the linker knows, as arrays by name, for `restore`: ``numpy.savez(path, **linker.state())``.

        The arrays are the linker's own: save or copy them before the next `update`.
        """
        tracks, pace = self._tracks, self._intervals
        means = {f"mean_{k}": np.append(np.ravel(m.total), m.weight) for k, m in enumerate(self._means)}
        close = {f"close_{k}": np.column_stack((pairs, costs)) for k, (pairs, costs) in enumerate(self._close)}
        return {
            "shape": np.array(self._shape),
            "lag": np.array(self._lag),
            "counts": np.array(
                (
                    *(tracks.update, tracks.next_particle, self._ignored, self._revised, self._not_revised),
                    *(self._field.n_found, self._field.n_told),
                )
            ),
            "ahead": self._field.ahead,
            "last_index": np.array(NONE if pace.last_index is None else pace.last_index),
            "pace": np.array([pace.interval_s, pace.last_s, pace.is_measured]),
            **{name: getattr(tracks, name) for name in TRACK_ARRAYS},
            "endings": np.append(self._places.table.ravel(), self._places.written),
            "is_decided": np.array(self._calibration.dark.is_decided),
            "found_again": np.array(self._calibration.dark.found_again),
            "ending_counts": self._places.counts,
            **means,
            **close,
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a `state`, as if there had been no break; ``numpy.load(path)`` gives it back.

        Raises
        ------
        LinkerError
            It is no state of a linker with this ``lag``; this one is then as `prepare` leaves it.
        """
        shape = self._shape
        try:
            self._restore({name: np.array(state[name]) for name in state})
        except (KeyError, TypeError, ValueError) as error:
            self._start_over(shape)
            raise LinkerError(f"not a state of the linker imm with lag {self._lag} ({error}): start anew") from error

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        if int(state["lag"]) != self._lag:
            raise ValueError(f"lag is {state['lag']}")
        self._start_over((int(state["shape"][0]), int(state["shape"][1])))
        tracks, pace = self._tracks, self._intervals
        for name in TRACK_ARRAYS:
            if state[name].dtype != getattr(tracks, name).dtype:
                raise ValueError(f"{name} is {state[name].dtype}")
            setattr(tracks, name, state[name])
        tracks.live = np.flatnonzero(tracks.particle >= 0)
        tracks.update, tracks.next_particle, self._ignored, *counts = map(int, state["counts"])
        self._revised, self._not_revised, self._field.n_found, self._field.n_told = counts
        self._field.ahead = state["ahead"]
        pace.last_index = int(state["last_index"]) if tracks.update >= 0 else None
        pace.interval_s, pace.last_s = map(float, state["pace"][:2])
        pace.is_measured = bool(state["pace"][2])
        places = self._places
        places.table, places.written = state["endings"][:-1].reshape(places.table.shape), int(state["endings"][-1])
        places.counts = state["ending_counts"]
        self._calibration.dark.is_decided = bool(state["is_decided"])
        found, missed = state["found_again"].tolist()
        self._calibration.dark.found_again = found, missed
        for k, mean in enumerate(self._means):
            total, mean.weight = state[f"mean_{k}"][:-1], float(state[f"mean_{k}"][-1])
            mean.total = total if isinstance(mean.total, np.ndarray) else float(total[0])
        for k in range(len(self._close)):
            table = state[f"close_{k}"]
            self._close[k] = table[:, :4].astype(np.int64), table[:, 4]

    @property
    def _means(self) -> tuple[RunningMean, ...]:
        of_depth = self._depth.learnt if self._depth is not None else ()
        return *self._calibration.learnt, self._crowd, *self._divisions.learnt, *of_depth

    def _measure(self, detections: Detections) -> int:
        """Take in the detections that are usable; return how many they are."""
        tracks = self._tracks
        columns = np.array([getattr(detections, name) for name in ("y", "x", "score", "sigma", "mass")], np.float64)
        measured = tracks.measured[tracks.now]
        n, expected = measure(columns, *self._shape, measured, tracks.places[tracks.now])
        self._ignored += len(detections) - n
        self._crowd.add(expected, 1.0)
        # At least one particle in the image, or nothing could ever be linked.
        self._density = max(float(self._crowd.value), expected, 1.0) / (self._shape[0] * self._shape[1])
        measured[:n, CLUTTER] *= self._density
        if self._depth is not None:
            self._depth.measure(detections, tracks.places[tracks.now, :n], measured[:n])
        return n

    def _describe_frame(self, frame_index: int, lost: int, intervals: float) -> None:
        substeps = min(max(round(intervals), 1), MOST_SUBSTEPS)
        step = intervals / substeps
        calibration = self._calibration
        if not calibration.dark.is_decided:
            calibration.dark.look(self._density, calibration.spread(), self._tracks.update)
        survival = (1.0 - self._calibration.death) ** intervals
        rates = survival, *calibration.dark.visible(lost + 1), self._density * self._calibration.death
        motion = self._calibration.describe(step)
        frames, now = self._tracks.frames, self._tracks.now
        frames[now] = (frame_index, lost, substeps, step, 0.0, *rates, *motion)
        self._field.begin(frames["shift"][now])

    def _learn(self, new: Indices, over: Indices) -> None:
        """Take in what this frame says of the motion, given the slots of tracks that were confirmed and that end."""
        tracks = self._tracks
        area_px = float(self._shape[0] * self._shape[1])
        n_died, found_again = self._places.look(tracks.states, new, over, tracks.now, area_px)
        self._calibration.learn(self._evidence, n_died, found_again)

    def _end_across(self, lost: int) -> Indices:
        """End the tracks that were missed too often once the lost frames are counted; return their ids."""
        tracks = self._tracks
        live = tracks.live if lost else tracks.live[:0]
        return tracks.end(live[tracks.states["misses"][live, tracks.now - 1] + lost > self._max_misses])

    def _link(self, n_detections: int) -> None:
        """Carry the live tracks on to this frame's detections, and start tracks at those that are left."""
        tracks = self._tracks
        live, now = tracks.live, tracks.now
        states, frames, measured = tracks.states, tracks.frames, tracks.measured
        columns = measured[now, :n_detections].T.copy()
        found = self._field.choose(frames["shift"][now], self._assign(columns), lambda: self._assign(columns))
        visible = frames[now]["detection"]
        lost = lost_tracks(states, live, now, tracks.confirmed, found.detection_of, visible, *self._shape)
        if len(lost) and self._find_shift(lost, columns):
            found = self._assign(columns)
        start, candidate, gain, detection_of = found
        self._evidence = Evidence(*correct(states, frames, measured, live, now, detection_of))
        owner = owners(live, detection_of, n_detections)
        left = np.flatnonzero(owner == NONE)
        owner[left] = tracks.add(len(left))
        begin(tracks.states, frames, measured, owner[left], now, left)
        if len(left) > SUSPICIOUS_SHARE * n_detections:
            area_px = float(self._shape[0] * self._shape[1])
            self._calibration.learn_speed(*fast_steps(tracks.states, tracks.live, now, area_px))
        if self._lag:
            self._close[now] = ambiguous_pairs(live, start, candidate, gain, detection_of, owner, tracks.particle)

    def _assign(self, columns: Floats) -> Assignment:
        """Predict the live tracks, and assign them to detections."""
        tracks, (y, x, var, clutter) = self._tracks, columns[: CLUTTER + 1]
        live, now, states, frames = tracks.live, tracks.now, tracks.states, tracks.frames
        predict(states, frames, live, now - 1, now)
        deeper = most_by_depth(tracks.measured[now, : len(y)])
        boxes = gates(states, frames, live, now, clutter.min(initial=np.inf), var.max(initial=0.0), deeper)
        start, candidate = candidates(boxes, y, x, self._cells)
        gain = gains(states, frames, tracks.measured, live, now, start, candidate)
        return Assignment(start, candidate, gain, assign(start, candidate, gain, len(y)))

    def _find_shift(self, slots: Indices, columns: Floats) -> bool:
        """Look whether the whole field was moved, and predict with that."""
        tracks = self._tracks
        dy, dx, n_agree = common_shift(tracks.states, slots, tracks.now, columns[0], columns[1])
        if n_agree:
            tracks.frames["shift"][tracks.now] += dy, dx
            self._field.found(dy, dx)
        return n_agree > 0

    def _revise(self) -> tuple[Revision, Indices]:
        """Look at close decisions again; return what changed, and the ids of tracks that were swallowed by others."""
        if not self._lag or not len(pairs := self._due()):
            return Revision.none(), np.empty(0, np.int64)
        return self._reconsider(pairs)

    def _reconsider(self, pairs: Indices) -> tuple[Revision, Indices]:
        tracks = self._tracks
        slots = revise(tracks.states, tracks.frames, tracks.measured, tracks.born, pairs, tracks.update)
        revision = self._relabel(slots, max(tracks.update - self._lag, 0))
        return revision, tracks.end(slots[tracks.born[slots] > tracks.update])

    def _relabel(self, slots: Indices, first: int) -> Revision:
        """Write down whose detections there are from an update on; return those of which something else was said."""
        tracks = self._tracks
        changed = relabel(tracks.states, slots, tracks.born, tracks.particle, first, tracks.update - 1, tracks.labels)
        self._revised += len(changed)
        place, detection, slot = changed[:, 0] % tracks.depth, changed[:, 1], changed[:, 2]
        return Revision(
            tracks.frames["index"][place],
            tracks.places[place, detection],
            tracks.particle[slot],
            tracks.states["existence"][slot, place].astype(np.float32),
        )

    def _divide(self, revised: Revision) -> tuple[Revision, Indices]:
        """Find what divided ``lag`` frames ago; return all that changed, and the ids of the tracks that divided."""
        tracks, then = self._tracks, self._tracks.update - self._lag
        if then < 1:
            return revised, np.empty(0, np.int64)
        rates = self._divisions.expected(self._density)
        found = divided(
            *(tracks.states, tracks.frames, tracks.measured, tracks.live, tracks.born),
            *(then, tracks.update, self._shape, *rates),
        )
        over = [tracks.divide(old, other, young, then) for old, other, young in found.tolist()]
        last = tracks.states["last"][found[:, 1:], then % tracks.depth, :2]
        self._divisions.learn(last[:, 1] - last[:, 0], len(tracks.live), self._density)
        itself = found[found[:, 0] == found[:, 1], 0]
        return _joined(revised, self._relabel(itself, then)), np.array(over, np.int64)

    def _parents(self, n_detections: int) -> Indices:
        """Return the parent of each detection's track, -1 for none."""
        tracks, parents = self._tracks, np.full(n_detections, NONE)
        children = tracks.live[tracks.parent[tracks.live] != NONE]
        detection = tracks.states["detection"][children, tracks.now]
        is_seen = detection != NONE
        parents[tracks.places[tracks.now][detection[is_seen]]] = tracks.parent[children[is_seen]]
        return parents

    def _z_um(self, n_detections: int) -> NDArray[np.float32]:
        """Return where the track of each detection is along the optical axis, NaN for none."""
        tracks, per_px = self._tracks, self._depth.pixel_size_um if self._depth is not None else np.nan
        return said_of(n_detections, tracks.states, tracks.live, tracks.now, tracks.places[tracks.now], per_px)

    def _due(self) -> Indices:
        """Return the pairs of tracks to look at now, (P, 3): slots and the update at which their tails begin.

        Each close decision comes up twice, in the next frame and when it becomes final.
        """
        tracks, early, late = self._tracks, self._tracks.update - 1, self._tracks.update - self._lag
        once = early == late
        args = (*_no_pairs(), early) if once else (*self._close[early % tracks.depth], early)
        pairs, costs = due(tracks.particle, *args, *self._close[late % tracks.depth], late)
        if len(pairs) <= MOST_REVISIONS:
            return pairs
        self._not_revised += len(pairs) - MOST_REVISIONS
        closest: Indices = pairs[np.argsort(costs, kind="stable")[:MOST_REVISIONS]]
        return closest

    def _outcome(self, n_detections: int) -> tuple[Indices, NDArray[np.float32], TrackMotion]:
        """Return the track of each of all detections, its existence, and how it moves."""
        tracks, now, interval_s = self._tracks, self._tracks.now, self._intervals.interval_s
        frame_index, places, labels = int(tracks.frames[now]["index"]), tracks.places[now], tracks.labels[now]
        said = describe(tracks.states, tracks.live, tracks.particle, now, frame_index, places, labels, n_detections)
        motion = TrackMotion(
            said.age_frames,
            said.displacement_px,
            said.velocity_px / np.float32(interval_s),
            said.modes,
            said.diffusion_px2 / np.float32(interval_s),
        )
        return said.particle, said.existence, motion

    def _final_index(self) -> int:
        """Return the index of the last frame whose decisions are final; -1 before there is one."""
        final = self._tracks.update - self._lag
        return int(self._tracks.frames["index"][final % self._tracks.depth]) if final >= 0 else -1


TRACK_ARRAYS = ("states", "frames", "measured", "places", "labels", "particle", "born", "confirmed", "parent")


def _joined(one: Revision, other: Revision) -> Revision:
    return Revision(*(np.append(getattr(one, name), getattr(other, name)) for name in Revision.__slots__))


def _no_pairs() -> tuple[Indices, Floats]:
    return np.empty((0, 4), np.int64), np.empty(0)
