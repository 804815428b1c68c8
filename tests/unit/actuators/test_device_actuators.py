import threading
import time

import pytest

from streamtrack.actuators.acquisition import MdaEvent
from streamtrack.actuators.camera import Exposure
from streamtrack.actuators.devices import Preset, Property, Shutter
from streamtrack.actuators.guard import Guard
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.testing.actuators import EVERYTHING, SOURCE, example_command
from streamtrack.testing.microscope import SimulatedMicroscope


def armed(microscope, **safety):
    return Guard(microscope, EVERYTHING.model_copy(update=safety), "armed")


@pytest.fixture
def microscope():
    return SimulatedMicroscope()


def test_properties_are_written_as_micro_manager_writes_them(microscope):
    actuator = Property(microscope=armed(microscope), device="Laser", property="Power")
    for value, text in ((20, "20"), (20.0, "20"), (0.25, "0.25"), ("On", "On"), (True, "1"), (False, "0")):
        assert actuator.execute(example_command({"value": value}))["value"] == text
        assert microscope.properties["Laser.Power"] == text


def test_the_action_goes_before_the_setting(microscope):
    exposure = Exposure(microscope=armed(microscope), exposure_ms=20)
    assert exposure.execute(example_command({}))["exposure_ms"] == 20
    assert exposure.execute(example_command({"exposure_ms": 5}))["exposure_ms"] == microscope.exposure_ms() == 5
    preset = Preset(microscope=armed(microscope), group="Channel", preset="Red")
    preset.execute(example_command({}))
    assert microscope.presets["Channel"][0] == "Red"


def test_neither_action_nor_setting_is_a_mistake_in_the_configuration(microscope):
    for actuator in (
        Property(microscope=armed(microscope), device="Laser", property="Power"),
        Preset(microscope=armed(microscope), group="Channel"),
        Exposure(microscope=armed(microscope)),
    ):
        with pytest.raises(ConfigError, match="give action = "):
            actuator.prepare(SOURCE, [{}])


def test_what_failed_is_tried_again_as_often_as_allowed(microscope):
    actuator = Property(microscope=armed(microscope), device="Laser", property="Power", retries=2)
    microscope.faults.extend(MicroscopeError(f"fault {i}") for i in range(2))
    assert actuator.execute(example_command({"value": 1}))["tries"] == 3
    microscope.faults.extend(MicroscopeError(f"fault {i}") for i in range(3))
    with pytest.raises(MicroscopeError, match="fault 2"):
        actuator.execute(example_command({"value": 1}))
    assert len(microscope.calls) == 1


def test_a_command_that_is_no_longer_valid_is_not_tried_again(microscope):
    actuator = Property(microscope=armed(microscope), device="Laser", property="Power", retries=5)
    microscope.faults.extend(MicroscopeError(f"fault {i}") for i in range(5))
    with pytest.raises(MicroscopeError, match="fault 0"):
        actuator.execute(example_command({"value": 1}, valid_ms=-1))
    assert len(microscope.faults) == 4


def test_a_refusal_is_final(microscope):
    guard = Guard(microscope, EVERYTHING.model_copy(update={"properties": ()}), "armed")
    with pytest.raises(CommandRefused):
        Property(microscope=guard, device="Laser", property="Power", retries=5).execute(example_command({"value": 1}))
    assert guard.outcome()["refused"] == {"not allowed": 1}


def test_a_pulse_opens_and_closes(microscope):
    started = time.perf_counter()
    Shutter(microscope=armed(microscope), device="Shutter").execute(example_command({"pulse_ms": 50}))
    assert time.perf_counter() - started >= 0.05
    assert microscope.calls == [("set_shutter", "Shutter", True), ("set_shutter", "Shutter", False)]


def test_a_pulse_ends_with_the_run(microscope):
    actuator = Shutter(microscope=armed(microscope), device="Shutter")
    pulse = threading.Thread(target=actuator.execute, args=(example_command({"pulse_ms": 60_000}),), daemon=True)
    pulse.start()
    while not microscope.shutters["Shutter"]:
        time.sleep(0.001)
    actuator.close()
    pulse.join(10)
    assert not pulse.is_alive()
    assert not microscope.shutters["Shutter"]


def test_a_pulse_closes_after_an_emergency_stop_and_after_a_failed_opening(microscope):
    guard = Guard(microscope, EVERYTHING.model_copy(update={"close_shutter": None}), "armed")
    actuator = Shutter(microscope=guard, device="Shutter")
    pulse = threading.Thread(target=actuator.execute, args=(example_command({"pulse_ms": 60_000}),), daemon=True)
    pulse.start()
    while not microscope.shutters["Shutter"]:
        time.sleep(0.001)
    assert guard.make_safe() == {"Shutter": "closed"}
    actuator.close()
    pulse.join(10)
    assert not pulse.is_alive()

    microscope.calls.clear()
    microscope.faults.append(MicroscopeError("no answer: it may have opened all the same"))
    with pytest.raises(MicroscopeError):
        Shutter(microscope=armed(microscope), device="Shutter").execute(example_command({"pulse_ms": 10}))
    assert microscope.calls == [("set_shutter", "Shutter", False)]


def test_a_shutter_left_open_is_closed_with_the_actuator_and_only_then(microscope):
    actuator = Shutter(microscope=armed(microscope), device="Shutter")
    actuator.execute(example_command({"opened": True}))
    assert microscope.shutters["Shutter"]
    actuator.close()
    assert not microscope.shutters["Shutter"]
    microscope.set_shutter("Shutter", True)  # by hand, later
    actuator.close()
    assert microscope.shutters["Shutter"]


def test_closing_is_tried_again_even_when_the_command_is_old(microscope):
    actuator = Shutter(microscope=armed(microscope), device="Shutter", retries=2)
    actuator.execute(example_command({"opened": True}))
    microscope.faults.extend(MicroscopeError(f"fault {i}") for i in range(2))
    assert actuator.execute(example_command({"opened": False}, valid_ms=-1))["tries"] == 3
    assert not microscope.shutters["Shutter"]


def test_a_refused_opening_closes_nothing_of_others():
    microscope = SimulatedMicroscope()
    microscope.set_shutter("Shutter", True)  # by hand
    guard = Guard(microscope, EVERYTHING.model_copy(update={"max_dose_ms": 1.0}), "armed")
    actuator = Shutter(microscope=guard, device="Shutter")
    with pytest.raises(CommandRefused, match="max_dose_ms"):
        actuator.execute(example_command({"pulse_ms": 5}))
    actuator.close()
    assert microscope.shutters["Shutter"]


def test_a_burst_of_events_says_where_it_comes_from(microscope):
    actuator = MdaEvent(microscope=armed(microscope), repeats=3)
    action = {"exposure": 5, "metadata": {"phase": "burst"}}
    assert actuator.execute(example_command(action)) == {"events": 3}
    cause = {"rule": "a rule", "frame": 123, "particle": 7}
    assert microscope.events == 3 * [{"exposure": 5, "metadata": {"phase": "burst", "streamtrack": cause}}]


def test_a_look_at_another_preset_goes_back():
    microscope = SimulatedMicroscope()
    preset = Preset(microscope=armed(microscope), group="Channel", preset="Red", for_ms=20, back_to="Green")
    assert preset.execute(example_command({}))["back_to"] == "Green"
    assert microscope.calls == [("set_preset", "Channel", "Red"), ("set_preset", "Channel", "Green")]


def test_a_look_at_another_preset_ends_with_the_run():
    microscope = SimulatedMicroscope()
    preset = Preset(microscope=armed(microscope), group="Channel", preset="Red", for_ms=30_000, back_to="Green")
    preset.close()
    preset.execute(example_command({}))
    assert microscope.presets["Channel"][0] == "Green"


@pytest.mark.parametrize("settings", [{"for_ms": 5.0}, {"back_to": "Green"}, {"for_ms": -1.0, "back_to": "Green"}])
def test_a_look_needs_its_length_and_its_end(settings):
    with pytest.raises(ConfigError, match="for_ms"):
        Preset(microscope=armed(SimulatedMicroscope()), group="Channel", **settings)
