"""A run that was broken off at any moment goes on, and gives what one run would have given."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from resumed_runs import ENGINE, SIZE, TABLES, config, searched_before, simulated

import streamtrack
from streamtrack.errors import ConfigError
from streamtrack.recovery import recover
from streamtrack.session import Session

N_FRAMES, LOST = 40, 21


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    path = tmp_path_factory.mktemp("movie") / "movie.zarr"
    movie = simulated(N_FRAMES)
    movie[10:13] = np.random.default_rng(0).poisson(10, movie[10:13].shape)  # frames without particles
    zarr.create_array(path, data=movie, chunks=(1, SIZE, SIZE))
    (path / "c" / str(LOST) / "0" / "0").unlink()
    return path


@pytest.fixture(scope="module")
def run(movie, tmp_path_factory):
    """The folder of a whole run, and what it was like after each frame: what a kill leaves there."""
    folder, states = tmp_path_factory.mktemp("run") / "out", tmp_path_factory.mktemp("states")

    def keep(progress):
        time.sleep(0.01)  # the sink has a thread of its own
        shutil.copytree(folder, states / str(progress.processed), ignore=shutil.ignore_patterns("run.lock"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamtrack.sinks.tables._FLUSH_NS", 0)
        assert Session(config(movie), folder).run(keep)["status"] == "incomplete"
    return folder, states


def assert_same(folder, whole):
    for name in TABLES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    found, wanted = streamtrack.read(folder), streamtrack.read(whole)
    columns = ["frame", "time_s", "detections", "tracks"]
    assert found.frames[columns].equals(wanted.frames[columns])
    for key in ("status", "frames", "detections"):
        assert found.report[key] == wanted.report[key]
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.parametrize("after", [1, 11, 20, 22, 38])
def test_what_a_kill_leaves_goes_on(movie, run, tmp_path, after):
    whole, states = run
    shutil.copytree(states / str(after), tmp_path / "out")
    report = Session(config(movie), tmp_path / "out", resume=True).run()
    assert_same(tmp_path / "out", whole)
    assert after - 3 <= searched_before(report) <= after + 1


def test_a_torn_stream_goes_on(movie, run, tmp_path):
    whole, states = run
    shutil.copytree(states / "30", tmp_path / "out")
    for name, cut in (("detections.partial.arrows", 500), ("frames.partial.arrows", 100)):
        with (tmp_path / "out" / name).open("r+b") as file:
            file.truncate((tmp_path / "out" / name).stat().st_size - cut)
    with (tmp_path / "out" / "detections.partial.arrows").open("r+b") as file:
        file.seek(9000)
        file.write(b"\1\2\3\4\5\6\7\10")
    report = Session(config(movie), tmp_path / "out", resume=True).run()
    assert_same(tmp_path / "out", whole)
    assert 10 < searched_before(report) < 30


def test_killed_again_while_it_goes_on(movie, run, tmp_path):
    """The second run had not come as far as the first: what the first knew is kept."""
    whole, states = run
    shutil.copytree(states / "30", tmp_path / "first")
    second = Session(config(movie), tmp_path / "first", resume=True)

    def stop(progress):
        if progress.processed == 8:
            shutil.copytree(tmp_path / "first", tmp_path / "out", ignore=shutil.ignore_patterns("run.lock"))
            second.stop()

    assert second.run(stop)["status"] == "interrupted"
    assert (tmp_path / "out" / "detections.resumed.arrows").exists()
    shutil.copytree(tmp_path / "out", tmp_path / "recovered")
    assert any("--resume" in line for line in recover(tmp_path / "recovered")["remarks"])
    for folder in ("first", "out"):
        report = Session(config(movie), tmp_path / folder, resume=True).run()
        assert_same(tmp_path / folder, whole)
        assert searched_before(report) > 26


def test_a_run_that_was_stopped_goes_on(movie, run, tmp_path):
    stopped = Session(config(movie), tmp_path / "out")
    report = stopped.run(lambda progress: stopped.stop() if progress.processed == 15 else None)
    assert report["status"] == "interrupted"
    settings = {"engine": ENGINE, "measures": "intensity", "progress": False}
    with pytest.warns(UserWarning, match="frames were lost"):
        results = streamtrack.track(movie, tmp_path / "out", resume=True, **settings)
    assert_same(tmp_path / "out", run[0])
    assert searched_before(results.report) >= 13


def test_a_run_that_followed_the_movie_goes_on_when_it_is_written(run, movie, tmp_path):
    def source(**follow):
        return {"source": {"kind": "zarr", "path": movie, **follow}}

    for follow in ({}, {"follow": 1.0}):
        out = tmp_path / f"out{len(follow)}"
        stopped = Session(config(movie, **source(follow=60.0)), out)
        report = stopped.run(lambda progress, run=stopped: run.stop() if progress.processed == 15 else None)
        assert report["status"] == "interrupted"
        report = Session(config(movie, **source(**follow)), out, resume=True).run()
        assert searched_before(report) >= 13
        assert report["status"] == "incomplete"
        for name in TABLES:
            assert (out / name).read_bytes() == (run[0] / name).read_bytes(), name


def test_another_run_is_not_taken_for_it(movie, run, tmp_path):
    whole, states = run
    shutil.copytree(states / "20", tmp_path / "out")
    for settings, said in [
        (
            {"engine": {**ENGINE, "threshold": 0.7}},
            r"a run with engine\.threshold = .*, not 0\.7: resume with the same settings",
        ),
        ({"measures": []}, "holds a run with measures = "),
        ({"pixel_size_um": 0.2}, "holds a run of a movie with pixel_size_um = None, not 0.2"),
        ({"frame_interval_s": 0.5}, "holds a run of a movie with frame_interval_s = None, not 0.5"),
        (
            {"source": {"kind": "zarr", "path": movie, "frames": "2:"}},
            "holds a run of a movie with n_frames = 40, not 38",
        ),
        ({"mode": "armed"}, "would be armed: only runs of one movie on disk are resumed"),
    ]:
        with pytest.raises(ConfigError, match=said):
            Session(config(movie, **settings), tmp_path / "out", resume=True).run()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in (states / "20").iterdir()}
    shutil.copytree(whole, tmp_path / "whole")
    with pytest.raises(ConfigError, match="is incomplete: there is nothing to resume"):
        Session(config(movie), tmp_path / "whole", resume=True)
    with pytest.raises(ConfigError, match="holds a run that was broken off: go on with --resume"):
        Session(config(movie), tmp_path / "out")


@pytest.mark.parametrize("lacking", ["source", "versions", "config", "engine"])
@pytest.mark.parametrize("content", [None, [], "text"])
def test_a_report_that_does_not_say_what_was_tracked_how_is_refused(movie, run, tmp_path, lacking, content):
    shutil.copytree(run[1] / "20", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (tmp_path / "out" / "report.json").write_text(json.dumps({**report, lacking: content}))
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match="does not say what was tracked how: choose another folder") as raised:
        Session(config(movie), tmp_path / "out", resume=True)
    assert len(str(raised.value).splitlines()) == 1
    assert contents(tmp_path / "out") == before


def test_what_was_recovered_without_its_report_is_refused(movie, run, tmp_path, cli):
    shutil.copytree(run[1] / "20", tmp_path / "out")
    (tmp_path / "out" / "report.json").unlink()
    recover(tmp_path / "out")
    code, _, errors = cli("track", movie, "--out", tmp_path / "out", "--resume")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "does not say what was tracked how: choose another folder" in errors


@pytest.mark.parametrize("name", ["report.json", "detections.partial.arrows", "detections.resumed.parquet"])
def test_rows_without_a_report_are_refused(movie, tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(ConfigError, match="does not say what was tracked how: choose another folder"):
        Session(config(movie), tmp_path, resume=True)
    assert contents(tmp_path) == {name: b"whatever"}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.lock"}


def test_what_no_run_wrote_is_not_replaced(movie, tmp_path):
    (tmp_path / "tracks.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"already holds tracks\.csv"):
        Session(config(movie), tmp_path, resume=True)
    with pytest.raises(ConfigError, match="give one of the two"):
        Session(config(movie), tmp_path, resume=True, overwrite=True)


def test_where_there_is_no_run_it_begins(movie, run, tmp_path):
    Session(config(movie), tmp_path / "out", resume=True).run()
    assert_same(tmp_path / "out", run[0])


def test_kill_minus_nine(tmp_path, cli):
    movie = streamtrack.simulate("receptor", frames=60, size=64, seed=3).movie
    zarr.create_array(tmp_path / "movie.zarr", data=np.concatenate([movie] * 3), chunks=(1, 64, 64))
    (tmp_path / "run.toml").write_text('[engine]\nkind = "denodet"\nbackend = "onnxruntime"\n', encoding="utf-8")
    settings = ["track", tmp_path / "movie.zarr", "--config", tmp_path / "run.toml", "--out"]
    arguments = [*settings, tmp_path / "out"]
    with subprocess.Popen([sys.executable, "-m", "streamtrack", *map(str, arguments)]) as child:
        stream, sizes = tmp_path / "out" / "frames.partial.arrows", set()
        while len(sizes) < 3 and child.poll() is None:
            sizes |= {stream.stat().st_size} if stream.exists() else set()
            time.sleep(0.02)
        child.kill()
    code, out, _ = cli(*arguments, "--resume")
    assert code == 0
    assert "completed: 180 frames" in out
    if len(sizes) == 3:  # it was not over by then
        assert "resumed: an earlier run had searched" in out
    cli(*settings, tmp_path / "whole")
    assert_same(tmp_path / "out", tmp_path / "whole")


CHANGED = '{"fate": "done", "change": "threshold", "frame": 7}'
UNCHANGED = (
    '{"fate": "refused", "cha',
    *(f'{{"fate": "done", "change": "{each}"}}' for each in ("mark", "snapshot", "stop")),
)


@pytest.mark.parametrize("line", [CHANGED, *UNCHANGED])
def test_a_run_that_was_changed_while_it_ran_is_not_resumed_as_if_it_had_not_been(movie, run, tmp_path, line):
    _, states = run
    shutil.copytree(states / "20", tmp_path / "out")
    (tmp_path / "out" / "commands.jsonl").write_text(line + "\n", encoding="utf-8")
    if line in UNCHANGED:
        assert Session(config(movie), tmp_path / "out", resume=True).run()["status"] == "incomplete"
        return
    with pytest.raises(ConfigError, match=r"was changed while it ran \(threshold in frame 7\): resumed it would give"):
        Session(config(movie), tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "commands.jsonl").exists()
