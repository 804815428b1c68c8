"""Commands that work on the tables of a finished run."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest


def walkers(n_frames=20):
    """Five particles 30 px apart that move by about a pixel a frame."""
    rng = np.random.default_rng(5)
    steps = rng.normal(0, 0.7, (n_frames, 5, 2))
    yx = np.column_stack((np.full(5, 50.0), 30.0 * np.arange(5))) + np.cumsum(steps, axis=0)
    frame, particle = np.divmod(np.arange(5 * n_frames), 5)
    return pd.DataFrame({"frame": frame, "particle": particle, "y": yx[..., 0].ravel(), "x": yx[..., 1].ravel()})


@pytest.fixture
def run(tmp_path):
    """Folder of a run whose tracks are right but for a gap, and 1 px off."""
    truth = walkers()
    found = truth.assign(y=truth.y + 1, mass=300.0, score=0.9, sigma=0.4)
    found = found[~((found.particle == 2) & found.frame.isin([7, 8]))]
    found.drop(columns="particle").to_parquet(tmp_path / "detections.parquet")
    found.assign(existence=1.0).to_parquet(tmp_path / "tracks.parquet")
    truth.to_csv(tmp_path / "truth.csv", index=False)
    return tmp_path


def test_evaluate_scores_tracks_with_gaps_filled(cli, run):
    code, out, _ = cli("evaluate", run, run / "truth.csv", "--out", run / "scores.json")
    assert code == 0
    assert "gaps filled" in out
    assert "JSC_theta" in out
    tracks = json.loads((run / "scores.json").read_text())["tracks"]
    assert tracks["jsc"] == tracks["jsc_theta"] == 1.0
    assert tracks["alpha"] == tracks["beta"] == pytest.approx(0.8, abs=0.01)
    assert tracks["rmse_px"] == pytest.approx(1.0, abs=0.02)


def test_evaluate_without_particles_in_the_truth_scores_detections_only(cli, run):
    walkers().drop(columns="particle").to_csv(run / "truth.csv", index=False)
    code, out, _ = cli("evaluate", run, run / "truth.csv", "--out", run / "scores.json")
    assert code == 0
    assert "Tracks" not in out
    scores = json.loads((run / "scores.json").read_text())
    assert scores["links"] is scores["tracks"] is None
    assert scores["detections"][0]["tp"] == 98


@pytest.mark.parametrize("table", ["detections.parquet", "tracks.parquet"])
def test_relink_writes_a_track_table(cli, run, table):
    code, out, _ = cli("relink", run / table, "--out", run / "relinked.parquet")
    assert code == 0
    assert "5 tracks, 98 detections, 0 left out" in out
    assert "step of a particle per frame and axis: 0." in out
    tracks = pd.read_parquet(run / "relinked.parquet")
    assert list(tracks.columns) == ["frame", "particle", "y", "x", "mass", "score", "sigma"]
    np.testing.assert_array_equal(np.round(tracks.groupby("particle").x.mean() / 30), range(5))
    assert b"streamtrack_version" in pyarrow.parquet.read_schema(run / "relinked.parquet").metadata
    assert [path.name for path in run.glob("relinked*")] == ["relinked.parquet"]


def test_relink_tells_where_particles_divide_and_merge_if_they_may(cli, run):
    out = run / "branched.parquet"
    code, said, _ = cli("relink", run / "detections.parquet", "--out", out, "--divisions", "--merges")
    assert code == 0
    assert "0 particles divided" in said
    assert "0 merges" in said
    assert (pd.read_parquet(out)[["parent", "merged_into"]] == -1).all(axis=None)


def test_relink_says_what_is_wrong_in_one_line(cli, run):
    def error(*arguments):
        code, _, err = cli("relink", *arguments)
        assert code == 2
        assert len(err.strip().splitlines()) == 1
        return err

    before = (run / "tracks.parquet").read_bytes()
    assert "none.parquet" in error(run / "none.parquet", "--out", run / "new.parquet")
    assert ".parquet" in error(run / "tracks.parquet", "--out", run / "new.csv")
    assert "is what the command reads" in error(run / "tracks.parquet", "--out", run / "tracks.parquet", "--overwrite")
    assert "--overwrite" in error(run / "tracks.parquet", "--out", run / "detections.parquet")
    assert "no such" in error(run / "tracks.parquet", "--out", run / "none" / "new.parquet").lower()
    assert (run / "tracks.parquet").read_bytes() == before
    assert not list(run.glob("new*"))


def test_positions_in_micrometers_become_px_where_the_pixel_size_is_known(cli, run):
    in_um = walkers().rename(columns={"y": "y_um", "x": "x_um"})
    in_um[["y_um", "x_um"]] *= 0.1
    rows = pyarrow.Table.from_pandas(in_um, preserve_index=False)
    pyarrow.parquet.write_table(rows.replace_schema_metadata({"pixel_size_um": "0.1"}), run / "um.parquet")
    assert cli("relink", run / "um.parquet", "--out", run / "a.parquet")[0] == 0
    np.testing.assert_allclose(pd.read_parquet(run / "a.parquet")["x"].max(), walkers()["x"].max())
    in_um.to_csv(run / "um.csv", index=False)
    code, _, err = cli("relink", run / "um.csv", "--out", run / "b.parquet")
    assert code == 2
    assert "has positions in um" in err
    assert "--pixel-size UM_PER_PX" in err
    in_um.drop(columns="particle").to_csv(run / "um.csv", index=False)
    assert cli("convert", run / "um.csv", "--to", "csv", "--pixel-size", "0.1", "--out", run / "px.csv")[0] == 0
    assert cli("relink", run / "px.csv", "--out", run / "b.parquet")[0] == 0
    np.testing.assert_allclose(pd.read_parquet(run / "b.parquet")["x"].max(), walkers()["x"].max(), atol=1e-3)


def test_positions_that_are_hardly_px_are_said(cli, run):
    in_um = walkers()
    in_um[["y", "x"]] *= 0.05
    in_um.to_csv(run / "um.csv", index=False)
    code, out, _ = cli("relink", run / "um.csv", "--out", run / "a.parquet")
    assert code == 0
    assert "px from their neighbours, by which they cannot be told apart: where they are in um" in out
    code, out, _ = cli("evaluate", run, run / "um.csv")
    assert code == 0
    assert re.search(r"it ends at y 2[.\d]*, x 6[.\d]*, what was found at y 5", out)


def test_doubled_rows_are_said_and_counted_once_but_a_particle_is_not_twice_in_a_frame(cli, run):
    found = walkers().drop(columns="particle")
    pd.concat((found, found[:7])).to_csv(run / "doubled.csv", index=False)
    code, out, _ = cli("relink", run / "doubled.csv", "--out", run / "a.parquet")
    assert code == 0
    assert "7 rows have frame, y and x of a row before them (the first is frame 0" in out
    assert len(pd.read_parquet(run / "a.parquet")) == len(found)
    code, out, _ = cli("evaluate", run, run / "doubled.csv", "--out", run / "scores.json")
    assert code == 0
    assert "7 rows have frame, y and x of a row before them" in out
    assert json.loads((run / "scores.json").read_text())["detections"][0]["tp"] == 98
    pd.concat((walkers(), walkers()[2:3].assign(y=3.0))).to_csv(run / "twice.csv", index=False)
    for command in (("relink", run / "twice.csv", "--out", run / "b.parquet"), ("evaluate", run, run / "twice.csv")):
        code, _, err = cli(*command)
        assert code == 2
        assert "particle 2 is twice in frame 0; keep one row each" in err


def test_frames_that_are_far_apart_are_told_as_such(cli, run):
    walkers().assign(frame=lambda table: 10**7 * table["frame"]).to_csv(run / "far.csv", index=False)
    code, _, err = cli("relink", run / "far.csv", "--out", run / "a.parquet")
    assert code == 2
    assert "not one of the 100 detections is on a track" in err
    assert "at least 10000000 apart" in err
    assert "number them 0, 1, 2" in err
    code, out, _ = cli("evaluate", run, run / "far.csv")
    assert code == 0
    assert "number them 0, 1, 2" in out
