"""A disk that is full at any moment: the run failed, and says so in one line and in its report."""

import pandas as pd
import pytest

from streamtrack.report import read_report

pytestmark = pytest.mark.usefixtures("lab_plugins")
RUN = """
[source]
kind = "lab-camera"
frames = 4000
[engine]
kind = "brightest"
[linker]
kind = "nearest"
search_range = 5
[[sinks]]
kind = "tables"
"""


@pytest.mark.parametrize("size", ["8k", "64k", "96k", "160k", "400k", "700k"])
def test_a_full_disk_is_a_failed_run_whatever_it_has_room_for(tmp_path, disk, cli, size):
    (tmp_path / "run.toml").write_text(RUN)
    out = disk(size) / "out"
    code, _, errors = cli("track", "--config", tmp_path / "run.toml", "--out", out)
    assert code == 2
    said = [line for line in errors.splitlines() if "streamtrack:" in line]
    assert len(said) == 1
    assert "No space left on device" in said[0]
    if not out.exists():  # there is no room for a report either: nothing was begun
        assert size in ("8k", "64k")
        return
    report = read_report(out)
    assert report["status"] == "failed"
    assert "No space left on device" in report["error"]
    disk("20m")
    code, _, errors = cli("recover", out)
    assert code == 0
    assert "streamtrack:" not in errors
    report = read_report(out)
    assert report["detections"] == len(pd.read_parquet(out / "detections.parquet")) == 2 * report["frames"]["processed"]
