"""Batches beside others, on movies that change, in folders that others use: nothing lost, nothing twice, one line."""

import shutil
import threading
import time
from importlib.resources import files

import numpy as np
import pytest
import tifffile
import zarr

import streamtrack
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError
from streamtrack.offline.batch import BatchRun
from streamtrack.offline.plan import BatchPlan

cluster = pytest.importorskip("streamtrack.offline.cluster", reason="needs the extra 'offline'")

ENGINE = {"kind": "denodet", "backend": "onnxruntime", "threads": 1}
N_FRAMES, SIZE = 12, 64


@pytest.fixture(scope="module")
def client():
    with cluster.connected(None, 1) as client:
        yield client


@pytest.fixture
def movie(tmp_path):
    return write(tmp_path / "cell.zarr")


def write(path, n_frames=N_FRAMES):
    pixels = streamtrack.simulate("receptor", frames=n_frames, size=SIZE, seed=1).movie
    zarr.create_array(path, data=pixels, chunks=(1, SIZE, SIZE))
    return path


def ready(movies, out, client, **settings):
    config = RunConfig.model_validate({"engine": ENGINE, "sinks": [{"kind": "tables"}], **settings})
    return BatchRun(movies, out, config, {}, BatchPlan(scheduler=client, block=4))


def test_a_movie_that_grows_is_tracked_as_far_as_it_was_and_then_is_another_one(movie, client, tmp_path):
    work = ready([movie], tmp_path / "out", client)
    longer = np.concatenate([zarr.open_array(movie)[:]] * 2)
    zarr.create_array(movie, data=longer, chunks=(1, SIZE, SIZE), overwrite=True)
    (row,) = work.run()
    assert (row.status, row.frames) == ("completed", N_FRAMES)
    report = streamtrack.read(tmp_path / "out" / "cell").report
    assert report["frames"]["expected"] == report["frames"]["in"] == N_FRAMES

    before = (tmp_path / "out" / "cell" / "tracks.csv").read_bytes()
    (row,) = ready([movie], tmp_path / "out", client).run()
    assert row.status == "failed"
    assert f"holds the results of the movie with n_frames = {N_FRAMES}, not {2 * N_FRAMES}" in row.error
    assert (tmp_path / "out" / "cell" / "tracks.csv").read_bytes() == before

    (tmp_path / "out" / "cell").rename(tmp_path / "earlier")
    (row,) = ready([movie], tmp_path / "out", client).run()
    assert (row.status, row.frames) == ("completed", 2 * N_FRAMES)


@pytest.mark.parametrize("name", ["tracks.parquet", "tracks.csv", "frames.parquet"])
def test_a_movie_of_which_a_table_was_deleted_is_tracked_again(movie, client, tmp_path, name):
    ready([movie], tmp_path / "out", client).run()
    (tmp_path / "out" / "cell" / name).unlink()
    (row,) = ready([movie], tmp_path / "out", client).run()
    assert (row.status, row.skipped) == ("completed", False)
    assert (tmp_path / "out" / "cell" / name).is_file()
    (row,) = ready([movie], tmp_path / "out", client).run()
    assert row.skipped


def test_a_movie_that_gets_shorter_fails_in_one_line(movie, client, tmp_path):
    work = ready([movie], tmp_path / "out", client)
    zarr.create_array(movie, data=zarr.open_array(movie)[:6], chunks=(1, SIZE, SIZE), overwrite=True)
    (row,) = work.run()
    assert row.status == "failed"
    assert "could not be searched" in row.error


def test_two_batches_that_were_made_ready_at_once_know_each_other(movie, client, tmp_path):
    other = write(tmp_path / "other.zarr")
    first, second, third = (ready(named, tmp_path / "out", client) for named in ([movie], [movie], [other]))
    assert [row.skipped for row in first.run()] == [False]
    written = (tmp_path / "out" / "cell" / "tracks.csv").stat()
    assert [row.skipped for row in second.run()] == [True]
    assert (tmp_path / "out" / "cell" / "tracks.csv").stat() == written
    assert third.run()[0].status == "completed"
    assert all(row.skipped for row in ready([movie, other], tmp_path / "out", client).run())


def test_a_second_batch_at_the_same_time_is_refused_and_a_stop_file_ends_the_first(client, tmp_path):
    movie = write(tmp_path / "long.zarr", 400)
    first = ready([movie], tmp_path / "out", client)
    rows = []
    running = threading.Thread(target=lambda: rows.extend(first.run()))
    running.start()
    give_up_s = time.monotonic() + 120
    while not first.state.rows[0].frames and time.monotonic() < give_up_s:
        time.sleep(0.01)
    with pytest.raises(ConfigError, match=r"out is in use: .*end it with 'streamtrack stop"):
        ready([movie], tmp_path / "out", client).run()
    (tmp_path / "out" / "stop").touch()
    running.join(120)
    assert [row.status for row in rows] == ["interrupted"]
    assert 0 < rows[0].frames < 400
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"batch.json", "long"}


def test_a_mask_and_weights_of_the_same_name_that_are_others_are_refused(movie, client, tmp_path):
    mask = np.ones((SIZE, SIZE), bool)
    np.save(tmp_path / "mask.npy", mask)
    weights = tmp_path / "mine.onnx"
    shutil.copy(files("streamtrack_engines") / "weights" / "denodet.onnx", weights)
    settings = {"mask": tmp_path / "mask.npy", "engine": {**ENGINE, "weights": str(weights)}}
    assert ready([movie], tmp_path / "out", client, **settings).run()[0].status == "completed"
    assert ready([movie], tmp_path / "out", client, **settings).run()[0].skipped
    mask[:32] = False
    np.save(tmp_path / "mask.npy", mask)
    with pytest.raises(ConfigError, match=r"holds a batch with mask_crc32 = \w+, not \w+: choose another --out"):
        ready([movie], tmp_path / "out", client, **settings)
    np.save(tmp_path / "mask.npy", mask | True)
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match=r"holds a batch with weights_crc32 = \w+, not \w+: choose another --out"):
        ready([movie], tmp_path / "out", client, **settings)


def test_nothing_is_written_into_a_movie_nor_where_nobody_can_do_it(movie, client, tmp_path, monkeypatch):
    before = sorted(movie.rglob("*"))
    with pytest.raises(ConfigError, match=r"lies inside .*cell\.zarr, which is tracked"):
        ready([movie], movie / "out", client).run()
    assert sorted(movie.rglob("*")) == before
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    for address in ("tcp://127.0.0.1:1", "foo://bar"):
        with pytest.raises(ConfigError, match="no scheduler of dask answers"):
            ready([movie], tmp_path / "out", address).run()
    assert not (tmp_path / "out").exists()
    wrong = {"kind": "denodet", "weights": str(tmp_path / "missing.onnx")}
    with pytest.raises(streamtrack.StreamtrackError, match=r"missing\.onnx"):
        ready([movie], tmp_path / "out", client, engine=wrong).run()
    assert ready([movie], tmp_path / "out", client).run()[0].status == "completed"


def test_results_do_not_go_among_the_images_of_a_folder(client, tmp_path):
    pixels = streamtrack.simulate("receptor", frames=4, size=SIZE, seed=1).movie
    for name in ("run1", "run2"):
        (tmp_path / "day" / name).mkdir(parents=True)
        for index, frame in enumerate(pixels):
            tifffile.imwrite(tmp_path / "day" / name / f"{index}.tif", frame)
    before = sorted((tmp_path / "day").rglob("*"))
    rows = ready([tmp_path / "day" / "*"], tmp_path / "day", client).run()
    assert [row.error for row in rows] == [
        f"its results would lie among its images in {tmp_path / 'day' / name}: choose another --out"
        for name in ("run1", "run2")
    ]
    assert sorted((tmp_path / "day").rglob("*")) == before
    assert [row.status for row in ready([tmp_path / "day" / "*"], tmp_path / "out", client).run()] == ["completed"] * 2


def test_what_lies_in_the_folder_stays(movie, client, tmp_path):
    for name in ("notes.txt", "cell/photo.png", "cell/tracks.csv"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "out" / name).write_text("mine")
    (row,) = ready([movie], tmp_path / "out", client).run()
    assert row.status == "failed"
    assert "cell already holds tracks.csv" in row.error
    for name in ("notes.txt", "cell/photo.png", "cell/tracks.csv"):
        assert (tmp_path / "out" / name).read_text() == "mine"
    (row,) = ready([movie], tmp_path / "out", client).run()  # the same again
    assert row.status == "failed"
    assert (tmp_path / "out" / "cell" / "tracks.csv").read_text() == "mine"
