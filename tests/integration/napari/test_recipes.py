"""The lines for pymmcore-gui, napari-micromanager and scripts, as they stand in the page, on the demo camera."""

import contextlib
import io
import os
import re
import subprocess
import sys
import time
import weakref
from importlib.util import find_spec
from pathlib import Path

import pytest
from demo_beads import core_with_beads

import streamtrack

pytest.importorskip("useq", reason="needs the extra micromanager")

import useq

from streamtrack_drivers.micromanager.newest_tracked import NewestTracked

PAGE = Path(__file__).parents[3] / "docs" / "napari.md"
RUN = Path(__file__).parents[3] / "examples" / "follow_with_the_stage.toml"
TIMEOUT_S = 60.0


@pytest.fixture
def core(monkeypatch):
    """The core that everybody shares, with beads."""
    from pymmcore_plus import CMMCorePlus

    for core in core_with_beads(density=10, exposure_ms=20):
        monkeypatch.setattr("pymmcore_plus.core._mmcore_plus._instance", weakref.ref(core))
        assert CMMCorePlus.instance() is core
        yield core
        core.mda.cancel()


def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def acquire(core, n):
    core.run_mda(useq.MDASequence(time_plan={"interval": 0.05, "loops": n})).join(TIMEOUT_S)
    assert not core.mda.is_running()


def test_each_recipe_has_five_lines_at_most():
    assert [len([line for line in block.splitlines() if line]) for block in blocks()] == [5, 2, 2, 2]


def test_the_recipes_run_one_after_the_other(core, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = RUN.read_text(encoding="utf-8").replace("[microscope]", 'mode = "armed"\n\n[microscope]', 1)
    Path("run.toml").write_text(text, encoding="utf-8")
    each, results, meanwhile, over = blocks()
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(each, names)
        acquire(core, 5)
    lines = said.getvalue().splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"\S*{'t': 4}\S* \[[ \d-]+\]", lines[-1]), lines[-1]
    core.setXYPosition(7.0, 0.0)
    core.waitForDevice("XY")
    exec(results, names)
    core.run_mda(useq.MDASequence(time_plan={"interval": 0.05, "loops": 40}))
    time.sleep(0.5)
    exec(meanwhile, names)
    give_up = time.monotonic() + TIMEOUT_S
    while core.mda.is_running() and time.monotonic() < give_up:
        time.sleep(0.05)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(over, names)
    assert said.getvalue().split()[0] == "completed"
    report = streamtrack.read("results").report
    assert [change["change"] for change in report["changes"]] == ["mark", "threshold"]
    assert report["outputs"]["actuators"]["stage"]["sent"] > 0
    assert (core.getXPosition(), core.getYPosition()) != (7.0, 0.0)


IN_A_WINDOW = """
from qtpy.QtWidgets import QApplication
application = QApplication([])
import useq
from demo_beads import core_with_beads
from streamtrack.config import RunConfig
from streamtrack_drivers.micromanager import MdaTap

for core in core_with_beads(density=10, exposure_ms=5):
    with MdaTap(RunConfig(), "results", core=core) as tap:
        core.run_mda(useq.MDASequence(time_plan={"interval": 0.02, "loops": 30}), block=True)
    print(tap.report["frames"]["in"], tap.report["frames"]["processed"])
"""


def test_a_program_with_a_window_keeps_no_image_back(tmp_path):
    if find_spec("qtpy") is None:
        pytest.skip("needs Qt, as the extra napari brings it")
    helpers = os.pathsep.join([*sys.path, str(PAGE.parents[1] / "tests" / "helpers")])
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": helpers}
    command = [sys.executable, "-W", "ignore", "-c", IN_A_WINDOW]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if "cannot open shared object" in done.stderr:
        pytest.skip("Qt lacks libraries of the system here")
    assert done.stdout.split()[0] == "30", done.stdout + done.stderr


def newest_of(tracked, below=1000):
    give_up = time.monotonic() + TIMEOUT_S
    while time.monotonic() < give_up and not tracked.error:
        if tracked.result is not None and tracked.result.frame.index < below:
            break
        time.sleep(0.02)
    return tracked.result


def test_the_newest_image_is_tracked_and_others_are_passed_over(core):
    tracked = NewestTracked()
    core.mda.events.frameReady.connect(tracked.take_event)
    try:
        acquire(core, 20)
        result = newest_of(tracked)
        assert not tracked.error
        assert len(result.detections) > 3
        assert result.frame.pixels.shape == (256, 256)
        acquire(core, 3)  # another acquisition, and another tracker
        assert newest_of(tracked, below=3).frame.index < 3
    finally:
        core.mda.events.frameReady.disconnect(tracked.take_event)
        tracked.close()


def test_a_threshold_holds_from_the_next_image_on():
    image = streamtrack.simulate("vesicle", snr=2, density=500, frames=4, size=128, seed=1).movie[0]
    tracked, n_found = NewestTracked(), []
    for threshold in (0.1, 0.9):
        tracked.threshold, tracked.result = threshold, None
        tracked.take(image)
        n_found.append(len(newest_of(tracked).detections))
    tracked.close()
    assert n_found[0] > n_found[1] > 0


def test_what_cannot_be_tracked_is_said():
    tracked = NewestTracked(engine="nothing")
    tracked.take(streamtrack.simulate(frames=4, size=64).movie[0])
    assert newest_of(tracked) is None
    assert "nothing" in tracked.error
    tracked.close()
