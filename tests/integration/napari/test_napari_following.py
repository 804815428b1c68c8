"""A run that is on, as a viewer sees it: whole frames, never less than before, and at the end the tables."""

import threading
import time

import numpy as np
import pandas as pd
import pytest

import streamtrack
from streamtrack.config import RunConfig
from streamtrack.formats.tables import read_tracks
from streamtrack.napari.growing import GrowingTable, confirmed
from streamtrack.napari.run_layers import RunLayers
from streamtrack.napari.viewer import ShownRun
from streamtrack.run_folder import UNFINISHED_NAME
from streamtrack.session import Session
from streamtrack.sinks import tables
from streamtrack.sinks.tables import TableSink
from streamtrack.testing.sinks import example_results, example_source

TIMEOUT_S = 60.0


def test_rows_that_grow_are_in_the_end_those_of_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    sink, growing, seen = TableSink(), GrowingTable(tmp_path), []
    sink.open(tmp_path, example_source())
    for result in example_results(40):
        sink.write(result)
        assert growing.look()
        assert not growing.look()
        seen.append(len(growing.detections()))
    assert seen == sorted(seen)
    found = growing.detections()
    sink.close()
    detections, tracks = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("detections", "tracks"))
    assert np.array_equal(found[["frame", "y", "x"]], detections[["frame", "y", "x"]])
    on_tracks = confirmed(found).sort_values(["frame", "particle"])
    assert np.array_equal(on_tracks[["frame", "particle", "y"]], tracks[["frame", "particle", "y"]])


def test_half_a_batch_is_not_there_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    sink, stream = TableSink(), tmp_path / UNFINISHED_NAME
    sink.open(tmp_path, example_source())
    sizes = []
    for result in example_results(3):
        sink.write(result)
        sizes.append(stream.stat().st_size)
    whole = stream.read_bytes()
    sink.close()
    growing = GrowingTable(tmp_path)
    for n_frames, size in ((1, sizes[0]), (1, (sizes[0] + sizes[1]) // 2), (2, sizes[1]), (3, sizes[2])):
        stream.write_bytes(whole[:size])
        growing.look()
        assert growing.detections()["frame"].nunique() == n_frames


@pytest.fixture
def running(tmp_path, movie):
    """A run that is on: a feed, and what runs it."""
    feed = streamtrack.Feed(movie.shape[1:], movie.dtype.name, pixel_size_um=0.1, capacity=100)
    config = RunConfig.model_validate({"ingest": {"policy": "block"}, "sinks": [{"kind": "tables"}, {"kind": "raw"}]})
    session = Session(config, tmp_path / "results", source=feed)
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    assert feed.started.wait(TIMEOUT_S)
    yield feed, tmp_path / "results", thread
    feed.finish()
    thread.join(TIMEOUT_S)


def until(happened):
    give_up = time.monotonic() + TIMEOUT_S
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_layers_grow_with_a_run_and_stay_as_the_user_set_them(running, movie, viewer_model):
    feed, folder, thread = running
    run = RunLayers(folder)
    shown = ShownRun(viewer_model, run)
    shown.look()
    assert run.is_on

    def has(n_frames):
        shown.look()
        layers = viewer_model.layers
        return (
            "raw" in layers
            and layers["raw"].data.shape[0] == n_frames
            and "tracks" in layers
            and (layers["detections"].data[:, 0].max() == n_frames - 1)
        )

    for image in movie[:6]:
        feed.push(image)
    until(lambda: has(6))
    assert [layer.name for layer in viewer_model.layers] == ["raw", "detections", "tracks"]
    layers = viewer_model.layers
    layers["tracks"].color_by = "existence"
    viewer_model.dims.set_point(0, layers["detections"].data[:, 0].max())
    shown.look()
    del layers["detections"]
    for image in movie[6:]:
        feed.push(image)
    until(lambda: (shown.look(), layers["raw"].data.shape[0] == len(movie))[1])
    feed.finish()
    thread.join(TIMEOUT_S)
    shown.look()
    assert not run.is_on
    assert viewer_model.dims.point[0] == len(movie) - 1  # it stood on the newest
    assert [layer.name for layer in layers] == ["raw", "tracks"]
    table = read_tracks(folder / "tracks.parquet").sort_values(["particle", "frame"])
    assert np.array_equal(layers["tracks"].data, table[["particle", "frame", "y", "x"]])
    assert layers["tracks"].color_by == "existence"
    assert np.array_equal(np.asarray(layers["raw"].data[-1]), movie[-1])
