"""Stands between commands and the microscope: what the run's limits forbid never reaches the hardware."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.actuators.alarm import Alarm
from streamtrack.actuators.checks import Checks
from streamtrack.actuators.darkness import Darkness, by_name
from streamtrack.actuators.focus_lock import FocusLock
from streamtrack.actuators.light import CLOSED, OPEN, Light, Source, Switch, at_rest, makes_light, name_of
from streamtrack.actuators.moves import Moves
from streamtrack.actuators.names import NO_AUTOFOCUS, NO_SLM, Names
from streamtrack.actuators.trial import Trial
from streamtrack.clock import Clock, monotonic_ns
from streamtrack.config import Mode, SafetyConfig
from streamtrack.errors import CommandRefused, MicroscopeError
from streamtrack.protocols import HasSlm, Microscope
from streamtrack.stage_moves import SETTLE_MS, StageMoves
from streamtrack.types import NameKind

STOPPED = "the run was stopped: no command is carried out any more"


class Guard:
    """A `streamtrack.protocols.Microscope` that carries out only what the run allows.

    Reads pass through. A write is checked first and refused with `CommandRefused` where it breaks a limit; in a
    rehearsal the check is all that happens, and in observe mode every write is refused. The hardware gets plain copies
    of what was checked. No lock is held while it is called, so that a command that hangs keeps neither others nor the
    emergency stop waiting.

    Light is time (`streamtrack.actuators.light`): when the run's dose is spent, whatever commands have switched on is
    switched off, by a thread that waits for no command; and so is what a command leaves on for longer than it said.

    Parameters
    ----------
    microscope
        The hardware.
    safety
        What commands may do.
    mode
        ``observe``, ``rehearse`` or ``armed``, to begin with.
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
        self._alarm = Alarm(self._light_is_due_in_s, self.enforce)
        self._moves = Moves(microscope.halt)
        self._focus_lock = FocusLock(microscope, lambda: self._stopped or self._mode != "armed")
        self.stage_moves = StageMoves(microscope, clock)
        self._lock = threading.Lock()
        self._darkness = Darkness(microscope, self._light, self._lock, clock)
        self._stopped = False
        self._was_armed = mode == "armed"
        self._tried: Mode | None = None
        self._under_way = 0
        """Calls of the hardware."""
        self._refused: Counter[str] = Counter()
        self._writes: Counter[str] = Counter()

    @property
    def info(self) -> Mapping[str, Any]:
        """What the microscope says of itself, for the report."""
        return self._microscope.info

    @property
    def trial(self) -> Trial:
        """What an actuator asks before the run: whether the writes that it is going to make would be allowed."""
        return Trial(self._microscope, self._names, self._safety, (self._tried or self._mode) == "observe")

    @contextmanager
    def trying(self, mode: Mode) -> Iterator[None]:
        """Within, `trial` says what this mode would allow."""
        self._tried = mode
        try:
            yield
        finally:
            self._tried = None

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

    def set_property(
        self, device: str, name: str, value: str, *, off: str | None = None, for_ms: float | None = None
    ) -> None:
        """Set a property that ``safety.properties`` lists.

        ``off`` is the value that ends what any other begins: the property counts as light then, whether
        ``safety.light`` names it or not, and goes back to ``off`` whenever light is switched off. ``for_ms`` says that
        the caller sets it back after so long; it has to be within ``safety.pulse_ms``, and the light that is left.
        """
        with self._command():
            device, name, value = self._checks.property(device, name, value)
            if for_ms is not None:
                for_ms = self._checks.within("pulse_ms", for_ms)
            call = partial(self._microscope.set_property, device, name, value)
            if off is not None or makes_light(self._safety, device, name):
                self._switch("property", ("property", device, name), value, call, for_ms, off)
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

    def slm_shape(self, device: str) -> tuple[int, int]:
        """Return height and width of a spatial light modulator, px."""
        return self._slm().slm_shape(device)

    def show_on_slm(self, device: str, image: NDArray[np.uint8] | None, for_ms: float = 0.0) -> None:
        """Show a pattern on a modulator that ``safety.slms`` lists, or (None) nothing.

        Area and intensity have to be within ``safety.slm_area_px2`` and ``safety.slm_intensity``. ``for_ms`` says that
        the caller shows nothing after so long: it has to be within ``safety.pulse_ms``, and the light that is left.
        """
        with self._command():
            slm = self._slm()
            if image is None:
                device = self._checks.slm(device)
                self._switch("slm", ("slm", device), CLOSED, partial(slm.show_on_slm, device, None))
                return
            device, pattern = self._checks.pattern(device, image)
            for_ms = self._checks.within("pulse_ms", for_ms)
            self._switch("slm", ("slm", device), OPEN, partial(slm.show_on_slm, device, pattern, for_ms), for_ms)

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
            move = partial(self._move_stage, x, y)
            self._move("stage", partial(self.stage_moves.during, move, (x, y), from_um, settle_ms))

    def move_focus_um(self, z: float) -> None:
        """Move the focus drive within ``safety.z_um``."""
        with self._command():
            z = self._checks.within("z_um", z)
            self._move("focus", partial(self._microscope.move_focus_um, z))

    def autofocus(self, *, full: bool = True, timeout_s: float = 30.0) -> None:
        """Have the autofocus search the focus, if ``safety.autofocus`` says so, from within ``safety.z_um``.

        A focus drive that ends outside of them, or finds nothing, is brought back to where it was. The continuous focus
        is held after that if it was before.
        """
        with self._command():
            self._check_running()
            if self._focus_lock.device is None:
                raise MicroscopeError(NO_AUTOFOCUS)
            begin_um = self._checks.autofocus(self.focus_um())
            search = partial(self._focus_lock.device.autofocus, full=full, timeout_s=timeout_s)
            self._move("autofocus", partial(self._focus, search, begin_um))

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
                lambda really: self._light.spend(exposure_ms, "an event", self._clock()),
            )

    def halt(self) -> None:
        """Stop stage and focus drive; allowed in every mode, as it moves nothing."""
        self._microscope.halt()

    def enforce(self) -> bool:
        """Switch off what is on when the light is spent, or for too long: a thread of the guard's own calls it."""
        return self._darkness.enforce()

    def make_safe(self) -> dict[str, str]:
        """Refuse every write from now on, turn off the light, and stop what moves.

        Closes ``safety.close_shutter`` and all shutters that commands opened, sets to rest what else they switched on,
        and halts stage and focus drive if they are on their way. May be called from any thread, and again: what did not
        answer is then tried once more. Waits for no command; one that is under way makes safe again when it returns.

        Returns
        -------
        dict
            What became of each source of light: `SAFE`, or the error. Empty unless the run is, or was, armed.
        """
        with self._lock:
            self._stopped = True
        return self._make_dark(self._safety.close_shutter) if self._was_armed else {}

    def lower(self, mode: Mode) -> None:
        """Go down to a mode that does less, at once: no command reaches the hardware any more. `settle` follows."""
        with self._lock:
            self._mode = mode

    def settle(self) -> dict[str, str]:
        """Switch off what commands have switched on, and halt what moves; return what became of each source of light.

        May be called again. A command that is under way does the same when it returns.
        """
        return self._make_dark(None)

    def go_up(self, mode: Mode) -> None:
        """Go up to a mode that does more; waits for nothing.

        Raises
        ------
        CommandRefused
            The run was stopped, or what commands did before is not over.
        """
        with self._lock:
            if self._stopped:
                raise CommandRefused(STOPPED, "stopped")
            if self._under_way or self._moves.is_halting:
                raise CommandRefused("a command from before is still under way: ask again when it is over")
            if self._darkness.real:
                lit = ", ".join(map(name_of, self._darkness.real))
                raise CommandRefused(f"commands have switched on {lit}, and it is not off yet: ask again when it is")
            if mode == "armed":
                self._light.start_over(self._clock())  # what it is at rest may be another by now
                self._darkness.outcomes.clear()
                self._was_armed = True
            self._mode = mode

    def _make_dark(self, close_shutter: str | None) -> dict[str, str]:
        with self._lock:
            lit = sorted(self._light.lit(), key=lambda source: source[0] != "shutter")
        self._moves.halt()
        always = ("shutter", close_shutter) if close_shutter else None
        self._darkness.darken_all(dict.fromkeys([always, *lit] if always else lit), always)
        self._alarm.look_again()
        self._moves.settle()
        self._focus_lock.give_back()
        with self._lock:
            return by_name(self._darkness.outcomes)

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
                "shutters": by_name(self._darkness.outcomes, "shutter"),
                "lamps": by_name(self._darkness.outcomes, "slm", "property", "preset"),
                "moves": self._moves.outcome,
                "continuous_focus": self._focus_lock.outcome,
            }

    def light(self) -> dict[str, Any]:
        """Return the light used and left, ms, what is on, and what went off at the limit, or later than it should."""
        return self._darkness.said()

    @contextmanager
    def _command(self) -> Iterator[None]:
        try:
            if self._mode == "observe" and not self._darkness.real:
                self._check_running()
            yield
        except CommandRefused as refusal:
            with self._lock:
                self._refused[refusal.reason] += 1
            raise

    def _check_running(self) -> None:
        if self._mode == "observe":
            raise CommandRefused("the run only observes; set mode = 'armed' to act on the microscope", "observe")
        if self._stopped:
            raise CommandRefused(STOPPED, "stopped")

    def _write(self, what: str, call: Callable[[], None], begin: Callable[[bool], None] = lambda really: None) -> None:
        """Call the hardware, unless the run was stopped, or its mode lowered, since the checks began.

        ``begin`` is called under the lock that both take: the stop sees a move, or the move sees the stop. It is told
        whether the hardware is called.
        """
        with self._lock:
            self._check_running()
            really = self._mode == "armed"
            begin(really)
            self._writes[what] += 1
            self._under_way += really
        try:
            if really:
                call()
        finally:
            self._leave(really)

    def _move(self, what: str, call: Callable[[], None]) -> None:
        """Call what moves. All that may fail is inside: a move that is counted is over when the call is."""

        def begin(really: bool) -> None:
            if really:
                self._moves.begin()

        self._write(what, partial(self._moves.during, call), begin)

    def _slm(self) -> HasSlm:
        if not isinstance(self._microscope, HasSlm):
            raise MicroscopeError(NO_SLM)
        return self._microscope

    def _move_stage(self, x: float, y: float) -> None:
        if not self._safety.autofocus:
            self._microscope.move_stage_um(x, y)
            return
        with self._focus_lock.kept(pause=True):
            self._go_on()
            self._microscope.move_stage_um(x, y)

    def _focus(self, search: Callable[[], None], begin_um: float) -> None:
        with self._focus_lock.kept(pause=False):
            self._go_on()
            try:
                search()
                self._checks.within("z_um", self.focus_um())
            except (CommandRefused, MicroscopeError):
                if not self._stopped:
                    self._microscope.move_focus_um(begin_um)
                raise

    def _go_on(self) -> None:
        """Refuse what a stop came before while it waited."""
        if self._stopped:
            raise CommandRefused(STOPPED, "stopped")

    def _switch(
        self,
        what: str,
        source: Source,
        value: str,
        call: Callable[[], None],
        for_ms: float | None = None,
        off: str | None = None,
    ) -> None:
        """Set a source of light. What makes it darker is never refused: not at the limit, not after a stop."""
        self._note_rest(source, off)
        with self._lock:
            adds = self._light.adds(source, value)
            really = self._mode == "armed" or (not adds and source in self._darkness.real)
            if adds or (self._mode == "observe" and not really):
                self._check_running()
            switch = self._light.begin(source, value, self._clock(), for_ms)
            if really and switch.brighter:
                self._darkness.real.add(source)
            self._writes[what] += 1
            self._under_way += really
        self._alarm.look_again()
        try:
            if really:
                call()
            self._switched(switch, really)
        except BaseException:
            if switch.brighter:  # what failed to go on counts as on
                self._switched(switch, really)
            raise
        finally:
            self._leave(really)

    def _switched(self, switch: Switch, really: bool) -> None:
        with self._lock:
            self._light.done(switch, self._clock())
            self._darkness.forget_dark()
            if really and switch.brighter:  # again: it may have been switched off while the call was under way
                self._darkness.real.add(switch.source)
        self._alarm.look_again()

    def _leave(self, really: bool) -> None:
        """End a call. Where the run was stopped or disarmed meanwhile, the light goes off after it, whatever it did."""
        with self._lock:
            self._under_way -= really
            stopped, lowered = self._stopped, really and self._mode != "armed"
        if stopped:
            self.make_safe()
        elif lowered:
            self.settle()

    def _note_rest(self, source: Source, off: str | None) -> None:
        with self._lock:
            if self._light.knows(source):
                return
        rest = at_rest(self._microscope, source, self._safety) if off is None else off
        with self._lock:
            self._light.note(source, rest, is_exact=off is not None)

    def _light_is_due_in_s(self) -> float:
        with self._lock:
            return self._light.due_in_ms(self._clock()) / 1e3
