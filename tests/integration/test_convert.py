"""``streamtrack convert``, from what a user types to files."""

import subprocess
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest

from streamtrack.formats.tables import read_tracks, write_parquet


@pytest.fixture
def convert(cli):
    """Run ``streamtrack convert`` in this process; returns exit code, stdout, stderr."""
    return partial(cli, "convert")


@pytest.fixture
def tracks(tmp_path):
    rng = np.random.default_rng(4)
    frame, particle = (axis.ravel() for axis in np.meshgrid(np.arange(6), np.arange(5)))
    y, x = rng.uniform(0, 64, (2, len(frame)))
    table = pd.DataFrame({"frame": frame, "particle": particle, "y": y, "x": x}).drop(index=[3, 4, 20])
    table.attrs = {"pixel_size_um": 0.1, "frame_interval_s": 0.02}
    write_parquet(table, tmp_path / "tracks.parquet")
    return tmp_path / "tracks.parquet"


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("trackmate", "tracks.trackmate.xml"),
        ("ptc", "tracks.ptc.xml"),
        ("napari", "tracks.napari.npy"),
        ("geff", "tracks.geff"),
        ("csv", "tracks.csv"),
        ("trackmate-csv", "tracks.trackmate.csv"),
        ("trackmate-simple", "tracks.tracks.xml"),
        ("napari-points", "tracks.points.csv"),
        ("napari-tracks", "tracks.tracks.csv"),
        ("thunderstorm", "tracks.thunderstorm.csv"),
    ],
)
def test_each_format_appears_beside_the_table_once(convert, tracks, to, name):
    code, out, err = convert(tracks, "--to", to)
    assert (code, err) == (0, "")
    assert "5 tracks, 27 detections" in out
    assert {path.name for path in tracks.parent.iterdir()} == {"tracks.parquet", name}

    code, _, err = convert(tracks, "--to", to)
    assert code == 2
    assert err.strip().endswith(f"{name} is there already; name another one with --out, or add --overwrite")
    assert convert(tracks, "--to", to, "--overwrite")[0] == 0
    assert {path.name for path in tracks.parent.iterdir()} == {"tracks.parquet", name}


@pytest.mark.parametrize("to", ["csv", "ptc"])
def test_what_goes_out_comes_back_as_our_table(convert, tracks, tmp_path, to):
    there = tmp_path / ("there.csv" if to == "csv" else "there.xml")
    assert convert(tracks, "--to", to, "--out", there)[0] == 0
    assert convert(there, "--to", "parquet")[0] == 0
    before, after = read_tracks(tracks), read_tracks(tmp_path / "there.parquet")
    merged = before.merge(after, on=["frame", "particle"])
    assert len(merged) == len(before)
    np.testing.assert_allclose(merged[["y_x", "x_x"]], merged[["y_y", "x_y"]], atol=1e-3)
    assert len(after) == (27 if to == "csv" else 30)  # PTC files have no gaps


def test_overwriting_geff_leaves_nothing_of_the_old_one(convert, tracks, tmp_path):
    from geff.core_io import read_to_memory

    out = tmp_path / "a.geff"
    assert convert(tracks, "--to", "geff", "--out", out)[0] == 0
    few = read_tracks(tracks)
    write_parquet(few[few["particle"] == 2], tmp_path / "few.parquet")
    assert convert(tmp_path / "few.parquet", "--to", "geff", "--out", out, "--overwrite")[0] == 0
    assert read_to_memory(out)["node_props"]["particle"]["values"].tolist() == [2] * 6


def test_a_kill_in_the_middle_leaves_the_old_file_as_it_was(tmp_path):
    frame, particle = (axis.ravel() for axis in np.meshgrid(np.arange(300), np.arange(500)))
    write_parquet(pd.DataFrame({"frame": frame, "particle": particle, "y": 1.0, "x": 2.0}), tmp_path / "a.parquet")
    out = tmp_path / "a.trackmate.xml"
    out.write_text("the old one")
    command = [
        sys.executable,
        "-m",
        "streamtrack",
        "convert",
        tmp_path / "a.parquet",
        "--to",
        "trackmate",
        "--overwrite",
    ]
    with subprocess.Popen(command) as process:
        partial = tmp_path / "a.trackmate.streamtrack-partial.xml"
        while process.poll() is None and not (partial.exists() and partial.stat().st_size):
            time.sleep(0.002)
        process.kill()
    assert process.returncode != 0, "it was done before it could be killed"
    assert out.read_text() == "the old one"
    subprocess.run(command, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "a.trackmate.xml"}


@pytest.mark.parametrize("name", ["notes.txt", "image.zarr"])
def test_a_folder_with_anything_else_in_it_is_never_replaced(convert, tracks, tmp_path, name):
    out = tmp_path / "a.geff"
    assert convert(tracks, "--to", "geff", "--out", out)[0] == 0
    (out / name).write_text("precious")
    code, _, err = convert(tracks, "--to", "geff", "--out", out, "--overwrite")
    assert code == 2
    assert "holds more than GEFF data" in err
    assert (out / name).read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tracks.parquet", "--to", "parquet", "--overwrite"], "is what the command reads"),
        (["tracks.parquet", "--to", "csv", "--out", "folder", "--overwrite"], "is a folder, csv is not"),
        (["tracks.parquet", "--to", "geff", "--out", "file", "--overwrite"], "is a file, geff is not"),
        (["tracks.parquet", "--to", "csv", "--out", "no/such.csv"], "check that the folder is there"),
        (["none.parquet", "--to", "csv"], "there is no such file"),
        (["file", "--to", "csv"], "name must end in"),
        (["detections.csv", "--to", "napari", "--out", "a.npy"], "no column particle: these are detections"),
        (["empty.csv", "--to", "napari"], "no row"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_touches_nothing(
    convert, tracks, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    (tmp_path / "detections.csv").write_text("frame,y,x\n0,1,2\n")
    (tmp_path / "empty.csv").write_text("frame,particle,y,x\n")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != "folder"}
    code, out, err = convert(*arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("streamtrack: ")
    assert message in err
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != "folder"}
    assert after == before


def test_an_unknown_format_names_the_known_ones(convert, tracks):
    code, _, err = convert(tracks, "--to", "excel")
    assert code == 2
    assert "trackmate" in err


def test_napari_gets_the_name_that_was_given(convert, tracks, tmp_path):
    assert convert(tracks, "--to", "napari", "--out", tmp_path / "mine.napari")[0] == 0
    assert np.load(tmp_path / "mine.napari").shape[1] == 4
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("to", ["trackmate", "ptc", "napari", "geff"])
def test_streams_are_not_laid_over_each_other(convert, tracks, tmp_path, to):
    table = pd.read_parquet(tracks)
    named = ((channel, table.particle + 10 * channel) for channel in (0, 1))
    both = pd.concat([table.assign(particle=ids, t=table.frame, c=channel, z=0, p=0) for channel, ids in named])
    both.to_parquet(tmp_path / "both.parquet")
    code, _, err = convert(tmp_path / "both.parquet", "--to", to, "--out", tmp_path / "x.npy")
    assert code == 2
    assert "holds several streams (c is 0, 1), which would be taken for one movie: track one, or keep its rows" in err
    assert "table.query('c == 0')" in err
    assert convert(tmp_path / "both.parquet", "--to", "csv")[0] == 0
