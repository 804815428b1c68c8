"""From observing to armed and back, while a run runs: guard and actuators together."""

import threading
import time
from typing import Any, get_args

from streamtrack.calibrated import check_moves
from streamtrack.config import Mode, RuleConfig, RunConfig, SafetyConfig
from streamtrack.errors import ControlRefused
from streamtrack.fanout import Fanout
from streamtrack.parts import Parts, prepare_actuators
from streamtrack.stop_file import unsafe

MODES: tuple[Mode, ...] = get_args(Mode)
"""From the one that does least."""
IDLE_S = 2.0
"""How long commands that are being carried out may take until the mode goes up."""
LOOK_S = 0.01


class Modes:
    """The mode of a run. It goes down at once, from any thread, and up between two frames, after all checks.

    Parameters
    ----------
    config, parts
        What runs.
    """

    def __init__(self, config: RunConfig, parts: Parts) -> None:
        self._config, self._parts = config, parts
        self._lock = threading.Lock()
        self._fanout: Fanout | None = None
        self._n_lowered = 0
        self._is_held = False
        self.mode: Mode = config.mode

    def attach(self, fanout: Fanout) -> None:
        """Take the actuators' workers, before the first frame."""
        with self._lock:
            self._fanout = fanout
            if self.mode != self._config.mode:
                fanout.set_mode(self.mode)

    @property
    def n_lowered(self) -> int:
        """How often somebody asked for less: what was asked for before that does not count any more."""
        return self._n_lowered

    def goes_up(self, mode: Mode) -> bool:
        """Return whether a mode does more than the present one."""
        return MODES.index(mode) > MODES.index(self.mode)

    def lower(self, mode: Mode) -> Mode | None:
        """Go down, unless ``mode`` does more; return the mode before, or None. Commands that wait are dropped."""
        with self._lock:
            if self.goes_up(mode):
                return None
            before, self.mode = self.mode, mode
            self._n_lowered += 1
            if self._parts.guard is not None:
                self._parts.guard.lower(mode)
            if self._fanout is not None and before != mode:
                self._fanout.set_mode(mode)
            return before

    def settle(self) -> list[str]:
        """Switch off what commands have switched on; return what could not be, in words. Hardware is called."""
        guard = self._parts.guard
        if guard is None:
            return []
        guard.settle()
        return unsafe(guard.outcome())

    def check(self, mode: Mode) -> None:
        """Check all that a run that begins in this mode is checked for. Hardware is read.

        Raises
        ------
        StreamtrackError
            Something is amiss, in one line.
        """
        guard = self._parts.guard
        if guard is None:
            if mode == "armed":
                raise ControlRefused("the run has no microscope: there is nothing to arm")
            return
        guard.check_names()
        check_moves(self._parts.source, guard, self._config, mode)
        with guard.trying(mode):
            prepare_actuators(self._parts, self._config)

    def hold(self) -> None:
        """Have commands written down only, and wait for those that are being carried out; `release` follows."""
        with self._lock:
            fanout = self._fanout
            if fanout is None or self.mode != "rehearse":
                return
            fanout.set_mode("observe")
            self._is_held = True
        end_s = time.monotonic() + IDLE_S
        while fanout.busy and time.monotonic() < end_s:
            threading.Event().wait(LOOK_S)

    def release(self) -> None:
        """Have the actuators do what the mode says again, whatever became of the attempt to go up."""
        with self._lock:
            if self._is_held and self._fanout is not None:
                self._fanout.set_mode(self.mode)
            self._is_held = False

    def go_up(self, mode: Mode, n_lowered: int) -> Mode:
        """Go up; called between two frames. Waits for nothing, and returns the mode before.

        Raises
        ------
        ControlRefused, CommandRefused
            The run was stopped or somebody asked for less meanwhile, or a command from before is not over.
        """
        with self._lock:
            if n_lowered != self._n_lowered:
                raise ControlRefused("somebody asked for less meanwhile")
            before, fanout = self.mode, self._fanout
            if fanout is None or not self.goes_up(mode):
                return before
            if busy := fanout.busy:
                at = f"actuator {busy[0]!r} is still at a command from before"
                raise ControlRefused(f"{at}: ask again when it is done")
            if self._parts.guard is not None:
                self._parts.guard.go_up(mode)
            self.mode, self._is_held = mode, False
            fanout.set_mode(mode)
            return before

    def what_may_move(self, paused: set[str]) -> tuple[str, str]:
        """Return what an armed run may move, open or switch, in lines, and what light is left to it."""
        lines = [*self._limits(), *(self._rule(rule, paused) for rule in self._config.triggers)]
        guard = self._parts.guard
        left_ms = guard.light()["left_ms"] if guard is not None else None
        most = self._config.safety.max_dose_ms
        light = "light: without a limit (safety.max_dose_ms)"
        if left_ms is not None and most is not None:
            light = f"light: {left_ms:.0f} of {most:g} ms left"
        return "\n".join(filter(None, lines)), light

    def _limits(self) -> list[str]:
        safety = self._config.safety
        axes = {"x_um": "stage x", "y_um": "stage y", "z_um": "focus", "exposure_ms": "exposure", "pulse_ms": "pulses"}
        lines = []
        for name, words in axes.items():
            if limits := getattr(safety, name):
                lines.append(f"{words}: {limits[0]:g} to {limits[1]:g} {name.rpartition('_')[2]}")
        named = {"properties": "set", "presets": "apply presets of", "shutters": "open and close"}
        lines += [
            f"{words}: {', '.join(getattr(safety, name))}" for name, words in named.items() if getattr(safety, name)
        ]
        if safety.slms:
            lines.append(f"light patterns: {', '.join(safety.slms)}, {_most(safety)}")
        lines += ["search the focus, and let go of it while the stage moves"] * safety.autofocus
        unchecked = [name for name, actuator in self._parts.actuators.items() if not actuator.rehearses]
        lines += [f"without limits: {name} ({self._config.actuators[name].kind})" for name in unchecked]
        return lines or ["nothing: there are no limits"]

    def _rule(self, rule: RuleConfig, paused: set[str]) -> str:
        if rule.do not in self._parts.actuators:
            return ""
        name = rule.name or rule.kind
        bounds = f"at most {rule.max_per_minute} a minute, {rule.cool_down_s:g} s apart"
        action = f" {rule.action}" if rule.action else ""
        return f"rule {name}: {rule.do}{action}; {bounds}{'; paused' * (name in paused)}"


def _most(safety: SafetyConfig) -> str:
    """Return how much a pattern may light, in words."""
    area, intensity = (0 if limit is None else limit for limit in (safety.slm_area_px2, safety.slm_intensity))
    return f"up to {area:g} px of it at {intensity:g} of 255"


def known_mode(mode: Any) -> Mode:
    """Return a mode; raises ControlRefused on anything else."""
    if mode not in MODES:
        raise ControlRefused(f"{mode!r} is no mode: it is {', '.join(MODES)}")
    return mode  # type: ignore[no-any-return]
