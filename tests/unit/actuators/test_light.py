"""Light is the time for which commands have sources on."""

import pytest
from light_rig import MS, Rig

from streamtrack.actuators.devices import Preset, Shutter
from streamtrack.actuators.guard import Guard
from streamtrack.actuators.light import is_dark
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.testing import FakeClock
from streamtrack.testing.actuators import SOURCE, example_command
from streamtrack.testing.microscope import SimulatedMicroscope


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
        "off_late": {},
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
    assert rig.guard.enforce()
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
    assert rig.guard.enforce()
    assert rig.microscope.shutters["One"]
    rig.wait(1)
    assert rig.guard.enforce()
    assert not rig.microscope.shutters["One"]
    assert rig.microscope.properties["Lamp.Power"] == "0"
    assert rig.microscope.preset("Channel") == "Green"
    assert rig.guard.outcome()["light"] == {
        "used_ms": 102,
        "left_ms": 0,
        "on": [],
        "off_at_limit": {"One": "closed", "Lamp.Power": "off", "Channel": "off"},
        "off_late": {},
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
    assert not rig.guard.enforce()  # the devices do not answer: all is on
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
    assert rig.guard.enforce()
    with pytest.raises(CommandRefused):
        rig.guard.set_shutter("One", True)
    rig.guard.make_safe()
    assert not rig.microscope.calls
