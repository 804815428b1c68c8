"""Patterns where tracks are, in front of a microscope in memory."""

import json
import threading
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from streamtrack.actuators.guard import Guard
from streamtrack.actuators.slm import Slm
from streamtrack.actuators.slm_calibration import SlmCalibration, read
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.testing.actuators import SOURCE, example_command
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import Event, SourceInfo
from streamtrack.waiting import joined_within

SAFETY = SafetyConfig(slms=("SLM",), slm_area_px2=200, slm_intensity=200, pulse_ms=(1, 1000))
TO_SLM = np.array([[0.0, 0.5, 5.0], [-0.5, 0.0, 45.0]])
"""Turned by 90 degrees, two px of the camera's to one of the modulator's."""
CALIBRATION = SlmCalibration("SLM", (48, 64), (64, 96), TO_SLM, 0.1, {})
HERE = example_command({})
"""About (40, 30) px, y before x: at (25, 30) of the modulator."""


@pytest.fixture
def microscope():
    with closing(SimulatedMicroscope()) as microscope:
        yield microscope


@pytest.fixture
def rig(microscope, tmp_path):
    """Return what makes the actuator, ready for the run."""
    path = tmp_path / "slm.json"
    CALIBRATION.write(path)

    def make(microscope=microscope, mode="armed", safety=SAFETY, prepared=True, **settings):
        guard = Guard(microscope, safety, mode)
        settings = {"radius_px": 8, "intensity": 200, "for_ms": 5, **settings}
        slm = Slm(microscope=guard, config_folder=tmp_path, device="SLM", calibration="slm.json", **settings)
        if prepared:
            slm.prepare(SOURCE, [{}])
        return slm, guard

    return make


class Noting(SimulatedMicroscope):
    """Keeps the patterns that it showed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def show_on_slm(self, device, image, for_ms=None):
        super().show_on_slm(device, image, for_ms)
        self.seen.append(image)


def begun(slm, microscope, command):
    """Carry a command out in another thread, and wait until it is lit."""
    worker = threading.Thread(target=lambda: _quietly(slm, command), daemon=True)
    worker.start()
    while microscope.patterns["SLM"] is None:
        time.sleep(0.001)
    return worker


def _quietly(slm, command):
    try:
        slm.execute(command)
    except (CommandRefused, MicroscopeError):
        pass


def test_a_disc_is_lit_where_the_track_is_and_gone_when_it_returns(rig):
    microscope = Noting()
    slm, guard = rig(microscope)
    done = dict(slm.execute(HERE))
    pattern, dark = microscope.seen
    assert dark is None
    assert microscope.patterns == {"SLM": None}
    y, x = np.nonzero(pattern)
    assert (x.mean(), y.mean()) == (25, 30)
    assert set(np.unique(pattern)) == {0, 200}
    assert (y.max() - y.min(), x.max() - x.min()) == (8, 8), "16 px of the camera are 8 of the modulator"
    assert done == {
        **{"slm": "SLM", "slm_x_px": 25.0, "slm_y_px": 30.0, "area_px2": np.count_nonzero(pattern)},
        **{"intensity": 200, "for_ms": 5, "tries": 1},
    }
    assert guard.light()["used_ms"] >= 5


def test_a_ring_is_dark_in_the_middle():
    disc, ring = (CALIBRATION.pattern(40, 30, 8, inner, 255) for inner in (0, 4))
    assert ring[30, 25] == 0
    assert disc[30, 25] == 255
    y, x = np.nonzero(disc != ring)
    assert np.hypot(y - 30, x - 25).max() < 2


@pytest.mark.parametrize("seed", range(20))
def test_every_lit_pixel_lies_within_the_disc_as_the_camera_sees_it_and_every_other_outside(seed):
    rng = np.random.default_rng(seed)
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.5, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag(stretch)
    matrix = np.hstack((turn, rng.uniform(10, 50, (2, 1))))
    radius, inner = rng.uniform(3, 30), rng.uniform(0, 3)
    y, x = rng.uniform(-5, 70, 2)
    pattern = replace(CALIBRATION, camera_to_slm=matrix).pattern(y, x, radius, inner, 7)
    rows, columns = np.indices(pattern.shape)
    there = np.linalg.inv(turn) @ (np.stack((columns.ravel(), rows.ravel())) - matrix[:, 2:])
    distance = np.hypot(there[0] - x, there[1] - y).reshape(pattern.shape)
    np.testing.assert_array_equal(pattern > 0, (distance <= radius) & (distance >= inner))


def test_a_place_that_the_modulator_does_not_reach_is_skipped(rig, microscope):
    slm, _ = rig()
    away = replace(HERE, event=Event(1, y=40.0, x=200.0))
    assert slm.execute(away) == {"skipped": "no pixel of SLM is there"}
    assert not microscope.calls


def test_an_event_without_a_place_is_refused(rig):
    with pytest.raises(CommandRefused, match="its event has no place"):
        rig()[0].execute(replace(HERE, event=Event()))


@pytest.mark.parametrize(
    ("limit", "settings", "said"),
    [
        ({"slm_area_px2": 40}, {}, "is above safety.slm_area_px2 = 40"),
        ({"slm_area_px2": None}, {}, "there is no limit safety.slm_area_px2; set it first"),
        ({"slm_intensity": 100}, {}, "slm_intensity = 200 is above safety.slm_intensity = 100"),
        ({"slm_intensity": None}, {}, "there is no limit safety.slm_intensity; set it first"),
        ({"pulse_ms": (1, 4)}, {}, "pulse_ms = 5 is outside safety.pulse_ms = 1 to 4"),
        ({"pulse_ms": None}, {}, "there are no limits safety.pulse_ms; set them first"),
        ({"slms": ()}, {}, "SLM 'SLM' is not in safety.slms; add it there to allow it"),
        ({"max_dose_ms": 4.0}, {}, "would exceed the dose"),
    ],
)
def test_what_the_limits_forbid_is_said_before_the_run_and_never_shown(rig, microscope, limit, settings, said):
    safety = SAFETY.model_copy(update=limit)
    slm, guard = rig(safety=safety, prepared=False, **settings)
    with pytest.raises(ConfigError) as caught:
        slm.prepare(SOURCE, [{}])
    assert said in str(caught.value)
    with pytest.raises(CommandRefused) as refused:
        slm.execute(HERE)
    assert said in str(refused.value)
    assert not microscope.calls
    assert guard.light()["used_ms"] == 0


def test_a_stop_while_it_is_lit_makes_it_dark_at_once(rig, microscope):
    slm, guard = rig(for_ms=900)
    worker = begun(slm, microscope, HERE)
    began = time.perf_counter()
    assert guard.make_safe() == {"SLM": "off"}
    assert microscope.patterns["SLM"] is None
    assert time.perf_counter() - began < 0.5
    slm.close()
    assert joined_within(worker, 5)
    with pytest.raises(CommandRefused, match="the run was stopped"):
        slm.execute(HERE)
    assert guard.outcome()["lamps"] == {"SLM": "off"}
    assert microscope.calls.count(("show_on_slm", "SLM", 49)) == 1


def test_disarming_while_it_is_lit_makes_it_dark_and_arming_again_works(rig, microscope):
    slm, guard = rig(for_ms=300)
    worker = begun(slm, microscope, HERE)
    guard.lower("rehearse")
    assert guard.settle() == {"SLM": "off"}
    assert microscope.patterns["SLM"] is None
    assert joined_within(worker, 5)
    guard.go_up("armed")
    assert slm.execute(replace(HERE, action={"for_ms": 2}))["tries"] == 1


def test_a_stop_during_the_call_that_shows_it_makes_it_dark_after_it(rig):
    class Slow(SimulatedMicroscope):
        def __init__(self):
            super().__init__()
            self.inside, self.go_on = threading.Event(), threading.Event()

        def show_on_slm(self, device, image, for_ms=None):
            if image is not None:
                self.inside.set()
                assert self.go_on.wait(5)
            super().show_on_slm(device, image, for_ms)

    microscope = Slow()
    slm, guard = rig(microscope, for_ms=900)
    worker = threading.Thread(target=_quietly, args=(slm, HERE), daemon=True)
    worker.start()
    assert microscope.inside.wait(5)
    guard.make_safe()
    microscope.go_on.set()
    slm.close()
    assert joined_within(worker, 5)
    assert microscope.patterns["SLM"] is None
    assert guard.light()["on"] == []


def test_what_does_not_go_dark_in_time_is_made_dark_by_the_guard(rig, microscope):
    """The command's own call fails: nobody waits for the end of the run."""
    slm, guard = rig(for_ms=20)
    show, fails = microscope.show_on_slm, [MicroscopeError("no answer")] * 2

    def deaf(device, image, for_ms=None):
        if image is None and fails:
            raise fails.pop()
        show(device, image, for_ms)

    microscope.show_on_slm = deaf
    with pytest.raises(MicroscopeError, match="no answer"):
        slm.execute(HERE)
    assert guard.light()["on"] == ["SLM"]
    end = time.monotonic() + 5
    while guard.light()["on"] and time.monotonic() < end:
        time.sleep(0.01)
    assert guard.light()["on"] == []
    assert guard.light()["off_late"] == {"SLM": "off"}
    assert microscope.patterns["SLM"] is None
    slm.execute(HERE)  # and the next command goes as if nothing had been


def test_at_the_limit_of_the_dose_it_goes_dark(rig, microscope):
    slm, guard = rig(for_ms=100, safety=SAFETY.model_copy(update={"max_dose_ms": 150.0, "shutters": ("Shutter",)}))
    guard.set_shutter("Shutter", True)
    with pytest.raises(CommandRefused, match="would exceed the dose"):
        slm.execute(HERE)  # with the shutter open, two sources would count
    guard.set_shutter("Shutter", False)
    slm.execute(HERE)
    with pytest.raises(CommandRefused, match="would exceed the dose"):
        slm.execute(HERE)


def test_a_rehearsal_shows_nothing(rig, microscope):
    slm, guard = rig(mode="rehearse")
    assert slm.execute(HERE)["area_px2"] == 49
    assert not microscope.calls
    assert guard.outcome()["writes"] == {"slm": 2}


def test_what_is_checked_is_what_is_shown(microscope):
    """A pattern that is changed meanwhile reaches no hardware."""
    guard = Guard(microscope, SAFETY, "armed")
    pattern = np.zeros((48, 64), np.uint8)
    pattern[3, 4] = 9
    guard.show_on_slm("SLM", pattern, 10)
    pattern[:] = 255
    assert np.count_nonzero(microscope.patterns["SLM"]) == 1
    for wrong in (pattern.astype(float), pattern[0], [[1, 2]], None):
        if wrong is not None:
            with pytest.raises(CommandRefused, match="not an image of 8 bit"):
                guard.show_on_slm("SLM", wrong, 10)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"device": "DMD"}, "another device, DMD and not SLM"),
        ({"slm_shape": (10, 64)}, r"another size of the SLM, \(10, 64\) and not \(48, 64\)"),
        ({"camera_shape": (128, 96)}, r"another size of the image, \(128, 96\) and not \(64, 96\)"),
        ({"camera": {"roi": [0, 0, 96, 64]}}, r"another roi, \[0, 0, 96, 64\] and not \[8, 8, 96, 64\]"),
        ({"camera": {"binning": "2"}}, "another binning, 2 and not 1"),
    ],
)
def test_a_calibration_of_something_else_is_refused(rig, tmp_path, changed, said):
    slm, _ = rig(prepared=False)
    replace(CALIBRATION, **changed).write(tmp_path / "slm.json")
    source = replace(SOURCE, details={"roi": [8, 8, 96, 64], "binning": "1"})
    with pytest.raises(ConfigError, match=said):
        slm.prepare(source, [])


def test_a_check_that_looks_through_no_camera_does_not_compare_images(rig):
    slm, _ = rig(prepared=False)
    slm.prepare(SourceInfo("camera", (512, 512), "uint16", live=True, details={"shape": "not known"}), [{}])


def test_a_calibration_is_what_was_written(tmp_path):
    CALIBRATION.write(tmp_path / "a.json")
    again = read(tmp_path / "a.json")
    np.testing.assert_array_equal(again.camera_to_slm, TO_SLM)
    assert (again.device, again.slm_shape, again.camera_shape) == ("SLM", (48, 64), (64, 96))


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "x"},
        {"version": 2},
        {"camera_to_slm": [[1, 0, 0]]},
        {"camera_to_slm": [[1, 0, 0], [2, 0, 0]]},
        {"camera_to_slm": [[1, 0, float("nan")], [0, 1, 0]]},
        {"camera_to_slm": None},
        {"slm_shape": 5},
        {"slm_shape": [0, 5]},
        {"camera_shape": []},
        {"camera": 5},
        {"residual_px": "x"},
    ],
)
def test_a_file_that_is_none_is_an_error_in_one_line(tmp_path, damage):
    path = tmp_path / "slm.json"
    CALIBRATION.write(path)
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **damage}), encoding="utf-8")
    for text in (None, "", "{", "[]", "5"):
        if text is not None:
            path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"calibrate slm RUN\.toml") as caught:
            read(path)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ConfigError, match="cannot read the calibration"):
        read(tmp_path / "nothing.json")


def test_a_device_that_is_no_slm_or_a_microscope_without_is_said_before_the_run(rig, microscope, tmp_path):
    guard = Guard(microscope, SAFETY.model_copy(update={"slms": ("Shutter",)}), "observe")
    with pytest.raises(ConfigError, match=r"safety\.slms: 'Shutter' is no SLM"):
        guard.check_names()

    class Without:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            if "slm" in name:
                raise AttributeError(name)
            return getattr(self._inner, name)

    slm, guard = rig(Without(microscope), prepared=False)
    with pytest.raises(ConfigError, match="takes no patterns for an SLM"):
        slm.prepare(SOURCE, [{}])
