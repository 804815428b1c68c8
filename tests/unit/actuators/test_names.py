"""Names in a run's file are compared with those of Micro-Manager's own core before anything begins."""

from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("pymmcore")
pytest.importorskip("mm_test_adapters")

from streamtrack.actuators.guard import Guard
from streamtrack.actuators.names import Names
from streamtrack.config import RunConfig, SafetyConfig
from streamtrack.errors import ConfigError
from streamtrack.parts import ReadyMade, build_parts
from streamtrack.session import Session
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import SourceInfo
from streamtrack_drivers.micromanager.core import MicroManager

RIGHT = {
    "properties": ["LED.State", "Camera.Gain"],
    "presets": ["Channel"],
    "shutters": ["White Light Shutter"],
    "light": ["LED", "LED.State", "Channel"],
    "x_um": [-100, 100],
    "y_um": [-100, 100],
    "z_um": [0, 50],
    "exposure_ms": [1, 100],
    "close_shutter": "LED Shutter",
}


@pytest.fixture(scope="module")
def microscope():
    with closing(MicroManager(config=Path("MMConfig_demo.cfg"), stage_um_per_px=[1, 1])) as microscope:
        yield microscope


class Nothing:
    """Stands for source and engine."""

    info = SourceInfo("example", (64, 96), "uint16")

    def close(self):
        pass


def run_of(actuator, action, mode="armed", **safety):
    """Return a run in which a rule gives one actuator one action."""
    return RunConfig.model_validate(
        {
            "source": {"kind": "sim", "scenario": "vesicle"},
            "triggers": [{"kind": "appears", "do": "it", "action": action}],
            "actuators": {"it": actuator},
            "safety": {**RIGHT, **safety},
            "mode": mode,
        }
    )


def begin(config, microscope):
    build_parts(config, ReadyMade(Nothing(), Nothing(), microscope)).close()


RULES = [
    ({"kind": "property", "device": "LED", "property": "State"}, {"value": 1}),
    ({"kind": "preset", "group": "Channel", "for_ms": 50, "back_to": "DAPI"}, {"preset": "FITC"}),
    ({"kind": "shutter", "device": "White Light Shutter"}, {"pulse_ms": 50}),
    ({"kind": "exposure"}, {"exposure_ms": 5}),
    ({"kind": "stage"}, {"centre": True}),
    ({"kind": "focus"}, {"by": 1}),
    ({"kind": "mda_event"}, {"exposure": 5, "channel": "FITC", "properties": [["Camera", "Gain", 2]]}),
]


@pytest.mark.parametrize(("actuator", "action"), RULES)
def test_a_rule_that_names_what_there_is_may_run(microscope, actuator, action):
    for mode in ("observe", "rehearse", "armed"):
        begin(run_of(actuator, action, mode), microscope)


@pytest.mark.parametrize(
    ("actuator", "action", "said"),
    [
        (
            {"kind": "property", "device": "LEDD", "property": "State"},
            {"value": 1},
            "no device 'LEDD'; did you mean 'LED'?",
        ),
        (
            {"kind": "property", "device": "LED", "property": "state"},
            {"value": 1},
            "no property 'state' of LED; did you mean 'State'?",
        ),
        ({"kind": "property", "device": "Camera", "property": "CameraName"}, {"value": 1}, "no property 'CameraName'"),
        ({"kind": "preset", "group": "Chanel"}, {"preset": "FITC"}, "group 'Chanel'; did you mean 'Channel'?"),
        (
            {"kind": "preset", "group": "Channel"},
            {"preset": "FITTC"},
            "preset 'FITTC' of Channel; did you mean 'FITC'?",
        ),
        ({"kind": "preset", "group": "Channel", "preset": "Dapi"}, {"preset": "FITC"}, "did you mean 'DAPI'?"),
        (
            {"kind": "preset", "group": "Channel", "for_ms": 5, "back_to": "Dapi"},
            {"preset": "FITC"},
            "did you mean 'DAPI'?",
        ),
        (
            {"kind": "shutter", "device": "Lamp Shutter"},
            {"pulse_ms": 5},
            "no shutter 'Lamp Shutter'; did you mean 'LED Sh",
        ),
        ({"kind": "shutter", "device": "LED"}, {"pulse_ms": 5}, "no shutter 'LED'"),
        ({"kind": "mda_event"}, {"exposure": 5, "channel": "FITTC"}, "preset 'FITTC' of Channel"),
        ({"kind": "mda_event"}, {"exposure": 5, "properties": [["Camera", "Gian", 2]]}, "Camera.Gian"),
    ],
)
def test_a_device_that_is_not_there_is_found_before_the_run(microscope, actuator, action, said):
    for mode in ("rehearse", "armed"):
        with pytest.raises(ConfigError) as caught:
            begin(run_of(actuator, action, mode), microscope)
        assert said in str(caught.value)
        assert str(caught.value).startswith("actuator 'it': ")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("rule", "safety", "said"),
    [
        (0, {"properties": []}, "'LED.State' is not in safety.properties"),
        (1, {"presets": []}, "'Channel' is not in safety.presets"),
        (1, {"max_dose_ms": 49}, "50 ms of light by Channel would exceed the dose"),
        (2, {"shutters": []}, "'White Light Shutter' is not in safety.shutters"),
        (2, {"max_dose_ms": 49}, "50 ms of light by White Light Shutter would exceed the dose"),
        (3, {"exposure_ms": None}, "there are no limits safety.exposure_ms"),
        (3, {"exposure_ms": [10, 20]}, "exposure_ms = 5 is outside safety.exposure_ms = 10 to 20"),
        (4, {"y_um": None}, "there are no limits safety.y_um"),
        (5, {"z_um": None}, "there are no limits safety.z_um"),
        (6, {"presets": []}, "'Channel' is not in safety.presets"),
    ],
)
def test_limits_that_a_rule_needs_are_demanded_before_the_run(microscope, rule, safety, said):
    for mode in ("rehearse", "armed"):
        with pytest.raises(ConfigError) as caught:
            begin(run_of(*RULES[rule], mode, **safety), microscope)
        assert said in str(caught.value)
    begin(run_of(*RULES[rule], "observe", **safety), microscope)


@pytest.mark.parametrize(("role", "rule"), [("XYStage", 4), ("Focus", 5)])
def test_a_stage_that_nobody_has_is_said_before_the_run(microscope, role, rule):
    device = getattr(microscope.core, f"get{role}Device")()
    getattr(microscope.core, f"set{role}Device")("")
    try:
        with pytest.raises(ConfigError, match="there is no"):
            begin(run_of(*RULES[rule]), microscope)
    finally:
        getattr(microscope.core, f"set{role}Device")(device)


def test_centring_without_a_measured_direction_is_refused_before_the_run(microscope):
    bare = MicroManager.around(microscope.core)
    with pytest.raises(ConfigError, match="never measured: run 'streamtrack calibrate stage"):
        begin(run_of(*RULES[4]), bare)
    bare.close()


def test_every_name_in_the_limits_is_compared_and_all_mistakes_are_said(microscope):
    wrong = SafetyConfig(
        properties=("LED.Stat", "Laser.Power", "LED"),
        presets=("channel",),
        shutters=("White Light",),
        light=("Led", "LED.Stat", "Channel"),
        close_shutter="LED",
    )
    with pytest.raises(ConfigError) as caught:
        Names(microscope).check(wrong)
    assert str(caught.value).split("; safety.") == [
        "safety.properties: there is no property 'Stat' of LED; did you mean 'State'?",
        "properties: there is no device 'Laser' (known: DHub, Camera, Dichroic, Emission, Excitation, Objective, Z, "
        "Path, XY, White Light Shutter, Autofocus, LED, LED Shutter, Core)",
        "properties: 'LED' is not \"Device.Property\"",
        "presets: there is no configuration group 'channel'; did you mean 'Channel'?",
        "shutters: there is no shutter 'White Light'; did you mean 'White Light Shutter'?",
        "light: there is no device or group 'Led'; did you mean 'LED'?",
        "light: there is no property 'Stat' of LED; did you mean 'State'?",
        "close_shutter: there is no shutter 'LED' (known: White Light Shutter, LED Shutter)",
    ]
    Names(microscope).check(SafetyConfig.model_validate(RIGHT))


def test_a_run_with_a_misspelt_shutter_begins_in_no_mode_and_leaves_the_folder_as_it_is(microscope, tmp_path):
    (tmp_path / "report.json").write_text("{}")
    for mode in ("observe", "rehearse", "armed"):
        config = run_of(*RULES[3], mode, close_shutter="White Light Shuter")
        with pytest.raises(ConfigError) as caught:
            Session(config, tmp_path, overwrite=True, microscope=microscope)
        assert str(caught.value).startswith(
            "safety.close_shutter: there is no shutter 'White Light Shuter'; did you mean"
        )
    assert (tmp_path / "report.json").read_text() == "{}"


def test_devices_and_properties_may_have_dots_in_their_names():
    microscope = SimulatedMicroscope(properties={"Laser 1.5.Power": "0"})
    guard = Guard(microscope, SafetyConfig(properties=("Laser 1.5.Power",), light=("Laser 1.5",)), "armed")
    guard.check_names()
    guard.set_property("Laser 1.5", "Power", "5")
    assert guard.light()["on"] == ["Laser 1.5.Power"]
    guard.close()
