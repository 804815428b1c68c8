"""What other programs tell the run: each event that one of them posts is seen in the next frame."""

import math
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from streamtrack.clock import monotonic_ns
from streamtrack.errors import ControlRefused
from streamtrack.settings import checks_settings
from streamtrack.types import Event, Frame, LiveTracks, SourceInfo

MOST_WAITING = 64
"""Events that may wait for the next frame; what comes on top is dropped and counted."""
VALID_S = 30.0
"""An event that no frame came for by then is dropped: nobody expects any more what follows from it."""
MOST_VALUES = 16
LONGEST_NAME = 64
"""Characters of a value's name."""


class _Post(NamedTuple):
    particle: int | None
    values: Mapping[str, float]
    until_ns: int


@checks_settings
class Posted:
    """Sees each event of one name that another program posts to the run's view, in the next frame.

    ``POST /api/event`` with ``{"name": "drug", "value": 3.5, "particle": 12}``: ``value`` is a number, a table of
    numbers, or left out; ``particle``, a track, may be left out, too. An event about a track that is not shown to the
    rule in that frame is dropped. At most 64 events wait, for 30 s at most where no frame comes. Of several streams,
    the rule of each takes the event.

    Parameters
    ----------
    event
        Name of the events.

    Raises
    ------
    ConfigError
        ``event`` is empty. Where nobody could post anything, because the run has no view, the run is refused.
    """

    def __init__(self, *, event: Annotated[str, Field(min_length=1)]) -> None:
        self.event = event
        self._clock = monotonic_ns
        self._lock = threading.Lock()
        self._waiting: deque[_Post] = deque()
        self._counts: Counter[str] = Counter()

    def prepare(self, source: SourceInfo) -> None:
        """Forget what was posted."""
        with self._lock:
            self._waiting.clear()
            self._counts.clear()

    def receive(self, particle: int | None, values: Mapping[str, float]) -> bool:
        """Take an event, from any thread; return False where too many wait. Waits for nothing."""
        with self._lock:
            self._counts["received"] += 1
            if len(self._waiting) >= MOST_WAITING:
                self._counts["dropped_full"] += 1
                return False
            self._waiting.append(_Post(particle, values, self._clock() + round(1e9 * VALID_S)))
            return True

    def counts(self) -> Mapping[str, int]:
        """Return how many came, wait, and were dropped, by cause."""
        with self._lock:
            names = ("received", "dropped_full", "dropped_late", "dropped_no_track")
            return {**{name: self._counts[name] for name in names}, "waiting": len(self._waiting)}

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return what was posted since the frame before."""
        if not self._waiting:
            return ()
        with self._lock:
            posts = [*self._waiting]
            self._waiting.clear()
            seen = [self._event(post, tracks) for post in posts]
        return [event for event in seen if event is not None]

    def _event(self, post: _Post, tracks: LiveTracks) -> Event | None:
        if self._clock() > post.until_ns:
            self._counts["dropped_late"] += 1
            return None
        if post.particle is None:
            return Event(values=post.values)
        rows = np.flatnonzero(tracks.particle == post.particle)
        if not len(rows):
            self._counts["dropped_no_track"] += 1
            return None
        return Event(post.particle, float(tracks.y[rows[0]]), float(tracks.x[rows[0]]), post.values)


def values_of(value: Any) -> dict[str, float]:
    """Return the values of an event: those of a table, or a number under the name ``value``.

    Raises
    ------
    ControlRefused
        It is neither, or too much.
    """
    if value is None:
        return {}
    named = value if isinstance(value, Mapping) else {"value": value}
    if len(named) > MOST_VALUES or any(not isinstance(name, str) or len(name) > LONGEST_NAME for name in named):
        raise ControlRefused(f"value: at most {MOST_VALUES} numbers, names of at most {LONGEST_NAME} characters")
    for name, number in named.items():
        if not isinstance(number, int | float) or abs(number) > 1e300 or math.isnan(number):
            raise ControlRefused(f"{name} is no finite number: value is a number, or a table of numbers")
    return {name: float(number) for name, number in named.items()}
