"""What the plug-in gives napari; napari itself is not needed."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import streamtrack
from streamtrack.errors import ConfigError
from streamtrack.formats.tables import read_tracks, write_parquet
from streamtrack.napari.layers import World, detections_layer, tracks_layer
from streamtrack.napari.reader import NOTHING, get_reader
from streamtrack.napari.run_layers import RunLayers
from streamtrack.napari.sample import demo


def by_name(layers):
    return {settings["name"]: (data, settings, kind) for data, settings, kind in layers}


def test_a_runs_folder_is_images_points_and_tracks_that_lie_on_each_other(run_folder, movie):
    layers = by_name(get_reader(str(run_folder))(str(run_folder)))
    assert [(name, kind) for name, (_, _, kind) in layers.items()] == [
        ("raw", "image"),
        ("denoised", "image"),
        ("detections", "points"),
        ("tracks", "tracks"),
    ]
    for _, settings, _ in layers.values():
        assert settings["scale"] == (0.05, 0.1, 0.1)
        assert settings["translate"] == (0, 0, 0)
        assert settings["units"] == ("s", "um", "um")
    assert np.array_equal(layers["raw"][0][:], movie)
    assert layers["denoised"][1]["visible"] is False
    assert layers["raw"][1]["contrast_limits"][1] < movie.max() + 1


def test_tracks_are_those_of_the_table_with_what_was_measured(run_folder):
    data, settings, _ = by_name(RunLayers(run_folder).layers())["tracks"]
    table = read_tracks(run_folder / "tracks.parquet").sort_values(["particle", "frame"])
    assert np.array_equal(data, table[["particle", "frame", "y", "x"]])
    features = settings["features"]
    assert {"particle", "score", "existence", "diffusion", "speed_um_s", "time_s", "intensity"} <= set(features)
    assert np.allclose(features["speed_um_s"], np.hypot(table["vy"], table["vx"]) * 0.1)
    assert features.notna().all(axis=None)


def test_points_are_all_detections(run_folder):
    data, settings, _ = by_name(RunLayers(run_folder).layers())["detections"]
    table = pd.read_parquet(run_folder / "detections.parquet")
    assert np.array_equal(data, table[["frame", "y", "x"]])
    assert np.array_equal(settings["features"]["score"], table["score"])


def test_where_tracks_divide_is_the_graph(tmp_path):
    frames = {"frame": [0, 1, 2, 3, 2, 3], "particle": [0, 0, 1, 1, 2, 2]}
    table = pd.DataFrame({**frames, "y": 1.0, "x": 2.0, "parent": [-1, -1, 0, 0, 0, 0]})
    write_parquet(table, tmp_path / "cells_tracks.parquet")
    path = str(tmp_path / "cells_tracks.parquet")
    ((data, settings, _),) = get_reader(path)(path)
    assert settings["graph"] == {1: [0], 2: [0]}
    assert len(data) == 6
    assert settings["units"] == ("pixel", "pixel", "pixel")


def test_where_tracks_merge_is_the_graph_too():
    frames = {"frame": [0, 1, 2, 3, 0, 1], "particle": [0, 0, 5, 5, 2, 2]}
    table = pd.DataFrame({**frames, "y": 1.0, "x": 2.0, "parent": -1, "merged_into": [5, 5, -1, -1, 5, 5]})
    assert tracks_layer(table, World())[1]["graph"] == {5: [0, 2]}


def test_a_parent_that_is_not_there_is_no_part_of_the_graph():
    table = pd.DataFrame({"frame": [0, 1], "particle": 4, "y": 1.0, "x": 2.0, "parent": 3})
    assert tracks_layer(table, World())[1]["graph"] == {}


def test_what_was_not_measured_has_the_tracks_next_value():
    nan = np.nan
    values = {"size": [nan, 5.0, nan, 2.0, nan], "never": nan}
    table = pd.DataFrame({"frame": [0, 1, 2, 0, 0], "particle": [0, 0, 0, 1, 2], "y": 1.0, "x": 2.0, **values})
    features = tracks_layer(table, World())[1]["features"]
    assert features["size"].tolist() == [5, 5, 2, 2, 2]
    assert "never" not in features


def test_classes_have_their_names_and_cells_their_size():
    table = pd.DataFrame(
        {"frame": 0, "y": [1.0, 2, 3], "x": 2.0, "kind": [1, 0, np.nan], "radius_px": [4.0, 5, np.nan]}
    )
    table.attrs["classes"] = {"kind": ["round", "long"]}
    _, settings, _ = detections_layer(table, World())
    assert settings["features"]["kind"].tolist() == ["long", "round", np.nan]
    assert settings["size"].tolist() == [8, 10, 7]


def test_a_movie_that_was_not_recorded_is_read_where_it_is(stored, movie, tmp_path):
    out = tmp_path / "results"
    streamtrack.track(stored, out, progress=False, source={"frames": "2:9"}, sinks=["tables"])
    data, settings, _ = by_name(RunLayers(out).layers())["movie.npy"]
    assert data.shape == (7, 64, 64)
    assert np.array_equal(data[1], movie[3])
    assert np.array_equal(data[2:4, 5:9, ::2], movie[4:6, 5:9, ::2])
    assert settings["translate"][0] == 2
    stored.unlink()
    assert "movie.npy" not in by_name(RunLayers(out).layers())


def test_each_stream_has_layers_of_its_own_and_the_first_are_visible(tmp_path, movie):
    path = tmp_path / "two.npy"
    np.save(path, np.stack([movie, movie[:, ::-1]], axis=1))
    streamtrack.track(
        path, tmp_path / "results", progress=False, source={"axes": "TCYX", "channel": "all"}, sinks=["tables", "raw"]
    )
    layers = RunLayers(tmp_path / "results").layers()
    names = [f"{kind} {stream}" for kind in ("raw", "detections", "tracks") for stream in ("p0 c0 z0", "p0 c1 z0")]
    assert list(by_name(layers)) == names
    assert [settings.get("visible", True) for _, settings, _ in layers] == [True, False] * 3


@pytest.mark.parametrize("name", ["report.json", "tracks.parquet", "tracks.csv", "detections.parquet", "raw.ome.zarr"])
def test_single_files_of_a_run_open(run_folder, name):
    path = str(run_folder / name)
    layers = get_reader(path)(path)
    assert len(layers) == (4 if name == "report.json" else 1)
    assert layers[0][1]["scale"] == (0.05, 0.1, 0.1)


def test_what_is_not_streamtracks_is_refused(tmp_path, run_folder):
    (tmp_path / "images").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text(json.dumps({"status": "completed"}))
    (tmp_path / "movie.ome.zarr").mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "tracks.parquet")
    for name in ("images", "other", "movie.ome.zarr", "tracks.parquet", "missing.csv", "other/report.json"):
        assert get_reader(str(tmp_path / name)) is None
    assert get_reader([str(run_folder), str(run_folder)]) is None


def test_a_run_that_found_nothing_is_read_and_empty(tmp_path):
    dark = np.zeros((4, 64, 64), np.uint16)
    streamtrack.track(dark, tmp_path / "results", progress=False, sinks=["tables"])
    path = str(tmp_path / "results")
    assert get_reader(path)(path) == NOTHING


def test_a_table_too_long_for_napari_is_cut_and_said(run_folder, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    shutil.copytree(run_folder, folder)
    table = pq.read_table(folder / "detections.parquet")
    pq.write_table(table, folder / "detections.parquet", row_group_size=10)
    monkeypatch.setattr("streamtrack.napari.run_layers.MOST_ROWS", 25)
    run = RunLayers(folder)
    assert len(by_name(run.layers())["detections"][0]) == 20
    assert any("napari draws: shown until frame" in remark for remark in run.remarks)
    with pytest.warns(UserWarning, match="detections.parquet has"):
        get_reader(str(folder))(str(folder))


def test_the_sample_is_a_movie_with_its_tracks():
    kinds = [kind for _, _, kind in demo()]
    assert kinds == ["image", "points", "tracks"]


def test_a_folder_without_a_run_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no readable"):
        RunLayers(tmp_path)


def test_importing_streamtrack_imports_no_napari():
    code = "import sys, streamtrack, streamtrack.cli; print(sys.modules.keys() & {'napari', 'npe2', 'qtpy'})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout
    assert said.strip() == "set()"
