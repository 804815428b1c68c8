"""The page of a training: what it shows, who may see it, and that it ends a training as Ctrl-C does."""

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("uvicorn", reason="needs the extra view")

import browsers
from trainings import mark_images

from streamtrack_engines.training.view import MOST_CROPS, MOST_ROWS, TrainingView
from streamtrack_engines.training_data.truth import Truth

RECIPE = """
minutes = {minutes}
device = "cpu"
batch_size = 1
crop_px = 32
norm_fraction = 0.0
weights = "denodet"
[data]
kind = "folder"
path = "images"
spot_size = 3.0
[calibration]
n_frames = 8
frame_px = 64
[evaluation]
n_crops = 4
crop_px = 64
every_minutes = 0.02
"""
TIMEOUT_S = 120.0
OUT = "my_weights"


@pytest.fixture
def folder(tmp_path):
    """A folder of marked images and a recipe."""
    mark_images(tmp_path / "images", 4, snr=4.0)
    return tmp_path


@contextmanager
def training(folder, minutes):
    """Train in a process of its own; gives it and the address of its page."""
    (folder / "recipe.toml").write_text(RECIPE.format(minutes=minutes), encoding="utf-8")
    arguments = ["train", str(folder / "recipe.toml"), "--out", str(folder / OUT), "--view"]
    command = [sys.executable, "-m", "streamtrack", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout:
            if found := re.match(r"view at (\S+)", line):
                break
        yield process, found[1]
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


def answer(address, what, method="GET", **headers):
    base, _, token = address.partition("#token=")
    given = {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = Request(f"{base}{what}", b"" if method == "POST" else None, given, method=method)
    try:
        with urlopen(request, timeout=10) as response:
            return response.status, response.read()
    except HTTPError as refused:
        return refused.code, refused.read()


def test_the_page_shows_a_training_and_ends_it_with_its_checkpoint(folder, tmp_path):
    with training(folder, minutes=20) as (process, address), browsers.tab(tmp_path / "profile") as tab:
        tab.size(1280, 900)
        tab.open(address)
        tab.until("document.querySelectorAll('#crops canvas').length >= 4", TIMEOUT_S)
        tab.until("document.querySelectorAll('#losses polyline').length >= 1", TIMEOUT_S)
        tab.until("document.querySelectorAll('#f1 polyline').length >= 1", TIMEOUT_S)
        assert "step" in tab.of("document.getElementById('phase').textContent")
        assert re.search(r"\d+ found, \d+ missed, \d+ false", tab.of("document.getElementById('crops').textContent"))
        tab.screenshot(tmp_path / "training.png")
        tab.click("#stop")
        out, _ = process.communicate(timeout=TIMEOUT_S)
        tab.until("!document.getElementById('message').hidden", 20)
    assert process.returncode == 0, out
    assert "stopped, go on with --resume, at step" in out
    assert {path.name for path in (folder / OUT).iterdir()} >= {"checkpoint.pt", "losses.csv", "evaluations.csv"}
    assert not (folder / OUT / "weights.onnx").exists()


@pytest.fixture
def view(tmp_path):
    with TrainingView(tmp_path) as view:
        yield view


@pytest.mark.parametrize("what", ["api/state", "api/crops"])
def test_nothing_is_told_without_the_token_or_to_another_page(view, what):
    assert answer(view.address, what)[0] == 200
    assert answer(view.address[:-1] + "x", what)[0] == 403
    assert answer(view.address, what, Authorization="")[0] == 403
    assert answer(view.address, what, Origin="https://evil.example")[0] == 403
    assert answer(view.address, what, Host="evil.example")[0] == 403


def test_no_other_page_ends_the_training(view):
    for headers in ({"Authorization": ""}, {"Origin": "https://evil.example"}, {"Host": "evil.example:80"}):
        assert answer(view.address, "api/stop", "POST", **headers)[0] == 403
    assert answer(view.address, "api/stop")[0] == 405
    assert answer(view.address, "../../../etc/passwd")[0] == 404
    assert not view.stopping.is_set()
    assert answer(view.address, "api/stop", "POST")[0] == 200
    assert view.stopping.is_set()


def test_the_page_is_gone_when_the_training_is(tmp_path):
    with TrainingView(tmp_path) as view:
        assert answer(view.address, "")[0] == 200
    give_up = time.monotonic() + 10
    while any(thread.name == "training-view" for thread in threading.enumerate()):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_long_training_is_thinned_out_and_what_is_no_number_is_null(view):
    rows = [{"step": step, "loss": 1.0 / (1 + step)} for step in range(10 * MOST_ROWS)]
    view.note("step 1", 0.5, rows, [{"step": 1, "f1_own": 0.5, "rmse_px_own": float("nan")}])
    state = json.loads(answer(view.address, "api/state")[1])
    assert MOST_ROWS <= len(state["losses"]) <= MOST_ROWS + 2
    assert state["losses"][-1]["step"] == rows[-1]["step"]
    assert state["evaluations"][0]["rmse_px_own"] is None


def test_crops_of_all_parts_are_shown_in_turn_with_hits_and_misses(view):
    noisy = np.random.default_rng(0).normal(100, 10, (6, 1, 32, 32)).astype(np.float32)
    points = np.array([[0, 8, 8], [0, 20, 20]], np.float32)
    found = np.array([[0, 8.5, 8, 0.9], [0, 28, 4, 0.8]], np.float32)
    for name in ("easy", "hard"):
        view.show(name, Truth(noisy, points), found)
    crops = json.loads(answer(view.address, "api/crops")[1])["crops"]
    assert len(crops) == MOST_CROPS
    assert [crop["name"] for crop in crops[:3]] == ["easy 1", "hard 1", "easy 2"]
    assert {mark: crops[0][mark] for mark in ("found", "missed", "false")} == {
        "found": [[8, 8]],
        "missed": [[20, 20]],
        "false": [[28, 4]],
    }
