"""Batches on real workers of dask: tables are those of single runs, whatever happens to workers meanwhile."""

import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import threading
import time

import dask.config
import numpy as np
import psutil
import pytest
import zarr

import streamtrack
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError
from streamtrack.offline.batch import BatchRun
from streamtrack.offline.plan import BatchPlan

cluster = pytest.importorskip("streamtrack.offline.cluster", reason="needs the extra 'offline'")

ENGINE = {"kind": "denodet", "backend": "onnxruntime", "threads": 1}
N_FRAMES, SIZE = 40, 96


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    """A folder of two movies; of the second, a frame is lost just before a block of 8, and another at the end."""
    folder = tmp_path_factory.mktemp("movies")
    for seed, name in enumerate(("first", "second")):
        movie = streamtrack.simulate("receptor", frames=N_FRAMES, size=SIZE, seed=seed + 1).movie
        zarr.create_array(folder / f"{name}.zarr", data=movie, chunks=(1, SIZE, SIZE))
    for lost in (15, N_FRAMES - 1):
        (folder / "second.zarr" / "c" / str(lost) / "0" / "0").unlink()
    return folder


@pytest.fixture(scope="module")
def single(movies):
    """What `track` finds in each."""
    with pytest.warns(UserWarning, match="frames were lost"):
        return {
            name: streamtrack.track(movies / f"{name}.zarr", engine=ENGINE, progress=False, measures="intensity")
            for name in ("first", "second")
        }


@pytest.fixture(scope="module")
def client():
    with cluster.connected(None, 2) as client:
        yield client


@pytest.fixture(autouse=True)
def settings_of_dask():
    """Those of the user's process are left as they were, whatever threads do at the same time."""
    yield
    assert dask.config.get("scheduler", None) is None


def assert_same(results, single):
    for table in ("tracks", "detections"):
        assert getattr(results, table).equals(getattr(single, table))
    assert results.frames["detections"].equals(single.frames["detections"])
    assert results.report["frames"] == single.report["frames"]


def test_tables_are_those_of_the_single_run_and_a_second_batch_leaves_them(movies, single, client, tmp_path):
    settings = {"engine": ENGINE, "measures": "intensity", "progress": False, "block": 8, "scheduler": client}
    results = streamtrack.batch(movies, tmp_path / "out", **settings)
    assert list(results) == ["first", "second"]
    for name, each in results.items():
        assert_same(each, single[name])
    assert results.table["status"].tolist() == ["completed", "incomplete"]
    assert results["second"].report["frames"]["lost"] == 2

    written = (tmp_path / "out" / "first" / "tracks.csv").stat()
    again = streamtrack.batch(movies, tmp_path / "out", **settings)
    assert all(row.skipped for row in again.rows)
    assert (tmp_path / "out" / "first" / "tracks.csv").stat() == written
    with pytest.raises(ConfigError, match=r"holds a batch with engine = .*: choose another --out, or pass --overwrite"):
        streamtrack.batch(movies, tmp_path / "out", **{**settings, "engine": {"kind": "denodet", "threshold": 0.9}})


def test_what_is_said_of_pixels_and_frames_is_in_the_tables_and_is_what_a_second_batch_compares(
    movies, client, tmp_path
):
    said = {"pixel_size_um": 0.2, "frame_interval_s": 0.5}
    settings = {"engine": ENGINE, "progress": False, "block": 8, "scheduler": client}
    movie = movies / "first.zarr"
    found = streamtrack.batch(movie, tmp_path / "out", **settings, **said)["first"]
    assert found.tracks.equals(streamtrack.track(movie, engine=ENGINE, progress=False, **said).tracks)
    assert found.tracks["time_s"].equals(0.5 * found.tracks["frame"])
    assert streamtrack.batch(movie, tmp_path / "out", **settings, **said).rows[0].skipped
    with pytest.raises(ConfigError, match=r"holds a batch with pixel_size_um = 0\.2, not 0\.3"):
        streamtrack.batch(movie, tmp_path / "out", **settings, **{**said, "pixel_size_um": 0.3})


def test_a_movie_that_fails_is_named_and_the_others_are_tracked(movies, client, tmp_path):
    shutil.copytree(movies / "first.zarr", tmp_path / "movies" / "good.zarr")
    (tmp_path / "movies" / "bad.zarr").mkdir()
    with pytest.warns(UserWarning, match=r"1 of 2 movies have no results; bad failed: .*no zarr array"):
        results = streamtrack.batch(
            [tmp_path / "movies" / "*.zarr"], tmp_path / "out", engine=ENGINE, progress=False, scheduler=client
        )
    assert list(results) == ["good"]


def test_a_block_that_fails_for_good_is_named(movies, client, tmp_path):
    shutil.copytree(movies / "first.zarr", tmp_path / "gone.zarr")
    plan = BatchPlan(scheduler=client, retries=1, block=20)
    work = BatchRun([tmp_path / "gone.zarr"], tmp_path / "out", RunConfig(engine=ENGINE), {}, plan)
    (tmp_path / "gone.zarr" / "zarr.json").unlink()
    (row,) = work.run()
    assert row.status == "failed"
    assert row.error.startswith("frames 0 to 19 could not be searched:")
    assert "no zarr array or group here" in row.error


def test_an_engine_that_no_worker_can_build_is_one_line(movies, client, tmp_path):
    engine = {"kind": "denodet", "weights": str(tmp_path / "missing.onnx")}
    with pytest.raises(streamtrack.StreamtrackError, match=r"missing\.onnx"):
        streamtrack.batch(movies, tmp_path / "out", engine=engine, progress=False, scheduler=client)


def test_a_lost_worker_costs_its_block_only(movies, single, client, tmp_path):
    """One of the two is killed as soon as frames come back; the nanny starts another."""
    victims = client.run(lambda: __import__("os").getpid())
    found = []

    def kill():
        table = tmp_path / "out" / "first" / "detections.partial.arrows"
        give_up_s = time.monotonic() + 60
        while not table.exists() and time.monotonic() < give_up_s:
            time.sleep(0.01)
        psutil.Process(next(iter(victims.values()))).kill()
        found.append(True)

    killer = threading.Thread(target=kill)
    killer.start()
    results = streamtrack.batch(
        movies,
        tmp_path / "out",
        engine=ENGINE,
        measures="intensity",
        progress=False,
        scheduler=client,
        block=3,
    )
    killer.join(60)
    assert found
    for name, each in results.items():
        assert_same(each, single[name])


def test_a_script_that_a_worker_imports_is_told_so(movies, tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match=r"call streamtrack\.batch under if __name__"):
        streamtrack.batch(movies, tmp_path / "out", workers=1)


def test_command(movies, single, tmp_path, cli):
    arguments = ("batch", movies / "*.zarr", "--out", tmp_path / "out", "--workers", 1)
    code, out, err = cli(*arguments)
    assert code == 3
    assert "2 of 2 movies tracked ->" in out
    assert "dashboard at http://127.0.0.1:" in err
    assert streamtrack.read(tmp_path / "out" / "first").tracks["frame"].max() == N_FRAMES - 1
    code, out, _ = cli(*arguments)
    assert code == 3
    assert "completed before" in out
    assert "2 of 2 movies tracked, 2 of them by an earlier batch" in out


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a group of processes")
def test_ctrl_c_leaves_results_that_can_be_read_and_no_process(tmp_path):
    movie = np.random.default_rng(0).poisson(100, (4000, 64, 64)).astype(np.uint16)
    zarr.create_array(tmp_path / "long.zarr", data=movie, chunks=(500, 64, 64))
    command = [sys.executable, "-m", "streamtrack", "batch", tmp_path / "long.zarr", "--out", tmp_path / "out"]
    running = subprocess.Popen([*map(str, command), "--workers", "1", "--block", "8"], start_new_session=True)
    family = psutil.Process(running.pid)
    stream = tmp_path / "out" / "long" / "detections.partial.arrows"
    give_up_s = time.monotonic() + 120
    sizes = set()
    while len(sizes) < 2 and time.monotonic() < give_up_s:  # rows follow the head
        sizes |= {stream.stat().st_size} if stream.exists() else set()
        time.sleep(0.05)
    children = family.children(recursive=True)
    running.send_signal(signal.SIGINT)
    for child in children:
        child.send_signal(signal.SIGINT)
    assert running.wait(120) == 130
    assert not psutil.wait_procs(children, timeout=30)[1]
    report = json.loads((tmp_path / "out" / "long" / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert streamtrack.read(tmp_path / "out" / "long").detections["frame"].max() < 4000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 0}, "workers = 0 must be at least 1"),
        ({"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, "give one of the two"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "no scheduler of dask answers at tcp://127.0.0.1:1"),
        ({"triggers": [{"kind": "count"}]}, "a batch decides nothing, leave out triggers"),
        ({"engine": {"kind": "nothing"}}, "unknown engine 'nothing'"),
    ],
)
def test_mistakes(movies, tmp_path, settings, said, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    with pytest.raises(ConfigError if "engine" not in settings else streamtrack.StreamtrackError, match=said):
        streamtrack.batch(movies, tmp_path / "out", progress=False, **settings)
    assert not (tmp_path / "out" / "first").exists()
