"""A rule makes commands of what a trigger sees, within bounds."""

import math
import reprlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from streamtrack.config import RuleConfig
from streamtrack.errors import ConfigError, described
from streamtrack.plain import plain_number
from streamtrack.protocols import Receiving, Trigger
from streamtrack.triggers.area import Area, HasArea
from streamtrack.triggers.conditions import Condition, conditions
from streamtrack.triggers.frame_time import FrameTime, has_passed
from streamtrack.triggers.nearest import Nearest
from streamtrack.triggers.view import only
from streamtrack.types import Command, Event, Frame, LiveTracks, SourceInfo, Values

MOST_EVENTS = 100
"""Events of one frame that are looked at; more are counted as held back."""

MOST_FAILURES = 10
"""A trigger that failed in so many frames in a row is not asked again."""


class Rule:
    """A trigger, and what follows when it sees something.

    Cool-down and rate are counted on the frames' clock, so that a replay decides as the live run did. A trigger that
    fails does not stop the loop: the failure is counted, and `outcome` has it.

    Parameters
    ----------
    trigger
        Asked once for each frame.
    config
        What follows, and how often at most.

    Attributes
    ----------
    name
        In logs and in the report.
    confirmed
        Whether the trigger sees confirmed tracks only.
    where
        What else holds for the tracks that it sees; known after `look_up` or `prepare`.
    paused
        Whether it gives no commands. May be set between two frames, and so may ``particle``.
    particle
        The track that was chosen, the only one that a rule with ``chosen`` shows to its trigger; None for none.
    """

    def __init__(self, trigger: Trigger, config: RuleConfig) -> None:
        self.name = config.name or config.kind
        self.confirmed = config.confirmed
        self.where: tuple[Condition, ...] = ()
        self.paused = False
        self.particle: int | None = None
        self._trigger = trigger
        self._config = config
        self._valid_ns = round(config.valid_ms * 1e6)
        self._start_over()

    def _start_over(self) -> None:
        self._time = FrameTime()
        self._fired_s: deque[float] = deque()  # of the last minute
        self._counts: Counter[str] = Counter()
        self._failures_in_a_row = 0
        self._last_error = ""
        self._last_fired: int | None = None

    def prepare(self, source: SourceInfo) -> None:
        """Make ready for a run: check all settings against source and columns, forget all before; ConfigError."""
        self.look_up(source)
        with self._named():
            self._trigger.prepare(source)
        self._start_over()

    def look_up(self, source: SourceInfo) -> None:
        """Find the columns that ``where`` asks for among those of the run; raises ConfigError."""
        with self._named():
            self.where = conditions(self._config.where, source)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            raise ConfigError(f"trigger {self.name!r}: {error}") from error

    def commands(self, frame: Frame, tracks: LiveTracks, now_ns: int) -> list[Command]:
        """Return what is to be done about a frame, usually nothing.

        Parameters
        ----------
        now_ns
            The time of the decision; the commands are valid for ``valid_ms`` from then on.

        Raises
        ------
        ConfigError
            In the first frame, where the trigger turns out not to fit the run. Later failures are counted.
        """
        now_s = self._time.now_s(frame.time_s)
        events = self._ask(frame, only(tracks, self.particle) if self._config.chosen else tracks)
        self._counts["frames"] += 1
        if not events:
            return []
        self._counts["held_back_per_frame"] += max(0, len(events) - MOST_EVENTS)
        if self.paused:
            self._counts["held_back_paused"] += len(events[:MOST_EVENTS])
            return []
        allowed = [event for event in events[:MOST_EVENTS] if self._allows(now_s)]
        if allowed:
            self._last_fired = frame.index
        return [self._command(frame, event, now_ns) for event in allowed]

    def drawn(self, shape: tuple[int, int]) -> dict[str, Any]:
        """Return where in images of (H, W) px its trigger looks, y before x; nothing where that is everywhere."""
        trigger = self._trigger
        if isinstance(trigger, Nearest):
            return {"rule": self.name, "target_px": trigger.target_px}
        if isinstance(trigger, HasArea) and trigger.area is not None:
            return {"rule": self.name, **trigger.area.drawn(shape)}
        return {}

    @property
    def has_area(self) -> bool:
        """Whether its trigger looks at a part of the image."""
        return isinstance(self._trigger, HasArea) and self._trigger.area is not None

    def look_at(self, area: Area) -> None:
        """Have its trigger look at another part of the image; called between two frames."""
        if isinstance(self._trigger, HasArea):
            self._trigger.look_at(area)

    @property
    def event(self) -> str:
        """Name of the events that other programs may post to it; empty where its trigger takes none."""
        return self._trigger.event if isinstance(self._trigger, Receiving) else ""

    def receive(self, particle: int | None, values: Values) -> bool:
        """Take an event that another program posts; return False where there is no room. Called from any thread."""
        return isinstance(self._trigger, Receiving) and self._trigger.receive(particle, values)

    def outcome(self) -> dict[str, Any]:
        """Return what became of the events, for the report; the counts say how often."""
        return {
            "fired": self._counts["fired"],
            "held_back_cool_down": self._counts["held_back_cool_down"],
            "held_back_per_minute": self._counts["held_back_per_minute"],
            "held_back_per_frame": self._counts["held_back_per_frame"],
            "held_back_paused": self._counts["held_back_paused"],
            "last_fired_frame": self._last_fired,
            "paused": self.paused,
            "failures": self._counts["failures"],
            "last_error": self._last_error,
            "switched_off": self._is_off,
            **(self._trigger.counts() if isinstance(self._trigger, Receiving) else {}),
        }

    @property
    def _is_off(self) -> bool:
        return self._failures_in_a_row >= MOST_FAILURES

    def _ask(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        if self._is_off:
            return ()
        try:
            events = _checked(self._trigger.check(frame, tracks))
        except (Exception, SystemExit) as error:  # sys.exit() in a function of the lab's does not end the run
            if isinstance(error, ConfigError) and not self._counts["frames"]:
                raise ConfigError(f"trigger {self.name!r}: {error}") from error
            self._counts["failures"] += 1
            self._failures_in_a_row += 1
            self._last_error = f"frame {frame.index}: {described(error)}"
            return ()
        self._failures_in_a_row = 0
        return events

    def _allows(self, now_s: float) -> bool:
        fired_s, config = self._fired_s, self._config
        while fired_s and has_passed(60.0, fired_s[0], now_s) and has_passed(config.cool_down_s, fired_s[0], now_s):
            fired_s.popleft()
        if fired_s and not has_passed(config.cool_down_s, fired_s[-1], now_s):
            verdict = "held_back_cool_down"
        elif len(fired_s) >= config.max_per_minute:
            verdict = "held_back_per_minute"
        else:
            verdict = "fired"
            fired_s.append(now_s)
        self._counts[verdict] += 1
        return verdict == "fired"

    def _command(self, frame: Frame, event: Event, now_ns: int) -> Command:
        config = self._config
        valid_until_ns = now_ns + self._valid_ns
        until_ns, name, grabbed_ns = valid_until_ns, self.name, frame.grabbed_ns
        return Command(config.do, config.action, frame.index, now_ns, until_ns, name, event, grabbed_ns, frame.stream)


def _checked(events: Sequence[Event]) -> Sequence[Event]:
    """Return what a trigger gave, in plain numbers; raises what would break others further on."""
    return [_plain(event) for event in events[:MOST_EVENTS]] + list(events[MOST_EVENTS:])


def _plain(event: Event) -> Event:
    if not isinstance(event, Event):
        raise TypeError(f"check() must return events, and one is {reprlib.repr(event)}")
    place = {name: _place(name, getattr(event, name)) for name in ("y", "x")}
    values = {str(name): _finite(f"value {name!r}", value) for name, value in event.values.items()}
    return Event(int(_finite("particle", event.particle)), **place, values=values)


def _place(name: str, value: float) -> float:
    """Return a coordinate, which may be NaN: no place."""
    return math.nan if isinstance(value, float | np.floating) and math.isnan(value) else float(_finite(name, value))


def _finite(name: str, value: object) -> float:
    try:
        return plain_number(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} of an event: {error}") from error
