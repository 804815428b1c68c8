"""napari's window on a screen that nobody sees."""

import json
import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import streamtrack
from streamtrack.config import RunConfig
from streamtrack.session import Session

HERE = Path(__file__).parent
TIMEOUT_S = 120.0
RING = (255, 208, 0)


@pytest.fixture
def start_window():
    """Return a function that starts one of the programs beside this file, and returns its process."""
    if find_spec("napari") is None or find_spec("qtpy") is None:
        pytest.skip("needs the extra napari")
    if shutil.which("xvfb-run") is None:
        pytest.skip("needs xvfb-run")
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24"]
    helpers = os.pathsep.join([str(HERE.parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "QT_QPA_PLATFORM": "xcb",
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "NAPARI_CONFIG": "",
        "PYTHONPATH": helpers,
    }
    started = []

    def start(program, *arguments):
        command = [*screen, sys.executable, "-W", "ignore", str(HERE / program), *map(str, arguments)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=20)


def said(process):
    out, err = process.communicate(timeout=TIMEOUT_S)
    if "no Qt platform plugin" in err or "cannot open shared object" in err:
        pytest.skip("Qt lacks libraries of the system here")
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def rings_in(picture):
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    return int((np.abs(pixels - RING).max(axis=2) < 60).sum())


def test_a_run_that_has_ended_is_drawn(start_window, run_folder, tmp_path):
    picture = tmp_path / "window.png"
    shown = said(start_window("window.py", run_folder, picture))
    assert shown["layers"].keys() == {"raw", "denoised", "detections", "tracks"}
    assert rings_in(picture) > 50


def test_a_run_that_is_on_grows_in_the_window(start_window, movie, tmp_path):
    feed = streamtrack.Feed(movie.shape[1:], movie.dtype.name, capacity=100)
    config = RunConfig.model_validate({"ingest": {"policy": "block"}, "sinks": [{"kind": "tables"}, {"kind": "raw"}]})
    run = threading.Thread(target=Session(config, tmp_path / "results", source=feed).run, daemon=True)
    run.start()
    assert feed.started.wait(60)
    picture = tmp_path / "window.png"
    process = start_window("window.py", tmp_path / "results", picture, len(movie))
    for image in movie:
        feed.push(image)
        assert process.poll() is None
        threading.Event().wait(0.5)
    shown = said(process)
    feed.finish()
    run.join(60)
    assert shown["layers"]["raw"] == len(movie)
    assert shown["at"] == len(movie) - 1  # it stands on the newest frame
    assert rings_in(picture) > 20


def test_the_dock_widget_tracks_live_view_and_acquisition(start_window, tmp_path):
    pytest.importorskip("pymmcore_plus", reason="needs the extra micromanager")
    pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")
    picture = tmp_path / "dock.png"
    shown = said(start_window("dock.py", picture))
    assert shown["layers"].keys() == {"preview", "camera particles", "camera tails"}
    assert shown["layers"]["camera particles"] > 5
    assert shown["layers"]["camera tails"] > 5
    assert shown["said"].startswith("image")
    assert rings_in(picture) > 100
