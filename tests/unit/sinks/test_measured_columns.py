"""What engines, measures and microscopes say reaches the tables, and what is made of them."""

import json
from dataclasses import asdict, replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from geff.core_io import read_to_memory

from streamtrack.formats.geff import write_geff
from streamtrack.formats.tables import read_tracks, write_parquet
from streamtrack.formats.trackmate import write_trackmate
from streamtrack.sinks import tables
from streamtrack.sinks.frame_table import FRAMES, FRAMES_PARTIAL
from streamtrack.sinks.making import recover
from streamtrack.sinks.tables import PARTIAL, TableSink
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import Column, SourceInfo, Stream

COLUMNS = (Column("intensity", "counts"), Column("width", "px"), Column("kind", classes=("vesicle", "comet")))
FRAME_COLUMNS = (Column("stage_x_um", "um"), Column("focus_score"))
SOURCE = replace(example_source(), columns=COLUMNS, frame_columns=FRAME_COLUMNS)


def results():
    rng = np.random.default_rng(2)
    for result in example_results():
        n = len(result.detections)
        extra = {"intensity": rng.uniform(0, 1e4, n), "width": rng.uniform(1, 2, n), "kind": rng.integers(0, 2, n)}
        extra = {name: values.astype(np.float32) for name, values in extra.items()}
        extra["kind"][::3] = np.nan
        said = {"stage_x_um": 10.5 + result.frame.index}
        yield replace(result, detections=replace(result.detections, extra=extra), values=said)


def opened(folder):
    sink = TableSink()
    sink.open(folder, SOURCE)
    for result in results():
        sink.write(result)
    return sink


def as_they_should_be(folder):
    """Compare the tables in a folder with `results`."""
    said = list(results())
    detections, tracks = (read_tracks(folder / f"{name}.parquet") for name in ("detections", "tracks"))
    for name in ("intensity", "width", "kind"):
        whole = np.concatenate([each.detections.extra[name] for each in said])
        np.testing.assert_array_equal(detections[name].to_numpy(), whole)
    on_tracks = tracks.merge(detections, on=["frame", "y", "x"], suffixes=("", "_detected"))
    assert len(on_tracks) == len(tracks) > 0
    assert on_tracks["intensity"].equals(on_tracks["intensity_detected"])
    for table in (detections, tracks):
        assert table.attrs["units"] == {"intensity": "counts", "width": "px"}
        assert table.attrs["classes"] == {"kind": ["vesicle", "comet"]}
    csv = pd.read_csv(folder / "tracks.csv")
    assert csv.columns[-6:].tolist() == ["intensity", "width", "kind", "y_um", "x_um", "time_s"]
    np.testing.assert_allclose(csv["intensity"], tracks["intensity"], rtol=1e-6)
    assert csv["kind"].isna().equals(tracks["kind"].isna())


def frames_are_as_they_should_be(folder):
    frames = pd.read_parquet(folder / FRAMES)
    said = list(results())
    assert frames["frame"].tolist() == [each.frame.index for each in said]
    assert frames["time_s"].tolist() == [each.frame.time_s for each in said]
    assert frames["detections"].tolist() == [8] * 12
    assert frames["tracks"].tolist() == [each.tracks.n_live for each in said]
    assert frames["stage_x_um"].tolist() == [10.5 + index for index in range(12)]
    assert frames["focus_score"].isna().all(), "what was not said is null"
    stages = ["queue_ms", "detect_ms", "link_ms", "measure_ms", "decide_ms", "total_ms"]
    np.testing.assert_allclose(frames[stages].iloc[0], [0.1, 7.9, 0.3, 0, 0.01, 8.31], rtol=1e-5)
    assert pq.read_schema(folder / FRAMES).field("stage_x_um").metadata == {b"unit": b"um"}


def test_tables_have_every_column_with_unit_and_classes(tmp_path):
    opened(tmp_path).close()
    as_they_should_be(tmp_path)
    frames_are_as_they_should_be(tmp_path)


def test_what_a_dead_run_left_is_recovered_with_all_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    opened(tmp_path)  # and never closed
    assert recover(tmp_path).source == SOURCE
    as_they_should_be(tmp_path)
    frames_are_as_they_should_be(tmp_path)
    assert not (tmp_path / FRAMES_PARTIAL).exists()


@pytest.mark.parametrize("damage", [b"", b"no Arrow stream at all"])
def test_a_damaged_stream_of_frames_keeps_no_table_from_being_recovered(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    opened(tmp_path)
    (tmp_path / FRAMES_PARTIAL).write_bytes(damage)
    recover(tmp_path)
    as_they_should_be(tmp_path)
    assert (tmp_path / FRAMES_PARTIAL).read_bytes() == damage, "it is left for somebody to look at"
    assert not (tmp_path / FRAMES).exists()


def test_a_stream_of_before_there_were_such_columns_is_recovered(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    sink = TableSink()
    sink.open(tmp_path, example_source())
    for result in example_results():
        sink.write(result)
    (tmp_path / FRAMES_PARTIAL).unlink()
    assert recover(tmp_path).n_detections == 12 * 8
    known = read_tracks(tmp_path / "tracks.parquet").attrs
    assert (known["pixel_size_um"], known["frame_interval_s"]) == (0.1, 0.05)
    assert not (tmp_path / PARTIAL).exists()


def test_what_a_source_was_is_read_back_from_json_of_any_age():
    written = json.loads(json.dumps(asdict(SOURCE)))
    assert SourceInfo.from_json(written) == SOURCE
    placed = replace(SOURCE, origin_um=(1.0, 2.0), streams=(Stream(1, origin_um=(3.0, 4.0)),))
    again = SourceInfo.from_json(json.loads(json.dumps(asdict(placed))))
    assert (again, again.streams[0].origin_um) == (placed, (3.0, 4.0))
    old = {"name": "camera", "shape": [64, 96], "dtype": "uint16"}
    assert SourceInfo.from_json(old) == SourceInfo("camera", (64, 96), "uint16")


@pytest.fixture
def tracks(tmp_path):
    opened(tmp_path).close()
    return read_tracks(tmp_path / "tracks.parquet")


def test_a_table_that_is_written_again_keeps_units_and_classes(tracks, tmp_path):
    write_parquet(tracks, tmp_path / "again.parquet")
    assert read_tracks(tmp_path / "again.parquet").attrs == tracks.attrs


def test_trackmate_gets_them_as_features_of_the_spots(tracks, tmp_path):
    write_trackmate(tracks, tmp_path / "a.xml")
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    declared = {each.get("feature"): each.get("dimension") for each in root.findall(".//SpotFeatures/Feature")}
    assert (declared["INTENSITY"], declared["WIDTH"], declared["KIND"]) == ("INTENSITY", "LENGTH", "NONE")
    spots = {int(each.get("ID")): each for each in root.iter("Spot")}
    assert all(set(spot.attrib) - {"ID", "name"} <= set(declared) for spot in spots.values())
    by_track = tracks.sort_values(["particle", "frame"], ignore_index=True)
    for row, spot in spots.items():
        assert float(spot.get("INTENSITY")) == pytest.approx(by_track["intensity"][row])
        assert float(spot.get("WIDTH")) == pytest.approx(0.1 * by_track["width"][row]), "in micron, as positions are"
        assert (spot.get("KIND") == "NaN") == np.isnan(by_track["kind"][row])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_geff_gets_them_as_properties_of_the_nodes(tracks, tmp_path):
    write_geff(tracks, tmp_path / "a.geff")
    properties = read_to_memory(tmp_path / "a.geff")["node_props"]
    by_track = tracks.sort_values(["particle", "frame"], ignore_index=True)
    for name in ("intensity", "width", "kind"):
        np.testing.assert_array_equal(properties[name]["values"], by_track[name])
