"""Sets sources of light to rest, whatever hangs: in the end, and when the dose of the run is spent."""

import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from streamtrack.actuators.light import CLOSED, Light, Source, name_of, set_source
from streamtrack.actuators.moves import started
from streamtrack.clock import Clock
from streamtrack.errors import described
from streamtrack.protocols import Microscope
from streamtrack.waiting import joined_within

SAFE = {"shutter": "closed", "slm": "off", "property": "off", "preset": "off"}
"""What is said of a source of light, by its kind, that was set to rest."""
DARK_S = 10.0
"""How long to wait for that; a microscope's own time-outs should be shorter."""


class Darkness:
    """Knows which sources commands have really switched on, and sets them to rest.

    Parameters
    ----------
    microscope
        The hardware.
    light, lock
        The guard's.

    Attributes
    ----------
    real
        Sources that commands to the hardware have switched on; others are on in a rehearsal only. Behind the lock.
    outcomes
        What became of each source in the end: `SAFE`, or the error.
    """

    def __init__(self, microscope: Microscope, light: Light, lock: threading.Lock, clock: Clock) -> None:
        self._microscope, self._light, self._lock, self._clock = microscope, light, lock, clock
        self.real: set[Source] = set()
        self.outcomes: dict[Source, str] = {}
        self._at_limit: dict[Source, str] = {}
        self._late: dict[Source, str] = {}

    def forget_dark(self) -> None:
        """Keep only what is on; the lock is held."""
        self.real.intersection_update(self._light.lit())

    def darken_all(self, sources: Iterable[Source], always: Source | None = None) -> None:
        """Set sources to rest, all at once: one that hangs keeps no other waiting; ``always`` even if it seems dark."""
        threads = []
        for source in sources:
            with self._lock:
                self.outcomes.setdefault(source, "no answer yet")
            call = (source, self.outcomes, source == always)
            thread = threading.Thread(target=self.darken, args=call, daemon=True)
            if started(thread):
                threads.append(thread)
            else:
                self.darken(*call)
        end_s = time.monotonic() + DARK_S
        for thread in threads:
            joined_within(thread, end_s - time.monotonic())

    def darken(self, source: Source, outcomes: dict[Source, str], always: bool = False) -> None:
        """Set a source to rest, and note what became of it."""
        with self._lock:
            self._light.note(source, CLOSED)  # close_shutter, which no command has touched
            switch = self._light.begin(source, self._light.rest_of(source), self._clock())
            really = always or source in self.real
        outcome = SAFE[source[0]]
        try:
            if really:
                set_source(self._microscope, source, switch.value)
        except Exception as error:  # the next source still has to be tried
            outcome = described(error)
        with self._lock:
            outcomes[source] = outcome
            if outcome == SAFE[source[0]]:
                self._light.done(switch, self._clock())
                self.forget_dark()

    def enforce(self) -> bool:
        """Set to rest all that is on if the light of the run is spent, and what is on for longer than its command said.

        Returns
        -------
        bool
            Whether that is dark.
        """
        with self._lock:
            now_ns = self._clock()
            lit = self._light.lit() if self._light.spent_in_ms(now_ns) <= 0 else []
            late = [] if lit else self._light.overdue(now_ns)
        for source in lit:
            self.darken(source, self._at_limit)
        for source in late:
            self.darken(source, self._late)
        with self._lock:
            return not (lit and self._light.lit()) and not self._light.overdue(self._clock())

    def said(self) -> dict[str, Any]:
        """Return the light used and left, ms, what is on, and what went off at the limit, or later than it should."""
        with self._lock:
            now_ns = self._clock()
            left_ms = self._light.left_ms(now_ns)
            return {
                "used_ms": round(self._light.used_ms(now_ns), 3),
                "left_ms": None if math.isinf(left_ms) else round(left_ms, 3),
                "on": [name_of(source) for source in self._light.lit()],
                "off_at_limit": by_name(self._at_limit),
                "off_late": by_name(self._late),
            }


def by_name(outcomes: Mapping[Source, str], *kinds: str) -> dict[str, str]:
    """Return the outcomes of sources of these kinds, or of all."""
    return {name_of(source): outcome for source, outcome in outcomes.items() if not kinds or source[0] in kinds}
