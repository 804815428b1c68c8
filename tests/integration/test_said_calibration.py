"""What is said of pixels and frames reaches all that a run writes, and all that decides."""

import json
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import zarr

import streamtrack
from streamtrack.cli import main
from streamtrack.errors import ConfigError
from streamtrack.formats.tables import read_tracks
from streamtrack.napari.layers import World

SIZE_UM, INTERVAL_S, N_FRAMES = 0.2, 0.5, 24
STEP_PX = 2
SAID = {"pixel_size_um": SIZE_UM, "frame_interval_s": INTERVAL_S}
CONFIG = """
engine = "brightest"
sinks = ["tables", "summary", "report", "raw"]
pixel_size_um = 0.3

[actuators.notes]
kind = "notebook"
path = 'NOTES'

[[triggers]]
kind = "speed"
above_um_s = 0.6
do = "notes"

[[triggers]]
kind = "displacement"
above_um = 6
do = "notes"
"""
"""Both rules need what is said on the command line: 0.8 um a second, and 9 um, where the movie says 0.2 and 4.6."""


@pytest.fixture(scope="module", autouse=True)
def lab(pytestconfig):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(pytestconfig.rootpath / "tests" / "lab_package")
        yield


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A spot that goes 2 px a frame, in an OME-Zarr that says 0.1 um per pixel and 1 s per frame."""
    images = np.zeros((N_FRAMES, 32, 64), np.float32)
    images[np.arange(N_FRAMES), 16, 8 + STEP_PX * np.arange(N_FRAMES)] = 1000
    path = tmp_path_factory.mktemp("movie") / "movie.zarr"
    group = zarr.create_group(path)
    group.create_array("0", data=images, chunks=(1, 32, 64))
    axes = [{"name": "t", "type": "time", "unit": "second"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.1, 0.1]}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


@pytest.fixture(scope="module")
def folder(movie, tmp_path_factory):
    """The run of the command line: its options go before the file's settings, these before the movie."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.toml").write_text(CONFIG.replace("NOTES", str(folder / "notes.txt")), encoding="utf-8")
    arguments = ["track", movie, "--config", folder / "run.toml", "--out", folder / "out"]
    arguments += ["--pixel-size", SIZE_UM, "--interval", INTERVAL_S]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["streamtrack", *map(str, arguments)])
        with pytest.raises(SystemExit, match=r"^(None|0)?$"):
            main()
    return folder / "out"


def test_tables_and_report_have_what_was_said(folder):
    results = streamtrack.read(folder)
    for table in (results.tracks, results.detections):
        np.testing.assert_allclose(table["x_um"], SIZE_UM * table["x"])
        np.testing.assert_allclose(table["time_s"], INTERVAL_S * table["frame"])
    np.testing.assert_allclose(results.tracks["vx"].iloc[-1], STEP_PX / INTERVAL_S, rtol=0.05)
    summary = read_summary(folder)
    assert summary["mean_speed_um_s"] == pytest.approx([STEP_PX * SIZE_UM / INTERVAL_S])
    assert summary["path_um"] == pytest.approx([SIZE_UM * STEP_PX * (N_FRAMES - 1)])
    assert {name: results.report["source"][name] for name in SAID} == SAID
    assert {name: results.report["config"][name] for name in SAID} == SAID
    remarks = [line for line in results.report["remarks"] if "the source says" in line]
    assert remarks == [
        "the source says pixel_size_um = 0.1, the settings 0.2: 0.2 is used",
        "the source says frame_interval_s = 1, the settings 0.5: 0.5 is used",
    ]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "0.2 µm" in page
    assert "0.5 s" in page


def read_summary(folder):
    import pandas as pd

    return pd.read_parquet(folder / "tracks_summary.parquet").to_dict("list")


def test_rules_decide_by_what_was_said(folder):
    lines = (folder / "commands.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["rule"] for line in lines} == {"speed", "displacement"}


def test_recorded_frames_have_what_was_said(folder):
    array = zarr.open_group(folder / "raw.ome.zarr", mode="r")
    (scale, _) = array.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [INTERVAL_S, SIZE_UM, SIZE_UM]


@pytest.mark.parametrize("to", ["trackmate", "geff", "csv"])
def test_other_programs_are_told(folder, tmp_path, cli, to):
    out = tmp_path / f"tracks.{ {'trackmate': 'xml'}.get(to, to) }"
    assert cli("convert", folder / "tracks.parquet", "--to", to, "--out", out)[0] == 0
    if to == "csv":
        assert read_tracks(folder / "tracks.csv").attrs.items() >= SAID.items()
        return
    if to == "trackmate":
        model = ET.parse(out).getroot().find("Model")
        assert (model.get("spatialunits"), model.get("timeunits")) == ("micron", "sec")
    found = read_tracks(out)
    assert found.attrs.items() >= SAID.items()
    assert World.of(found.attrs).scale == (INTERVAL_S, SIZE_UM, SIZE_UM)


def test_python_takes_the_same_keywords_and_warns(movie, folder):
    with pytest.warns(UserWarning, match="the source says") as warned:
        results = streamtrack.track(movie, engine="brightest", progress=False, **SAID)
    assert [str(each.message).split()[3] for each in warned] == ["pixel_size_um", "frame_interval_s"]
    assert results.tracks.equals(streamtrack.read(folder).tracks)
    found = streamtrack.track(np.zeros((3, 32, 32), np.float32), engine="brightest", progress=False, **SAID)
    assert {name: found.report["source"][name] for name in SAID} == SAID
    with pytest.raises(ConfigError, match=r"track: pixel_size_um = -1.* is not valid: give um per pixel, above 0, or"):
        streamtrack.track(movie, pixel_size_um=-1, progress=False)


@pytest.mark.parametrize("command", ["track", "live", "batch"])
def test_what_cannot_be_is_one_line(movie, tmp_path, cli, command):
    config = tmp_path / "run.toml"
    config.write_text(f"[source]\nkind = 'zarr'\npath = '{movie}'\n", encoding="utf-8")
    named = [config] if command == "live" else [movie]
    code, _, said = cli(command, *named, "--out", tmp_path / "out", "--interval", "0")
    assert code == 2
    assert said.splitlines()[-1].endswith(
        "frame_interval_s = 0.0 is not valid: give seconds from frame to frame, above 0, or leave it out for what the "
        "source says"
    )
