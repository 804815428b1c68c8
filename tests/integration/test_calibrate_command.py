"""``streamtrack calibrate stage`` on Micro-Manager's own core: beads of the demo camera move with the demo stage."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymmcore", reason="needs the extra micromanager")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

from streamtrack.cli.calibrate import calibrate_stage, in_words
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, MicroscopeError
from streamtrack.interrupts import Stop
from streamtrack_drivers.micromanager.core import MicroManager

BEADS = {
    "OnCameraCCDXSize": "256",
    "OnCameraCCDYSize": "192",
    "PixelType": "16bit",
    "Mode": "Fluorescent Beads",
    "BeadDensity": "80",
}
TABLES = {
    "source": {"kind": "micromanager", "exposure_ms": 5},
    "safety": {"x_um": [-300, 300], "y_um": [-300, 300], "close_shutter": "White Light Shutter"},
}
RUN = RunConfig.model_validate(TABLES)
FILE = """
[microscope]
kind = "micromanager"
config = "MMConfig_demo.cfg"
[source]
kind = "micromanager"
exposure_ms = 5
[safety]
x_um = [-300, 300]
y_um = [-300, 300]
"""


@pytest.fixture
def microscope():
    with closing(MicroManager(config=Path("MMConfig_demo.cfg"))) as microscope:
        for name, value in BEADS.items():
            microscope.set_property("Camera", name, value)
        microscope.move_stage_um(3, 4)
        yield microscope


def turn(microscope, processor):
    """Have the core turn every image before anyone sees it, as another camera mount would."""
    if processor:
        microscope.core.loadDevice("turn", "DemoCamera", processor)
        microscope.core.initializeDevice("turn")
        microscope.core.setImageProcessorDevice("turn")


@pytest.mark.parametrize(
    ("processor", "matrix"),
    [
        ("", [[1, 0], [0, 1]]),
        ("ImageFlipX", [[-1, 0], [0, 1]]),
        ("ImageFlipY", [[1, 0], [0, -1]]),
        ("TransposeProcessor", [[0, 1], [1, 0]]),
    ],
)
def test_the_direction_is_measured_however_the_camera_is_mounted(microscope, processor, matrix):
    if processor == "TransposeProcessor":  # it takes square images only
        microscope.set_property("Camera", "OnCameraCCDYSize", "256")
    turn(microscope, processor)
    microscope.core.setAutoShutter(False)
    microscope.set_shutter("White Light Shutter", True)
    found, binning = calibrate_stage(RUN, microscope, Stop())
    np.testing.assert_allclose(found.um_per_px, matrix, atol=0.01)
    assert binning == (1, 1)
    assert found.residual_px < 0.2
    assert microscope.stage_um() == pytest.approx((3, 4), abs=0.02)
    assert microscope.core.getShutterOpen("White Light Shutter"), "what is open stays so"
    assert not microscope.core.isSequenceRunning()
    line = in_words(found, binning)[-1]
    setting = eval(line.partition(" = ")[2])
    centred = MicroManager.around(microscope.core, stage_um_per_px=setting)
    np.testing.assert_allclose(centred.stage_um_per_px(), matrix, atol=0.01)
    centred.close()


def test_the_line_is_for_pixels_without_binning(microscope):
    microscope.set_property("Camera", "Binning", "2")
    found, binning = calibrate_stage(RUN, microscope, Stop())
    assert binning == (2, 2)
    setting = eval(in_words(found, binning)[-1].partition(" = ")[2])
    np.testing.assert_allclose(setting, found.um_per_px / 2, atol=1e-4)
    again = MicroManager.around(microscope.core, stage_um_per_px=setting)
    np.testing.assert_allclose(again.stage_um_per_px(), found.um_per_px, atol=1e-3)
    again.close()


@pytest.mark.parametrize("mode", ["Artificial Waves", "Noise"])
def test_images_that_do_not_follow_the_stage_are_refused(microscope, mode):
    microscope.set_property("Camera", "Mode", mode)
    with pytest.raises(MicroscopeError) as caught:
        calibrate_stage(RUN, microscope, Stop())
    assert len(str(caught.value).splitlines()) == 1
    assert microscope.stage_um() == pytest.approx((3, 4), abs=0.02)


def test_limits_are_needed_and_kept(microscope):
    with pytest.raises(ConfigError, match=r"within the limits safety\.x_um and safety\.y_um: set them first"):
        calibrate_stage(RunConfig.model_validate({**TABLES, "safety": {"x_um": [0, 1]}}), microscope, Stop())
    narrow = RunConfig.model_validate({**TABLES, "safety": {"x_um": [0, 20], "y_um": [3, 30]}})
    places = []
    move = microscope.move_stage_um
    microscope.move_stage_um = lambda x, y: (places.append((x, y)), move(x, y))
    calibrate_stage(narrow, microscope, Stop())
    x, y = np.array(places).T
    assert 0 <= x.min() <= x.max() <= 20
    assert 3 <= y.min() <= y.max() <= 30


def test_ctrl_c_brings_the_stage_back(microscope):
    moves = []
    move = microscope.move_stage_um

    def move_and_stop(x, y):
        moves.append((x, y))
        if len(moves) == 2:
            if os.name == "posix":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                signal.raise_signal(signal.SIGINT)
        move(x, y)

    microscope.move_stage_um = move_and_stop
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        calibrate_stage(RUN, microscope, stop)
    assert len(moves) == 3
    assert microscope.stage_um() == pytest.approx((3, 4), abs=0.02)
    assert not any(thread.name == "streamtrack-source" for thread in threading.enumerate())


def test_the_command_says_what_is_amiss_in_one_line(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(FILE, encoding="utf-8")  # the demo camera's waves, which stand still
    command = [sys.executable, "-m", "streamtrack", "calibrate", "stage", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "stage" in done.stderr


def test_the_command_prints_the_line_that_makes_centring_possible(tmp_path):
    import mm_test_adapters

    demo = Path(mm_test_adapters.device_adapter_path()) / "MMConfig_demo.cfg"
    settings = "".join(f"Property,Camera,{name},{value}\n" for name, value in BEADS.items())
    (tmp_path / "beads.cfg").write_text(demo.read_text(encoding="utf-8") + settings, encoding="utf-8")
    path = tmp_path / "run.toml"
    path.write_text(FILE.replace("MMConfig_demo.cfg", (tmp_path / "beads.cfg").as_posix()), encoding="utf-8")
    command = [sys.executable, "-m", "streamtrack", "calibrate", "stage", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *_, turned, place, line = done.stdout.splitlines()
    assert turned == "against the stage the camera is turned by 0.0 degrees and not mirrored"
    assert place.endswith("in the table [microscope] of the run's file:")
    follows = (
        '[[triggers]]\nkind = "nearest"\ndo = "stage"\naction = { centre = true }\n[actuators.stage]\nkind = "stage"\n'
    )
    text = 'mode = "armed"\n' + path.read_text(encoding="utf-8") + follows
    for microscope, code in (("[microscope]", 2), (f"[microscope]\n{line}", 0)):
        path.write_text(text.replace("[microscope]", microscope), encoding="utf-8")
        check = [sys.executable, "-m", "streamtrack", "check", str(path)]
        assert subprocess.run(check, capture_output=True, timeout=120).returncode == code


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to another process")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_command_ends_at_a_signal_and_says_where_the_stage_is(tmp_path, number):
    path = tmp_path / "run.toml"
    path.write_text(FILE.replace("exposure_ms = 5", "exposure_ms = 500"), encoding="utf-8")
    command = [sys.executable, "-u", "-m", "streamtrack", "calibrate", "stage", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("moving the stage")
    process.send_signal(getattr(signal, number))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.endswith("stopped; the stage is back where it was\n")


def test_a_movie_is_no_camera(tmp_path, microscope):
    run = RunConfig.model_validate({**TABLES, "source": {"kind": "sim", "scenario": "vesicle"}})
    with pytest.raises(ConfigError, match="is not a camera"):
        calibrate_stage(run, microscope, Stop())
