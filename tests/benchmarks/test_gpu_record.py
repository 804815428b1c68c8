"""All of the GPU benchmark that needs no GPU: its figures, with a back end on the CPU in the GPU's place."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import measure as gpu_measure
from benchmarks.gpu.device import Activity, frame_spans_us
from benchmarks.gpu.measure import Amount, measure, open_engine
from benchmarks.gpu.parity import agreement, compare_tracks, detect_all, frames_of, parity_movies, track_movie
from streamtrack.bench.measuring import RunLength
from streamtrack.types import Detections

TINY = Amount((64,), 4, 8, 4, 4, 40, RunLength(0.0, 12, 2))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _small_frames():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_measure, "PARITY_PX", 128)
        patch.setattr(gpu_measure, "RUN_PX", 64)
        yield


@pytest.fixture(scope="module")
def record(_small_frames):
    return measure(["onnxruntime"], TINY)


def detections(yx, score=0.9):
    y, x = np.asarray(yx, np.float32).reshape(-1, 2).T
    same = np.full(len(y), score, np.float32)
    return Detections(y, x, same, 100 * same, 0.2 * same)


def test_a_record_has_everything_and_a_picture(record, tmp_path):
    assert record["failed"] == {}
    assert record["parity"]["onnxruntime"] == record["parity"]["onnxruntime"] | {"f1": 1.0, "passed": True}
    assert record["tracks"]["onnxruntime"]["gpu_against_cpu_f1"] == 1.0
    assert record["tracks"]["onnxruntime"]["gpu_against_truth_f1"] > 0.5
    latency = record["engine"]["onnxruntime"]["64"]
    assert latency["back to back"]["stages_ms"]["detect"]["n"] == 10
    assert latency["paced"]["interval_ms"] == 10.0
    assert 0 <= record["runs"]["onnxruntime"]["due"] <= 38
    path = gpu.save(record | {"computer": record["computer"] | {"gpus": ["NVIDIA H200, 580.1, 1 MiB"]}}, tmp_path)
    assert path.name == "gpu_nvidia_h200.json"
    assert json.loads(path.read_text(encoding="utf-8"))["engine"]
    assert path.with_suffix(".png").stat().st_size > 10_000


def test_its_table_can_be_printed(record, capsys):
    gpu.print_tables(record)
    out = capsys.readouterr().out
    assert "onnxruntime, 64 px" in out
    assert "a camera at 1000 frames/s" in out


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path, capsys):
    record = measure(["onnxruntime"], replace(TINY, sizes_px=(16, 48)))
    assert list(record["failed"]) == ["engine, onnxruntime, 16 px"]
    assert "height_px = 16" in record["failed"]["engine, onnxruntime, 16 px"]
    assert record["engine"]["onnxruntime"]["48"]
    gpu.print_tables(record)
    assert "failed: engine, onnxruntime, 16 px" in capsys.readouterr().out
    gpu.save(record, tmp_path)


def test_frames_that_agree_pass():
    movie = frames_of(parity_movies(4, 64)[1])
    found = detect_all(open_engine("onnxruntime", 64), movie)
    figures = agreement(found, found)
    assert figures["frames"] == 4
    assert figures["particles"] == sum(map(len, found)) > 0
    assert figures["passed"]


def test_a_missing_particle_and_a_shift_are_seen():
    reference = [detections([[10, 10], [20, 20]])] * 100
    missing = [*reference[:99], detections([[10, 10]])]
    assert agreement(reference, missing)["f1"] == pytest.approx(398 / 399, abs=1e-6)
    assert not agreement(reference, missing)["passed"]
    shifted = [detections([[10.02, 10], [20.02, 20]])] * 100
    figures = agreement(reference, shifted)
    assert figures["median_px"] == pytest.approx(0.02, abs=1e-4)
    assert not figures["passed"]


def test_empty_frames_agree():
    assert agreement([Detections.empty()], [Detections.empty()])["passed"]


def test_links_are_compared_with_the_truth_and_with_each_other():
    truth = pd.DataFrame({"frame": [0, 1, 2], "particle": [5, 5, 5], "y": [1.0, 1, 1], "x": [1.0, 2, 3]})
    broken = truth.assign(particle=[1, 1, 2])
    figures = compare_tracks(truth, truth, broken)
    assert figures["cpu_against_truth_f1"] == 1.0
    assert figures["gpu_against_cpu_f1"] == figures["gpu_against_truth_f1"] == pytest.approx(2 / 3)


def test_tracks_of_a_movie_have_no_detection_twice():
    frames = frames_of(parity_movies(8, 64)[1])
    tracks = track_movie(open_engine("onnxruntime", 64), frames)
    assert len(tracks) > 8
    assert not tracks.duplicated(["frame", "particle"]).any()


def test_a_frame_on_the_device_lasts_from_its_upload_to_its_download():
    frame = [("Memcpy HtoD (Pinned -> Device)", 0, 5), ("conv", 6, 90), ("Memcpy DtoH (Device -> Pinned)", 91, 95)]
    afterwards = [("Memcpy DtoD (Device -> Device)", 96, 140)]
    activities = [
        Activity(name, start + 1000 * k, end + 1000 * k) for k in range(3) for name, start, end in [*frame, *afterwards]
    ]
    assert frame_spans_us(reversed(activities)).tolist() == [95.0, 95.0, 95.0]


def test_work_without_a_download_is_no_frame():
    assert len(frame_spans_us([Activity("Memcpy HtoD", 0, 5), Activity("conv", 6, 90)])) == 0


def run_without(*modules):
    """Run the benchmark in a new process in which some modules cannot be imported."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, *rest: None if name in {modules!r} else find(name, *rest)
sys.argv = ["gpu", "--quick"]
from benchmarks.gpu import __main__ as gpu
gpu.find_spec = util.find_spec
IMPORT
gpu.main()
"""
    code = code.replace(
        "IMPORT", "" if "pydantic" in modules else "import benchmarks.gpu.measure, benchmarks.gpu.figure"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_a_machine_without_a_gpu_is_told_in_one_line():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run_without("zarr", "trackpy", "imagecodecs", "tifffile", "dask")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "no back end for a GPU can run here" in done.stderr


def test_what_is_missing_is_named_in_one_line():
    done = run_without("pydantic")
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == ("benchmarks.gpu: not installed: pydantic; pip install them, or carry their wheels")
