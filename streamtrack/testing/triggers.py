"""What every trigger has to do, as tests.

In the tests of a plug-in::

    class TestMyTrigger(TriggerTests):
        def make_trigger(self):
            return MyTrigger(above=3)
"""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, replace
from functools import cache
from time import perf_counter_ns
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from streamtrack.protocols import Trigger
from streamtrack.triggers.view import TrackViews
from streamtrack.types import Column, Detections, Event, Frame, LiveTracks, SourceInfo, TrackMotion, TrackUpdate

SHAPE = (96, 128)
COLUMNS = (Column("intensity", "counts"), Column("kind", classes=("vesicle", "comet")), Column("parent", "index"))
FRAME_COLUMNS = (Column("focus"),)
SOURCE = SourceInfo(
    "example", SHAPE, "uint8", pixel_size_um=0.1, frame_interval_s=0.1, columns=COLUMNS, frame_columns=FRAME_COLUMNS
)
_PIXELS = np.zeros(SHAPE, np.uint8)


def frame_at(index: int, time_s: float | None = None) -> Frame:
    """Return a dark frame, 0.1 s after the one before it unless its time is given."""
    return Frame(index, _PIXELS, grabbed_ns=0, time_s=index / 10 if time_s is None else time_s)


def tracks_at(
    places: Mapping[int, tuple[float, float]],
    *,
    appeared: ArrayLike = (),
    ended: ArrayLike = (),
    motion: TrackMotion | None = None,
    values: Mapping[str, ArrayLike] | None = None,
    frame_values: Mapping[str, float] | None = None,
) -> LiveTracks:
    """Return confirmed tracks by id, each with its place y, x in px; columns without values are NaN."""
    yx = np.array(list(places.values()), np.float32).reshape(-1, 2)
    return LiveTracks(
        np.array(list(places), np.int64),
        yx[:, 0].copy(),
        yx[:, 1].copy(),
        np.ones(len(yx), np.float32),
        np.array(appeared, np.int64),
        np.array(ended, np.int64),
        motion,
        _values(len(yx), values or {}),
        {"focus": math.nan, **(frame_values or {})},
    )


def _values(n: int, given: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
    unknown = np.full(n, np.nan, np.float32)
    names = ("mass", "score", "sigma", *(column.name for column in COLUMNS))
    return {name: np.array(given.get(name, unknown), np.float32) for name in names}


def motion_of(
    n: int,
    *,
    speed_px_s: ArrayLike = 0.0,
    displacement_px: ArrayLike = 0.0,
    modes: ArrayLike = (1.0, 0.0, 0.0),
    age_frames: ArrayLike = 100,
) -> TrackMotion:
    """Return the motion of ``n`` tracks; every value is one for all, or one for each."""
    velocity = np.zeros((n, 2), np.float32)
    velocity[:, 1] = speed_px_s
    return TrackMotion(
        np.broadcast_to(np.array(age_frames, np.int64), n).copy(),
        np.broadcast_to(np.array(displacement_px, np.float32), n).copy(),
        velocity,
        np.broadcast_to(np.array(modes, np.float32), (n, 3)).copy(),
        np.ones(n, np.float32),
    )


class TriggerTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.Trigger`."""

    fires = True
    """Whether the trigger, as `make_trigger` makes it, sees something in `example_run`."""

    def make_trigger(self) -> Trigger:
        """Return a new trigger, not prepared yet, for images of `SHAPE`."""
        raise NotImplementedError("override make_trigger: say how your trigger is made")

    @pytest.fixture
    def trigger(self) -> Trigger:
        """Give a prepared trigger to a test."""
        return self._prepared()

    def _prepared(self) -> Trigger:
        trigger = self.make_trigger()
        trigger.prepare(SOURCE)
        return trigger

    def test_settings_are_keywords_with_types(self, trigger: Trigger) -> None:
        """They become the keys of the ``[[triggers]]`` table; keys of the rule are taken."""
        for setting in inspect.signature(type(trigger)).parameters.values():
            assert setting.kind is setting.KEYWORD_ONLY, f"{setting.name} is not keyword-only"
            assert setting.annotation is not setting.empty, f"{setting.name} has no annotation"
            taken = {"kind", "do", "action", "name", "confirmed", "cool_down_s", "max_per_minute", "valid_ms"}
            assert setting.name not in taken, f"{setting.name} belongs to the rule"

    def test_it_sees_something(self, trigger: Trigger) -> None:
        """In a scene with all that tracks do: or the other tests prove nothing."""
        assert any(answers(trigger, example_run())) == self.fires

    def test_events_are_as_documented(self, trigger: Trigger) -> None:
        """About a track of this frame or none; places in the image or NaN; values are finite numbers with names."""
        for frame, tracks in example_run():
            events = trigger.check(frame, tracks)
            assert isinstance(events, Sequence)
            for event in events:
                _check_event(event, tracks)

    def test_the_same_tracks_give_the_same_events(self) -> None:
        """Two triggers, asked in turn, do not know of each other."""
        one, other = self._prepared(), self._prepared()
        for frame, tracks in example_run():
            assert _plain(one.check(frame, tracks)) == _plain(other.check(frame, tracks))

    def test_prepare_forgets(self, trigger: Trigger) -> None:
        """A prepared trigger is as new, whatever it saw before."""
        before = answers(trigger, example_run())
        trigger.prepare(SOURCE)
        assert answers(trigger, example_run()) == before

    def test_it_writes_into_nothing(self, trigger: Trigger) -> None:
        """The tracks belong to others, too."""
        for frame, tracks in example_run():
            for name in ("particle", "y", "x", "existence", "appeared", "ended"):
                getattr(tracks, name).setflags(write=False)
            trigger.check(frame, tracks)

    def test_nothing_to_see(self, trigger: Trigger) -> None:
        """Frames without tracks, also at the start, and lost ones between."""
        for index in (0, 1, 50, 51, 10_000):
            assert isinstance(trigger.check(frame_at(index), tracks_at({}, motion=motion_of(0))), Sequence)

    def test_it_forgets_tracks_that_ended(self, trigger: Trigger) -> None:
        """What it remembers does not grow with the length of the run."""
        run = example_run(3000)
        answers(trigger, run[:1000])
        early = _n_remembered(trigger)
        answers(trigger, run[1000:])
        assert _n_remembered(trigger) < 2 * early + 100

    def test_it_is_quick(self, trigger: Trigger) -> None:
        """The loop waits for it: milliseconds for a crowd on a busy machine, usually much less."""
        took_ns = []
        for frame, tracks in example_run(40, n=500):
            begun = perf_counter_ns()
            trigger.check(frame, tracks)
            took_ns.append(perf_counter_ns() - begun)
        assert np.median(took_ns) < 1e7


def answers(trigger: Trigger, run: Sequence[tuple[Frame, LiveTracks]]) -> list[Any]:
    """Return a trigger's events, frame by frame, in a form that can be compared."""
    return [_plain(trigger.check(frame, tracks)) for frame, tracks in run]


@cache
def example_run(frames: int = 200, n: int = 20) -> Sequence[tuple[Frame, LiveTracks]]:
    """Return frames with some ``n`` confirmed tracks that begin, move in all ways, are missed at times, and end."""
    views = TrackViews(confirmed=True)
    return [(frame_at(index), views.of(*seen, seen[0].frame_values)) for index, seen in enumerate(_scene(frames, n))]


def _scene(frames: int, n: int) -> Iterator[tuple[Detections, TrackUpdate]]:
    rng = np.random.default_rng(5)
    ids, next_id = np.arange(n), n
    start = place = rng.uniform(0, SHAPE, (n, 2))
    born, ended, directed = np.zeros(n, np.int64), np.empty(0, np.int64), rng.random(n) < 0.5
    for index in range(frames):
        started = ids[born == index]
        seen = np.flatnonzero((rng.random(n) < 0.95) | (born == index))
        motion = motion_of(
            n,
            speed_px_s=np.where(directed, 20.0, 1.0),
            displacement_px=np.hypot(*(place - start).T),
            modes=np.where(directed[:, None], (0.03, 0.95, 0.02), (0.95, 0.03, 0.02)),
            age_frames=index - born,
        )
        motion = replace(motion, **{each.name: getattr(motion, each.name)[seen] for each in fields(motion)})
        ones = np.ones(len(seen), np.float32)
        y, x = place[seen].T.astype(np.float32)
        mass, intensity = rng.uniform(0, 1000, (2, len(seen))).astype(np.float32)
        intensity[rng.random(len(seen)) < 0.1] = np.nan
        kind = rng.integers(0, 2, len(seen)).astype(np.float32)
        parent = np.where((born[seen] > 0) & (ids[seen] % 3 == 0), ids[seen] - n, -1).astype(np.float32)
        extra = {"intensity": intensity, "kind": kind, "parent": parent}
        detections = Detections(y, x, ones, mass, ones, extra, {"focus": rng.uniform(0, 1)})
        yield detections, TrackUpdate(ids[seen], ones, started, started, ended, n, index, motion=motion)
        directed ^= rng.random(n) < 0.05
        step = rng.normal(0, 1, (n, 2)) + np.where(directed[:, None], (1.0, 1.5), 0.0)
        place = (place + step) % np.array(SHAPE)
        dead = rng.random(n) < 0.03
        ended, ids = ids[dead], np.where(dead, next_id + np.arange(n), ids)
        next_id += n
        place = np.where(dead[:, None], rng.uniform(0, SHAPE, (n, 2)), place)
        start, born = np.where(dead[:, None], place, start), np.where(dead, index + 1, born)


def _check_event(event: Event, tracks: LiveTracks) -> None:
    assert isinstance(event, Event)
    assert event.particle == -1 or event.particle in tracks.particle or event.particle in tracks.ended
    assert type(event.particle) is int
    for position, size in ((event.y, SHAPE[0]), (event.x, SHAPE[1])):
        assert type(position) is float
        assert np.isnan(position) or -1 <= position <= size
    for name, value in event.values.items():
        assert isinstance(name, str)
        assert np.isfinite(value), name


def _plain(events: Sequence[Event]) -> list[Any]:
    """Return events so that NaN is equal to NaN."""
    return [(event.particle, repr(event.y), repr(event.x), dict(event.values)) for event in events]


def _n_remembered(thing: object, seen: set[int] | None = None) -> int:
    """Return how many values are reached from an object's attributes."""
    seen = set() if seen is None else seen
    if id(thing) in seen or callable(thing):
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return int(thing.size)
    if isinstance(thing, Mapping):
        inside: list[object] = [*thing.keys(), *thing.values()]
    elif isinstance(thing, Sequence | AbstractSet) and not isinstance(thing, str | bytes):
        inside = list(thing)
    else:
        inside = list(getattr(thing, "__dict__", {}).values())
    return 1 + sum(_n_remembered(each, seen) for each in inside)
