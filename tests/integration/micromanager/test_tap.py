import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, StreamtrackError

pytest.importorskip("pymmcore")

from streamtrack.feed import NOT_HANDED_OVER
from streamtrack_drivers.micromanager import Tap

IMAGE = np.zeros((48, 64), np.float32)
IMAGE[10, 10] = IMAGE[30, 20] = 100.0
LAB_PACKAGE = Path(__file__).parents[2] / "lab_package"


@pytest.fixture(autouse=True)
def _lab(lab_plugins):
    """The lab's engine takes a bright pixel for a particle."""


def make_tap(folder, *, engine=None, sinks=None, only=None, **rest):
    tables = {"engine": {"kind": "brightest", **(engine or {})}, "sinks": sinks or [{"kind": "memory"}], **rest}
    return Tap(RunConfig.model_validate(tables), folder, shape=IMAGE.shape, dtype="float32", only=only)


def tracked():
    return [result.frame.index for result in sys.modules["lab_plugins"].Memory.kept]


def push(tap, numbers, pause_s=0.002):
    for number in numbers:
        tap(IMAGE.copy(), {"ImageNumber": number})
        time.sleep(pause_s)


def test_images_are_tracked_and_given_back_as_they_are(tmp_path):
    with make_tap(tmp_path, ingest={"policy": "block"}) as tap:
        for number in range(20):
            image, tags = IMAGE.copy(), {"ImageNumber": str(number)}
            same_image, same_tags = tap(image, tags)
            assert same_image is image
            assert same_tags is tags
            time.sleep(0.002)
    assert tap.report["status"] == "completed"
    assert tap.report["frames"]["processed"] == 20
    assert tap.report["detections"] == 40
    assert tracked() == list(range(20))
    assert tap.progress.processed == 20
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(tap.report))


def test_pycromanager_counts_the_parameters_of_the_function(tmp_path):
    with make_tap(tmp_path) as tap:
        assert len(inspect.signature(tap).parameters) == 2
        assert len(inspect.signature(tap.with_events).parameters) == 3


def test_the_run_is_ready_when_the_tap_is_made(tmp_path):
    with make_tap(tmp_path) as tap:
        assert json.loads((tmp_path / "report.json").read_text())["status"] == "running"
        assert tap.report is None


def test_images_that_were_not_handed_over_are_lost_with_their_indices(tmp_path):
    with make_tap(tmp_path) as tap:
        push(tap, [0, 1, 2, 6, 7])
    assert tap.report["status"] == "incomplete"
    assert tap.report["frames"]["lost_frames"] == [{"first": 3, "last": 5, "cause": NOT_HANDED_OVER}]
    assert tracked() == [0, 1, 2, 6, 7]


def test_a_second_acquisition_goes_on_in_the_same_run(tmp_path):
    with make_tap(tmp_path) as tap:
        push(tap, [0, 1, 2])
        push(tap, [0, 1, 2])
    assert tap.report["status"] == "completed"
    assert tap.report["source"]["details"]["restarts"] == 1
    assert tracked() == list(range(6))


@pytest.mark.parametrize("image", [np.zeros((32, 64), np.float32), np.zeros((48, 64), np.uint16), None])
def test_an_image_that_does_not_fit_is_lost_and_does_no_harm(tmp_path, image):
    tap = make_tap(tmp_path)
    push(tap, [0])
    tap(image, {"ImageNumber": 1})
    push(tap, [2])
    tap.close()
    [lost] = tap.report["frames"]["lost_frames"]
    assert (lost["first"], lost["last"]) == (1, 1)
    assert lost["cause"].startswith(("the image is (", "not an image"))
    assert tracked() == [0, 2]


@pytest.mark.parametrize("metadata", [None, {}, {"ImageNumber": []}, {"TimeReceivedByCore": 7}])
def test_metadata_may_be_anything(tmp_path, metadata):
    with make_tap(tmp_path) as tap:
        tap(IMAGE.copy(), metadata)
        push(tap, [1])
    assert tracked() == [0, 1]


def acquire(tap, n_times=6, channels=("DAPI", "GFP"), n_positions=2, n_z=3, leave_out=()):
    """Hand over what pycromanager does of an acquisition, in hardware sequences of one time point."""
    for t in range(n_times):
        axes = itertools.product(range(n_positions), channels, range(n_z))
        for number, (position, channel, z) in enumerate(axes):
            at = {"time": t, "position": position, "channel": channel, "z": z}
            if at not in leave_out:
                tap(IMAGE.copy(), {"Axes": at, "ImageNumber": str(number), "Camera": "Camera"})


def error_of(tap):
    """Close a tap whose run failed; return its error, which is one line."""
    with pytest.raises(StreamtrackError) as caught:
        tap.close()
    assert tap.report["status"] == "failed"
    assert tap.report["error"] == str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_an_acquisition_of_several_streams_is_refused_at_the_second(tmp_path):
    tap = make_tap(tmp_path)
    acquire(tap)
    assert error_of(tap) == (
        "the acquisition has several streams (z: 0, 1) and would be tracked as one movie:"
        " choose one, for example only={'p': 0, 'c': 'DAPI', 'z': 0}, or track each by itself, only='all'"
    )


@pytest.mark.parametrize(
    "only",
    [
        {"c": "GFP", "p": 1, "z": 2},
        {"channel": "GFP", "position": 1, "z": 2},
        lambda metadata: list(metadata["Axes"].values())[1:] == [1, "GFP", 2],
    ],
)
def test_the_chosen_stream_alone_is_tracked(tmp_path, only):
    with make_tap(tmp_path, only=only, ingest={"policy": "block"}) as tap:
        acquire(tap)
    assert tap.report["status"] == "completed"
    assert tracked() == [0, 1, 2, 3, 4, 5]
    assert tap.report["source"]["details"]["stream"] == {"p": 1, "c": "GFP", "z": 2, "camera": "Camera"}
    assert tap.report["source"]["details"]["left_out"] == 66


def test_images_that_are_lost_within_the_stream_are_counted_and_those_of_others_are_not(tmp_path):
    at = {"position": 1, "channel": "GFP", "z": 2}
    lost = [{"time": 2, **at}, {"time": 3, **at}, {"time": 4, **at, "z": 1}]
    with make_tap(tmp_path, only=at, ingest={"policy": "block"}) as tap:
        acquire(tap, leave_out=lost)
    assert tap.report["frames"]["lost_frames"] == [{"first": 2, "last": 3, "cause": NOT_HANDED_OVER}]
    assert tracked() == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("only", "error"),
    [
        ({"channel": "GPF"}, r"only: no c = 'GPF' in the acquisition \(it has c: DAPI, GFP\); did you mean 'GFP'\?"),
        ({"c": "GFP", "p": 2}, r"only: no p = 2 in the acquisition \(it has p: 0, 1\)"),
        ({"canal": "GFP"}, "only: the acquisition has no axis 'canal'; it has p, c, z, camera"),
        ({"c": "GFP"}, r"only lets several streams through \(z: 0, 1\) .*only=\{'p': 0, 'c': 'GFP', 'z': 0\}"),
        (lambda metadata: metadata["Axis"], "only failed, KeyError: 'Axis'"),
        (lambda metadata: False, "chose none of 72 images"),
        (lambda metadata: np.zeros(2), "only failed, ValueError"),
    ],
)
def test_a_choice_that_makes_no_single_stream_is_the_runs_error(tmp_path, only, error):
    tap = make_tap(tmp_path, only=only)
    acquire(tap)
    assert re.search(error, error_of(tap))


@pytest.mark.parametrize(
    "tags",
    [
        [{"Camera": "Left"}, {"Camera": "Right"}],
        [{"Camera": "Both", "CameraChannelIndex": 0}, {"Camera": "Both", "CameraChannelIndex": 1}],
        [{"Camera": "A", "Both-CameraChannelIndex": "0"}, {"Camera": "B", "Both-CameraChannelIndex": "1"}],
        [{"Channel": "DAPI"}, {"Channel": "GFP"}],
        [{"SliceIndex": 0}, {"SliceIndex": 1}],
        [{"PositionIndex": 0}, {"PositionIndex": 1}],
        [{"Axes": {"time": 0, "row": 0, "column": 0}}, {"Axes": {"time": 0, "row": 0, "column": 1}}],
        [{"Axes": {"time": 0, "my axis": "a"}}, {"Axes": {"time": 0, "my axis": "b"}}],
    ],
)
def test_streams_are_told_apart_by_all_that_the_metadata_say(tmp_path, tags):
    tap = make_tap(tmp_path)
    for number in range(3):
        for each in tags:
            tap(IMAGE.copy(), {"ImageNumber": number, **each})
    assert "several streams" in error_of(tap)


@pytest.mark.parametrize(
    "tags",
    [
        [{"Camera": "Camera", "CameraChannelIndex": 0}, {"Camera": "Camera"}],  # a snap and a sequence
        [{"Channel": "DAPI"}, {"Channel": "Default"}, {"Channel": ""}],  # a property of the preset was changed
        [{"Axes": {"time": 0}}, {"Axes": {"added": 0}}, {"Axes": {"time": 1}}],  # by a trigger
    ],
)
def test_one_stream_may_be_described_in_several_ways(tmp_path, tags):
    with make_tap(tmp_path, ingest={"policy": "block"}) as tap:
        for number, each in enumerate(tags):
            tap(IMAGE.copy(), {"ImageNumber": number, **each})
    assert tap.report["status"] == "completed"
    assert tracked() == list(range(len(tags)))


def test_what_a_trigger_adds_is_of_the_stream_that_the_devices_are_at(tmp_path):
    axes = [{"time": 0, "channel": "DAPI"}, {"added": 0}, {"time": 0, "channel": "GFP"}, {"added": 1}]
    with make_tap(tmp_path, only={"c": "DAPI"}, ingest={"policy": "block"}) as tap:
        for each in (*axes, {"added": 2, "channel": "DAPI"}):
            tap(IMAGE.copy(), {"Axes": each})
    assert tracked() == [0, 1, 2]
    assert tap.report["source"]["details"]["left_out"] == 2


@pytest.mark.parametrize("only", [{"time": 3}, {"c": 1.5}, ["DAPI"], "DAPI"])
def test_what_is_no_choice_is_refused_at_once(tmp_path, only):
    with pytest.raises(ConfigError, match=r"for each axis|all times of a stream"):
        make_tap(tmp_path, only=only)


def test_a_failed_run_lets_the_acquisition_go_on_and_says_why_at_the_end(tmp_path):
    tap = make_tap(tmp_path, engine={"fail_at": 3})
    push(tap, range(200), pause_s=0.001)
    with pytest.raises(StreamtrackError, match="a bug in the lab's engine") as caught:
        tap.close()
    assert len(str(caught.value).splitlines()) == 1
    assert tap.report["status"] == "failed"
    tap.close()


def test_an_error_in_the_users_script_is_not_hidden_by_the_run(tmp_path):
    tap = make_tap(tmp_path)

    def script():
        with tap:
            push(tap, [0, 1])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        script()
    assert tap.report["status"] == "interrupted"


def test_a_slow_run_costs_the_acquisition_nothing(tmp_path):
    tap = make_tap(tmp_path, engine={"pause_s": 0.05})
    took_s = []
    for number in range(300):
        image = IMAGE.copy()
        began = time.perf_counter()
        tap(image, {"ImageNumber": number})
        took_s.append(time.perf_counter() - began)
        time.sleep(0.001)
    tap.close()
    frames = tap.report["frames"]
    assert np.median(took_s) < 0.02, "the engine takes 0.05 s"
    assert frames["lost"] > 100
    assert frames["processed"] + frames["lost"] == 300
    assert tracked() == sorted(set(tracked()))


def test_a_run_that_cannot_begin_says_so_at_once(tmp_path):
    with pytest.raises(StreamtrackError, match="cannot take uint16"):
        Tap(RunConfig.model_validate({"engine": {"kind": "brightest"}}), tmp_path, shape=(48, 64))
    with pytest.raises(ConfigError, match=r"Give the tap core=Core\(\), or shape"):
        Tap(RunConfig.model_validate({}), tmp_path)
    with pytest.raises(ConfigError, match=r"nothing\.toml"):
        Tap(tmp_path / "nothing.toml", tmp_path, shape=(48, 64))
    second_core = {"microscope": {"kind": "micromanager", "config": "MMConfig_demo.cfg"}}
    with pytest.raises(ConfigError, match="second core"):
        Tap(RunConfig.model_validate(second_core), tmp_path, shape=(48, 64))


def test_nothing_is_left_running(tmp_path):
    before = set(threading.enumerate())
    with make_tap(tmp_path) as tap:
        push(tap, [0, 1])
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(threading.enumerate()) <= before


def test_a_pause_of_the_acquisition_is_not_a_stall(tmp_path):
    """Unless the run's file says otherwise."""
    with make_tap(tmp_path / "a") as tap:
        pass
    assert tap.report["config"]["ingest"]["stall_timeout_s"] > 3600
    tap = make_tap(tmp_path / "b", ingest={"stall_timeout_s": 0.5})
    until = time.monotonic() + 30
    while tap.report is None and time.monotonic() < until:
        time.sleep(0.02)
    with pytest.raises(StreamtrackError, match=r"no frame from tap for 0\.5 s"):
        tap.close()


def test_a_script_that_forgets_to_close_loses_nothing(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('[engine]\nkind = "brightest"\n[[sinks]]\nkind = "tables"\n[ingest]\ncapacity = 8\n')
    script = f"""
import numpy as np
from streamtrack_drivers.micromanager import Tap
tap = Tap({str(config)!r}, {str(tmp_path / "out")!r}, shape=(48, 64), dtype="float32")
for number in range(5):
    tap(np.zeros((48, 64), np.float32), {{"ImageNumber": number}})
"""
    python_path = os.pathsep.join((str(LAB_PACKAGE), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": python_path}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["status"] == "completed"
    assert report["frames"]["processed"] == 5


# The source behind the tap


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")
def test_a_script_that_is_killed_makes_safe_first_and_its_run_ends_in_order(tmp_path):
    script = f"""
import hashlib, os, signal, sys, threading, time
sys.path.insert(0, {str(LAB_PACKAGE)!r})
from streamtrack.config import RunConfig
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack_drivers.micromanager import tap as module

class Noting(SimulatedMicroscope):
    def set_shutter(self, device, opened):
        super().set_shutter(device, opened)
        print("closed", flush=True)

module.Tap._make_microscope = lambda *_: Noting()
tables = {{"engine": {{"kind": "brightest"}}, "sinks": [], "mode": "armed", "safety": {{"close_shutter": "Shutter"}}}}
tap = module.Tap(RunConfig.model_validate(tables), {str(tmp_path)!r}, shape=(48, 64), dtype="float32")
try:
    with tap:
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 3_000_000)
        print("acquired", flush=True)
        time.sleep(30)
except KeyboardInterrupt:
    print(tap.report["status"], flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    said = done.stdout.split()
    assert said[-1] == "interrupted", done.stderr
    assert "closed" in said
