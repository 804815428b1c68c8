"""kill -9 at random moments, from the first import to the last report: always recovered, an exact prefix."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError
from streamtrack.recovery import recover
from streamtrack.session import Session

LAB_PACKAGE = Path(__file__).parents[1] / "lab_package"
N_FRAMES = 1200
RUN = f"""
import sys, time
sys.path.insert(0, {str(LAB_PACKAGE)!r})
from pathlib import Path
from streamtrack.config import RunConfig
from streamtrack.session import Session
tables = {{
    "source": {{"kind": "lab-camera", "frames": {N_FRAMES}, "pause_s": 0.002}},
    "engine": {{"kind": "brightest"}},
    "linker": {{"kind": "nearest", "search_range": 5}},
    "sinks": [{{"kind": "tables"}}, {{"kind": "overview"}}, {{"kind": "raw"}}],
}}
def say(progress):
    print(progress.processed, time.monotonic(), flush=True)
print("begun", flush=True)
Session(RunConfig.model_validate(tables), Path(sys.argv[1])).run(say)
"""
LOST_S = 1.0
SLACK_S = 1.5
"""A loaded machine's: the sink's thread may not run for a while."""


def killed_at(folder, rng):
    """Begin a run and kill it at some moment; return when each frame was processed, or None if it was over by then."""
    early = rng.random() < 0.2
    with subprocess.Popen([sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        if not early:
            lines = [child.stdout.readline(), child.stdout.readline()]
            assert lines[0] == "begun\n"
        time.sleep(rng.uniform(0, 3 if early else 6))
        child.kill()
        said = child.stdout.read().splitlines()
    if child.returncode == 0:
        return None
    whole = [line.split() for line in said if re.fullmatch(r"\d+ [\d.]+", line)]
    return [(int(n), float(at_s)) for n, at_s in whole]


def assert_exact_prefix(folder, report, processed):
    detections = pd.read_parquet(folder / "detections.parquet")
    n = report["frames"]["processed"]
    assert report["detections"] == len(detections) == 2 * n
    assert report["frames"]["in"] == n + report["frames"]["lost"]
    frame = np.repeat(np.arange(n), 2)
    assert detections.frame.tolist() == frame.tolist()
    assert sorted(zip(detections.frame, detections.y, detections.x, strict=True)) == sorted(
        [(i, 10, 10) for i in range(n)] + [(i, 30, 5 + i % 50) for i in range(n)]
    )
    assert len(pd.read_csv(folder / "tracks.csv")) == len(pd.read_parquet(folder / "tracks.parquet"))
    lost_s = max((processed[-1][1] - at_s for count, at_s in processed if count > n), default=0.0)
    assert lost_s < LOST_S + SLACK_S, f"{n} of {processed[-1][0]} frames are there"
    print(f"{len(processed)} frames said, {n} recovered, the last {lost_s:.2f} s lost")


def assert_the_next_run_is_accepted(folder, *, overwrite):
    source, engine, sinks = {"kind": "lab-camera", "frames": 3}, {"kind": "brightest"}, [{"kind": "tables"}]
    config = RunConfig.model_validate({"source": source, "engine": engine, "sinks": sinks})
    assert Session(config, folder, overwrite=overwrite).run()["status"] == "completed"
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.json", "detections.parquet", "tracks.parquet", "tracks.csv", "frames.parquet"}


@pytest.mark.usefixtures("lab_plugins")
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 33))])
def test_a_killed_run_is_recovered_to_the_last_second(tmp_path, seed):
    folder = tmp_path / "run"
    processed = killed_at(folder, np.random.default_rng(seed))
    if processed is None:  # it was over
        assert json.loads((folder / "report.json").read_text())["status"] == "completed"
        return
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if names <= {"run.lock"}:  # before anything was written
        assert processed == []
        assert_the_next_run_is_accepted(folder, overwrite=False)
        return
    before = json.loads((folder / "report.json").read_text())
    assert before["status"] in ("running", "completed")
    with pytest.raises(ConfigError):
        assert_the_next_run_is_accepted(folder, overwrite=False)
    if before["status"] == "running":
        report = recover(folder)
        assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(report))
        if (folder / "detections.parquet").exists() or processed:
            assert_exact_prefix(folder, report, processed or [(0, 0.0)])
    assert_the_next_run_is_accepted(folder, overwrite=True)
