"""A movie is tracked while another process writes it."""

import json
from importlib.util import find_spec

import growing_movie
import numpy as np
import pandas as pd
import pytest
from running import ONNXRUNTIME, start, wait_for_frames

from benchmarks.loop.stop import wait_until
from streamtrack_drivers.tiff_stack import TiffSource
from streamtrack_drivers.zarr_movie import ZarrSource

N, IDLE_S = 120, 3.0
SPECIAL = ("whole length at first", "more than comes", "liar", *growing_movie.TIFF_WRITERS)
NEEDS = {"ome-writers": "ome_writers", "acquire-zarr": "acquire_zarr", "ndtiff": "ndstorage"}


@pytest.fixture
def writing(tmp_path):
    """Start a writer; returns the process and where the movie will be."""
    with growing_movie.processes() as start:

        def begin(writer, n=N):
            if writer in NEEDS and find_spec(NEEDS[writer]) is None:
                pytest.skip(f"needs {writer}")
            path = tmp_path / ("ndtiff" if writer == "ndtiff" else "m.ome.zarr")
            return start(writer, path, n), path

        yield begin


def follow(path, process):
    """What comes of a movie: indices, those that are not what was written, causes of loss; and its source."""
    wait_until(path.exists, 60, process)
    source = (TiffSource if path.name == "ndtiff" else ZarrSource)(path=path, follow=IDLE_S)
    return *growing_movie.read(source), source


@pytest.mark.parametrize("writer", [each for each in growing_movie.WRITERS if each not in SPECIAL])
def test_every_frame_comes_once_in_order_and_whole(writing, writer):
    process, path = writing(writer)
    indices, wrong, lost, source = follow(path, process)
    assert process.wait(60) == 0
    assert indices == list(range(N))
    assert (wrong, lost) == ([], {})
    assert source.remarks() == [f"followed until nothing new had come for 3 s: frame {N - 1} was the last"]


def test_what_a_shape_promises_and_never_comes_is_lost(writing):
    process, path = writing("more than comes")
    indices, wrong, lost, _ = follow(path, process)
    assert indices == list(range(2 * N))
    assert wrong == []
    assert list(lost) == list(range(N, 2 * N))


def test_a_shape_that_is_wrong_all_the_time_changes_no_frame(writing):
    process, path = writing("liar")
    indices, wrong, lost, _ = follow(path, process)
    assert indices[:N] == list(range(N))
    assert wrong == []
    assert all(index >= N for index in lost)


def test_a_writer_that_dies_ends_the_run_with_the_cause(writing):
    process, path = writing("whole length at first")
    wait_until((path / "c" / "50" / "0" / "0").exists, 60, process)
    process.kill()
    process.wait()
    indices, wrong, lost, source = follow(path, process)
    assert indices == list(range(N))
    assert wrong == []
    assert min(lost) > 50
    assert set(lost.values()) == {"never written: nothing new came for 3 s"}
    assert "did it die?" in source.remarks()[0]


RULES = """
engine = { kind = "denodet", backend = "onnxruntime" }
sinks = [{ kind = "tables" }, { kind = "raw", when = "commands", before = 1, after = 1 }]
triggers = [{ kind = "count", below = 1000, confirmed = false, do = "raw" }]
"""


def test_track_follows(writing, tmp_path):
    out, rules = tmp_path / "out", tmp_path / "rules.toml"
    rules.write_text(RULES)
    said = ("--config", rules, "--out", out, "--follow", "20", "--frames", f"0:{N}")
    tracking = start("track", tmp_path / "m.ome.zarr", *said)  # begun before there is anything to track
    process, path = writing("format 3")
    _, err = tracking.communicate(timeout=240)
    assert tracking.returncode == 0, err
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "completed"
    assert report["frames"]["processed"] == N
    assert {"noticed", "tracked"} <= report["latency_ms"].keys()
    frames = pd.read_parquet(out / "frames.parquet")["frame"]
    assert frames.tolist() == list(range(N))
    assert report["rules"]["count"]["fired"] == 1
    assert (out / "events" / "0001_frame0.ome.zarr").is_dir()
    assert process.wait(60) == 0
    assert start("track", path, *ONNXRUNTIME, "--out", tmp_path / "again").wait(240) == 0
    pd.testing.assert_frame_equal(*(pd.read_parquet(each / "detections.parquet") for each in (out, tmp_path / "again")))


def test_a_stop_ends_it_at_once(writing, tmp_path):
    out = tmp_path / "out"
    process, path = writing("format 3", n=10)
    assert process.wait(60) == 0
    tracking = start("track", path, *ONNXRUNTIME, "--out", out, "--follow", "600")
    wait_for_frames(out, tracking, 10)
    (out / "stop").touch()
    assert tracking.wait(60) == 130


@pytest.mark.timing
def test_a_frame_is_read_soon_after_it_was_written(writing):
    process, path = writing("format 3", n=500)
    source = ZarrSource(path=path, follow=IDLE_S)
    late_ms = [(frame.grabbed_ns - frame.written_ns) / 1e6 for frame in source.frames()]
    assert process.wait(60) == 0
    assert np.median(late_ms) < 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m.zarr", "--follow", "0.1"), "no such file or folder"),
        (("--follow", "m.zarr"), "no such file or folder"),
        (("--follow", "20250101.zarr"), "no such file or folder"),
        (("--follow", "./m.zarr"), "no such file or folder"),
        (("m.zarr", "--follow", "-3"), "follow"),
        (("sim:vesicle", "--follow"), "--follow means nothing to the source 'sim': leave it out"),
        (("sim:vesicle", "--channel", "1"), "--channel means nothing to the source 'sim': leave it out"),
    ],
)
def test_mistakes_are_one_line(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("streamtrack.cli.helping.FOLLOW_S", "0.1")
    code, _, err = cli("track", *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
