"""A lab's own package: its file format, engine and sink work, and no line of streamtrack knows them."""

import json
from functools import partial

import numpy as np
import pytest

import streamtrack

pytestmark = pytest.mark.usefixtures("lab_plugins")

REMARK = "the lamp flickers, change it"
CONFIG = f"""
[engine]
kind = "brightest"
remark = "{REMARK}"

[[sinks]]
kind = "diary"
"""


@pytest.fixture
def movie(tmp_path):
    """Return a file in the lab's format: five frames with two bright pixels."""
    pixels = np.zeros((5, 48, 64), np.float32)
    pixels[:, 10, 10] = pixels[:, 30, 40] = 100
    path = tmp_path / "movie.abc"
    with path.open("wb") as file:
        np.save(file, pixels)
    return path


@pytest.fixture
def track(cli, movie, tmp_path):
    """Run ``streamtrack track movie.abc`` with the lab's engine and sink; returns exit code, stdout, stderr."""
    config = tmp_path / "lab.toml"
    config.write_text(CONFIG, encoding="utf-8")
    return partial(cli, "track", movie, "--config", config, "--out", tmp_path / "out")


def test_a_movie_in_the_labs_format_is_tracked_and_what_its_engine_remarks_is_said(track, movie, tmp_path):
    code, said, _ = track()
    assert code == 0
    assert "completed: 5 frames, 10 detections" in said
    assert f"  {REMARK}\n" in said
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["config"]["source"] == {"kind": "lab-abc", "path": str(movie)}
    assert report["remarks"] == [REMARK]


def test_the_labs_files_are_kept_unless_the_user_says_overwrite(track, tmp_path):
    track()
    diary = tmp_path / "out" / "diary.txt"
    diary.write_text("mine now", encoding="utf-8")
    (tmp_path / "out" / "report.json").unlink()
    code, _, said = track()
    assert code == 2
    assert "diary.txt" in said
    assert "--overwrite" in said
    assert diary.read_text(encoding="utf-8") == "mine now"
    assert track("--overwrite")[0] == 0
    assert diary.read_text(encoding="utf-8") == "0\n1\n2\n3\n4\n"


def test_the_same_from_python(movie):
    engine = {"kind": "brightest", "remark": REMARK}
    results = streamtrack.track(str(movie), engine=engine, progress=False)
    assert len(results.detections) == 10
    assert results.remarks == [REMARK]
    assert REMARK in results._repr_html_()


def test_a_file_that_nobody_opens_is_one_line_with_who_was_asked(cli, movie):
    other = movie.with_suffix(".xyz")
    other.write_bytes(b"something")
    code, _, errors = cli("track", other)
    assert code == 2
    (line,) = errors.strip().splitlines()
    assert "no installed source opens it (asked: bioio, lab-abc, needs-torch, numpy, tiff, zarr)" in line
