"""Pulses that devices make by themselves, in front of a microscope in memory."""

import threading
import time
from contextlib import closing

import pytest

from streamtrack.actuators.guard import Guard
from streamtrack.actuators.pulse import Pulse
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.testing.actuators import SOURCE, example_command
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.waiting import joined_within

SAFETY = SafetyConfig(properties=("TTL.State", "TTL.Length"), pulse_ms=(0.1, 500))
BEGIN, END = ("set_property", "TTL", "State", "Start"), ("set_property", "TTL", "State", "Stop")


@pytest.fixture
def microscope():
    with closing(SimulatedMicroscope(properties={"TTL.State": "Stop", "TTL.Length": "1"})) as microscope:
        yield microscope


def pulse(microscope, mode="armed", safety=SAFETY, **settings):
    guard = Guard(microscope, safety, mode)
    settings = {"device": "TTL", "fire": "State", "on": "Start", "off": "Stop", "length": "Length"} | settings
    return Pulse(microscope=guard, **settings), guard


def test_the_length_is_written_before_the_pulse_and_in_its_unit(microscope):
    for unit, written in (("ms", "2.5"), ("us", "2500")):
        microscope.calls.clear()
        result = pulse(microscope, unit=unit)[0].execute(example_command({"pulse_ms": 2.5}))
        assert microscope.calls == [("set_property", "TTL", "Length", written), BEGIN, END]
        assert result == {"pulse": "TTL.State", "pulse_ms": 2.5, "tries": 1}


def test_it_stays_on_for_longer_than_the_pulse_where_that_is_wanted(microscope):
    actuator, guard = pulse(microscope, for_ms=60)
    started = time.perf_counter()
    assert actuator.execute(example_command({"pulse_ms": 5}))["for_ms"] == 60
    assert time.perf_counter() - started >= 0.06
    assert guard.light()["used_ms"] >= 60


def test_without_a_property_for_the_length_the_computer_times_it(microscope):
    actuator, _ = pulse(microscope, length=None)
    started = time.perf_counter()
    actuator.execute(example_command({"pulse_ms": 40}))
    assert time.perf_counter() - started >= 0.04
    assert microscope.calls == [BEGIN, END]


def test_a_length_outside_the_limits_is_refused_and_nothing_is_written(microscope):
    actuator, guard = pulse(microscope)
    for pulse_ms, words in ((501, "outside safety.pulse_ms = 0.1 to 500"), (0.01, "outside")):
        with pytest.raises(ConfigError, match=words):
            actuator.prepare(SOURCE, [{"pulse_ms": pulse_ms}])
    with pytest.raises(ConfigError, match=r"there are no limits safety\.pulse_ms; set them first"):
        pulse(microscope, safety=SAFETY.model_copy(update={"pulse_ms": None}))[0].prepare(SOURCE, [{"pulse_ms": 1}])
    with pytest.raises(CommandRefused):
        actuator.execute(example_command({"pulse_ms": 501}))
    assert BEGIN not in microscope.calls
    assert guard.light()["used_ms"] == 0


def test_how_long_it_is_on_counts_against_the_limit_too(microscope):
    with pytest.raises(ConfigError, match="pulse_ms = 600 is outside"):
        pulse(microscope, for_ms=600)[0].prepare(SOURCE, [{"pulse_ms": 1}])


def test_it_is_light_though_nothing_says_so_and_the_dose_bounds_it(microscope):
    actuator, guard = pulse(microscope, safety=SAFETY.model_copy(update={"max_dose_ms": 100.0}))
    with pytest.raises(ConfigError, match="would exceed the dose"):
        actuator.prepare(SOURCE, [{"pulse_ms": 200}])
    actuator.execute(example_command({"pulse_ms": 60}))
    assert 60 <= guard.light()["used_ms"] < 100
    with pytest.raises(CommandRefused, match="would exceed the dose"):
        actuator.execute(example_command({"pulse_ms": 60}))
    assert microscope.properties["TTL.State"] == "Stop"


@pytest.mark.parametrize(("on", "off"), [("0", "1"), ("off", "on"), (5, 10), ("2 - Rising", "0 - Off")])
def test_what_is_off_is_what_the_settings_say(microscope, on, off):
    """An output that is on at 0 is on at 0."""
    actuator, guard = pulse(microscope, on=on, off=off, length=None)
    worker = threading.Thread(target=actuator.execute, args=(example_command({"pulse_ms": 400}),), daemon=True)
    worker.start()
    while microscope.properties["TTL.State"] != str(on):
        time.sleep(0.001)
    assert guard.light()["on"] == ["TTL.State"]
    assert guard.make_safe() == {"TTL.State": "off"}
    assert microscope.properties["TTL.State"] == str(off)
    actuator.close()
    assert joined_within(worker, 5)
    assert guard.light()["on"] == []


def test_a_stop_ends_a_pulse_at_once_and_none_follows(microscope):
    actuator, guard = pulse(microscope)
    worker = threading.Thread(target=actuator.execute, args=(example_command({"pulse_ms": 400}),), daemon=True)
    worker.start()
    while BEGIN not in microscope.calls:
        time.sleep(0.001)
    began = time.perf_counter()
    guard.make_safe()
    actuator.close()
    assert joined_within(worker, 5)
    assert time.perf_counter() - began < 0.3
    assert microscope.properties["TTL.State"] == "Stop"
    with pytest.raises(CommandRefused):
        actuator.execute(example_command({"pulse_ms": 1}))
    assert guard.outcome()["lamps"] == {"TTL.State": "off"}


def test_disarming_ends_a_pulse_and_its_command_is_refused(microscope):
    actuator, guard = pulse(microscope)
    refusals = []

    def execute():
        try:
            actuator.execute(example_command({"pulse_ms": 300}))
        except CommandRefused as refusal:
            refusals.append(refusal.reason)

    worker = threading.Thread(target=execute, daemon=True)
    worker.start()
    while BEGIN not in microscope.calls:
        time.sleep(0.001)
    guard.lower("observe")
    assert guard.settle() == {"TTL.State": "off"}
    assert microscope.properties["TTL.State"] == "Stop"
    assert joined_within(worker, 5)
    assert refusals == ["observe"]
    assert microscope.calls[-1] == END


def test_a_device_that_takes_the_pulse_and_says_that_it_failed_is_set_back(microscope):
    class Liar(SimulatedMicroscope):
        def set_property(self, device, name, value):
            super().set_property(device, name, value)
            if value == "Start":
                raise MicroscopeError("no answer")

    liar = Liar(properties={"TTL.State": "Stop", "TTL.Length": "1"})
    actuator, guard = pulse(liar)
    with pytest.raises(MicroscopeError, match="no answer"):
        actuator.execute(example_command({"pulse_ms": 5}))
    assert liar.properties["TTL.State"] == "Stop"
    assert guard.light()["on"] == []


def test_what_could_not_be_set_back_is_tried_again_and_counts_as_on(microscope):
    actuator, guard = pulse(microscope, retries=1)
    set_property = microscope.set_property

    def stuck(device, name, value):
        if value == "Stop":
            raise MicroscopeError("stuck")
        set_property(device, name, value)

    microscope.set_property = stuck
    with pytest.raises(MicroscopeError, match="stuck"):
        actuator.execute(example_command({"pulse_ms": 5}))
    assert guard.light()["on"] == ["TTL.State"]
    assert guard.make_safe() == {"TTL.State": "MicroscopeError: stuck"}
    microscope.set_property = set_property
    assert guard.make_safe() == {"TTL.State": "off"}


def test_a_rehearsal_writes_nothing(microscope):
    actuator, guard = pulse(microscope, mode="rehearse")
    actuator.execute(example_command({"pulse_ms": 5}))
    assert not microscope.calls
    assert guard.outcome()["writes"] == {"property": 3}


def test_on_and_off_have_to_differ():
    with pytest.raises(ConfigError, match="on and off are both '1'"):
        Pulse(microscope=None, device="TTL", fire="State", on=1, off="1")
