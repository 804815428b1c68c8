"""The page on clusters: its figures are those of the record, its scripts are Python, and one of them runs here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import zarr

import streamtrack

model = pytest.importorskip("benchmarks.offline.model", reason="needs the extra 'offline'")

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
SCRIPTS = [
    dedent(each) for each in re.findall(r"(?:^(?:    .*)?\n)+", TEXT, re.MULTILINE) if "import streamtrack" in each
]


def test_the_figures_are_those_of_the_record():
    record = json.loads((ROOT / "benchmarks" / "results" / "cluster.json").read_text(encoding="utf-8"))
    assert model.rewritten(TEXT, record) == TEXT
    for row in record["model"]["petabyte"]:
        assert row == model.of_cores(record["model"]["measured"], row["cores"])


def test_twice_the_cores_take_half_the_days():
    known = {"engine_ms": 9.0, "reading_ms": 1.0, "driver_ms": 2.0, "task_ms": 1.0}
    known |= {"frame_bytes": 100_000, "frames_a_block": 100}
    one, two = (model.of_cores(known, cores, 1728e9) for cores in (10, 20))
    assert (one["frames_per_s"], one["read_mb_per_s"], one["batches"], one["scheduler_share"]) == (1000, 100, 2, 0.01)
    assert (one["days"], two["days"], two["batches"]) == (0.2, 0.1, 4)


def test_the_scripts_are_python():
    assert len(SCRIPTS) == 3
    for script in SCRIPTS:
        compile(script, "cluster.md", "exec")


def test_slurms_script_is_taken_by_dask_jobqueue(tmp_path):
    jobqueue = pytest.importorskip("dask_jobqueue")
    (call,) = re.findall(r"SLURMCluster\(.*?\n    \)", SCRIPTS[0], re.DOTALL)
    call = call.replace("/home/me/.dask", str(tmp_path))
    with eval(call, {"SLURMCluster": jobqueue.SLURMCluster}) as cluster:
        assert "--nthreads 1" in cluster.job_script()


def test_workers_with_a_tag_search_on_this_computer(tmp_path):
    pixels = streamtrack.simulate("receptor", frames=6, size=64, seed=1).movie
    zarr.create_array(tmp_path / "plate" / "cell.zarr", data=pixels, chunks=(1, 64, 64))
    script = SCRIPTS[2].replace("/data/plate", (tmp_path / "plate").as_posix())
    (tmp_path / "run.py").write_text(script.replace("/data/results", (tmp_path / "out").as_posix()), encoding="utf-8")
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    subprocess.run([sys.executable, tmp_path / "run.py"], check=True, timeout=240, env=environment)
    assert streamtrack.read(tmp_path / "out" / "cell").report["frames"]["processed"] == 6
