"""A movie of several channels, positions and planes is tracked stream by stream, in one run."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

import streamtrack
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError
from streamtrack.recovery import recover
from streamtrack.session import Session

N_TIMES, SIZE = 6, 96


def beads(channel, z=0, position=0):
    """Beads of a stream: how many, and where, is its own."""
    n = 3 + channel + 2 * z + 4 * position
    places = np.stack(np.divmod(np.arange(16), 4)) * 22 + 14
    return (places[:, (np.arange(n) * 3 + channel + 5 * z) % 16]).T.astype(float)


def image(t, channel, z=0, position=0):
    """Beads that move by 0.4 px a frame, each stream another way."""
    rng = np.random.default_rng([t, channel, z, position])
    angle = channel + 2 * z + 3 * position
    y, x = np.mgrid[:SIZE, :SIZE]
    expected = np.full((SIZE, SIZE), 200.0)
    for cy, cx in beads(channel, z, position) + 0.4 * t * np.array([np.cos(angle), np.sin(angle)]):
        expected += 1500 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2.9)
    return rng.poisson(expected).astype(np.uint16)


@pytest.fixture(scope="module")
def movie():
    """Shape (T, C, Z, Y, X)."""
    return np.array([[[image(t, c, z) for z in range(3)] for c in range(2)] for t in range(N_TIMES)])


def assert_no_track_crosses(tracks):
    """As many tracks as beads in each stream, each of one stream and in all of its frames."""
    assert (tracks.groupby("particle")[["c", "z", "p"]].nunique() == 1).all(axis=None)
    assert (tracks["frame"] == tracks["t"]).all()
    for (c, z, p), rows in tracks.groupby(["c", "z", "p"]):
        places = beads(c, z, p)
        assert rows["particle"].nunique() == len(places)
        assert (rows.groupby("particle")["t"].nunique() == N_TIMES).all()
        start = rows[rows["t"] == 0]
        assert all((np.hypot(start.y - y, start.x - x) < 1).sum() == 1 for y, x in places)


def write_zarr(path, movie):
    group = zarr.create_group(path)
    group.create_array("0", data=movie, chunks=(1, 1, 1, SIZE, SIZE))
    axes = [{"name": name} for name in "tczyx"]
    scale = {"type": "scale", "scale": [1.0] * 5}
    multiscale = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    channels = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], "omero": channels}


def write_tiff(path, movie):
    tifffile.imwrite(path, movie, ome=True, metadata={"axes": "TCZYX", "Channel": {"Name": ["DAPI", "GFP"]}})


@pytest.mark.parametrize("write", [write_zarr, write_tiff])
def test_all_channels_and_planes_of_a_movie_on_disk(cli, tmp_path, movie, write):
    path = tmp_path / ("m.ome.zarr" if write is write_zarr else "m.ome.tif")
    write(path, movie)
    out = tmp_path / "out"
    code, _, err = cli("track", path, "--channel", "all", "--z", "all", "--out", out)
    assert code == 0, err
    tracks = pd.read_parquet(out / "tracks.parquet")
    assert tracks.groupby(["c", "z"]).ngroups == 6
    assert_no_track_crosses(tracks)
    assert list(pd.read_csv(out / "tracks.csv").columns)[-4:] == ["t", "c", "z", "p"]
    frames = pd.read_parquet(out / "frames.parquet")
    assert frames.groupby(["t", "c", "z", "p"]).size().eq(1).all()
    assert len(frames) == 6 * N_TIMES
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["frames"] | {"expected": 36, "processed": 36, "lost": 0} == report["frames"]
    assert [each["channel_name"] for each in report["streams"]] == ["DAPI"] * 3 + ["GFP"] * 3
    assert {each["processed"] for each in report["streams"]} == {N_TIMES}
    assert all(each["latency_ms"]["detect"]["n"] == N_TIMES for each in report["streams"])
    assert (out / "overview.png").stat().st_size > 10_000


def write_plate(path, movie):
    """Write an OME-Zarr image for each of two positions, as bioformats2raw does."""
    zarr.create_group(path)
    for position in (0, 1):
        write_zarr(path / f"{position}", movie[position])


def write_scenes(path, movie):
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for position in (0, 1):
            tiff.write(movie[position], metadata={"axes": "TCZYX", "Name": f"Pos{position}"})


def write_axis(path, movie):
    names = ["p", "t", "c", "z", "y", "x"]
    zarr.create_array(path, data=movie, chunks=(1, 1, 1, 1, SIZE, SIZE), dimension_names=names)


@pytest.mark.parametrize("write", [write_plate, write_scenes, write_axis])
def test_all_positions_of_a_movie_on_disk(cli, tmp_path, write):
    path = tmp_path / ("m.ome.tif" if write is write_scenes else "m.zarr")
    times, places = range(N_TIMES), range(2)
    write(path, np.array([[[[image(t, c, 0, p)] for c in range(2)] for t in times] for p in places]))
    out = tmp_path / "out"
    code, _, err = cli("track", path, "--position", "all", "--channel", "all", "--out", out)
    assert code == 0, err
    tracks = pd.read_parquet(out / "tracks.parquet")
    assert tracks.groupby(["c", "p"]).ngroups == 4
    assert_no_track_crosses(tracks)
    code, _, err = cli("evaluate", out, out / "tracks.parquet")
    assert code == 2
    assert "holds several streams (p is 0, 1; c is 0, 1)" in err


def test_a_stream_finds_what_it_finds_by_itself(tmp_path, movie):
    write_zarr(tmp_path / "m.ome.zarr", movie)
    together = streamtrack.track(tmp_path / "m.ome.zarr", source={"channel": "all", "z": 1}, progress=False).tracks
    alone = streamtrack.track(tmp_path / "m.ome.zarr", source={"channel": "GFP", "z": 1}, progress=False).tracks
    same = together[together["c"] == 1].reset_index(drop=True)
    assert set(same["z"]) == {1}
    measured = ["frame", "y", "x", "mass", "score", "sigma", "existence", "vy", "vx"]
    pd.testing.assert_frame_equal(same[measured], alone[measured])
    assert list(alone.columns) == [name for name in together.columns if name not in "tczp"]


def test_a_killed_run_of_several_streams_is_recovered(tmp_path, movie, engines_as_elsewhere):
    write_zarr(tmp_path / "m.ome.zarr", movie)
    out = tmp_path / "out"
    whole = streamtrack.track(tmp_path / "m.ome.zarr", source={"channel": "all", "z": "all"}, progress=False)
    lines = [
        "import os, streamtrack.sinks.tables as tables",
        "tables.make_tables = lambda *arguments: os._exit(1)  # killed when all is written but the tables",
        "import streamtrack",
        f"streamtrack.track({str(tmp_path / 'm.ome.zarr')!r}, {str(out)!r},",
        "    source={'channel': 'all', 'z': 'all'}, progress=False)",
    ]
    (tmp_path / "run.py").write_text("\n".join(lines), encoding="utf-8")
    assert subprocess.run([sys.executable, tmp_path / "run.py"], timeout=120).returncode == 1
    report = recover(out)
    assert report["frames"]["processed"] == 36
    streams = {(each["channel_name"], each["z"]): each for each in report["streams"]}
    assert set(streams) == {(name, z) for name in ("DAPI", "GFP") for z in range(3)}
    assert {each["processed"] for each in streams.values()} == {6}
    assert sum(each["detections"] for each in streams.values()) == report["detections"]
    pd.testing.assert_frame_equal(streamtrack.read(out).tracks, whole.tracks)
    assert_no_track_crosses(pd.read_parquet(out / "tracks.parquet"))
    assert (out / "overview.png").exists()


def test_a_lost_frame_is_counted_in_its_stream(cli, tmp_path, movie):
    write_zarr(tmp_path / "m.ome.zarr", movie)
    (tmp_path / "m.ome.zarr" / "0" / "c" / "2" / "1" / "0" / "0" / "0").unlink()
    out = tmp_path / "out"
    assert cli("track", tmp_path / "m.ome.zarr", "--channel", "all", "--z", "0", "--out", out)[0] == 3
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["frames"]["lost"] == 1
    (lost,) = report["frames"]["lost_frames"]
    assert (lost["first"], lost["stream"]) == (2, "position 0, channel 1 (GFP), z 0")


def with_rule(tmp_path, movie, **rule):
    if not (tmp_path / "m.ome.zarr").exists():
        write_zarr(tmp_path / "m.ome.zarr", movie)
    return RunConfig.model_validate(
        {
            "source": {"kind": "zarr", "path": str(tmp_path / "m.ome.zarr"), "channel": "all", "z": 0},
            "triggers": [{"kind": "count", "above": 0, "do": "raw", **rule}],
            "sinks": [{"kind": "tables"}, {"kind": "raw", "when": "commands", "before": 2, "after": 2}],
        }
    )


def test_commands_say_their_stream_and_rules_may_be_limited_to_one(tmp_path, movie):
    report = Session(with_rule(tmp_path, movie), tmp_path / "both").run()
    lines = [json.loads(line) for line in (tmp_path / "both" / "commands.jsonl").read_text().splitlines()]
    assert [line["stream"]["channel_name"] for line in lines] == ["DAPI", "GFP"]
    assert report["rules"]["count"]["fired"] == 2
    assert len(list((tmp_path / "both" / "events").glob("*_p0_c?_z0.ome.zarr"))) == 2
    Session(with_rule(tmp_path, movie, stream={"channel": "GFP"}), tmp_path / "one").run()
    (line,) = (tmp_path / "one" / "commands.jsonl").read_text().splitlines()
    assert json.loads(line)["stream"]["channel"] == 1


def test_raw_frames_are_recorded_stream_by_stream(tmp_path, movie):
    write_zarr(tmp_path / "m.ome.zarr", movie)
    sinks = [{"kind": "raw"}]
    streamtrack.track(
        tmp_path / "m.ome.zarr", tmp_path / "out", source={"channel": "all", "z": 2}, sinks=sinks, progress=False
    )
    for channel in (0, 1):
        recorded = zarr.open(tmp_path / "out" / "raw_streams" / f"p0_c{channel}_z2.ome.zarr" / "0", mode="r")
        np.testing.assert_array_equal(recorded[:], movie[:, channel, 2])


def test_a_rule_for_a_stream_of_a_movie_that_has_one_is_refused(tmp_path, movie):
    config = with_rule(tmp_path, movie, stream={"channel": "GFP"})
    one = config.source.model_copy(update={"channel": 0})
    with pytest.raises(ConfigError, match="the movie has only one"):
        Session(config.model_copy(update={"source": one}), tmp_path / "out")
