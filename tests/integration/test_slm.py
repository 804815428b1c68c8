"""A modulator is calibrated by the camera, and lights the particles that are tracked: devices of a core in Python."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from slm_rig import CAMERA_SHAPE, SLM_SHAPE, SPOTS, TO_CAMERA, core_with_slm

from streamtrack.actuators.slm_calibration import SlmCalibration, read
from streamtrack.cli.calibrate import calibrate_slm, slm_in_words
from streamtrack.config import RunConfig
from streamtrack.errors import CommandRefused, ConfigError, ControlRefused, MicroscopeError
from streamtrack.interrupts import Stop
from streamtrack.session import Session

SAFETY = {"slms": ["SLM"], "slm_area_px2": 60, "slm_intensity": 200, "pulse_ms": [1, 5000], "max_dose_ms": 600_000}
TABLES = {"source": {"kind": "micromanager"}, "safety": SAFETY}
RUN = RunConfig.model_validate(TABLES)
BACK = np.linalg.inv(np.vstack((TO_CAMERA, (0, 0, 1))))[:2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """This camera shows at once what is lit."""
    monkeypatch.setattr("streamtrack.cli.calibrate.SETTLE_MS", 20.0)


@pytest.fixture
def rig():
    """Yield a microscope, its modulator and its camera."""
    from streamtrack_drivers.micromanager import MicroManager

    core, projector, watcher = core_with_slm()
    with closing(MicroManager.around(core)) as microscope:
        yield microscope, projector, watcher
    core.unloadAllDevices()


def test_the_transform_is_measured_and_the_modulator_is_dark_after_it(rig):
    microscope, projector, _ = rig
    found, calibration = calibrate_slm(RUN, microscope, Stop())
    x, y = np.meshgrid(np.linspace(0, CAMERA_SHAPE[1], 9), np.linspace(0, CAMERA_SHAPE[0], 9))
    image = np.stack((x.ravel(), y.ravel(), np.ones(81)))
    assert np.abs(found.camera_to_slm @ image - BACK @ image).max() < 0.1
    assert found.seen > 20
    assert found.residual_px < 0.2
    assert found.is_mirrored
    assert projector.is_dark
    assert all(area <= 60 and value in (0, 200) for _, area, value in projector.history)
    assert (calibration.device, calibration.slm_shape, calibration.camera_shape) == ("SLM", SLM_SHAPE, CAMERA_SHAPE)
    assert "spots were seen" in slm_in_words(found)[0]
    assert not microscope.core.isSequenceRunning()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bright": 0.0}, r"0 of 25 spots of the SLM are seen, 6 are needed: give more light"),
        ({"transform": np.array([[90.0, 0, 0], [0, 90.0, 0]])}, "spots of the SLM are seen, 6 are needed"),
    ],
)
def test_what_the_camera_does_not_show_is_refused(rig, change, said):
    microscope, projector, watcher = rig
    for name, value in change.items():
        setattr(watcher, name, value)
    with pytest.raises(MicroscopeError, match=said):
        calibrate_slm(RUN, microscope, Stop())
    assert projector.is_dark


def test_a_camera_that_moves_meanwhile_is_refused(rig):
    microscope, projector, watcher = rig
    original = watcher.image

    def drifting():
        watcher.transform = watcher.transform + np.array([[0, 0, 0.15], [0, 0, 0]])
        return original()

    watcher.image = drifting
    with pytest.raises(MicroscopeError, match="the spots do not lie as on the SLM"):
        calibrate_slm(RUN, microscope, Stop())
    assert projector.is_dark


@pytest.mark.parametrize(
    ("safety", "error", "said"),
    [
        ({"slms": []}, ConfigError, "names no SLM"),
        ({"slms": ["LED"]}, ConfigError, "'LED' is no SLM"),
        ({"slm_intensity": None}, ConfigError, "set them first"),
        ({"pulse_ms": [1, 5]}, ConfigError, r"a spot may stay for safety\.pulse_ms = 5 only"),
        ({"max_dose_ms": 100}, CommandRefused, "would exceed the dose"),
    ],
)
def test_its_limits_are_needed_and_kept_and_nothing_is_lit_before(rig, safety, error, said):
    microscope, projector, _ = rig
    with pytest.raises(error, match=said):
        calibrate_slm(RunConfig.model_validate({**TABLES, "safety": {**SAFETY, **safety}}), microscope, Stop())
    assert projector.history == []


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to itself")
def test_ctrl_c_makes_it_dark(rig):
    microscope, projector, _ = rig
    display = projector.display_image

    def display_and_stop():
        display()
        if len(projector.history) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    projector.display_image = display_and_stop
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        calibrate_slm(RUN, microscope, stop)
    assert projector.is_dark
    assert not any(thread.name == "streamtrack-source" for thread in threading.enumerate())


@pytest.fixture
def calibrated(rig, tmp_path):
    """Return the rig with particles in view, and the file of its calibration."""
    microscope, projector, watcher = rig
    camera = {"roi": [0, 0, *CAMERA_SHAPE[::-1]]}
    SlmCalibration("SLM", SLM_SHAPE, CAMERA_SHAPE, BACK, 0.1, camera).write(tmp_path / "slm.json")
    watcher.spots = SPOTS
    return microscope, projector, tmp_path / "slm.json"


def config(path, mode="armed", frames=60, for_ms=20, **safety):
    return RunConfig.model_validate(
        {
            "mode": mode,
            "source": {"kind": "micromanager", "frames": frames},
            "triggers": [
                {"kind": "older", "frames": 5, "do": "light", "action": {}, "valid_ms": 60_000, "max_per_minute": 6000}
            ],
            "actuators": {
                "light": {
                    "kind": "slm",
                    "device": "SLM",
                    "calibration": str(path),
                    "radius_px": 6,
                    "intensity": 200,
                    "for_ms": for_ms,
                }
            },
            "safety": {**SAFETY, **safety},
            "sinks": [{"kind": "tables"}],
        }
    )


@pytest.mark.parametrize(("mode", "fate"), [("observe", "recorded"), ("rehearse", "rehearsed"), ("armed", "sent")])
def test_each_particle_is_lit_where_it_is_and_its_fate_is_told(calibrated, tmp_path, mode, fate):
    microscope, projector, path = calibrated
    lit = []
    display = projector.display_image

    def display_and_keep():
        display()
        if projector.shown.any():
            rows, columns = np.nonzero(projector.shown)
            lit.append(TO_CAMERA @ (columns.mean(), rows.mean(), 1.0))

    projector.display_image = display_and_keep
    report = Session(config(path, mode), tmp_path / "out", microscope=microscope).run()
    assert report["error"] is None
    assert report["outputs"]["actuators"]["light"][fate] >= 3
    log = [json.loads(line) for line in (tmp_path / "out" / "commands.jsonl").read_text().splitlines()]
    assert {line["fate"] for line in log} == {fate}
    assert projector.is_dark
    if mode != "armed":
        assert projector.history == []
        return
    for y, x in SPOTS:
        assert min(np.hypot(at[0] - x, at[1] - y) for at in lit) < 1.0
    assert report["safety"]["light"]["used_ms"] >= 3 * 20
    assert report["safety"]["writes"]["slm"] == len(projector.history)


def test_a_stop_while_it_is_lit_makes_it_dark_at_once(calibrated, tmp_path):
    microscope, projector, path = calibrated
    session = Session(config(path, frames=100_000, for_ms=4000), tmp_path / "out", microscope=microscope)
    reports = []
    run = threading.Thread(target=lambda: reports.append(session.run()), daemon=True)
    run.start()
    end = time.monotonic() + 60
    while projector.is_dark and time.monotonic() < end:
        time.sleep(0.002)
    assert not projector.is_dark
    session.stop()
    stopped = time.monotonic()
    while not projector.is_dark and time.monotonic() < stopped + 5:
        time.sleep(0.002)
    assert time.monotonic() - stopped < 1
    run.join(60)
    assert reports[0]["status"] == "interrupted"
    assert reports[0]["safety"]["lamps"] == {"SLM": "off"}
    assert reports[0]["safety"]["light"]["on"] == []
    assert sum(area > 0 for _, area, _ in projector.history) == 1


def test_disarmed_while_it_is_lit_and_armed_again(calibrated, tmp_path):
    microscope, projector, path = calibrated
    session = Session(config(path, frames=100_000, for_ms=1500), tmp_path / "out", microscope=microscope)
    said = session.control.what_may_move()
    assert "light patterns: SLM, up to 60 px of it at 200 of 255" in said
    assert "pulses: 1 to 5000 ms" in said
    run = threading.Thread(target=session.run, daemon=True)
    run.start()
    end = time.monotonic() + 60
    while projector.is_dark and time.monotonic() < end:
        time.sleep(0.002)
    lit = len(projector.history)
    session.control.set_mode("observe").wait(30)
    assert projector.is_dark
    with pytest.raises(ControlRefused, match="still at a command from before: ask again when it is done"):
        session.control.set_mode("armed", session.control.what_may_move()).wait(60)
    assert sum(area > 0 for _, area, _ in projector.history[lit:]) == 0
    time.sleep(1.6)
    session.control.set_mode("armed", session.control.what_may_move()).wait(60)
    session.stop()
    run.join(60)
    assert not run.is_alive()
    assert projector.is_dark


def test_a_modulator_that_hangs_is_left_in_time_and_made_dark_when_it_answers(calibrated, tmp_path):
    microscope, projector, path = calibrated
    microscope._in_time.timeout_s = 0.5
    projector.delay_s = 1.5
    report = Session(config(path, frames=40), tmp_path / "out", microscope=microscope).run()
    assert report["outputs"]["actuators"]["light"]["failed"] >= 1
    assert "no answer within 0.5 s" in report["outputs"]["actuators"]["light"]["error"]
    end = time.monotonic() + 30
    while len(projector.history) < 2 or not projector.is_dark:
        assert time.monotonic() < end
        time.sleep(0.05)


LIVE = """
import sys
sys.path.insert(0, {helpers!r})
from slm_rig import SPOTS, core_with_slm
from streamtrack import registry
from streamtrack_drivers.micromanager import MicroManager
core, projector, watcher = core_with_slm(SPOTS)
microscope = MicroManager.around(core)
display = projector.display_image
def display_and_say():
    display()
    print("dark" if projector.is_dark else "lit", flush=True)
projector.display_image = display_and_say
load = registry.load
registry.load = lambda group, kind: (lambda: microscope) if group == "microscopes" else load(group, kind)
from streamtrack.__main__ import main
sys.argv[1:] = ["live", *sys.argv[1:]]
main()
"""
LIVE_RUN = """
mode = "armed"
sinks = [{kind = "tables"}]
microscope = {kind = "micromanager"}
source = {kind = "micromanager"}
[[triggers]]
kind = "older"
frames = 5
do = "light"
valid_ms = 60000
[actuators.light]
kind = "slm"
device = "SLM"
calibration = "slm.json"
intensity = 200
for_ms = 20000
[safety]
slms = ["SLM"]
slm_area_px2 = 60
slm_intensity = 200
pulse_ms = [1, 30000]
"""


@pytest.mark.skipif(os.name != "posix", reason="sends signals of POSIX")
@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM", "SIGHUP", "stop file"])
def test_a_live_run_that_is_stopped_while_it_is_lit_is_dark_at_once(tmp_path, way):
    SlmCalibration("SLM", SLM_SHAPE, CAMERA_SHAPE, BACK, 0.1, {}).write(tmp_path / "slm.json")
    (tmp_path / "run.toml").write_text(LIVE_RUN, encoding="utf-8")
    script = LIVE.format(helpers=str(Path(__file__).parents[1] / "helpers"))
    command = [sys.executable, "-u", "-c", script, str(tmp_path / "run.toml"), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line == "lit\n":
                break
        asked = time.monotonic()
        if way == "stop file":
            (tmp_path / "out" / "stop").touch()
        else:
            child.send_signal(getattr(signal, way))
        for line in child.stdout:
            if line == "dark\n":
                break
        assert time.monotonic() - asked < 5
        rest, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert "lit\n" not in rest
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "interrupted"
    assert report["safety"]["lamps"] == {"SLM": "off"}


FILE = """
import sys
from contextlib import closing
from pathlib import Path
sys.path.insert(0, {helpers!r})
from slm_rig import core_with_slm
from streamtrack.cli import calibrate
from streamtrack_drivers.micromanager import MicroManager
core, projector, watcher = core_with_slm()
microscope = MicroManager.around(core)
build = calibrate.registry.build
def given(group, *arguments):
    if group != "microscopes":
        return build(group, *arguments)
    return type("Plugin", (), {{"instance": microscope}})
calibrate.registry.build = given
from streamtrack.__main__ import main
sys.argv[1:] = ["calibrate", "slm", *sys.argv[1:]]
try:
    main()
finally:
    print("dark" if projector.is_dark else "lit")
"""


def run_command(tmp_path, *options):
    path = tmp_path / "run.toml"
    path.write_text(
        '[microscope]\nkind = "micromanager"\nconfig = "MMConfig_demo.cfg"\n[source]\nkind = "micromanager"\n'
        '[safety]\nslms = ["SLM"]\nslm_area_px2 = 30\nslm_intensity = 255\npulse_ms = [1, 4000]\n',
        encoding="utf-8",
    )
    script = FILE.format(helpers=str(Path(__file__).parents[1] / "helpers"))
    command = [sys.executable, "-c", script, str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def test_the_command_writes_a_file_once_and_replaces_it_only_when_told(tmp_path):
    done = run_command(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "25 spots were seen" in done.stdout
    assert f"calibration = {json.dumps((tmp_path / 'slm.json').as_posix())}" in done.stdout
    assert done.stdout.endswith("dark\n")
    assert read(tmp_path / "slm.json").residual_px < 0.2
    before = (tmp_path / "slm.json").read_bytes()
    again = run_command(tmp_path)
    assert again.returncode == 2
    assert "is there already: give --overwrite to replace it" in again.stderr
    assert (tmp_path / "slm.json").read_bytes() == before
    assert run_command(tmp_path, "--overwrite", "--device", "SLM").returncode == 0
    wrong = run_command(tmp_path, "--device", "slm", "--out", str(tmp_path / "other.json"))
    assert (wrong.returncode, "did you mean 'SLM'?" in wrong.stderr) == (2, True)
    assert not (tmp_path / "other.json").exists()
