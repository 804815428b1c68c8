"""The limit of the light is kept whatever comes late, at once, or in any order."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from light_rig import MS, Rig

from streamtrack.actuators.guard import Guard
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, MicroscopeError
from streamtrack.testing import FakeClock
from streamtrack.testing.microscope import SimulatedMicroscope


class LateLamp(SimulatedMicroscope):
    """Switching on waits until it is let go."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.called, self.go = threading.Event(), threading.Event()

    def set_property(self, device, name, value):
        if value != "0":
            self.called.set()
            assert self.go.wait(30)
        super().set_property(device, name, value)


def test_a_call_that_switches_on_after_the_limit_is_followed_by_darkness():
    clock, microscope = FakeClock(), LateLamp(properties={"Lamp.Power": "0"})
    safety = SafetyConfig(properties=("Lamp.Power",), light=("Lamp",), max_dose_ms=10)
    guard = Guard(microscope, safety, "armed", clock)
    command = threading.Thread(target=guard.set_property, args=("Lamp", "Power", "5"), daemon=True)
    command.start()
    assert microscope.called.wait(10)
    clock.advance(20 * MS)
    guard.enforce()
    microscope.go.set()
    command.join(10)
    assert not command.is_alive()
    guard.enforce()  # or the guard's own thread
    assert microscope.calls[-1] == ("set_property", "Lamp", "Power", "0")
    assert guard.light()["on"] == []
    guard.close()


def test_off_that_overlaps_with_on_does_not_count_as_off():
    """Nobody knows which of them the device got last."""
    clock, microscope = FakeClock(), LateLamp(properties={"Lamp.Power": "0"})
    guard = Guard(microscope, SafetyConfig(properties=("Lamp.Power",), light=("Lamp",)), "armed", clock)
    command = threading.Thread(target=guard.set_property, args=("Lamp", "Power", "5"), daemon=True)
    command.start()
    assert microscope.called.wait(10)
    guard.set_property("Lamp", "Power", "0")
    microscope.go.set()
    command.join(10)
    assert microscope.properties["Lamp.Power"] == "5"
    assert guard.light()["on"] == ["Lamp.Power"]
    guard.make_safe()
    assert microscope.properties["Lamp.Power"] == "0"


def test_the_limit_is_kept_without_a_command_to_remind_of_it():
    microscope = SimulatedMicroscope(shutters=("One", "Two"))
    guard = Guard(microscope, SafetyConfig(shutters=("One", "Two"), max_dose_ms=200), "armed")
    began = time.perf_counter()
    guard.set_shutter("One", True)
    guard.set_shutter("Two", True)
    while any(microscope.shutters.values()):
        assert time.perf_counter() - began < 10
        time.sleep(0.001)
    assert time.perf_counter() - began >= 0.1
    while guard.light()["on"]:
        time.sleep(0.001)
    assert guard.light()["off_at_limit"] == {"One": "closed", "Two": "closed"}
    with pytest.raises(CommandRefused, match="max_dose_ms"):
        guard.set_shutter("One", True)
    guard.close()


def test_what_does_not_close_at_the_limit_is_tried_again():
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, SafetyConfig(shutters=("Shutter",), max_dose_ms=20), "armed")
    guard.set_shutter("Shutter", True)
    microscope.faults.append(MicroscopeError("no answer"))
    began = time.perf_counter()
    while guard.light()["on"]:
        assert time.perf_counter() - began < 10
        time.sleep(0.001)
    assert not microscope.faults
    assert not microscope.shutters["Shutter"]
    guard.close()


def test_threads_together_get_no_more_light_than_one():
    rig = Rig(most_ms=1000)

    def fire(index):
        try:
            rig.guard.set_shutter("One" if index % 2 else "Two", True, for_ms=10)
        except CommandRefused:
            return 0
        rig.guard.set_shutter("One" if index % 2 else "Two", False)
        return 1

    def expose(_):
        try:
            rig.guard.add_event({"exposure": 10})
        except CommandRefused:
            return 0
        return 1

    with ThreadPoolExecutor(16) as pool:
        pulses, events = pool.map(fire, range(200)), pool.map(expose, range(200))
        sum(pulses)
        exposed = sum(events)
    assert exposed <= 100
    assert rig.used_ms == 10 * exposed == 10 * len(rig.microscope.events)


SHUTTERS, LEVELS, CHANNELS = ("One", "Two"), ("0", "5", "20", "50", "Off"), ("Green", "Red", "Off")
PATTERN = np.zeros((48, 64), np.uint8)
PATTERN[3, 4:9] = 200
ORDERS = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(SHUTTERS), st.none() | st.floats(0.1, 150)),
    st.tuples(st.just("close"), st.sampled_from(SHUTTERS)),
    st.tuples(st.just("lamp"), st.sampled_from(LEVELS)),
    st.tuples(st.just("channel"), st.sampled_from(CHANNELS), st.none() | st.floats(0.1, 150)),
    st.tuples(st.just("pattern"), st.floats(0.1, 150)),
    st.tuples(st.just("no pattern")),
    st.tuples(st.just("pulse"), st.floats(0.1, 150)),
    st.tuples(st.just("no pulse")),
    st.tuples(st.just("event"), st.floats(0, 60)),
    st.tuples(st.just("wait"), st.floats(0, 80)),
)


class Watched:
    """Keeps its own account of the light that the devices give, by what they are set to."""

    def __init__(self, lamp):
        self.rig = Rig(most_ms=100, lamp=lamp)
        self.lamp_at_rest, self.used_ms, self.deadlines = float(lamp), 0.0, {}

    def n_on(self):
        microscope = self.rig.microscope
        power = microscope.properties["Lamp.Power"]
        level = 0.0 if power == "Off" else float(power)
        self.lamp_at_rest = min(self.lamp_at_rest, level) if level == 0 else self.lamp_at_rest
        channel = microscope.preset("Channel")
        self.channel_at_rest = "Off" if channel == "Off" else getattr(self, "channel_at_rest", "Green")
        on = [*microscope.shutters.values(), level > self.lamp_at_rest]
        on += [microscope.patterns["SLM"] is not None, microscope.properties["TTL.State"] == "0"]
        return sum(on) + (channel not in (self.channel_at_rest, "Off"))

    def wait(self, ms):
        """Let time pass, and the guard act when its alarm is due, as its thread does."""
        while ms > 0:
            due_ms = self.rig.guard._light_is_due_in_s() * 1e3
            step = min(ms, due_ms)
            self.used_ms += step * self.n_on()
            self.rig.clock.advance(round(step * MS))
            ms -= step
            if step == due_ms:
                self.rig.clock.advance(1)
                assert self.rig.guard.enforce()

    def carry_out(self, order):
        guard, (what, *arguments) = self.rig.guard, order
        if what == "wait":
            self.wait(*arguments)
        elif what == "open":
            guard.set_shutter(arguments[0], True, for_ms=arguments[1])
        elif what == "close":
            guard.set_shutter(arguments[0], False)
        elif what == "lamp":
            guard.set_property("Lamp", "Power", arguments[0])
        elif what == "channel":
            guard.set_preset("Channel", arguments[0], for_ms=arguments[1])
        elif what == "pattern":
            guard.show_on_slm("SLM", PATTERN, arguments[0])
        elif what == "no pattern":
            guard.show_on_slm("SLM", None)
        elif what == "pulse":  # of an output that is on at 0
            guard.set_property("TTL", "State", "0", off="1", for_ms=arguments[0])
        elif what == "no pulse":
            guard.set_property("TTL", "State", "1", off="1")
        else:
            guard.add_event({"exposure": arguments[0]})
            self.used_ms += arguments[0]

    def makes_it_darker(self, order):
        what, *arguments = order
        if what == "lamp":
            value = 0.0 if arguments[0] == "Off" else float(arguments[0])
            power = self.rig.microscope.properties["Lamp.Power"]
            return value <= max(self.lamp_at_rest, 0.0 if power == "Off" else float(power))
        if what == "channel":
            self.n_on()
            return arguments[0] in (self.rig.microscope.preset("Channel"), self.channel_at_rest, "Off")
        return what in ("close", "wait", "no pattern", "no pulse")


@settings(max_examples=200, deadline=None)
@given(st.lists(ORDERS, max_size=40), st.sampled_from(["0", "20"]))
def test_no_sequence_of_orders_gives_more_light_than_allowed_and_darkness_is_never_refused(orders, lamp):
    watched = Watched(lamp)
    try:
        for order in orders:
            watched.n_on()
            darker = watched.makes_it_darker(order)
            try:
                watched.carry_out(order)
            except CommandRefused:
                assert not darker, f"{order} is refused"
            assert watched.used_ms <= 100 + 1e-3
            assert watched.rig.used_ms == pytest.approx(watched.used_ms, abs=1e-3)
    finally:
        watched.rig.guard.close()
    assert watched.n_on() == 0


def test_what_stays_on_for_longer_than_its_command_said_is_switched_off():
    rig = Rig(most_ms=None)
    rig.guard.set_shutter("One", True, for_ms=50)
    rig.guard.set_shutter("Two", True)
    rig.guard.set_preset("Channel", "Red", for_ms=100)
    rig.wait(299)
    assert rig.guard._light_is_due_in_s() == pytest.approx(0.001)
    assert rig.guard.enforce()
    assert rig.guard.light()["off_late"] == {}
    rig.wait(1)
    assert rig.guard.enforce()
    assert rig.microscope.shutters == {"One": False, "Two": True}
    rig.wait(50)
    rig.microscope.faults.append(MicroscopeError("no answer"))
    assert not rig.guard.enforce(), "it is tried again"
    assert rig.guard.light()["off_late"] == {"One": "closed", "Channel": "MicroscopeError: no answer"}
    assert rig.guard.enforce()
    assert rig.microscope.preset("Channel") == "Green"
    assert rig.guard.light()["on"] == ["Two"]
    assert rig.guard._light_is_due_in_s() == math.inf


def test_a_command_that_goes_on_before_the_end_of_another_has_its_own_end():
    rig = Rig(most_ms=None)
    rig.guard.set_shutter("One", True, for_ms=50)
    rig.wait(40)
    rig.guard.set_shutter("One", True, for_ms=500)
    rig.wait(400)
    assert rig.guard.enforce()
    assert rig.microscope.shutters["One"]
    rig.guard.set_shutter("One", True)  # and one without an end has none
    rig.wait(10_000)
    assert rig.guard.enforce()
    assert rig.microscope.shutters["One"]
