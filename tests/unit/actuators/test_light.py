"""Light is the time for which commands have sources on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrack.actuators.devices import Preset, Shutter
from streamtrack.actuators.guard import Guard
from streamtrack.actuators.light import is_dark
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.testing import FakeClock
from streamtrack.testing.actuators import SOURCE, example_command
from streamtrack.testing.microscope import SimulatedMicroscope

MS = 1_000_000


class Rig:
    """A microscope with two shutters, a lamp, and two channels, behind a guard whose clock stands still."""

    def __init__(self, most_ms=100.0, *, lamp="0", channel="Green", mode="armed", **safety):
        self.clock = FakeClock()
        self.microscope = SimulatedMicroscope(
            properties={"Lamp.Power": lamp, "Lamp.Label": "Green", "Camera.Gain": "1"},
            presets={"Channel": (channel, *({"Green", "Red", "Off"} - {channel}))},
            shutters=("One", "Two"),
            exposure_ms=10,
        )
        self.safety = SafetyConfig(
            **{
                "properties": ("Lamp.Power", "Lamp.Label", "Camera.Gain"),
                "presets": ("Channel",),
                "shutters": ("One", "Two"),
                "light": ("Lamp", "Channel"),
                "exposure_ms": (0, 1000),
                "max_dose_ms": most_ms,
                **safety,
            }
        )
        self.guard = Guard(self.microscope, self.safety, mode, self.clock)
        self.guard._alarm.look_again = lambda: None  # its thread knows another clock: the tests ring themselves

    def wait(self, ms):
        self.clock.advance(round(ms * MS))

    @property
    def used_ms(self):
        return self.guard.light()["used_ms"]


def test_several_sources_count_as_long_as_each_is_on():
    rig = Rig()
    rig.guard.set_shutter("One", True)
    rig.wait(10)
    rig.guard.set_property("Lamp", "Power", "5")
    rig.wait(10)
    rig.guard.set_preset("Channel", "Red")
    rig.wait(10)
    assert rig.guard.light() == {
        "used_ms": 30 + 20 + 10,
        "left_ms": 40,
        "on": ["One", "Lamp.Power", "Channel"],
        "off_at_limit": {},
    }
    rig.guard.set_shutter("One", False)
    rig.guard.set_property("Lamp", "Power", "0")
    rig.guard.set_preset("Channel", "Green")
    rig.wait(1000)
    assert rig.used_ms == 60
    assert rig.guard.light()["on"] == []


def test_what_makes_no_light_does_not_count():
    rig = Rig(light=("Lamp.Power",))
    rig.guard.set_preset("Channel", "Red")
    rig.guard.set_property("Lamp", "Label", "Red")
    rig.guard.set_property("Camera", "Gain", "3")
    rig.guard.set_shutter("One", False)
    rig.wait(1000)
    assert rig.used_ms == 0


@pytest.mark.parametrize("dark", ["0", "0.0", "0.000", "-0", "Off", "OFF", "Closed", "false"])
def test_what_off_is(dark):
    assert is_dark(dark)
    rig = Rig()
    rig.guard.set_property("Lamp", "Power", "5")
    rig.wait(10)
    rig.guard.set_property("Lamp", "Power", dark)
    rig.wait(10)
    assert rig.used_ms == 10


@pytest.mark.parametrize("bright", ["1", "0.01", "On", "Open", "true", "Red", "", "-1", "nan"])
def test_anything_else_is_not(bright):
    assert not is_dark(bright)


def test_what_a_property_or_group_was_at_before_the_run_counts_as_dark():
    rig = Rig(lamp="20", channel="Red")
    for label, channel, power in (("Blue", "Green", "30"), ("Green", "Red", "20")):
        rig.guard.set_property("Lamp", "Label", label)
        rig.guard.set_preset("Channel", channel)
        rig.guard.set_property("Lamp", "Power", power)
        rig.wait(10)
    assert rig.used_ms == 30
    rig.guard.set_property("Lamp", "Power", "5")  # less than before the run
    rig.wait(10)
    rig.guard.set_property("Lamp", "Power", "20")
    rig.wait(10)
    assert rig.used_ms == 30


def test_a_lamp_that_was_on_before_the_run_counts_once_a_command_has_switched_it_off():
    rig = Rig(lamp="20")
    rig.wait(1000)
    assert rig.used_ms == 0
    rig.guard.set_property("Lamp", "Power", "0")
    rig.guard.set_property("Lamp", "Power", "20")
    rig.wait(100)
    assert rig.used_ms == 100
    assert rig.guard.enforce_dose()
    assert rig.microscope.properties["Lamp.Power"] == "0"
    with pytest.raises(CommandRefused, match="max_dose_ms"):
        rig.guard.set_property("Lamp", "Power", "20")


def test_numbers_that_are_names_of_presets_are_not_compared():
    microscope = SimulatedMicroscope(presets={"Line": ("488", "405")})
    clock = FakeClock()
    guard = Guard(microscope, SafetyConfig(presets=("Line",), light=("Line",)), "armed", clock)
    guard.set_preset("Line", "405")
    clock.advance(5 * MS)
    assert guard.light()["used_ms"] == 5


def test_at_the_limit_the_guard_closes_everything_and_says_so():
    rig = Rig(most_ms=100)
    rig.guard.set_shutter("One", True)
    rig.guard.set_property("Lamp", "Power", "5")
    rig.guard.set_preset("Channel", "Red")
    rig.wait(33)
    assert rig.guard.enforce_dose()
    assert rig.microscope.shutters["One"]
    rig.wait(1)
    assert rig.guard.enforce_dose()
    assert not rig.microscope.shutters["One"]
    assert rig.microscope.properties["Lamp.Power"] == "0"
    assert rig.microscope.preset("Channel") == "Green"
    assert rig.guard.outcome()["light"] == {
        "used_ms": 102,
        "left_ms": 0,
        "on": [],
        "off_at_limit": {"One": "closed", "Lamp.Power": "off", "Channel": "off"},
    }


@pytest.mark.parametrize(
    "brighter",
    [
        ("set_shutter", "Two", True),
        ("set_property", "Lamp", "Power", "1"),
        ("set_preset", "Channel", "Red"),
        ("add_event", {"exposure": 1}),
    ],
)
def test_nothing_that_reduces_light_is_ever_refused_and_nothing_that_makes_it_is_carried_out(brighter):
    rig = Rig()
    rig.guard.set_shutter("One", True)
    rig.guard.set_property("Lamp", "Power", "50")
    rig.guard.set_preset("Channel", "Red")
    rig.wait(1000)
    rig.microscope.faults.extend(MicroscopeError("no answer") for _ in range(3))
    assert not rig.guard.enforce_dose()  # the devices do not answer: all is on
    rig.guard.set_property("Lamp", "Power", "30")
    rig.guard.set_property("Lamp", "Power", "0")
    rig.guard.set_preset("Channel", "Green")
    rig.guard.set_shutter("One", False)
    rig.guard.set_shutter("Two", False)
    calls = list(rig.microscope.calls)
    with pytest.raises(CommandRefused, match=r"would exceed the dose: .* ms of safety\.max_dose_ms = 100 are used"):
        getattr(rig.guard, brighter[0])(*brighter[1:])
    assert rig.microscope.calls == calls
    assert rig.guard.outcome()["refused"] == {"dose": 1}


def test_a_pulse_is_refused_by_its_length_and_what_is_planned_is_spoken_for():
    rig = Rig(most_ms=100)
    with pytest.raises(
        CommandRefused, match=r"1000 ms of light by One would exceed the dose: 0 ms of safety\.max_dose"
    ):
        rig.guard.set_shutter("One", True, for_ms=1000)
    rig.guard.set_shutter("One", True, for_ms=60)
    with pytest.raises(CommandRefused, match="60 ms of light by Two"):
        rig.guard.set_shutter("Two", True, for_ms=60)
    rig.guard.set_shutter("Two", True, for_ms=40)
    with pytest.raises(CommandRefused):
        rig.guard.set_property("Lamp", "Power", "1")
    rig.wait(10)
    rig.guard.set_shutter("Two", False)  # before its time
    rig.guard.set_preset("Channel", "Red", for_ms=30)
    assert rig.guard.outcome()["refused"] == {"dose": 3}


def test_a_pulse_beside_an_open_shutter_gets_half():
    rig = Rig(most_ms=100)
    rig.guard.set_shutter("One", True)
    with pytest.raises(CommandRefused):
        rig.guard.set_shutter("Two", True, for_ms=51)
    rig.guard.set_shutter("Two", True, for_ms=50)


def test_too_long_a_pulse_or_look_is_refused_before_the_run():
    rig = Rig(most_ms=100)
    Shutter(microscope=rig.guard, device="One").prepare(SOURCE, [{"pulse_ms": 100}])
    for actuator, action in (
        (Shutter(microscope=rig.guard, device="One"), {"pulse_ms": 101}),
        (Preset(microscope=rig.guard, group="Channel", for_ms=101, back_to="Green"), {"preset": "Red"}),
    ):
        with pytest.raises(ConfigError, match=r"101 ms of light by .* would exceed the dose"):
            actuator.prepare(SOURCE, [action])


def test_the_way_back_from_a_second_channel_is_open_when_the_light_is_spent():
    rig = Rig(most_ms=20)
    look = Preset(microscope=rig.guard, group="Channel", for_ms=20, back_to="Green")
    look.close()  # so that nobody waits
    set_preset = rig.microscope.set_preset

    def set_slowly(group, preset):
        set_preset(group, preset)
        rig.wait(25)

    rig.microscope.set_preset = set_slowly
    assert look.execute(example_command({"preset": "Red"}))["back_to"] == "Green"
    assert rig.microscope.preset("Channel") == "Green"
    assert rig.used_ms == 50
    with pytest.raises(CommandRefused, match="20 ms of light by Channel"):
        look.execute(example_command({"preset": "Red"}))


def test_a_group_at_no_preset_has_no_way_back():
    rig = Rig(channel="")
    with pytest.raises(ConfigError, match="'Channel' makes light and is at none of its presets now"):
        Preset(microscope=rig.guard, group="Channel").prepare(SOURCE, [{"preset": "Red"}])
    with pytest.raises(CommandRefused, match="none of its presets"):
        rig.guard.set_preset("Channel", "Red")


def test_an_event_counts_its_exposure_and_switches_on_nothing_that_stays_on():
    rig = Rig(most_ms=25)
    rig.guard.add_event({"exposure": 2.5, "channel": "Red"})
    rig.guard.add_event({})
    assert rig.used_ms == 12.5
    with pytest.raises(CommandRefused, match="20 ms of light by an event would exceed"):
        rig.guard.add_event({"exposure": 20})
    with pytest.raises(CommandRefused, match=r"events may not set Lamp\.Power, which makes light"):
        rig.guard.add_event({"properties": [("Lamp", "Power", "5")]})
    rig.guard.add_event({"exposure": 0, "properties": [("Lamp", "Power", "0")]})
    assert rig.used_ms == 12.5


def test_light_that_failed_counts_until_it_is_switched_off():
    rig = Rig()
    rig.microscope.faults.append(MicroscopeError("no answer"))
    with pytest.raises(MicroscopeError, match="no answer"):
        rig.guard.set_property("Lamp", "Power", "1")
    rig.wait(10)
    assert rig.guard.light()["on"] == ["Lamp.Power"]
    rig.guard.set_property("Lamp", "Power", "0")
    assert rig.used_ms == 10


def test_the_emergency_stop_sets_lamps_and_groups_to_rest_and_darkness_stays_allowed():
    rig = Rig(lamp="5", close_shutter="Two")
    rig.guard.set_property("Lamp", "Power", "50")
    rig.guard.set_preset("Channel", "Red")
    rig.guard.set_shutter("One", True)
    assert rig.guard.make_safe() == {"Two": "closed", "One": "closed", "Lamp.Power": "off", "Channel": "off"}
    assert rig.microscope.properties["Lamp.Power"] == "5"
    assert rig.microscope.preset("Channel") == "Green"
    assert not any(rig.microscope.shutters.values())
    rig.guard.set_property("Lamp", "Power", "0")
    for brighter in (
        lambda: rig.guard.set_property("Lamp", "Power", "5"),
        lambda: rig.guard.set_preset("Channel", "Red"),
    ):
        with pytest.raises(CommandRefused, match="stopped"):
            brighter()
    assert rig.microscope.properties["Lamp.Power"] == "0"


def test_a_rehearsal_counts_and_moves_nothing():
    rig = Rig(most_ms=100, mode="rehearse")
    rig.guard.set_shutter("One", True)
    rig.wait(100)
    assert rig.guard.enforce_dose()
    with pytest.raises(CommandRefused):
        rig.guard.set_shutter("One", True)
    rig.guard.make_safe()
    assert not rig.microscope.calls


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
    guard.enforce_dose()
    microscope.go.set()
    command.join(10)
    assert not command.is_alive()
    guard.enforce_dose()  # or the guard's own thread
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
ORDERS = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(SHUTTERS), st.none() | st.floats(0.1, 150)),
    st.tuples(st.just("close"), st.sampled_from(SHUTTERS)),
    st.tuples(st.just("lamp"), st.sampled_from(LEVELS)),
    st.tuples(st.just("channel"), st.sampled_from(CHANNELS), st.none() | st.floats(0.1, 150)),
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
        return sum(on) + (channel not in (self.channel_at_rest, "Off"))

    def wait(self, ms):
        """Let time pass, and the guard act when its alarm is due, as its thread does."""
        while ms > 0:
            due_ms = self.rig.guard._light_ends_in_s() * 1e3
            step = min(ms, due_ms)
            self.used_ms += step * self.n_on()
            self.rig.clock.advance(round(step * MS))
            ms -= step
            if step == due_ms:
                self.rig.clock.advance(1)
                assert self.rig.guard.enforce_dose()

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
        return what in ("close", "wait")


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
