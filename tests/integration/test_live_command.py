"""``streamtrack live`` with the files in ``examples``, on Micro-Manager's own core and its demo camera."""

import json
import tomllib
from pathlib import Path

import pytest
from running import start, status_of, wait_for_frames

pytest.importorskip("pymmcore", reason="needs the extra micromanager")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.toml"))


def test_there_are_examples():
    names = {"follow_with_the_stage", "laser_on_count", "pulse_and_come_back", "second_colour"}
    assert {file.stem for file in FILES} == names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_runs_until_it_is_stopped(cli, tmp_path, file):
    process = start("live", file, "--out", tmp_path / "out", "--mode", "rehearse")
    try:
        wait_for_frames(tmp_path / "out", process)
        code, _, said = cli("stop", tmp_path / "out")
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert code == 0, said
    assert process.returncode == 130, errors
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert report["frames"]["processed"] > 0
    assert report["frames"]["in"] == report["frames"]["processed"] + report["frames"]["lost"]
    assert report["config"]["mode"] == report["safety"]["mode"] == "rehearse"
    assert set(report["outputs"]["actuators"]) == set(tomllib.loads(file.read_text(encoding="utf-8"))["actuators"])


def test_a_killed_run_keeps_its_tracks(cli, tmp_path):
    process = start("live", FILES[0], "--out", tmp_path / "out")
    wait_for_frames(tmp_path / "out", process)
    process.kill()
    process.communicate(timeout=60)
    assert status_of(tmp_path / "out") == "running"
    code, _, said = cli("recover", tmp_path / "out")
    assert code == 0, said
    assert (tmp_path / "out" / "tracks.parquet").exists()


def test_a_mistake_is_one_line(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(FILES[0].read_text(encoding="utf-8").replace("x_um", "x_mu"), encoding="utf-8")
    process = start("live", config, "--out", tmp_path / "out")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith(f"streamtrack: {config}: unknown key 'safety.x_mu'; did you mean 'x_um'")
    assert "Traceback" not in errors


def test_stop_wants_a_run_that_runs(cli, tmp_path):
    (tmp_path / "report.json").write_text('{"status": "completed"}')
    code, _, errors = cli("stop", tmp_path)
    assert code == 2
    assert "has ended already" in errors


def test_doctor_says_what_works(cli):
    code, said, errors = cli("doctor")
    assert code == 0, errors
    assert "onnxruntime" in said
    assert "demo camera" in said
