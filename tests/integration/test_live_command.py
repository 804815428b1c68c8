"""``streamtrack live`` with the files in ``examples``, on Micro-Manager's own core and its demo camera."""

import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("pymmcore", reason="needs the extra micromanager")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.toml"))


def start(config, folder, *arguments):
    command = [sys.executable, "-m", "streamtrack", "live", str(config), "--out", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_tracks(folder, seconds=90.0):
    """Wait until the run has begun."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (folder / "report.json").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the run did not begin")


def test_there_are_examples():
    assert {file.stem for file in FILES} == {"follow_with_the_stage", "laser_on_count", "second_colour"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_runs_until_it_is_stopped(tmp_path, file):
    process = start(file, tmp_path / "out", "--mode", "rehearse")
    try:
        wait_for_tracks(tmp_path / "out")
        time.sleep(1)
        stop = [sys.executable, "-m", "streamtrack", "stop", str(tmp_path / "out")]
        stopped = subprocess.run(stop, capture_output=True, text=True, timeout=60)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert stopped.returncode == 0, stopped.stderr
    assert process.returncode == 130, errors
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert report["frames"]["processed"] > 0
    assert report["frames"]["in"] == report["frames"]["processed"] + report["frames"]["lost"]
    assert report["config"]["mode"] == report["safety"]["mode"] == "rehearse"
    assert set(report["outputs"]["actuators"]) == set(tomllib.loads(file.read_text(encoding="utf-8"))["actuators"])


def test_a_killed_run_keeps_its_tracks(tmp_path):
    process = start(FILES[0], tmp_path / "out")
    wait_for_tracks(tmp_path / "out")
    time.sleep(3)
    process.kill()
    process.communicate(timeout=60)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["status"] == "running"
    recover = [sys.executable, "-m", "streamtrack", "recover", str(tmp_path / "out")]
    done = subprocess.run(recover, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "tracks.parquet").exists()


def test_a_mistake_is_one_line(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(FILES[0].read_text(encoding="utf-8").replace("x_um", "x_mu"), encoding="utf-8")
    process = start(config, tmp_path / "out")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith(f"streamtrack: {config}: unknown key 'safety.x_mu'; did you mean 'x_um'")
    assert "Traceback" not in errors


def test_stop_wants_a_run_that_runs(tmp_path):
    (tmp_path / "report.json").write_text('{"status": "completed"}')
    stop = [sys.executable, "-m", "streamtrack", "stop", str(tmp_path)]
    done = subprocess.run(stop, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "has ended already" in done.stderr


def test_doctor_says_what_works():
    done = subprocess.run([sys.executable, "-m", "streamtrack", "doctor"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
    assert "demo camera" in done.stdout
