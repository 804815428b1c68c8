import sys
import weakref
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamtrack import __version__
from streamtrack.errors import SinkError
from streamtrack.sinks import row_groups, tables
from streamtrack.sinks.frame_table import FRAMES, FRAMES_PARTIAL
from streamtrack.sinks.making import TABLES, recover
from streamtrack.sinks.tables import PARTIAL, TableSink
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import CONFIRMED, Detections, Revision, SourceInfo, Stream, TrackMotion, TrackUpdate

CSV_HEADER = b"frame,particle,y,x,mass,score,sigma,existence,vy,vx,diffusion,directed,y_um,x_um,time_s\n"


def test_all_detections_are_there_and_the_confirmed_tracks_from_their_first_one(tmp_path, run, assert_tables_are_of):
    results = example_results()
    _, tracks = run(tmp_path, results)
    assert_tables_are_of(results, tmp_path)
    assert set(tracks.particle) == {1, 2, 3, 4, 5, 6}  # 0 never was, the last detection is on no track
    assert tracks.frame.min() == 0
    assert tracks.existence.min() < CONFIRMED
    assert tracks.diffusion.isna().equals(tracks.frame == 0)


def test_existence_of_a_detection_without_track_confirms_nothing(tmp_path, run):
    results = [
        replace(r, tracks=replace(r.tracks, existence=np.ones_like(r.tracks.existence))) for r in example_results()
    ]
    _, tracks = run(tmp_path, results)
    assert tracks.particle.min() == 0


def test_the_csv_is_exactly_this(tmp_path, run):
    (result,) = example_results(1, n_particles=3)
    f32 = np.float32
    detections = Detections(
        np.array([1.23456789, 2, 30.00004], f32),
        np.array([1e-5, 511.5, 7.125], f32),
        np.array([1, 0.98768, 0.5], f32),
        np.array([123456.78, 0.25, 1e10], f32),
        np.array([0.123456, 1, 0.5], f32),
    )
    motion = TrackMotion(
        np.array([5, 0, 3]),
        np.array([7, 0, 1], f32),
        np.array([[-0.1, 1e-7], [0, 0], [1234.5678, 3]], f32),
        np.array([[0.2, 0.7654321, 0.0345679], [1, 0, 0], [0, 1, 0]], f32),
        np.array([1e-5, np.nan, 12.3456789], f32),
    )
    none = np.empty(0, np.int64)
    tracks = TrackUpdate(
        np.array([12, 7, 3]), np.array([0.95, 1, 0.99], f32), none, none, none, 3, 0, Revision.none(), motion
    )
    run(tmp_path, [replace(result, detections=detections, tracks=tracks)])
    assert (tmp_path / "tracks.csv").read_bytes() == (
        CSV_HEADER + b"0,3,30,7.125,1e+10,0.5,0.5,0.99,1234.5677,3,12.345679,1,3,0.7125,0\n"
        b"0,7,2,511.5,0.25,0.9877,1,1,0,0,,0,0.2,51.15,0\n"
        b"0,12,1.2346,0,123456.78,1,0.1235,0.95,-0.1,1e-7,0.00001,0.7654,0.1235,0,0\n"
    )


def test_the_csv_agrees_with_the_parquet(tmp_path, run):
    _, tracks = run(tmp_path, example_results())
    text = pd.read_csv(tmp_path / "tracks.csv")
    assert list(text.columns) == list(tracks.columns)
    np.testing.assert_allclose(text, tracks, rtol=1e-6, atol=0.5001e-4)


def test_files_depend_neither_on_time_nor_on_batches(tmp_path, monkeypatch, run):
    (tmp_path / "slow").mkdir()
    (tmp_path / "fast").mkdir()
    monkeypatch.setattr(row_groups, "GROUP_ROWS", 30)
    run(tmp_path / "fast", example_results())
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)  # each frame is a batch of its own
    run(tmp_path / "slow", example_results())
    for name in TABLES:
        assert (tmp_path / "fast" / name).read_bytes() == (tmp_path / "slow" / name).read_bytes()


@pytest.mark.parametrize("group_rows", [1, 7, 8, 30, 96, 1000])
def test_row_groups_are_even_and_lose_nothing(tmp_path, monkeypatch, group_rows, run, assert_tables_are_of):
    monkeypatch.setattr(row_groups, "GROUP_ROWS", group_rows)
    monkeypatch.setattr(tables, "_FLUSH_ROWS", 20)
    results = example_results()
    detections, _ = run(tmp_path, results)
    assert len(detections) == 12 * 8
    assert_tables_are_of(results, tmp_path)
    groups = pq.read_metadata(tmp_path / "detections.parquet")
    sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert set(sizes[:-1]) <= {group_rows}
    assert 0 < sizes[-1] <= group_rows


def test_metadata_say_what_the_numbers_mean(tmp_path, run):
    run(tmp_path, example_results(2))
    for name in TABLES[:2]:
        assert pq.read_schema(tmp_path / name).metadata == {
            b"streamtrack_version": __version__.encode(),
            b"source": b"example",
            b"level": b"0",
            b"shape": b"[64, 96]",
            b"frames": b"2",
            b"time_unit": b"s",
            b"pixel_size_um": b"0.1",
            b"frame_interval_s": b"0.05",
        }


def test_places_have_the_origin_of_their_stream_and_height(tmp_path, run):
    here, there = Stream(0, origin_um=(10.0, -20.5), z_um=1.5), Stream(1, origin_um=(0.0, 7.0))
    source = replace(example_source(), streams=(here, there), z_um=1.5)
    both = [(result, stream) for result in example_results(4) for stream in (here, there)]
    results = [replace(result, frame=replace(result.frame, stream=stream)) for result, stream in both]
    detections, _ = run(tmp_path, results, source)
    assert list(detections)[-8:] == ["y_um", "x_um", "z_um", "time_s", "t", "c", "z", "p"]
    of_here = detections["p"] == 0
    np.testing.assert_allclose(detections["y_um"] - 0.1 * detections["y"], np.where(of_here, 10.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(detections["x_um"] - 0.1 * detections["x"], np.where(of_here, -20.5, 7.0), atol=1e-6)
    assert detections["z_um"][of_here].eq(1.5).all()
    assert detections["z_um"][~of_here].isna().all()
    np.testing.assert_allclose(detections["time_s"], detections["t"] * 0.05)


def test_an_origin_is_in_the_metadata(tmp_path, run):
    run(tmp_path, example_results(2), replace(example_source(), origin_um=(0.05, -3.0)))
    metadata = pq.read_schema(tmp_path / "tracks.parquet").metadata
    assert (metadata[b"origin_y_um"], metadata[b"origin_x_um"]) == (b"0.05", b"-3.0")


def test_what_is_not_known_is_not_in_the_metadata(tmp_path, run):
    run(tmp_path, [], SourceInfo("camera", (64, 96), "uint16"))
    metadata = pq.read_schema(tmp_path / "tracks.parquet").metadata
    assert metadata.keys() == {b"streamtrack_version", b"source", b"level", b"shape", b"frames", b"time_unit"}
    assert metadata[b"time_unit"] == b"frame", "nobody knows how long one takes"


@pytest.mark.parametrize("results", [[], example_results(3, n_particles=0)], ids=["no frame", "no particle"])
def test_empty_runs_give_empty_tables_of_the_same_kind(tmp_path, results, run):
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    full, empty = run(tmp_path / "full", example_results(3)), run(tmp_path / "empty", results)
    for one, other in zip(full, empty, strict=True):
        assert len(other) == 0
        assert one.dtypes.equals(other.dtypes)
    assert (tmp_path / "empty" / "tracks.csv").read_bytes() == CSV_HEADER


def test_no_final_name_exists_before_the_end(tmp_path):
    sink = TableSink()
    sink.open(tmp_path, example_source())
    for result in example_results():
        sink.write(result)
        assert {path.name for path in tmp_path.iterdir()} == {PARTIAL, FRAMES_PARTIAL}
    sink.close()
    assert {path.name for path in tmp_path.iterdir()} == {*TABLES, FRAMES}


def test_a_stream_cut_anywhere_gives_the_whole_batches_before_the_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    results = example_results(4)
    sink = TableSink()
    sink.open(tmp_path, example_source())
    sizes = [(tmp_path / PARTIAL).stat().st_size]
    for result in results:
        sink.write(result)
        sizes.append((tmp_path / PARTIAL).stat().st_size)
    stream = (tmp_path / PARTIAL).read_bytes()
    sink.close()
    for cut in [*sizes, *range(sizes[0], sizes[-1], 61)]:
        (tmp_path / PARTIAL).write_bytes(stream[:cut])
        n_frames = sum(size <= cut for size in sizes[1:])
        assert recover(tmp_path).n_detections == 8 * n_frames
        assert set(pd.read_parquet(tmp_path / "detections.parquet").frame) == set(range(n_frames))


@pytest.mark.parametrize("stream", [None, b"", b"no Arrow stream at all"])
def test_nothing_to_recover_is_said_in_one_line(tmp_path, stream):
    if stream is not None:
        (tmp_path / PARTIAL).write_bytes(stream)
    with pytest.raises(SinkError, match="nothing to recover") as caught:
        recover(tmp_path)
    assert "\n" not in str(caught.value)
    assert not any((tmp_path / name).exists() for name in TABLES)


def test_a_stream_of_another_version_is_left_to_that_version(tmp_path):
    schema = pa.schema([("frame", pa.int64()), ("particle", pa.int64())], {"streamtrack_version": "0.0.9"})
    with pa.ipc.new_stream(tmp_path / PARTIAL, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_pylist([{"frame": 0, "particle": 0}], schema))
    with pytest.raises(SinkError, match=r"other columns .* streamtrack 0\.0\.9"):
        recover(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [PARTIAL]


def test_tables_that_cannot_be_named_leave_the_stream_for_later(tmp_path):
    sink = TableSink()
    sink.open(tmp_path, example_source())
    for result in example_results():
        sink.write(result)
    (tmp_path / "tracks.csv" / "in the way").mkdir(parents=True)
    with pytest.raises(SinkError, match=r"cannot write .*tracks\.csv: .*; check that"):
        sink.close()
    assert {path.name for path in tmp_path.iterdir()} == {PARTIAL, FRAMES_PARTIAL, "tracks.csv"}

    rmtree(tmp_path / "tracks.csv")
    assert recover(tmp_path).n_detections == 12 * 8
    assert {path.name for path in tmp_path.iterdir()} == {*TABLES, FRAMES}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no open file")
def test_a_folder_that_vanishes_is_noticed_during_the_run(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    sink = TableSink()
    sink.open(folder, example_source())
    results = example_results()
    sink.write(results[0])
    rmtree(folder)
    with pytest.raises(SinkError, match="deleted during the run"):
        sink.write(results[1])
    sink.close()
    assert not folder.exists()


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="no such folder"):
        TableSink().open(tmp_path / "file", example_source())


def test_images_are_not_kept_alive(tmp_path):
    sink = TableSink()
    sink.open(tmp_path, example_source())
    (result,) = example_results(1)
    pixels = weakref.ref(result.frame.pixels)
    sink.write(result)
    del result
    assert pixels() is None
    sink.close()


def test_relative_folders_work(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    detections, _ = run(Path("run"), example_results(2))
    assert len(detections) == 16
