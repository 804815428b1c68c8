"""Guard and actuators on Micro-Manager's own core with its demo devices."""

import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymmcore")
pytest.importorskip("mm_test_adapters")

import mm_test_adapters
import pymmcore

from streamtrack.actuators.autofocus import Autofocus
from streamtrack.actuators.devices import Preset, Property, Shutter
from streamtrack.actuators.guard import Guard
from streamtrack.actuators.pulse import Pulse
from streamtrack.actuators.stage import Focus, Stage
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.testing.actuators import example_command
from streamtrack.types import SourceInfo
from streamtrack.waiting import joined_within
from streamtrack_drivers.micromanager.core import MicroManager

SHUTTER = "White Light Shutter"
SAFETY = SafetyConfig(
    properties=("Camera.Gain", "Camera.NoSuchProperty"),
    presets=("Channel",),
    shutters=(SHUTTER,),
    x_um=(-100, 100),
    z_um=(-10, 10),
    close_shutter=SHUTTER,
)


@pytest.fixture
def microscope():
    with closing(MicroManager(config=Path("MMConfig_demo.cfg"))) as microscope:
        yield microscope


def test_commands_reach_the_devices(microscope):
    guard = Guard(microscope, SAFETY, "armed")
    Property(microscope=guard, device="Camera", property="Gain").execute(example_command({"value": 3.0}))
    assert microscope.core.getProperty("Camera", "Gain") == "3"
    Preset(microscope=guard, group="Channel").execute(example_command({"preset": "FITC"}))
    assert microscope.core.getCurrentConfig("Channel") == "FITC"
    Focus(microscope=guard).execute(example_command({"by": 2.5}))
    assert microscope.focus_um() == pytest.approx(2.5)


def test_the_stage_goes_along_the_axis_that_has_limits(microscope):
    stage = Stage(microscope=Guard(microscope, SAFETY, "armed"))
    stage.prepare(SourceInfo("camera", (512, 512), "uint8", live=True), [{"by": [20, 0]}])
    microscope.move_stage_um(0, 7)
    result = stage.execute(example_command({"by": [20, 0]}))
    np.testing.assert_allclose(result["to_um"], (20, 7), atol=0.05)
    np.testing.assert_allclose(microscope.stage_um(), (20, 7), atol=0.05)
    for action in ({"by": [0, 5]}, {"to": [101, 7]}):
        with pytest.raises(CommandRefused):
            stage.execute(example_command(action))
    np.testing.assert_allclose(microscope.stage_um(), (20, 7), atol=0.05)


def test_light_goes_off_after_a_pulse_and_in_an_emergency(microscope):
    guard = Guard(microscope, SAFETY, "armed")
    shutter = Shutter(microscope=guard, device=SHUTTER)
    shutter.execute(example_command({"pulse_ms": 5}))
    assert not microscope.core.getShutterOpen(SHUTTER)
    shutter.execute(example_command({"opened": True}))
    assert microscope.core.getShutterOpen(SHUTTER)
    assert guard.make_safe() == {SHUTTER: "closed"}
    assert not microscope.core.getShutterOpen(SHUTTER)


def test_a_pulse_of_a_state_device_is_over_when_it_returns_and_after_a_stop(microscope):
    safety = SafetyConfig(properties=("LED.State",), pulse_ms=(1, 1000))
    guard = Guard(microscope, safety, "armed")
    pulse = Pulse(microscope=guard, device="LED", fire="State", on=4, off=1)
    pulse.prepare(SourceInfo("camera", (512, 512), "uint8", live=True), [{"pulse_ms": 20}])
    assert pulse.execute(example_command({"pulse_ms": 20}))["tries"] == 1
    assert microscope.property_value("LED", "State") == "1"
    worker = threading.Thread(target=pulse.execute, args=(example_command({"pulse_ms": 900}),), daemon=True)
    worker.start()
    while microscope.property_value("LED", "State") != "4":
        pass
    assert guard.make_safe() == {"LED.State": "off"}
    assert microscope.property_value("LED", "State") == "1"
    pulse.close()
    assert joined_within(worker, 5)


def test_the_autofocus_focuses_and_lets_go_while_the_stage_moves(microscope):
    safety = SAFETY.model_copy(update={"autofocus": True, "y_um": (-100, 100)})
    guard = Guard(microscope, safety, "armed")
    autofocus = Autofocus(microscope=guard, rest_s=0)
    actions = [{"full": True}, {"incremental": True}]
    autofocus.prepare(SourceInfo("camera", (512, 512), "uint8", live=True), actions)
    for action in actions:
        assert autofocus.execute(example_command(action))["to_um"] == 0
    microscope.set_continuous_focus(True)
    held = []
    move = microscope.move_stage_um
    microscope.move_stage_um = lambda x, y: (held.append(microscope.continuous_focus()), move(x, y))
    guard.move_stage_um(10, 5)
    assert held == [False]
    assert microscope.is_focus_locked()
    assert guard.outcome()["continuous_focus"] == "held"


class Searching(pymmcore.CMMCore):
    """Searches the focus for so long, on its way through the demo's focus drive."""

    search_s = 0.0

    def fullFocus(self):
        end_s = time.monotonic() + self.search_s
        self.setPosition("Z", 4.0)
        while time.monotonic() < end_s:
            time.sleep(0.01)
        super().fullFocus()


@pytest.fixture
def searching():
    core = Searching()
    folder = mm_test_adapters.device_adapter_path()
    core.setDeviceAdapterSearchPaths([folder])
    core.loadSystemConfiguration(str(Path(folder, "MMConfig_demo.cfg")))
    with closing(MicroManager.around(core)) as microscope:
        yield microscope
    core.unloadAllDevices()


def test_a_search_that_takes_too_long_is_left_and_the_drive_brought_back(searching):
    searching.core.search_s = 1.0
    guard = Guard(searching, SAFETY.model_copy(update={"autofocus": True}), "armed")
    autofocus = Autofocus(microscope=guard, timeout_s=0.3, rest_s=0)
    with pytest.raises(MicroscopeError, match=r"focus with Autofocus: no answer within 0\.3 s"):
        autofocus.execute(example_command({"full": True}))
    assert searching.focus_um() == 0
    time.sleep(1.0)
    searching.core.search_s = 0.0
    assert autofocus.execute(example_command({"full": True}))["to_um"] == 4


def test_a_stop_while_it_searches_lets_nothing_move_after_it(searching):
    searching.core.search_s = 0.5
    guard = Guard(searching, SAFETY.model_copy(update={"autofocus": True, "z_um": (-1, 1)}), "armed")
    refusals = []

    def focus():
        try:
            Autofocus(microscope=guard).execute(example_command({"full": True}))
        except CommandRefused as refusal:
            refusals.append(str(refusal))

    worker = threading.Thread(target=focus, daemon=True)
    worker.start()
    while searching.focus_um() != 4:
        time.sleep(0.005)
    guard.make_safe()
    assert joined_within(worker, 5)
    assert guard.outcome()["moves"] == "halted"
    assert refusals == ["z_um = 4 is outside safety.z_um = -1 to 1"]
    assert searching.focus_um() == 4, "where the stop found it"


def test_without_an_autofocus_it_is_said_before_the_run(microscope):
    microscope.core.setAutoFocusDevice("")
    guard = Guard(microscope, SafetyConfig(autofocus=True), "observe")
    with pytest.raises(ConfigError, match="there is no autofocus: give one the role Core-AutoFocus"):
        Autofocus(microscope=guard).prepare(SourceInfo("camera", (512, 512), "uint8"), [{"full": True}])
    with pytest.raises(ConfigError, match=r"safety\.autofocus: there is no autofocus"):
        guard.check_names()


def test_what_the_core_refuses_is_an_error_in_one_line(microscope):
    guard = Guard(microscope, SAFETY, "armed")
    actuator = Property(microscope=guard, device="Camera", property="NoSuchProperty")
    with pytest.raises(MicroscopeError) as caught:
        actuator.execute(example_command({"value": 1}))
    assert len(str(caught.value).splitlines()) == 1


def test_a_rehearsal_leaves_every_device_as_it_is(microscope):
    microscope.set_shutter(SHUTTER, False)  # the demo devices begin with light
    guard = Guard(microscope, SAFETY, "rehearse")
    gain, position = microscope.core.getProperty("Camera", "Gain"), microscope.stage_um()
    Property(microscope=guard, device="Camera", property="Gain").execute(example_command({"value": 5}))
    Stage(microscope=guard).execute(example_command({"by": [20, 0]}))
    Shutter(microscope=guard, device=SHUTTER).execute(example_command({"opened": True}))
    assert guard.make_safe() == {}
    assert (microscope.core.getProperty("Camera", "Gain"), microscope.stage_um()) == (gain, position)
    assert not microscope.core.getShutterOpen(SHUTTER)
