"""Which frames `evaluate` scores: those that the run was asked for and came to."""

import json
import shutil

import numpy as np
import pytest
import zarr

import streamtrack
from streamtrack.config import RunConfig
from streamtrack.session import Session


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A movie of 24 frames on disk, and its truth as a table."""
    folder = tmp_path_factory.mktemp("movie")
    simulated = streamtrack.simulate("vesicle", snr=7.0, density=600.0, frames=24, size=96)
    zarr.create_array(folder / "movie.zarr", data=simulated.movie, chunks=(1, 96, 96))
    simulated.truth.to_csv(folder / "truth.csv", index=False)
    return folder, simulated.truth


@pytest.fixture
def scored(cli, movie, tmp_path):
    def call(out):
        code, _, err = cli("evaluate", out, movie[0] / "truth.csv", "--out", tmp_path / "scores.json", "--overwrite")
        assert code == 0, err
        return json.loads((tmp_path / "scores.json").read_text())["detections"][0]

    return call


def test_frames_that_were_not_asked_for_are_not_missed(cli, movie, scored, tmp_path):
    folder, truth = movie
    assert cli("track", folder / "movie.zarr", "--frames", "6:14", "--out", tmp_path / "out")[0] == 0
    score = scored(tmp_path / "out")
    assert score["tp"] + score["fn"] == truth["frame"].between(6, 13).sum()
    assert score["recall"] > 0.8


def test_lost_frames_are_missed_even_at_the_ends(cli, movie, scored, tmp_path):
    folder, truth = movie
    shutil.copytree(folder / "movie.zarr", tmp_path / "torn.zarr")
    for index in (0, 11, 23):
        (tmp_path / "torn.zarr" / "c" / str(index) / "0" / "0").unlink()
    assert cli("track", tmp_path / "torn.zarr", "--out", tmp_path / "out")[0] == 3
    score = scored(tmp_path / "out")
    assert score["tp"] + score["fn"] == len(truth)
    assert score["fn"] >= truth["frame"].isin([0, 11, 23]).sum()


def test_frames_that_an_interrupted_run_never_reached_are_not_missed(movie, scored, tmp_path):
    folder, truth = movie
    config = RunConfig.model_validate({"source": {"kind": "zarr", "path": str(folder / "movie.zarr")}})
    session = Session(config, tmp_path / "out")
    report = session.run(lambda progress: session.stop() if progress.processed == 9 else None)
    assert report["status"] == "interrupted"
    score = scored(tmp_path / "out")
    assert score["tp"] + score["fn"] == (truth["frame"] < report["frames"]["processed"]).sum()


def test_a_truth_that_numbers_its_frames_otherwise_is_refused(cli, movie, tmp_path):
    folder, truth = movie
    truth.assign(frame=truth["frame"] + 100).to_csv(tmp_path / "late.csv", index=False)
    assert cli("track", folder / "movie.zarr", "--frames", ":4", "--out", tmp_path / "out")[0] == 0
    code, _, err = cli("evaluate", tmp_path / "out", tmp_path / "late.csv")
    assert code == 2
    assert "the truth has frames 100 to 123, the run 0 to 3" in err


def test_particles_outside_the_area_that_was_searched_are_not_missed(cli, movie, scored, tmp_path):
    folder, truth = movie
    np.save(tmp_path / "right.npy", np.arange(96) >= np.full((96, 1), 48))
    arguments = ("--roi", "10:90,:", "--mask", tmp_path / "right.npy", "--out", tmp_path / "out")
    assert cli("track", folder / "movie.zarr", *arguments)[0] == 0
    score = scored(tmp_path / "out")
    inside = truth["y"].round().between(10, 89) & (truth["x"].round() >= 48)
    assert score["tp"] + score["fn"] == inside.sum()
    assert score["recall"] > 0.8
