"""What every actuator has to do, as tests.

In the tests of a plug-in::

    class TestMyActuator(ActuatorTests):
        actions = ({"power": 5},)
        wrong_actions = ({"power": "much"}, {"colour": 5})

        def make_actuator(self, microscope):
            return MyActuator(microscope=microscope, ...)

One that does nothing to the microscope leaves ``microscope`` unused. What it does to it, its ``prepare`` tries before:
``microscope.trial.set_property(...)`` for ``microscope.set_property(...)`` in ``execute``, and so on.
"""

import inspect
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest

from streamtrack.actuators.guard import Guard
from streamtrack.clock import monotonic_ns
from streamtrack.config import Mode, SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.protocols import Actuator
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import Command, Event, SourceInfo
from streamtrack.waiting import joined_within

EVERYTHING = SafetyConfig(
    properties=("Laser.Power",),
    presets=("Channel",),
    shutters=("Shutter",),
    x_um=(-1000, 1000),
    y_um=(-1000, 1000),
    z_um=(-100, 100),
    exposure_ms=(0, 1000),
    pulse_ms=(0, 1000),
    slms=("SLM",),
    slm_area_px2=1000,
    slm_intensity=255,
    autofocus=True,
    close_shutter="Shutter",
)
"""Allows all that a `SimulatedMicroscope` has."""
SOURCE = SourceInfo("example", (64, 96), "uint16")
MODES: tuple[Mode, ...] = ("observe", "rehearse", "armed")


def example_command(action: Mapping[str, Any], valid_ms: float = 10_000) -> Command:
    """Return a command about a particle at (40, 30) px, y before x, as a rule would give it now."""
    now = monotonic_ns()
    event = Event(particle=7, y=40.0, x=30.0, values={"speed_px_s": 12.5})
    return Command("example", action, 123, now, now + int(1e6 * valid_ms), "a rule", event, now)


class ActuatorTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.Actuator`.

    Attributes
    ----------
    actions
        Some that the actuator understands, of which each does something.
    wrong_actions
        Some that it does not understand.
    names_devices
        Whether it sets properties, presets or shutters, which there may be or not.
    safety
        Limits that allow the actions.
    timeout_s
        Longest time that one command may take.
    """

    actions: tuple[Mapping[str, Any], ...]
    wrong_actions: tuple[Mapping[str, Any], ...]
    names_devices = False
    safety = EVERYTHING
    timeout_s = 10.0

    def make_actuator(self, microscope: Guard) -> Actuator:
        """Return a new actuator."""
        raise NotImplementedError("override make_actuator: say how your actuator is made")

    def make_microscope(self) -> SimulatedMicroscope:
        """Return a microscope that can do what the actions ask for."""
        return SimulatedMicroscope()

    @pytest.fixture
    def microscope(self) -> Iterator[SimulatedMicroscope]:
        """Give a microscope to a test."""
        with closing(self.make_microscope()) as microscope:
            yield microscope

    def _guarded(
        self, microscope: SimulatedMicroscope, mode: Mode, safety: SafetyConfig | None = None
    ) -> tuple[Actuator, Guard]:
        guard = Guard(microscope, safety or self.safety, mode)
        return self.make_actuator(guard), guard

    def _prepared(self, microscope: SimulatedMicroscope, mode: Mode) -> tuple[Actuator, Guard]:
        actuator, guard = self._guarded(microscope, mode)
        actuator.prepare(SOURCE, self.actions)
        return actuator, guard

    def test_settings_are_annotated_keywords(self, microscope: SimulatedMicroscope) -> None:
        """A plug-in's settings come from its signature."""
        with closing(self._guarded(microscope, "observe")[0]) as actuator:
            settings = inspect.signature(type(actuator)).parameters.values()
        for setting in settings:
            assert setting.kind is setting.KEYWORD_ONLY, f"{setting.name} is not keyword-only"
            assert setting.annotation is not setting.empty, f"{setting.name} has no annotation"

    def test_says_whether_it_rehearses(self, microscope: SimulatedMicroscope) -> None:
        """The run asks."""
        with closing(self._guarded(microscope, "observe")[0]) as actuator:
            assert isinstance(actuator.rehearses, bool)

    @pytest.mark.parametrize("mode", MODES)
    def test_making_and_preparing_touches_nothing(self, microscope: SimulatedMicroscope, mode: Mode) -> None:
        """The run has not begun."""
        with closing(self._prepared(microscope, mode)[0]):
            pass
        assert not microscope.calls

    @pytest.mark.parametrize("mode", ["rehearse", "armed"])
    def test_what_the_limits_forbid_is_said_before_the_run(self, microscope: SimulatedMicroscope, mode: Mode) -> None:
        """Not at the first event, hours later. A run that only observes needs no limits."""
        for action in self.actions:
            actuator, _ = self._guarded(microscope, mode, SafetyConfig())
            with closing(actuator):
                if not actuator.rehearses:
                    pytest.skip("does nothing to the microscope")
                with pytest.raises(ConfigError) as caught:
                    actuator.prepare(SOURCE, [action])
                assert len(str(caught.value).splitlines()) == 1
        with closing(self._guarded(microscope, "observe", SafetyConfig())[0]) as actuator:
            actuator.prepare(SOURCE, self.actions)
        assert not microscope.calls

    @pytest.mark.parametrize("mode", MODES)
    def test_devices_that_are_not_there_are_named_before_the_run(self, mode: Mode) -> None:
        """Of an actuator that sets properties, presets or shutters, whether a rule uses it or not."""
        if not self.names_devices:
            pytest.skip("names no device")
        nothing = SimulatedMicroscope(properties={}, presets={}, shutters=(), slms={})
        with closing(self._guarded(nothing, mode)[0]) as actuator:
            for actions in ((), self.actions):
                with pytest.raises(ConfigError, match="there is no"):
                    actuator.prepare(SOURCE, actions)

    def test_an_action_that_is_not_understood_is_refused_before_the_run(self, microscope: SimulatedMicroscope) -> None:
        """A mistake in the configuration is a ConfigError in one line, not a failure at the first event."""
        for mode in MODES:
            with closing(self._guarded(microscope, mode)[0]) as actuator:
                for action in self.wrong_actions:
                    with pytest.raises(ConfigError) as caught:
                        actuator.prepare(SOURCE, [action])
                    assert len(str(caught.value).splitlines()) == 1

    def test_says_what_it_did(self, microscope: SimulatedMicroscope) -> None:
        """In words and numbers for the command log, which is JSON; and in time."""
        with closing(self._prepared(microscope, "armed")[0]) as actuator:
            for action in self.actions:
                started_ns = monotonic_ns()
                result = actuator.execute(example_command(action))
                assert monotonic_ns() - started_ns < 1e9 * self.timeout_s
                assert result
                assert json.loads(json.dumps(dict(result), allow_nan=False))

    def test_a_rehearsal_moves_nothing(self, microscope: SimulatedMicroscope) -> None:
        """Not even when the actuator is closed; limits are checked, and what would be done is said."""
        actuator, guard = self._prepared(microscope, "rehearse")
        with closing(actuator):
            if actuator.rehearses:
                assert all(actuator.execute(example_command(action)) for action in self.actions)
                assert guard.outcome()["writes"]
        assert not microscope.calls

    def test_nothing_gets_past_the_limits(self, microscope: SimulatedMicroscope) -> None:
        """Where nothing is allowed, every action is refused, and the hardware is not touched."""
        actuator, guard = self._guarded(microscope, "armed", SafetyConfig())
        if actuator.rehearses:
            for action in self.actions:
                with pytest.raises(ConfigError):
                    actuator.prepare(SOURCE, [action])
                with pytest.raises(CommandRefused):
                    actuator.execute(example_command(action))
            assert sum(guard.outcome()["refused"].values()) >= len(self.actions)
        actuator.close()
        assert not microscope.calls

    def test_nothing_moves_after_an_emergency_stop(self, microscope: SimulatedMicroscope) -> None:
        """But for shutters, which close."""
        actuator, guard = self._prepared(microscope, "armed")
        guard.make_safe()
        if actuator.rehearses:
            for action in self.actions:
                with pytest.raises(CommandRefused):
                    actuator.execute(example_command(action))
        actuator.close()
        assert {call[0] for call in microscope.calls} <= {"set_shutter"}
        assert not any(microscope.shutters.values())

    def test_a_failure_is_raised_and_passes(self, microscope: SimulatedMicroscope) -> None:
        """The run counts it and goes on: the next command is tried as if nothing had been."""
        actuator, _ = self._prepared(microscope, "armed")
        with closing(actuator):
            if not actuator.rehearses:
                pytest.skip("does nothing to the microscope")
            for action in self.actions:
                microscope.faults.append(MicroscopeError("the device does not answer"))
                with pytest.raises(MicroscopeError, match="does not answer"):
                    actuator.execute(example_command(action))
                assert not microscope.faults
                assert actuator.execute(example_command(action))

    def test_close_twice_and_from_another_thread(self, microscope: SimulatedMicroscope) -> None:
        """The worker closes it, and the run once more."""
        actuator, _ = self._prepared(microscope, "armed")
        actuator.execute(example_command(self.actions[0]))
        closer = threading.Thread(target=actuator.close, daemon=True)
        closer.start()
        assert joined_within(closer, self.timeout_s), "close() did not end"
        actuator.close()
