import itertools
import json
import sys
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import yaozarrs
import zarr

from streamtrack.errors import SinkError
from streamtrack.sinks import raw_movie
from streamtrack.sinks.raw import MOST_HELD_BYTES, RawSink
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import Command, Frame, LostFrame, SourceInfo
from streamtrack_drivers.zarr_movie import ZarrSource


def record(folder, results, source=None, **settings):
    sink = RawSink(**settings)
    sink.open(folder, source or example_source())
    for result in results:
        sink.write(result)
    sink.close()
    return sink


def movie(path):
    with closing(ZarrSource(path=path)) as source:
        return source.info, list(source.frames())


def attributes(path):
    return zarr.open_group(path, mode="r").attrs["streamtrack"]


def commanding(results, *indices, actuator="raw"):
    """The results, with a command in those of these indices."""
    return [
        replace(r, commands=(Command(actuator, {}, r.frame.index, 0, 0, "a rule"),)) if r.frame.index in indices else r
        for r in results
    ]


def events(folder):
    return {
        path.name: [frame.index for frame in movie(path)[1] if isinstance(frame, Frame)]
        for path in sorted((folder / "events").iterdir())
    }


@pytest.fixture(scope="module")
def results():
    return example_results(40, n_particles=2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_what_is_recorded_is_read_back_by_the_projects_own_source(tmp_path, dtype):
    results = example_results(12, (33, 47), dtype)
    record(tmp_path, results, example_source((33, 47), dtype))
    info, frames = movie(tmp_path / "raw.ome.zarr")
    assert (info.shape, info.dtype, info.n_frames) == ((33, 47), dtype, 12)
    assert (info.pixel_size_um, info.frame_interval_s) == (0.1, 0.05)
    for frame, result in zip(frames, results, strict=True):
        assert frame.index == result.frame.index
        np.testing.assert_array_equal(frame.pixels, result.frame.pixels)


def test_other_readers_find_an_ordinary_image(tmp_path, results):
    record(tmp_path, results)
    group = zarr.open_group(tmp_path / "raw.ome.zarr", mode="r")
    (multiscale,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "y", "x"]
    array = group[multiscale["datasets"][0]["path"]]
    assert array.chunks == (1, 64, 96)
    assert array.metadata.dimension_names == ("t", "y", "x")
    np.testing.assert_array_equal(array[:], [r.frame.pixels for r in results])


def test_a_movie_is_a_valid_ome_zarr_while_it_grows_and_at_its_end(tmp_path, results):
    sink = RawSink()
    sink.open(tmp_path, example_source())
    for result in [*results[:3], *results[5:9]]:
        sink.write(result)
        yaozarrs.validate_zarr_store(tmp_path / "raw.ome.zarr")
    sink.close()
    yaozarrs.validate_zarr_store(tmp_path / "raw.ome.zarr")


def test_events_are_valid_ome_zarrs(tmp_path, results):
    record(tmp_path, commanding(results, 4, 20), when="commands", before=2, after=1)
    recorded = sorted((tmp_path / "events").iterdir())
    assert len(recorded) == 2
    for path in recorded:
        yaozarrs.validate_zarr_store(path)


def test_blank_frames_are_not_lost(tmp_path, results):
    blank = replace(results[1], frame=replace(results[1].frame, pixels=np.zeros((64, 96), np.uint16)))
    record(tmp_path, [results[0], blank, results[2]])
    assert all(isinstance(frame, Frame) for frame in movie(tmp_path / "raw.ome.zarr")[1])


def test_lost_frames_leave_gaps_that_are_read_as_lost(tmp_path, results):
    kept = [r for r in results[5:20] if r.frame.index not in (8, 9, 15)]
    record(tmp_path, kept)
    path = tmp_path / "raw.ome.zarr"
    frames = movie(path)[1]
    assert [frame.index + 5 for frame in frames if isinstance(frame, LostFrame)] == [8, 9, 15]
    times = zarr.open_group(path, mode="r")["time_s"][:]
    np.testing.assert_allclose(times, [np.nan if i in (8, 9, 15) else 0.05 * i for i in range(5, 20)])
    known = attributes(path)
    assert (known["first_frame"], known["missing"], known["complete"]) == (5, [[8, 9], [15, 15]], True)


def test_a_movie_grows_while_it_is_recorded(tmp_path, results, monkeypatch):
    monkeypatch.setattr(raw_movie, "PUBLISH_NS", 0)
    sink = RawSink()
    sink.open(tmp_path, example_source())
    for n, result in enumerate(results, 1):
        sink.write(result)
        frames = movie(tmp_path / "raw.ome.zarr")[1]
        assert len(frames) == n
        np.testing.assert_array_equal(frames[-1].pixels, result.frame.pixels)
    assert not attributes(tmp_path / "raw.ome.zarr")["complete"]
    sink.close()
    assert attributes(tmp_path / "raw.ome.zarr")["complete"]


def test_flush_shows_what_came_since(tmp_path, results, monkeypatch):
    sink = RawSink()
    sink.open(tmp_path, example_source())
    sink.flush()
    sink.write(results[0])
    monkeypatch.setattr(raw_movie, "PUBLISH_NS", 10**18)
    for result in results[1:10]:
        sink.write(result)
    assert len(movie(tmp_path / "raw.ome.zarr")[1]) == 1
    sink.flush()
    sink.flush()
    assert len(movie(tmp_path / "raw.ome.zarr")[1]) == 10
    sink.close()


def test_many_frames_cross_the_chunks_of_the_times(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_movie, "TIMES_PER_CHUNK", 7)
    monkeypatch.setattr(raw_movie, "PUBLISH_NS", 0)
    results = example_results(30, (32, 32), n_particles=1)
    record(tmp_path, results, example_source((32, 32)))
    times = zarr.open_group(tmp_path / "raw.ome.zarr", mode="r")["time_s"][:]
    np.testing.assert_allclose(times, 0.05 * np.arange(30))


def test_frames_around_a_command(tmp_path, results):
    record(tmp_path, commanding(results, 20), when="commands", before=5, after=3)
    assert events(tmp_path) == {"0001_frame20.ome.zarr": list(range(9))}
    path = tmp_path / "events" / "0001_frame20.ome.zarr"
    known = attributes(path)
    assert known["first_frame"] == 15
    assert known["commands"] == [{"frame": 20, "rule": "a rule"}]
    for frame, result in zip(movie(path)[1], results[15:24], strict=True):
        np.testing.assert_array_equal(frame.pixels, result.frame.pixels)


def test_each_command_has_its_movie_and_overlapping_ones_share(tmp_path, results):
    record(tmp_path, commanding(results, 3, 6, 17, 30), when="commands", before=4, after=2)
    assert {name: len(frames) for name, frames in events(tmp_path).items()} == {
        "0001_frame3.ome.zarr": 9,  # 0 to 8: of 4 frames before, 3 were there
        "0002_frame17.ome.zarr": 7,
        "0003_frame30.ome.zarr": 7,
    }
    assert [c["frame"] for c in attributes(tmp_path / "events" / "0001_frame3.ome.zarr")["commands"]] == [3, 6]


@pytest.mark.parametrize(("second", "n_movies"), [(15, 1), (16, 1), (17, 2)])
def test_movies_join_where_the_frames_before_reach_the_last_of_the_event_before(tmp_path, results, second, n_movies):
    record(tmp_path, commanding(results, 10, second), when="commands", before=3, after=2)
    found = list(itertools.chain(*(movie(path)[1] for path in sorted((tmp_path / "events").iterdir()))))
    assert len(events(tmp_path)) == n_movies
    assert len(found) == second + 2 - 7 + 1 - (second - 3 - 13 if n_movies == 2 else 0)
    assert not any(isinstance(frame, LostFrame) for frame in found)


def test_no_frame_is_recorded_twice_however_the_commands_come(tmp_path, results):
    rng = np.random.default_rng(0)
    for trial in range(10):
        folder = tmp_path / str(trial)
        folder.mkdir()
        at = rng.choice(40, rng.integers(1, 8), replace=False).tolist()
        before, after = rng.integers(0, 6, 2).tolist()
        record(folder, commanding(results, *at), when="commands", before=before, after=after)
        wanted = {i for i in range(40) if any(c - before <= i <= c + after for c in at)}
        starts = [attributes(path)["first_frame"] for path in sorted((folder / "events").iterdir())]
        recorded = [first + i for first, found in zip(starts, events(folder).values(), strict=True) for i in found]
        assert sorted(recorded) == sorted(wanted), (at, before, after)


def test_nothing_before_and_nothing_after(tmp_path, results):
    record(tmp_path, commanding(results, 5, 6, 20), when="commands", before=0, after=0)
    assert {name: len(frames) for name, frames in events(tmp_path).items()} == {
        "0001_frame5.ome.zarr": 2,
        "0002_frame20.ome.zarr": 1,
    }


def test_the_run_ends_during_an_event(tmp_path, results):
    record(tmp_path, commanding(results, 38), when="commands", before=2, after=100)
    assert events(tmp_path) == {"0001_frame38.ome.zarr": [0, 1, 2, 3]}
    assert attributes(tmp_path / "events" / "0001_frame38.ome.zarr")["complete"]


def test_commands_for_others_record_nothing(tmp_path, results):
    record(tmp_path, commanding(results, *range(40), actuator="stage"), when="commands")
    assert list(tmp_path.iterdir()) == []


def test_a_rule_that_fires_in_every_frame_gives_one_movie(tmp_path, results):
    record(tmp_path, commanding(results, *range(40)), when="commands", before=2, after=2)
    assert events(tmp_path) == {"0001_frame0.ome.zarr": list(range(40))}


def test_frames_before_an_event_are_held_and_never_copied(tmp_path, results):
    sink = RawSink(when="commands", before=7)
    sink.open(tmp_path, example_source())
    for result in results:
        sink.write(result)
    (recording,) = sink._recordings.values()
    assert [held.pixels is r.frame.pixels for held, r in zip(recording._held, results[-7:], strict=True)] == 7 * [True]
    sink.close()


def test_too_much_memory_is_refused_with_the_cure(tmp_path):
    source = SourceInfo("camera", (2048, 2048), "uint16", live=True)
    most = MOST_HELD_BYTES // (2 * 2048**2)
    RawSink(when="commands", before=most).open(tmp_path, source)
    RawSink(when="always", before=10**6).open(tmp_path, source)  # holds nothing
    with pytest.raises(SinkError, match=f"set before = {most} or less"):
        RawSink(when="commands", before=most + 1).open(tmp_path, source)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit the size of files")
def test_a_full_disk_is_a_sink_error_and_leaves_what_was_written(tmp_path, results):
    import resource

    sink = RawSink()
    sink.open(tmp_path, example_source())
    for result in results[:5]:
        sink.write(result)
    sink.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # less than a frame: the system refuses, as when full
    try:
        with pytest.raises(SinkError, match=r"cannot write .*raw\.ome\.zarr.*the disk has room"):
            sink.write(results[5])
        with pytest.raises(SinkError):
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    frames = movie(tmp_path / "raw.ome.zarr")[1]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]


def test_a_folder_that_was_deleted_during_the_run_is_a_sink_error(tmp_path, results):
    from shutil import rmtree

    sink = RawSink()
    sink.open(tmp_path, example_source())
    sink.write(results[0])
    rmtree(tmp_path / "raw.ome.zarr")
    with pytest.raises(SinkError, match=r"raw\.ome\.zarr"):
        sink.write(results[1])


@pytest.mark.timing
def test_it_keeps_up_with_a_camera(tmp_path):
    """512 x 512 px, 16 bit: about half a millisecond a frame; 20 ms leave room for the slowest machine of all."""
    rng = np.random.default_rng(0)
    (result,) = example_results(1)
    images = [rng.poisson(100, (512, 512)).astype(np.uint16) for _ in range(4)]
    sink = RawSink()
    sink.open(tmp_path, example_source((512, 512)))
    spent = []
    for index in range(60):
        frame = Frame(index, images[index % 4], 0, 0.01 * index)
        started = time.perf_counter()
        sink.write(replace(result, frame=frame))
        spent.append(time.perf_counter() - started)
    sink.close()
    assert np.median(spent) < 0.02
    assert json.loads((tmp_path / "raw.ome.zarr" / "0" / "zarr.json").read_text())["shape"] == [60, 512, 512]
