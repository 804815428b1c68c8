"""Programs that hold a file at the end of a run, as viewers, scanners and indexers do on Windows: no run fails."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from streamtrack.bench.timings import TimingSink, read_timings
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError
from streamtrack.recovery import recover
from streamtrack.report import read_report
from streamtrack.session import Session
from streamtrack.sinks import raw_movie
from streamtrack.sinks.making import TABLES
from streamtrack.sinks.overview import OverviewSink
from streamtrack.sinks.raw import MOVIE, RawSink
from streamtrack.sinks.tables import PARTIAL, TableSink
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import Command

LAB_PACKAGE = Path(__file__).parents[1] / "lab_package"


def written_by(sink, folder, results):
    folder.mkdir()
    sink.open(folder, example_source())
    for result in results:
        sink.write(result)
    sink.close()
    return folder


@pytest.mark.parametrize("held", [PARTIAL, "*.partial.*", "*.parquet", "*.csv", "*"])
def test_tables(tmp_path, sharing_violation, held):
    results = example_results()
    expected = written_by(TableSink(), tmp_path / "free", results)
    sharing_violation(held)
    folder = written_by(TableSink(), tmp_path / "held", results)
    for name in TABLES:
        assert (folder / name).read_bytes() == (expected / name).read_bytes()


@pytest.mark.parametrize(("sink", "name"), [(OverviewSink, "overview.png"), (TimingSink, "timings.npy")])
@pytest.mark.parametrize("held", ["*", "*.partial.*"])
def test_pictures_and_stamps(tmp_path, sharing_violation, sink, name, held):
    sharing_violation(held)
    folder = written_by(sink(), tmp_path / "held", example_results())
    assert (folder / name).stat().st_size > 500
    if sink is TimingSink:
        assert len(read_timings(folder)) == 12


@pytest.mark.parametrize("held", ["*", "zarr.json", "*.partial", "0"])
@pytest.mark.parametrize("publish_ns", [0, 10**18])
def test_recorded_movies(tmp_path, sharing_violation, monkeypatch, held, publish_ns):
    monkeypatch.setattr(raw_movie, "PUBLISH_NS", publish_ns)
    results = example_results()
    sink = RawSink()
    (tmp_path / "held").mkdir()
    sink.open(tmp_path / "held", example_source())
    sink.write(results[0])  # begins the movie
    sharing_violation(held)
    for result in results[1:]:
        sink.write(result)
    sink.close()
    movie = zarr.open_group(tmp_path / "held" / MOVIE, mode="r")
    np.testing.assert_array_equal(movie["0"][:], [result.frame.pixels for result in results])
    np.testing.assert_allclose(movie["time_s"][:], [result.frame.time_s for result in results])
    assert movie.attrs["streamtrack"]["complete"] is True


def test_movies_of_events(tmp_path, sharing_violation):
    results = example_results()
    command = Command("raw", {}, 5, 0, 0)
    results[5] = replace(results[5], commands=(command,))
    sharing_violation("zarr.json", times=4)
    folder = written_by(RawSink(when="commands", before=2, after=2), tmp_path / "held", results)
    (movie,) = (folder / "events").iterdir()
    assert zarr.open_group(movie, mode="r")["0"].shape[0] == 5


@pytest.fixture
def config(lab_plugins):
    source, engine = {"kind": "lab-camera"}, {"kind": "brightest"}
    return RunConfig.model_validate({"source": source, "engine": engine, "sinks": [{"kind": "tables"}]})


@pytest.mark.parametrize("held", ["report.json", "*.partial", PARTIAL, "run.lock", "*"])
def test_a_complete_run_is_complete_and_says_so(tmp_path, sharing_violation, config, held):
    session = Session(config, tmp_path)

    def hold_from_the_start(progress):
        if progress.processed == 1:
            sharing_violation(held)

    report = session.run(hold_from_the_start)
    assert report["status"] == "completed"
    assert read_report(tmp_path) == json.loads(json.dumps(report))
    assert len(pd.read_parquet(tmp_path / "detections.parquet")) == report["detections"] == 40
    if (tmp_path / PARTIAL).exists():
        assert any(PARTIAL in remark for remark in report["remarks"])


def test_what_is_left_over_is_no_killed_run_and_goes_with_the_next(tmp_path, sharing_violation, config, monkeypatch):
    sharing_violation("*.arrows", "*.lock")
    assert Session(config, tmp_path).run()["status"] == "completed"
    assert {PARTIAL, "run.lock"} <= {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="already holds"):
        Session(config, tmp_path)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(LAB_PACKAGE)
    assert Session(config, tmp_path, overwrite=True).run()["status"] == "completed"
    assert not {PARTIAL, "run.lock"} & {path.name for path in tmp_path.iterdir()}


def test_results_that_are_held_are_not_replaced_by_half(tmp_path, sharing_violation, config):
    Session(config, tmp_path).run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sharing_violation("*.csv", times=2)
    assert Session(config, tmp_path, overwrite=True).run()["status"] == "completed"
    assert {path.name for path in tmp_path.iterdir()} == before.keys()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sharing_violation("tracks.csv")
    session = Session(config, tmp_path, overwrite=True)
    with pytest.raises(ConfigError, match=r"cannot write into .*it is being used by another process"):
        session.run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_recovery(tmp_path, sharing_violation):
    sink = TableSink()
    sink.open(tmp_path, example_source())
    for result in example_results():
        sink.write(result)
    sink.flush()
    sharing_violation("*")
    report = recover(tmp_path)
    assert report["status"] == "interrupted"
    assert report["frames"]["processed"] == 12
    assert read_report(tmp_path)["detections"] == len(pd.read_parquet(tmp_path / TABLES[0])) == 96


@pytest.fixture
def convert(tmp_path, cli):
    frame, particle = (axis.ravel() for axis in np.meshgrid(np.arange(4), np.arange(3)))
    pd.DataFrame({"frame": frame, "particle": particle, "y": 1.0, "x": 2.0}).to_csv(tmp_path / "a.csv", index=False)

    def call(to):
        code, _, errors = cli("convert", tmp_path / "a.csv", "--to", to, "--overwrite")
        return code, errors

    return call


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_converted_folder_that_is_held_is_kept(tmp_path, convert, sharing_violation):
    assert convert("geff") == (0, "")
    out = tmp_path / "a.geff"
    (out / "zarr.json").write_text("the old one")
    before = content(out)
    sharing_violation("*.streamtrack-partial.geff")  # the second of the two moves
    code, err = convert("geff")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert content(out) == before


def test_a_converted_folder_that_is_held_for_a_moment_is_replaced(tmp_path, convert, sharing_violation):
    assert convert("geff") == (0, "")
    first = next(path for path in (tmp_path / "a.geff").iterdir() if path.is_file())
    first.write_text("the old one")
    sharing_violation(first.name, times=3)
    assert convert("geff") == (0, "")
    assert first.read_text() != "the old one"
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a.geff"}


def test_a_kill_between_the_two_moves_loses_nothing(tmp_path, convert):
    assert convert("geff") == (0, "")
    before = content(tmp_path / "a.geff")
    (tmp_path / "a.geff").rename(tmp_path / "a.streamtrack-old.geff")
    (tmp_path / "a.streamtrack-partial.geff").mkdir()
    assert convert("geff") == (0, "")
    assert content(tmp_path / "a.geff").keys() == before.keys()
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a.geff"}


@pytest.mark.parametrize("to", ["csv", "trackmate", "napari"])
def test_converted_files(tmp_path, convert, sharing_violation, to):
    (tmp_path / "a.parquet").write_text("mine")
    (tmp_path / "a.trackmate.partial.xml").write_text("mine")
    sharing_violation("*.trackmate.xml", "*.npy")
    code, _ = convert(to)
    assert code == (2 if to == "csv" else 0), "a.csv is the table itself"
    assert (tmp_path / "a.trackmate.partial.xml").read_text() == "mine"
