"""Taps in scripts as users write them, against real acquisitions.

Scripts of the Python back end run one after the other in one process, as cells of a notebook do, and leave the core as
it was; those of the Java back end in one of their own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("pycromanager")
adapters = pytest.importorskip("mm_test_adapters")

RUN = """
[[sinks]]
kind = "tables"
"""
EVENTS = """
mode = "armed"
[[triggers]]
kind = "every"
do = "more"
action = { exposure = 6.0 }
[actuators.more]
kind = "mda_event"
[safety]
exposure_ms = [1, 100]
[[sinks]]
kind = "tables"
"""
PYTHON_BACKEND = """
import sys, mm_test_adapters
from pycromanager import Acquisition, Core, multi_d_acquisition_events, start_headless, stop_headless
from streamtrack_drivers.micromanager import Tap
start_headless(mm_test_adapters.device_adapter_path(), "MMConfig_demo.cfg", python_backend=True, buffer_size_mb=64)
core = Core()
core.set_property("Camera", "OnCameraCCDXSize", "128"); core.set_property("Camera", "OnCameraCCDYSize", "96")
core.set_property("Camera", "PixelType", "16bit"); core.set_property("Camera", "Mode", "Fluorescent Beads")
core.set_exposure(10.0)
"""
JAVA_BACKEND = """
import functools, sys
from pycromanager import Core
from pycromanager import JavaBackendAcquisition, multi_d_acquisition_events
from pycromanager.acquisition import RAMStorage_java as ram  # knows the default port only
ram.JavaObject = functools.partial(ram.JavaObject, port=int(sys.argv[1]))
from streamtrack_drivers.micromanager import Tap
def Acquisition(**settings):
    return JavaBackendAcquisition(show_display=False, port=int(sys.argv[1]), **settings)
core = Core(port=int(sys.argv[1]))
"""
N = 40
LAB_PACKAGE = Path(__file__).parents[2] / "lab_package"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(LAB_PACKAGE), os.environ.get("PYTHONPATH", "")))}


SERVE = """
import contextlib, os, traceback
for folder in sys.stdin:
    os.chdir(folder.strip())
    with open("said.txt", "w") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            exec(open("script.py").read(), {**globals()})
        except Exception:
            traceback.print_exc()
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def python_backend():
    """Return a process that runs the scripts whose folders it is told."""
    command = [sys.executable, "-c", PYTHON_BACKEND + SERVE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, bufsize=1
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def run_cell(python_backend, tmp_path):
    """As ``run_script``, in the process that has the core already."""

    def run(script, config=RUN):
        (tmp_path / "run.toml").write_text(config)
        (tmp_path / "script.py").write_text(script)
        print(tmp_path, file=python_backend.stdin)
        assert python_backend.stdout.readline() == "done\n"
        said = (tmp_path / "said.txt").read_text()
        assert "Traceback" not in said, said
        return json.loads((tmp_path / "results" / "report.json").read_text()), said

    return run


@pytest.fixture
def run_script(tmp_path):
    """Run a script with the configuration in ``run.toml``; return its report and what it said."""

    def run(script, *arguments, config=RUN, status=0):
        (tmp_path / "run.toml").write_text(config)
        (tmp_path / "script.py").write_text(script)
        command = [sys.executable, "script.py", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads((tmp_path / "results" / "report.json").read_text()), done.stdout + done.stderr

    return run


THREE_LINES = f"""
tap = Tap("run.toml", out="results", core=core)
with Acquisition(directory=None, name="x", image_process_fn=tap) as acquisition:
    acquisition.acquire(multi_d_acquisition_events(num_time_points={N}))
print("saved", len(acquisition.get_dataset().axes["time"]))
tap.close()
"""


def assert_complete(report, said):
    frames = report["frames"]
    assert frames["processed"] + frames["lost"] == N, report
    assert set(frames["lost_by_cause"]) <= {"queue of 2 full"}, "the engine may be slower than the camera"
    assert report["status"] in ("completed", "incomplete")
    assert f"saved {N}" in said, "what the acquisition saves is as without a tap"


def test_three_lines_in_a_script_of_the_python_back_end(run_cell):
    report, said = run_cell(THREE_LINES)
    assert_complete(report, said)
    assert report["source"]["name"] == "tap: Camera"
    assert report["microscope"]["camera"] == "Camera", "the core of the script is the run's microscope"
    assert report["detections"] > 0


def test_three_lines_in_a_script_of_the_java_back_end(run_script, start_micromanager):
    """An at sign in the metadata does not end the acquisition."""
    standin = start_micromanager("--tag", "Objective-Label=60x@1.4NA")
    report, said = run_script(JAVA_BACKEND + THREE_LINES, standin.port)
    assert_complete(report, said)


def test_a_run_that_fails_does_not_touch_the_acquisition(run_cell):
    script = THREE_LINES.replace("tap.close()", "try: tap.close()\nexcept Exception as error: print('run:', error)")
    config = '[[sinks]]\nkind = "memory"\nfail_in = "write"\n'
    report, said = run_cell(script, config=config)
    assert report["status"] == "failed"
    assert f"saved {N}" in said
    assert "disk full in write" in said


SEVERAL_STREAMS = """
events = multi_d_acquisition_events(num_time_points=3, channel_group="Channel", channels=["DAPI", "FITC"],
                                    z_start=0, z_end=2, z_step=1, xy_positions=[(0, 0), (40, 25)])
tap = Tap("run.toml", out="results", core=core, only=ONLY)
with Acquisition(directory=None, name="x", image_process_fn=tap) as acquisition:
    acquisition.acquire(events)
print("saved", len(acquisition.get_dataset().get_image_coordinates_list()))
tap.close()
"""


def test_an_acquisition_of_several_streams_is_refused_and_left_alone(run_cell):
    script = SEVERAL_STREAMS.replace("ONLY", "None")
    script = script.replace("tap.close()", "try: tap.close()\nexcept Exception as error: print('run:', error)")
    report, said = run_cell(script)
    assert report["status"] == "failed"
    assert "the acquisition has several streams" in report["error"]
    assert f"run: {report['error']}" in said
    assert "saved 36" in said
    assert "Traceback" not in said


def test_the_chosen_stream_alone_is_tracked(run_cell):
    only = '{"channel": "FITC", "position": 1, "z": 2}'
    report, said = run_cell(SEVERAL_STREAMS.replace("ONLY", only))
    assert report["frames"]["in"] == 3
    assert report["source"]["details"]["stream"] == {"p": 1, "c": "FITC", "z": 2, "camera": "Camera"}
    assert report["source"]["details"]["left_out"] == 33
    assert "saved 36" in said


def test_two_cameras_are_refused_unless_one_is_chosen(run_cell):
    cameras = """
core.load_device("Second", "DemoCamera", "DCam"); core.load_device("Both", "Utilities", "Multi Camera")
core.initialize_device("Second"); core.initialize_device("Both")
for name in ("OnCameraCCDXSize", "OnCameraCCDYSize", "PixelType"):
    core.set_property("Second", name, core.get_property("Camera", name))
core.set_property("Both", "Physical Camera 1", "Camera"); core.set_property("Both", "Physical Camera 2", "Second")
core.set_camera_device("Both"); core.set_exposure(10.0)
for only in (None, {"camera": 1}):
    tap = Tap("run.toml", out="results", core=core, only=only, overwrite=True)
    with Acquisition(directory=None, name="x", image_process_fn=tap) as acquisition:
        acquisition.acquire(multi_d_acquisition_events(num_time_points=3))
    try:
        tap.close()
    except Exception as error:
        print("run:", error)
core.set_camera_device("Camera"); core.unload_device("Both"); core.unload_device("Second")  # as it was
"""
    report, said = run_cell(cameras)
    either_first = ("Camera, 1 (Second)", "1 (Second), Camera")
    assert any(f"run: the acquisition has several streams (camera: {both})" in said for both in either_first), said
    assert report["frames"]["in"] == 3
    assert report["source"]["details"]["left_out"] == 3


def test_two_acquisitions_in_one_run(run_cell):
    script = f"""
with Tap("run.toml", out="results", core=core) as tap:
    for name in "ab":
        with Acquisition(directory=None, name=name, image_process_fn=tap) as acquisition:
            acquisition.acquire(multi_d_acquisition_events(num_time_points={N // 2}))
print("saved {N}")
"""
    report, said = run_cell(script)
    assert_complete(report, said)
    assert report["source"]["details"]["restarts"] == 1


def test_snaps_have_no_number_and_are_tracked(run_cell):
    script = """
with Tap("run.toml", out="results", core=core) as tap:
    with Acquisition(directory=None, name="x", image_process_fn=tap) as acquisition:
        for event in multi_d_acquisition_events(num_time_points=10):
            acquisition.acquire(event)
"""
    report, _ = run_cell(script)
    assert report["frames"]["in"] == 10


ADD_EVENTS = """
import time
tap = Tap("run.toml", out="results", core=core)
acquisition = Acquisition(directory=None, name="x", image_process_fn=tap.with_events)
acquisition.acquire({"axes": {"time": 0}})
give_up = time.monotonic() + 30
while time.monotonic() < give_up and not (tap.progress and tap.progress.processed >= 3):
    time.sleep(0.02)
acquisition.mark_finished()
acquisition.await_completion()
tap.close()
"""


def test_triggers_add_events_to_a_running_acquisition_of_the_python_back_end(run_cell):
    report, _ = run_cell(ADD_EVENTS, config=EVENTS)
    assert report["frames"]["in"] >= 2, "the first image leads to the second"


def test_triggers_add_events_to_a_running_acquisition_of_the_java_back_end(run_script, micromanager):
    table = f'[microscope]\nkind = "pycromanager"\nport = {micromanager.port}\n'
    report, _ = run_script(JAVA_BACKEND + ADD_EVENTS, micromanager.port, config=EVENTS + table)
    assert report["frames"]["in"] >= 2


def test_a_micromanager_that_dies_leaves_a_run_that_can_be_closed(run_script, micromanager, tmp_path):
    script = """
import os, threading
tap = Tap("run.toml", out="results", core=core)
acquisition = Acquisition(directory=None, name="x", image_process_fn=tap)
acquisition.acquire(multi_d_acquisition_events(num_time_points=1000))
while not tap.progress:
    pass
open("seen", "w").close()
sys.stdin.readline()
tap.close()
os._exit(0)  # pycromanager's own threads wait for ever
"""
    (tmp_path / "run.toml").write_text(RUN)
    (tmp_path / "script.py").write_text(JAVA_BACKEND + script)
    command = [sys.executable, "script.py", str(micromanager.port)]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if (tmp_path / "seen").exists():
                break
            assert process.poll() is None
            time.sleep(0.1)
        micromanager.kill()
        process.communicate("go\n", timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    report = json.loads((tmp_path / "results" / "report.json").read_text())
    assert report["status"] in ("completed", "incomplete")
    assert report["frames"]["processed"] > 0


def test_the_example_runs(tmp_path):
    example = Path(__file__).parents[3] / "examples" / "pycromanager_tap.py"
    command = [sys.executable, str(example), "--demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "frames tracked" in done.stdout
    assert (tmp_path / "tap-results" / "tracks.csv").stat().st_size > 0
