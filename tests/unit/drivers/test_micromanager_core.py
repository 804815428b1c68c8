"""The in-process core as a microscope: real MMCore, real DemoCamera devices."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, MicroscopeError

pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
pytest.importorskip("mm_test_adapters", reason="needs the demo camera of mm-test-adapters")

from streamtrack_drivers.micromanager import core as core_module
from streamtrack_drivers.micromanager.core import MicroManager

DEMO = Path("MMConfig_demo.cfg")
THREADS = "streamtrack-call"


@pytest.fixture
def scope():
    microscope = MicroManager(config=DEMO, timeout_s=1.0)
    yield microscope
    microscope.close()


def test_it_is_built_from_its_table():
    table = PluginConfig(kind="micromanager", config="MMConfig_demo.cfg", stage_um_per_px=[[0.0, 0.1], [-0.1, 0.0]])
    microscope = registry.build("microscopes", table).instance
    try:
        np.testing.assert_array_equal(microscope.stage_um_per_px(), [[0.0, 0.1], [-0.1, 0.0]])
        assert microscope.pixel_size_um() == pytest.approx(0.1)
        assert microscope.info["camera"] == "Camera"
        assert microscope.info["devices"]["XY"] == "DemoCamera.DXYStage"
    finally:
        microscope.close()


def test_the_core_is_no_setting():
    with pytest.raises(ConfigError, match="unknown key 'core'"):
        registry.build("microscopes", PluginConfig(kind="micromanager", config="MMConfig_demo.cfg", core="x"))


def test_a_configuration_is_needed():
    with pytest.raises(ConfigError, match="config"):
        registry.build("microscopes", PluginConfig(kind="micromanager"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"config": Path("nowhere.cfg")}, ConfigError, "no configuration file nowhere.cfg"),
        ({"config": DEMO, "adapters": Path("nowhere")}, ConfigError, "no folder nowhere"),
        ({"config": DEMO, "timeout_s": 0.0}, ConfigError, "timeout_s = 0.0 .* greater than 0"),
        ({"config": DEMO, "timeout_s": float("nan")}, ConfigError, "timeout_s = nan"),
        ({"config": DEMO, "stage_um_per_px": [[1.0, 2.0], [2.0, 4.0]]}, ConfigError, "is not understood: give x and y"),
    ],
)
def test_wrong_settings_are_one_line(settings, error, message):
    with pytest.raises(error, match=message) as caught:
        MicroManager(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Device,Camera,NoSuchAdapter,DCam\n", "NoSuchAdapter"),
        ("this is no\nconfiguration, 1\n", "holds no device"),
        ("", "holds no device"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, text, message):
    (tmp_path / "wrong.cfg").write_text(text, encoding="utf-8")
    with pytest.raises(MicroscopeError, match=message) as caught:
        MicroManager(config=tmp_path / "wrong.cfg")
    assert "\n" not in str(caught.value)
    assert "wrong.cfg" in str(caught.value)


@pytest.fixture
def elsewhere(tmp_path):
    """The demo configuration in a folder whose name is not ASCII."""
    config = tmp_path / "Jürgen Ω" / "scope.cfg"
    config.parent.mkdir()
    config.write_bytes((Path(__import__("mm_test_adapters").device_adapter_path()) / DEMO).read_bytes())
    return config


def test_a_configuration_may_lie_in_a_folder_of_any_name(elsewhere):
    microscope = MicroManager(config=elsewhere)
    assert microscope.info["camera"] == "Camera"
    assert microscope.info["config"] == str(elsewhere.resolve())
    microscope.close()


def test_on_windows_the_core_reads_a_copy_with_an_ascii_path(elsewhere, monkeypatch):
    monkeypatch.setattr(core_module.sys, "platform", "win32")
    with core_module._readable_by_the_core(elsewhere) as path:
        assert str(path).isascii()
        assert path.read_bytes() == elsewhere.read_bytes()
    assert not path.parent.exists()


def test_adapters_that_are_not_there_are_named(tmp_path):
    config = Path(__import__("mm_test_adapters").device_adapter_path()) / DEMO
    with pytest.raises(MicroscopeError, match="DemoCamera"):
        MicroManager(config=config, adapters=tmp_path)


def test_properties_presets_and_shutters_are_set(scope):
    core = scope.core
    scope.set_property("Camera", "Gain", "3")
    scope.set_preset("Channel", "FITC")
    scope.set_shutter("White Light Shutter", True)
    assert core.getProperty("Camera", "Gain") == "3"
    assert core.getProperty("Emission", "Label") == "Chroma-HQ535"
    assert core.getShutterOpen("White Light Shutter")
    scope.set_shutter("White Light Shutter", False)
    assert not core.getShutterOpen("White Light Shutter")


def test_stage_and_focus_arrive_before_the_call_returns(scope):
    scope.move_stage_um(12.0, -7.5)
    scope.move_focus_um(3.25)
    assert not scope.core.deviceBusy("XY")
    assert scope.stage_um() == pytest.approx((12.0, -7.5), abs=0.02)
    assert scope.focus_um() == pytest.approx(3.25)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (
            lambda scope: scope.set_property("Laser", "Power", "1"),
            r'Laser\.Power = 1: No device with label "Laser"',
        ),
        (lambda scope: scope.set_property("Camera", "Bining", "2"), r"Camera\.Bining"),
        (lambda scope: scope.set_preset("Channel", "Infrared"), "Infrared"),
        (lambda scope: scope.set_shutter("Camera", True), "open shutter Camera"),
        (lambda scope: scope.set_exposure_ms(-1.0), "-1 ms"),
        (lambda scope: scope.set_exposure_ms(float("nan")), "nan ms"),
        (lambda scope: scope.set_exposure_ms(1e9), "did not take"),
        (lambda scope: scope.move_stage_um(float("nan"), 0.0), "cannot move"),
        (lambda scope: scope.move_focus_um(float("inf")), "cannot move"),
        (lambda scope: scope.add_event({}), "no acquisition takes events"),
    ],
)
def test_what_the_hardware_refuses_is_one_line(scope, order, message):
    with pytest.raises(MicroscopeError, match=message) as caught:
        order(scope)
    assert "\n" not in str(caught.value)
    assert scope.stage_um() == pytest.approx((0.0, 0.0))


def test_a_stage_that_does_not_arrive_in_time_is_stopped(scope):
    scope.core.setTimeoutMs(200)
    scope.core.setProperty("XY", "Velocity", "0.1")
    with pytest.raises(MicroscopeError, match=r"move XY to \(1000, 0\) um: .*timed out"):
        scope.move_stage_um(1000.0, 0.0)
    there = scope.stage_um()
    assert 0 < there[0] < 1000
    assert not scope.core.deviceBusy("XY")
    time.sleep(0.05)
    assert scope.stage_um() == there


def test_a_preset_whose_devices_are_not_ready_in_time_is_an_error(scope):
    scope.core.setTimeoutMs(100)
    scope.core.defineConfig("Stage", "Slow", "XY", "Velocity", "0.1")
    scope.set_preset("Stage", "Slow")
    scope.core.setXYPosition(1000.0, 0.0)
    with pytest.raises(MicroscopeError, match=r"apply preset Stage = Slow: .*timed out after 100ms"):
        scope.set_preset("Stage", "Slow")


def test_roles_that_nobody_has_are_named():
    pymmcore = pytest.importorskip("pymmcore")
    scope = MicroManager.around(pymmcore.CMMCore())
    for ask in (scope.stage_um, scope.focus_um, lambda: scope.move_stage_um(0, 0)):
        with pytest.raises(MicroscopeError, match="there is no"):
            ask()
    scope.close()


def test_a_core_of_the_users_own_is_left_as_it_is(scope):
    events = []
    mine = MicroManager.around(scope.core, add_event=events.append)
    mine.set_exposure_ms(7.0)
    mine.add_event({"exposure": 5})
    mine.close()
    mine.close()
    assert events == [{"exposure": 5}]
    assert scope.exposure_ms() == 7.0
    assert "Camera" in scope.core.getLoadedDevices()
    with pytest.raises(MicroscopeError, match="closed"):
        mine.exposure_ms()


def test_pymmcore_plus_cores_work_too():
    pymmcore_plus = pytest.importorskip("pymmcore_plus")
    core = pymmcore_plus.CMMCorePlus()
    core.loadSystemConfiguration()
    scope = MicroManager.around(core)
    try:
        scope.move_stage_um(3.0, 4.0)
        scope.set_property("Camera", "Gain", "2")
        assert scope.stage_um() == pytest.approx((3.0, 4.0), abs=0.02)
    finally:
        scope.close()
        core.unloadAllDevices()


def test_close_unloads_the_devices_and_ends_the_threads():
    before = _threads()
    scope = MicroManager(config=DEMO)
    scope.core.startContinuousSequenceAcquisition(0)
    scope.exposure_ms()
    scope.close()
    scope.close()
    assert scope.core.getLoadedDevices() == ("Core",)
    assert _wait_until(lambda: _threads() == before)


def _threads():
    return sum(thread.name == THREADS for thread in threading.enumerate())


def _wait_until(condition, timeout_s=5.0):
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_move_is_stopped_from_another_thread(scope):
    x, y = scope.stage_um()
    moving = threading.Thread(target=scope.move_stage_um, args=(x + 50, y), daemon=True)
    moving.start()
    scope.halt()
    moving.join(5)
    assert not moving.is_alive()
