"""Stands between commands and the microscope: what the run's limits forbid never reaches the hardware."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.actuators.alarm import Alarm
from streamtrack.actuators.checks import Checks
from streamtrack.actuators.light import CLOSED, OPEN, Light, Source, at_rest, makes_light, name_of, set_source
from streamtrack.actuators.moves import Moves, started
from streamtrack.actuators.names import Names
from streamtrack.actuators.trial import Trial
from streamtrack.clock import Clock, monotonic_ns
from streamtrack.config import Mode, SafetyConfig
from streamtrack.errors import CommandRefused, described
from streamtrack.protocols import Microscope
from streamtrack.stage_moves import SETTLE_MS, StageMoves
from streamtrack.types import NameKind
from streamtrack.waiting import joined_within

SAFE = {"shutter": "closed", "property": "off", "preset": "off"}
"""What is said of a source of light, by its kind, that was set to rest."""
DARK_S = 10.0
"""How long to wait for that; a microscope's own time-outs should be shorter."""


class Guard:
    """A `streamtrack.protocols.Microscope` that carries out only what the run allows.

    Reads pass through. A write is checked first and refused with `CommandRefused` where it breaks a limit; in a
    rehearsal the check is all that happens, and in observe mode every write is refused. The hardware gets plain copies
    of what was checked. No lock is held while it is called, so that a command that hangs keeps neither others nor the
    emergency stop waiting.

    Light is time (`streamtrack.actuators.light`): when the run's dose is spent, whatever commands have switched on is
    switched off, by a thread that waits for no command.

    Parameters
    ----------
    microscope
        The hardware.
    safety
        What commands may do.
    mode
        ``observe``, ``rehearse`` or ``armed``.
    clock
        Monotonic time, ns.
    """

    def __init__(self, microscope: Microscope, safety: SafetyConfig, mode: Mode, clock: Clock = monotonic_ns) -> None:
        self._microscope = microscope
        self._safety = safety
        self._mode = mode
        self._clock = clock
        self._checks = Checks(safety, microscope.stage_um)
        self._names = Names(microscope)
        self._light = Light(safety.max_dose_ms)
        self._alarm = Alarm(self._light_ends_in_s, self.enforce_dose)
        self._moves = Moves(microscope.halt)
        self.stage_moves = StageMoves(microscope, clock)
        self._lock = threading.Lock()
        self._stopped = False
        self._refused: Counter[str] = Counter()
        self._writes: Counter[str] = Counter()
        self._made_dark: dict[Source, str] = {}
        """What became of each source of light at the end of the run."""
        self._dark_at_limit: dict[Source, str] = {}

    @property
    def info(self) -> Mapping[str, Any]:
        """What the microscope says of itself, for the report."""
        return self._microscope.info

    @property
    def trial(self) -> Trial:
        """What an actuator asks before the run: whether the writes that it is going to make would be allowed."""
        return Trial(self._microscope, self._names, self._safety, self._mode == "observe")

    def names(self, kind: NameKind, of: str = "") -> Sequence[str]:
        """Return the names that the microscope knows, of a kind."""
        return self._microscope.names(kind, of)

    def property_value(self, device: str, name: str) -> str:
        """Return the true value of a property."""
        return self._microscope.property_value(device, name)

    def preset(self, group: str) -> str:
        """Return the true preset of a group."""
        return self._microscope.preset(group)

    def exposure_ms(self) -> float:
        """Return the camera's exposure."""
        return self._microscope.exposure_ms()

    def stage_um(self) -> tuple[float, float]:
        """Return the stage's true position: x, y; a rehearsed move has not changed it."""
        return self._microscope.stage_um()

    def focus_um(self) -> float:
        """Return the true position of the focus drive."""
        return self._microscope.focus_um()

    def stage_um_per_px(self) -> NDArray[np.float64]:
        """Return the matrix (2, 2) from px in the image, (x, y), to um of the stage."""
        return self._microscope.stage_um_per_px()

    def check_names(self) -> None:
        """Compare the names in ``[safety]`` with the microscope's; raises ConfigError."""
        self._names.check(self._safety)

    def set_property(self, device: str, name: str, value: str) -> None:
        """Set a property that ``safety.properties`` lists."""
        with self._command():
            device, name, value = self._checks.property(device, name, value)
            call = partial(self._microscope.set_property, device, name, value)
            if makes_light(self._safety, device, name):
                self._switch("property", ("property", device, name), value, call)
            else:
                self._write("property", call)

    def set_preset(self, group: str, preset: str, *, for_ms: float | None = None) -> None:
        """Apply a preset of a group that ``safety.presets`` lists; it is light if ``safety.light`` names the group.

        ``for_ms`` says that the caller goes back after so long: a look that is longer than the light that is left is
        refused beforehand.
        """
        with self._command():
            group, preset = self._checks.preset(group, preset)
            call = partial(self._microscope.set_preset, group, preset)
            if group in self._safety.light:
                self._switch("preset", ("preset", group), preset, call, for_ms)
            else:
                self._write("preset", call)

    def set_shutter(self, device: str, opened: bool, *, for_ms: float | None = None) -> None:
        """Open or close a shutter that ``safety.shutters`` lists.

        ``for_ms`` says that the caller closes it after so long: a pulse that is longer than the light that is left is
        refused beforehand.
        """
        with self._command():
            device, opened = self._checks.shutter(device, opened)
            call = partial(self._microscope.set_shutter, device, opened)
            self._switch("shutter", ("shutter", device), OPEN if opened else CLOSED, call, for_ms)

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Set an exposure within ``safety.exposure_ms``."""
        with self._command():
            exposure_ms = self._checks.within("exposure_ms", exposure_ms)
            self._write("exposure", partial(self._microscope.set_exposure_ms, exposure_ms))

    def move_stage_um(
        self, x: float, y: float, *, from_um: tuple[float, float] | None = None, settle_ms: float = SETTLE_MS
    ) -> None:
        """Move the stage within ``safety.x_um`` and ``safety.y_um``; an axis without limits has to stay where it is.

        A caller that has just read where it is says so by ``from_um``, and how long it takes until frames no longer
        show the move, besides one exposure, by ``settle_ms``: tracks go on through it (``stage_moves``).
        """
        with self._command():
            self._check_running()
            x, y = self._checks.position(x, y)
            move = partial(self._microscope.move_stage_um, x, y)
            self._move("stage", partial(self.stage_moves.during, move, (x, y), from_um, settle_ms))

    def move_focus_um(self, z: float) -> None:
        """Move the focus drive within ``safety.z_um``."""
        with self._command():
            z = self._checks.within("z_um", z)
            self._move("focus", partial(self._microscope.move_focus_um, z))

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Add an event to the running acquisition if all that it sets is allowed.

        It takes an image: its exposure, or the camera's where it names none, has to be within ``safety.exposure_ms``,
        and counts as light. It may not switch on a property that makes light: nobody sees when that goes off again.
        """
        with self._command():
            self._check_running()
            event = self._checks.event(event)
            exposure_ms = event["exposure"] if "exposure" in event else self.exposure_ms()
            exposure_ms = self._checks.within("exposure_ms", exposure_ms)
            self._write(
                "event",
                partial(self._microscope.add_event, event),
                lambda: self._light.spend(exposure_ms, "an event", self._clock()),
            )

    def halt(self) -> None:
        """Stop stage and focus drive; allowed in every mode, as it moves nothing."""
        self._microscope.halt()

    def enforce_dose(self) -> bool:
        """Switch off all that commands have switched on if the light of the run is spent; return whether it is dark.

        A thread of the guard's own calls it in time.
        """
        with self._lock:
            lit = self._light.lit() if self._light.spent_in_ms(self._clock()) <= 0 else []
        for source in lit:
            self._darken(source, self._dark_at_limit)
        with self._lock:
            return not (lit and self._light.lit())

    def make_safe(self) -> dict[str, str]:
        """Refuse every write from now on, turn off the light, and stop what moves.

        Closes ``safety.close_shutter`` and all shutters that commands opened, sets to rest what else they switched on,
        and halts stage and focus drive if they are on their way. May be called from any thread, and again: what did not
        answer is then tried once more. Waits for no command; one that is under way makes safe again when it returns.

        Returns
        -------
        dict
            What became of each source of light: `SAFE`, or the error. Empty unless the run is armed.
        """
        with self._lock:
            self._stopped = True
            lit = sorted(self._light.lit(), key=lambda source: source[0] != "shutter")
        if self._mode != "armed":
            return {}
        self._moves.halt()
        if self._safety.close_shutter:
            lit.insert(0, ("shutter", self._safety.close_shutter))
        self._darken_all(list(dict.fromkeys(lit)))
        self._alarm.look_again()
        self._moves.settle()
        with self._lock:
            return by_name(self._made_dark)

    def close(self) -> None:
        """Make safe what commands may have changed. The hardware itself belongs to the run, which closes it."""
        with self._lock:
            self._stopped = True  # of a run that was refused before its first command, nothing is touched
            changed = self._writes.total() > 0
        if changed:
            self.make_safe()

    def outcome(self) -> dict[str, Any]:
        """Return what passed and what did not, for the report."""
        light = self.light()
        with self._lock:
            return {
                "mode": self._mode,
                "writes": dict(self._writes),
                "refused": dict(self._refused),
                "light": light,
                "stopped": self._stopped,
                "shutters": by_name(self._made_dark, "shutter"),
                "lamps": by_name(self._made_dark, "property", "preset"),
                "moves": self._moves.outcome,
            }

    def light(self) -> dict[str, Any]:
        """Return the light used and left, ms, what is on, and what the limit switched off."""
        with self._lock:
            now_ns = self._clock()
            limited = self._safety.max_dose_ms is not None
            return {
                "used_ms": round(self._light.used_ms(now_ns), 3),
                "left_ms": round(self._light.left_ms(now_ns), 3) if limited else None,
                "on": [name_of(source) for source in self._light.lit()],
                "off_at_limit": by_name(self._dark_at_limit),
            }

    @contextmanager
    def _command(self) -> Iterator[None]:
        try:
            if self._mode == "observe":
                raise CommandRefused("the run only observes; set mode = 'armed' to act on the microscope", "observe")
            yield
        except CommandRefused as refusal:
            with self._lock:
                self._refused[refusal.reason] += 1
            raise

    def _check_running(self) -> None:
        if self._stopped:
            raise CommandRefused("the run was stopped: no command is carried out any more", "stopped")

    def _write(self, what: str, call: Callable[[], None], begin: Callable[[], None] = lambda: None) -> None:
        """Call the hardware, unless the run was stopped since the checks began.

        ``begin`` is called under the lock that a stop takes: the stop sees a move, or the move sees the stop.
        """
        with self._lock:
            self._check_running()
            begin()
            self._writes[what] += 1
        self._call(call)

    def _move(self, what: str, call: Callable[[], None]) -> None:
        """Call what moves. All that may fail is inside: a move that is counted is over when the call is."""
        self._write(what, partial(self._moves.during, call), self._moves.begin)

    def _switch(
        self, what: str, source: Source, value: str, call: Callable[[], None], for_ms: float | None = None
    ) -> None:
        """Set a source of light. What makes it darker is never refused, neither at the limit nor after a stop."""
        self._note_rest(source)
        with self._lock:
            if self._light.adds(source, value):
                self._check_running()
            switch = self._light.begin(source, value, self._clock(), for_ms)
            self._writes[what] += 1
        self._alarm.look_again()
        self._call(call)
        with self._lock:
            self._light.done(switch, self._clock())
        self._alarm.look_again()  # it may have been switched off while the call was under way

    def _call(self, call: Callable[[], None]) -> None:
        try:
            if self._mode == "armed":
                call()
        finally:
            if self._stopped:  # meanwhile: whatever this call did, the light goes off after it
                self.make_safe()

    def _note_rest(self, source: Source) -> None:
        with self._lock:
            if self._light.knows(source):
                return
        rest = at_rest(self._microscope, source, self._safety)
        with self._lock:
            self._light.note(source, rest)

    def _darken_all(self, sources: Sequence[Source]) -> None:
        """Set sources to rest, all at once: one that hangs keeps no other waiting."""
        threads = []
        for source in sources:
            with self._lock:
                self._made_dark.setdefault(source, "no answer yet")
            thread = threading.Thread(target=self._darken, args=(source, self._made_dark), daemon=True)
            if started(thread):
                threads.append(thread)
            else:
                self._darken(source, self._made_dark)
        end_s = time.monotonic() + DARK_S
        for thread in threads:
            joined_within(thread, end_s - time.monotonic())

    def _darken(self, source: Source, outcomes: dict[Source, str]) -> None:
        """Set a source to rest, and note what became of it."""
        with self._lock:
            self._light.note(source, CLOSED)  # close_shutter, which no command has touched
            switch = self._light.begin(source, self._light.rest_of(source), self._clock())
        outcome = SAFE[source[0]]
        try:
            if self._mode == "armed":
                set_source(self._microscope, source, switch.value)
        except Exception as error:  # the next source still has to be tried
            outcome = described(error)
        with self._lock:
            outcomes[source] = outcome
            if outcome == SAFE[source[0]]:
                self._light.done(switch, self._clock())

    def _light_ends_in_s(self) -> float:
        with self._lock:
            return self._light.spent_in_ms(self._clock()) / 1e3


def by_name(outcomes: Mapping[Source, str], *kinds: str) -> dict[str, str]:
    """Return the outcomes of sources of these kinds, or of all."""
    return {name_of(source): outcome for source, outcome in outcomes.items() if not kinds or source[0] in kinds}
