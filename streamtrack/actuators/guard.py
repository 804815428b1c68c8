"""Stands between commands and the microscope: what the run's limits forbid never reaches the hardware."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.clock import Clock, monotonic_ns
from streamtrack.config import Limits, Mode, SafetyConfig
from streamtrack.errors import CommandRefused
from streamtrack.protocols import Microscope

STILL_UM = 0.1
"""An axis that stays this close to where it is does not move: stages with encoders never read the same twice."""

EVENT_KEYS = frozenset(
    ("index", "channel", "exposure", "min_start_time", "pos_name", "x_pos", "y_pos", "z_pos", "properties", "metadata")
)
"""What an added event may hold: all that the limits can judge, and what touches no hardware."""


class Guard:
    """A `streamtrack.protocols.Microscope` that carries out only what the run allows.

    Reads pass through. A write is checked first and refused with `CommandRefused` where it breaks a limit; in a
    rehearsal the check is all that happens, and in observe mode every write is refused. No lock is held while the
    hardware is called, so that a command that hangs keeps neither others nor the emergency stop waiting.

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
        self._lock = threading.Lock()
        self._stopped = False
        self._dose_ms = 0.0
        self._opened: dict[str, tuple[int, float]] = {}
        """Shutters that commands opened: since when, ns, and the dose that was added then, ms."""
        self._refused: Counter[str] = Counter()
        self._writes: Counter[str] = Counter()
        self._halted: str | None = None
        self._moves = 0
        """Moves under way."""
        self._closed: dict[str, str] = {}

    @property
    def info(self) -> Mapping[str, Any]:
        """As the microscope's."""
        return self._microscope.info

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
        """As the microscope's."""
        return self._microscope.stage_um_per_px()

    def set_property(self, device: str, name: str, value: str) -> None:
        """Set a property that ``safety.properties`` lists."""
        self._check_running()
        self._check_property(device, name, value)
        if device in self._safety.light:
            self._add_dose(self.exposure_ms(), device)
        self._write("property", lambda: self._microscope.set_property(device, name, value))

    def set_preset(self, group: str, preset: str) -> None:
        """Apply a preset of a group that ``safety.presets`` lists; light counts if ``safety.light`` names the group."""
        self._check_running()
        self._check_preset(group)
        if group in self._safety.light:
            self._add_dose(self.exposure_ms(), group)
        self._write("preset", lambda: self._microscope.set_preset(group, preset))

    def set_shutter(self, device: str, opened: bool) -> None:
        """Open or close a shutter that ``safety.shutters`` lists. Closing is possible after an emergency stop, too."""
        if self._mode == "observe" or opened:
            self._check_running()
        if device not in self._safety.shutters:
            raise self._refusal(
                "not allowed", f"shutter {device!r} is not in safety.shutters; add it there to allow it"
            )
        if not opened:
            self._close(device)
            return
        exposure_ms = self.exposure_ms()
        self._add_dose(exposure_ms, device)
        with self._lock:
            self._opened.setdefault(device, (self._clock(), exposure_ms))
        self._write("shutter", lambda: self._microscope.set_shutter(device, True))

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Set an exposure within ``safety.exposure_ms``."""
        self._check_running()
        self._check_limits("exposure_ms", exposure_ms, self._safety.exposure_ms)
        self._write("exposure", lambda: self._microscope.set_exposure_ms(exposure_ms))

    def move_stage_um(self, x: float, y: float) -> None:
        """Move the stage within ``safety.x_um`` and ``safety.y_um``; an axis without limits has to stay where it is."""
        self._check_running()
        x, y = self._checked_position(x, y)
        self._write("stage", lambda: self._move(lambda: self._microscope.move_stage_um(x, y)))

    def move_focus_um(self, z: float) -> None:
        """Move the focus drive within ``safety.z_um``."""
        self._check_running()
        self._check_limits("z_um", z, self._safety.z_um)
        self._write("focus", lambda: self._move(lambda: self._microscope.move_focus_um(z)))

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Add an event to the running acquisition if all that it sets is allowed.

        It takes an image: its exposure, or the camera's where it names none, has to be within ``safety.exposure_ms``,
        and counts as light.
        """
        self._check_running()
        exposure_ms = event.get("exposure")
        exposure_ms = self.exposure_ms() if exposure_ms is None else float(exposure_ms)
        self._check_limits("exposure_ms", exposure_ms, self._safety.exposure_ms)
        self._check_event(event)
        self._add_dose(exposure_ms, "an event")
        self._write("event", lambda: self._microscope.add_event(event))

    def halt(self) -> None:
        """Stop stage and focus drive; allowed in every mode, as it moves nothing."""
        self._microscope.halt()

    def make_safe(self) -> dict[str, str]:
        """Refuse every write from now on, turn off the light, and stop what moves.

        Closes ``safety.close_shutter`` and all shutters that commands opened, then halts the stage if it is on its way.
        May be called from any thread, and again: a shutter that did not answer is then tried once more. Waits for no
        command; one that is under way closes the shutters again when it returns.

        Returns
        -------
        dict
            What became of each shutter: ``closed``, or the error. Empty unless the run is armed.
        """
        with self._lock:
            self._stopped = True
            devices = [device for device in (self._safety.close_shutter, *self._opened) if device]
        if self._mode == "armed":
            for device in dict.fromkeys(devices):
                outcome = _attempted(partial(self._microscope.set_shutter, device, False), "closed")
                with self._lock:
                    self._closed[device] = outcome
            if self._moves:
                self._halted = _attempted(self._microscope.halt, "halted")
        with self._lock:
            return dict(self._closed)

    def close(self) -> None:
        """Make safe. The hardware itself belongs to the run, which closes it."""
        self.make_safe()

    def outcome(self) -> dict[str, Any]:
        """Return what passed and what did not, for the report."""
        with self._lock:
            return {
                "mode": self._mode,
                "writes": dict(self._writes),
                "refused": dict(self._refused),
                "dose_ms": round(self._dose_ms, 3),
                "stopped": self._stopped,
                "shutters": dict(self._closed),
                "moves": self._halted,
            }

    def _check_running(self) -> None:
        if self._stopped:
            raise self._refusal("stopped", "the run was stopped: no command is carried out any more")
        if self._mode == "observe":
            raise self._refusal("observe", "the run only observes; set mode = 'armed' to act on the microscope")

    def _write(self, what: str, call: Callable[[], None]) -> None:
        """Call the hardware in an armed run, unless the run was stopped since the checks began."""
        with self._lock:
            stopped = self._stopped
            self._writes[what] += not stopped
        if stopped:
            self._check_running()
        if self._mode != "armed":
            return
        try:
            call()
        finally:
            if self._stopped:  # meanwhile: whatever this call did, the light goes off after it
                self.make_safe()

    def _move(self, call: Callable[[], None]) -> None:
        with self._lock:
            self._moves += 1
        try:
            call()
        finally:
            with self._lock:
                self._moves -= 1

    def _close(self, device: str) -> None:
        if self._mode == "armed":
            self._microscope.set_shutter(device, False)
        with self._lock:
            self._writes["shutter"] += 1
            since_ns, counted_ms = self._opened.pop(device, (self._clock(), 0.0))
            self._dose_ms += max(0.0, (self._clock() - since_ns) / 1e6 - counted_ms)

    def _add_dose(self, exposure_ms: float, by: str) -> None:
        """Count one exposure, before the light is made; what fails afterwards stays counted."""
        most = self._safety.max_dose_ms
        with self._lock:
            if most is None or self._dose_ms + exposure_ms <= most:
                self._dose_ms += exposure_ms
                return
            so_far = self._dose_ms
        raise self._refusal(
            "dose", f"light by {by}: {so_far:g} ms and {exposure_ms:g} ms more exceed safety.max_dose_ms = {most:g}"
        )

    def _check_property(self, device: str, name: str, value: str) -> None:
        full = f"{device}.{name}"
        if full not in self._safety.properties:
            raise self._refusal("not allowed", f"{full!r} is not in safety.properties; add it there to allow it")
        if _not_finite(value):
            raise self._refusal("not a number", f"{full} = {value!r} is not a finite number")

    def _check_preset(self, group: str) -> None:
        if group not in self._safety.presets:
            raise self._refusal("not allowed", f"group {group!r} is not in safety.presets; add it there to allow it")

    def _check_limits(self, name: str, value: float, limits: Limits | None) -> None:
        if not math.isfinite(value):
            raise self._refusal("not a number", f"{name} = {value} is not a finite number")
        if limits is None:
            raise self._refusal("not allowed", f"{name} = {value:g}: there are no limits safety.{name}; set them first")
        if not limits[0] <= value <= limits[1]:
            raise self._refusal(
                "limit", f"{name} = {value:g} is outside safety.{name} = {limits[0]:g} to {limits[1]:g}"
            )

    def _checked_position(self, x: float, y: float) -> tuple[float, float]:
        """Return where the stage may go; an axis without limits is kept exactly where it is."""
        position = {"x_um": x, "y_um": y}
        limits = {"x_um": self._safety.x_um, "y_um": self._safety.y_um}
        here = dict(zip(position, self.stage_um(), strict=True)) if None in limits.values() else {}
        for name, value in position.items():
            if limits[name] is None and abs(value - here[name]) <= STILL_UM:  # never true of NaN
                position[name] = here[name]
            else:
                self._check_limits(name, value, limits[name])
        return position["x_um"], position["y_um"]

    def _check_event(self, event: Mapping[str, Any]) -> None:
        unknown = sorted(key for key, value in event.items() if value is not None and key not in EVENT_KEYS)
        if unknown:
            known = ", ".join(sorted(EVENT_KEYS))
            raise self._refusal("not allowed", f"events may not set {', '.join(unknown)} (allowed: {known})")
        numbers = {"x_pos": "x_um", "y_pos": "y_um", "z_pos": "z_um"}
        for key, name in numbers.items():
            if event.get(key) is not None:
                self._check_limits(name, float(event[key]), getattr(self._safety, name))
        for device, prop, value in event.get("properties") or ():
            self._check_property(device, prop, str(value))
        channel = event.get("channel")
        if channel is not None:
            self._check_preset(channel.get("group", "Channel") if isinstance(channel, Mapping) else "Channel")

    def _refusal(self, reason: str, message: str) -> CommandRefused:
        with self._lock:
            self._refused[reason] += 1
        return CommandRefused(message)


def _not_finite(value: str) -> bool:
    try:
        return not math.isfinite(float(value))
    except ValueError:  # a word, such as the label of a filter
        return False


def _attempted(call: Callable[[], None], done: str) -> str:
    try:
        call()
    except Exception as error:  # in an emergency the next device still has to be tried
        return f"{type(error).__name__}: {error}"
    return done
