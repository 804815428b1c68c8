"""A run that is resumed trusts no rows: what is damaged is searched again, what is of another movie is refused."""

import os
import shutil
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
import zarr
from resumed_runs import ENGINE, TABLES, searched_before, simulated
from resumed_runs import config as config_of

from streamtrack.errors import ConfigError, StreamtrackError
from streamtrack.report import read_report
from streamtrack.session import Session

N_FRAMES = 24
QUICK_TO_LOAD = {**ENGINE, "backend": "onnxruntime"}
DETECTIONS, FRAMES = "detections.partial.arrows", "frames.partial.arrows"


WITHOUT_PICTURE = {"sinks": [{"kind": "tables"}]}
"""Which takes longer to draw than all the rest."""


def config(movie, **settings):
    return config_of(movie, engine=QUICK_TO_LOAD, **{**WITHOUT_PICTURE, **settings})


WITH_PICTURE = {"sinks": [{"kind": "tables"}, {"kind": "overview"}]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two movies, a whole run of each and what a kill leaves of it, and a run of the first that was stopped."""
    return made(tmp_path_factory.mktemp("runs"), {"movie": 3, "other": 4})


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """The same of the first movie, with a picture."""
    return made(tmp_path_factory.mktemp("pictured"), {"movie": 3}, **WITH_PICTURE)


def made(folder, seeds, **settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamtrack.sinks.tables._FLUSH_NS", 0)
        for name, seed in seeds.items():
            zarr.create_array(folder / f"{name}.zarr", data=simulated(N_FRAMES, seed), chunks=(1, 96, 96))
            whole, killed = folder / f"{name}-whole", folder / f"{name}-killed"

            def keep(progress, whole=whole, killed=killed):
                if progress.processed == 16:
                    shutil.copytree(whole, killed, ignore=shutil.ignore_patterns("run.lock"))

            Session(config(folder / f"{name}.zarr", **settings), whole).run(keep)
    stopped = Session(config(folder / "movie.zarr", **settings), folder / "movie-stopped")
    stopped.run(lambda progress: stopped.stop() if progress.processed == 16 else None)
    return folder


def resumed(runs, out, **settings):
    return Session(config(runs / "movie.zarr", **settings), out, resume=True).run()


def assert_same(runs, out):
    whole = runs / "movie-whole"
    for name in TABLES:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def table(**columns):
    """Return the bytes of a stream of a table."""
    rows = pa.table(columns)
    with pa.BufferOutputStream() as sink:
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (DETECTIONS, b""),
        (DETECTIONS, b"no rows at all"),
        (DETECTIONS, table(a=[1, 2])),
        (DETECTIONS, table(frame=[0] * 4, y=["a"] * 4)),
        (FRAMES, b""),
        (FRAMES, table(a=[1, 2])),
        (FRAMES, table(frame=[0, 1])),
        (FRAMES, table(frame=["a", "b"], detections=[1, 2])),
        (FRAMES, table(frame=pa.array([0, None]), detections=[1, 2])),
        ("detections.parquet", b""),
        ("detections.parquet", b"PAR1" + bytes(99)),
        ("frames.parquet", b""),
    ],
)
def test_rows_that_nobody_can_read_are_searched_again(runs, tmp_path, name, content):
    out = tmp_path / "out"
    shutil.copytree(runs / ("movie-stopped" if name.endswith("parquet") else "movie-killed"), out)
    (out / name).write_bytes(content)
    report = resumed(runs, out)
    assert (report["status"], searched_before(report)) == ("completed", 0)
    assert_same(runs, out)


@pytest.mark.parametrize("name", ["detections.parquet", "frames.parquet"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.35])
def test_a_flipped_bit_in_a_table_is_no_number(runs, tmp_path, name, share):
    out = tmp_path / "out"
    shutil.copytree(runs / "movie-stopped", out)
    data = bytearray((out / name).read_bytes())
    data[int(share * len(data))] ^= 0x10
    (out / name).write_bytes(data)
    assert resumed(runs, out)["status"] == "completed"
    assert_same(runs, out)


def test_other_pixels_under_the_same_name_are_refused_until_the_movie_is_back(runs, tmp_path):
    out, movie = tmp_path / "out", tmp_path / "movie.zarr"
    data, other = simulated(N_FRAMES, 3), simulated(N_FRAMES, 4)
    zarr.create_array(movie, data=data, chunks=(1, 96, 96))
    first = Session(config(movie), out)
    first.run(lambda progress: first.stop() if progress.processed == 16 else None)
    for same_until in (0, 4, 12):
        changed = np.concatenate([data[:same_until], other[same_until:]])
        zarr.create_array(movie, data=changed, chunks=(1, 96, 96), overwrite=True)
        report = Session(config(movie), out, resume=True).run()
        assert report["status"] == "failed"
        assert "does not show what the run in" in report["error"]
        assert "track again with --overwrite" in report["error"]
    zarr.create_array(movie, data=data, chunks=(1, 96, 96), overwrite=True)
    report = Session(config(movie), out, resume=True).run()
    assert report["status"] == "completed"
    assert searched_before(report) >= 14
    assert (out / "tracks.csv").read_bytes() == (runs / "movie-whole" / "tracks.csv").read_bytes()
    assert not list(out.glob("*.resumed.*"))


def test_a_mask_that_was_drawn_anew_under_its_name_is_another_mask(runs, tmp_path):
    drawn = np.ones((96, 96), np.uint8)
    np.save(tmp_path / "mask.npy", drawn)
    masked = config(runs / "movie.zarr", mask=tmp_path / "mask.npy")
    first = Session(masked, tmp_path / "out")
    first.run(lambda progress: first.stop() if progress.processed == 8 else None)
    drawn[0, 0] = 0
    np.save(tmp_path / "mask.npy", drawn)
    with pytest.raises(ConfigError, match=r"holds a run with mask_crc32 = .*resume with the same settings"):
        Session(masked, tmp_path / "out", resume=True).run()
    drawn[0, 0] = 1
    np.save(tmp_path / "mask.npy", drawn)
    assert Session(masked, tmp_path / "out", resume=True).run()["status"] == "completed"


def test_rows_of_another_run_are_refused(runs, tmp_path):
    shutil.copytree(runs / "movie-killed", tmp_path / "out")
    for name in (DETECTIONS, FRAMES):
        shutil.copy(runs / "other-killed" / name, tmp_path / "out" / name)
    report = resumed(runs, tmp_path / "out")
    assert report["status"] == "failed"
    assert "does not show what the run in" in report["error"]


@pytest.mark.parametrize("base", ["movie-killed", "movie-stopped"])
@pytest.mark.parametrize("half", [0, 1])
def test_a_kill_between_two_renamings_loses_nothing(runs, tmp_path, base, half):
    out = tmp_path / "out"
    shutil.copytree(runs / base, out)
    names = (DETECTIONS, FRAMES) if base == "movie-killed" else ("detections.parquet", "frames.parquet")
    os.rename(out / names[half], out / names[half].replace(".partial", "").replace(".", ".resumed.", 1))
    assert searched_before(resumed(runs, out)) >= 14
    assert_same(runs, out)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_less_that_was_kept_gives_way_to_more(runs, tmp_path, share):
    out = tmp_path / "out"
    shutil.copytree(runs / "movie-killed", out)
    for name in (DETECTIONS, FRAMES):
        data = (out / name).read_bytes()
        (out / name.replace("partial", "resumed")).write_bytes(data[: int(share * len(data))])
    (out / "frames.resumed.parquet").write_bytes(b"")
    assert searched_before(resumed(runs, out)) >= 14
    assert_same(runs, out)


def test_a_folder_of_such_a_name_is_not_touched(runs, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(runs / "movie-killed", out)
    (out / "frames.resumed.arrows").mkdir()
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(ConfigError, match=r"frames\.resumed\.arrows was not written by streamtrack; move it away"):
        resumed(runs, out)
    assert sorted(path.name for path in out.iterdir()) == before


@pytest.mark.parametrize("base", ["movie-killed", "movie-stopped"])
@pytest.mark.parametrize("spare", [0, 4096, 8192, 32768])
def test_a_full_disk_takes_neither_rows_nor_report(pictured, disk, base, spare):
    out = disk("4m") / "out"
    shutil.copytree(pictured / base, out)
    free = os.statvfs(out).f_bavail * os.statvfs(out).f_frsize
    (out.parent / "full").write_bytes(bytes(max(free - spare, 0)))
    with suppress(StreamtrackError):
        assert resumed(pictured, out, **WITH_PICTURE)["status"] in ("completed", "failed")
    assert read_report(out)["config"]["engine"]["kind"] == "denodet"
    if read_report(out)["status"] == "completed":  # but for the picture, perhaps
        assert (out / "tracks.csv").read_bytes() == (pictured / "movie-whole" / "tracks.csv").read_bytes()
        return
    (out.parent / "full").unlink()
    assert searched_before(resumed(pictured, out, **WITH_PICTURE)) >= 14
    assert_same(pictured, out)


@pytest.mark.parametrize("name", ["detections.resumed.arrows", "frames.resumed.parquet"])
def test_a_file_of_the_users_under_a_name_that_is_deleted_in_the_end_is_refused(runs, tmp_path, name):
    out = tmp_path / "out"
    shutil.copytree(runs / "movie-killed", out)
    (out / name).write_bytes(b"mine")
    with pytest.raises(ConfigError, match=f"{name} was not written by streamtrack: move it away"):
        resumed(runs, out)
    assert (out / name).read_bytes() == b"mine"
    (out / name).unlink()
    assert resumed(runs, out)["status"] == "completed"
    assert_same(runs, out)
