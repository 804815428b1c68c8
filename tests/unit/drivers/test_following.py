"""Movies that are followed while they are written, step by step; tests/integration/test_follow.py has real writers."""

import shutil
import threading
from contextlib import closing

import numpy as np
import pytest
import tiff_files
import zarr

from streamtrack.calibrated import calibrated
from streamtrack.config import RunConfig
from streamtrack.errors import SourceError
from streamtrack.types import LostFrame
from streamtrack_drivers import following
from streamtrack_drivers.tiff_stack import TiffSource, ndtiff_following
from streamtrack_drivers.zarr_movie import ZarrSource

MOVIE = np.random.default_rng(0).integers(1, 1000, (40, 40, 48)).astype("uint16")
IDLE_S = 0.3
SIZE = (40, 48)


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(following, "GRACE_S", 0.1)
    monkeypatch.setattr(ndtiff_following, "GRACE_S", 0.1)
    monkeypatch.setattr(following, "_LISTED_S", 0.02)


def array(path, n=0, per_chunk=1, **options):
    return zarr.create_array(path, shape=(n, *SIZE), chunks=(per_chunk, *SIZE), dtype="uint16", **options)


def append(growing, *indices):
    for index in indices:
        growing.resize((max(index + 1, growing.shape[0]), *SIZE))
        growing[index] = MOVIE[index]


def outcome(items):
    """Which frames came with their own pixels, and causes of those that were lost; each once, in order."""
    items = list(items)
    assert [item.index for item in items] == list(range(items[0].index, items[0].index + len(items)))
    lost = {item.index: item.cause for item in items if isinstance(item, LostFrame)}
    for item in items:
        if not isinstance(item, LostFrame):
            np.testing.assert_array_equal(item.pixels, MOVIE[item.index])
            assert item.written_ns <= item.grabbed_ns
    return [item.index for item in items if item.index not in lost], lost


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zarr_format": 2},
        {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        {"chunk_key_encoding": {"name": "default", "separator": "."}},
        {"shards": (8, *SIZE)},
        {"shards": (8, *SIZE), "chunk_key_encoding": {"name": "default", "separator": "."}},
    ],
    ids=["format 3", "format 2", "format 2 nested", "format 3 flat", "shards", "shards flat"],
)
def test_each_frame_comes_when_it_is_written(tmp_path, options):
    growing = array(tmp_path / "m.zarr", **options)
    source = ZarrSource(path=tmp_path / "m.zarr", follow=IDLE_S)
    assert source.info.n_frames is None
    assert source.info.follow_s == IDLE_S
    frames, came = source.frames(), []
    for index in range(12):
        append(growing, index)
        came.append(next(frames))
    assert outcome([*came, *frames]) == (list(range(12)), {})
    assert source.remarks() == ["followed until nothing new had come for 0.3 s: frame 11 was the last"]


def test_a_shape_that_runs_ahead_gives_no_zeros(tmp_path):
    growing = array(tmp_path / "m.zarr", n=20)
    source = ZarrSource(path=tmp_path / "m.zarr", follow=IDLE_S)
    append(growing, 0)
    frames = source.frames()
    came = [next(frames)]
    writer = threading.Timer(0.1, append, (growing, 1, 2))
    writer.start()
    came += [next(frames), next(frames)]
    kept, lost = outcome([*came, *frames])
    assert kept == [0, 1, 2]
    assert list(lost) == list(range(3, 20))
    assert set(lost.values()) == {"never written: nothing new came for 0.3 s"}
    assert "promise 20 in all" in source.remarks()[0]


def test_a_shape_that_lags_behind_hides_no_frame(tmp_path):
    path = tmp_path / "m.zarr"
    growing = array(path)
    before = (path / "zarr.json").read_bytes()
    append(growing, 0, 1, 2)
    (path / "zarr.json").write_bytes(before)
    source = ZarrSource(path=path, follow=IDLE_S)
    assert outcome(source.frames()) == ([0, 1, 2], {})
    assert "promise 0 only" in source.remarks()[0]


def test_consolidated_metadata_that_are_stale_do_not_matter(tmp_path):
    group = zarr.create_group(tmp_path / "m.ome.zarr")
    growing = group.create_array("0", shape=(1, *SIZE), chunks=(1, *SIZE), dtype="uint16")
    append(growing, 0)
    with pytest.warns(UserWarning, match="Consolidated"):
        zarr.consolidate_metadata(tmp_path / "m.ome.zarr")
    append(growing, 1, 2)
    assert outcome(ZarrSource(path=tmp_path / "m.ome.zarr", follow=IDLE_S).frames()) == ([0, 1, 2], {})


def test_a_chunk_that_never_comes_is_lost_once_later_ones_are_there(tmp_path):
    growing = array(tmp_path / "m.zarr")
    append(growing, 0)
    growing.resize((4, *SIZE))
    growing[1:3] = 0  # zarr writes no chunk
    append(growing, 3)
    kept, lost = outcome(ZarrSource(path=tmp_path / "m.zarr", follow=60, frames="0:4").frames())
    assert kept == [0, 3]
    assert lost == dict.fromkeys((1, 2), "missing chunk: later ones are there, it never came")


def test_a_chunk_that_comes_a_little_after_later_ones_is_not_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "GRACE_S", 30)
    growing = array(tmp_path / "m.zarr", n=3)
    append(growing, 0, 2)
    frames = ZarrSource(path=tmp_path / "m.zarr", follow=60, frames="0:3").frames()
    came = [next(frames)]
    threading.Timer(0.1, append, (growing, 1)).start()
    assert outcome([*came, *frames]) == ([0, 1, 2], {})


def test_a_chunk_of_several_frames_is_taken_when_it_is_whole(tmp_path):
    growing = array(tmp_path / "m.zarr", per_chunk=4)
    append(growing, *range(5))
    source = ZarrSource(path=tmp_path / "m.zarr", follow=IDLE_S)
    frames = source.frames()
    came = [next(frames) for _ in range(4)]
    append(growing, 5, 6)  # what is written anew with each frame, until a later chunk is there
    assert outcome([*came, *frames]) == (list(range(7)), {})


def test_the_rest_of_a_chunk_that_a_dead_writer_left_is_lost_and_not_zeros(tmp_path):
    growing = array(tmp_path / "m.zarr", n=12, per_chunk=4)
    growing[0:6] = MOVIE[:6]
    kept, lost = outcome(ZarrSource(path=tmp_path / "m.zarr", follow=IDLE_S).frames())
    assert (kept, list(lost)) == (list(range(6)), list(range(6, 12)))


def test_shards_of_chunks_of_several_frames(tmp_path):
    growing = array(tmp_path / "m.zarr", per_chunk=4, shards=(8, *SIZE))
    source = ZarrSource(path=tmp_path / "m.zarr", follow=IDLE_S)
    frames, came = source.frames(), []
    for index in range(15):
        append(growing, index)
        came += [next(frames) for _ in range(4 * (index in (4, 8, 12)))]
    assert outcome([*came, *frames]) == (list(range(15)), {})


def test_no_more_is_read_ahead_than_memory_is_for(tmp_path):
    growing = zarr.create_array(tmp_path / "m.zarr", shape=(3, 2048, 4096), chunks=(1, 2048, 4096), dtype="uint16")
    growing[:] = 1
    source = ZarrSource(path=tmp_path / "m.zarr", follow=IDLE_S, frames="0:3")
    next(source.frames())
    assert len(source._follower._movie._block) <= 1


def test_a_file_that_another_program_holds_is_tried_again(tmp_path, monkeypatch):
    """As on Windows, where a file that its writer has not closed may not be opened; nothing about it changes then."""
    append(array(tmp_path / "m.zarr"), 0, 1, 2)
    source = ZarrSource(path=tmp_path / "m.zarr", follow=60, frames="0:3")
    read, refused = source._follower._movie._read, []

    def held(start, stop):
        refused.append(start)
        return "unreadable chunk: [WinError 32]" if len(refused) < 4 else read(start, stop)

    monkeypatch.setattr(following, "GRACE_S", 30)
    monkeypatch.setattr(source._follower._movie, "_read", held)
    assert outcome(source.frames()) == ([0, 1, 2], {})


@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component")  # one that is being written
def test_an_image_that_is_described_after_it_was_made_is_waited_for(tmp_path):
    path = tmp_path / "m.ome.zarr"

    def make():
        group = zarr.create_group(path)
        group.create_array("0", shape=(1, 1, *SIZE), chunks=(1, 1, *SIZE), dtype="uint16")[0, 0] = MOVIE[0]
        axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
        axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
        scale = [{"type": "scale", "scale": [1, 1, 0.1, 0.1]}]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}

    threading.Timer(0.1, make).start()
    source = ZarrSource(path=path, follow=5.0, frames="0:1")
    assert source.info.pixel_size_um == 0.1
    assert outcome(source.frames()) == ([0], {})


@pytest.mark.parametrize("data", [b"", b"torn"])
def test_a_torn_chunk_is_read_again_until_it_is_whole(tmp_path, data):
    path = tmp_path / "m.zarr"
    growing = array(path)
    append(growing, 0, 1)
    chunk = path / "c" / "1" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(data)
    frames = ZarrSource(path=path, follow=60, frames="0:2").frames()
    came = [next(frames)]
    threading.Timer(0.1, chunk.write_bytes, (whole,)).start()
    assert outcome([*came, *frames]) == ([0, 1], {})


def test_one_that_stays_torn_is_lost(tmp_path):
    path = tmp_path / "m.zarr"
    append(array(path), 0, 1, 2)
    (path / "c" / "1" / "0" / "0").write_bytes(b"torn")
    (path / "c" / "2" / "0" / "0").write_bytes(b"torn")
    kept, lost = outcome(ZarrSource(path=path, follow=IDLE_S).frames())
    assert kept == [0]
    assert all(cause.startswith("unreadable chunk") for cause in lost.values())
    assert list(lost) == [1, 2]


def test_channels_planes_and_tiles_are_waited_for(tmp_path):
    shape, chunks = (3, 2, 3, 40, 48), (1, 1, 1, 20, 48)
    growing = zarr.create_array(
        tmp_path / "m.zarr", shape=shape, chunks=chunks, dtype="uint16", dimension_names=list("tczyx")
    )
    source = ZarrSource(path=tmp_path / "m.zarr", channel=1, z="max", follow=IDLE_S)
    frames, writers = source.frames(), []
    for t in range(3):
        growing[t, 0] = 999
        growing[t, 1, 0, :20] = MOVIE[t, :20]
        writers.append(threading.Timer(0.05, growing.__setitem__, ((t, 1), np.stack([MOVIE[t], MOVIE[t], MOVIE[t]]))))
        writers[-1].start()
        np.testing.assert_array_equal(next(frames).pixels, MOVIE[t])
        writers[-1].join()
    assert list(frames) == []


def test_it_may_begin_before_the_writer(tmp_path):
    path = tmp_path / "m.zarr"
    threading.Timer(0.1, lambda: append(array(path), 0)).start()
    assert outcome(ZarrSource(path=path, follow=2.0, frames="0:1").frames()) == ([0], {})


def test_what_never_comes_is_one_line(tmp_path):
    with pytest.raises(SourceError, match=r"no such file.*, as nothing came there within 0\.1 s$"):
        ZarrSource(path=tmp_path / "m.zarr", follow=0.1)


def test_frames_a_to_b_end_it_without_a_wait(tmp_path):
    append(array(tmp_path / "m.zarr"), *range(8))
    source = ZarrSource(path=tmp_path / "m.zarr", frames="2:5", follow=600)
    assert outcome(source.frames()) == ([2, 3, 4], {})


@pytest.mark.parametrize("frames", ["-3:", ":-1", "5:5", "x", "3"])
def test_frames_counted_from_the_end_are_refused(tmp_path, frames):
    append(array(tmp_path / "m.zarr"), 0)
    with pytest.raises(SourceError, match="give A:B"):
        ZarrSource(path=tmp_path / "m.zarr", frames=frames, follow=1)


def test_a_plan_without_an_end_is_one_lost_frame(tmp_path):
    append(array(tmp_path / "m.zarr", n=10**9), 0, 1)
    kept, lost = outcome(ZarrSource(path=tmp_path / "m.zarr", follow=IDLE_S).frames())
    assert kept == [0, 1]
    assert list(lost) == [2]
    assert "stands for all to 999999999" in lost[2]


def test_what_cannot_be_followed_is_said(tmp_path):
    zarr.create_array(tmp_path / "single.zarr", data=MOVIE[0])
    with pytest.raises(SourceError, match="no time axis to follow"):
        ZarrSource(path=tmp_path / "single.zarr", follow=1)
    shutil.make_archive(str(tmp_path / "m"), "zip", zarr.create_array(tmp_path / "m.zarr", data=MOVIE).store.root)
    with pytest.raises(SourceError, match="only a folder can be followed"):
        ZarrSource(path=tmp_path / "m.zip", follow=1)


def test_a_movie_slower_than_the_wait_is_refused(tmp_path):
    group = zarr.create_group(tmp_path / "m.zarr")
    group.create_array("0", data=MOVIE[:2], chunks=(1, *SIZE))
    axes = [{"name": "t", "type": "time", "unit": "minute"}, *({"name": axis, "type": "space"} for axis in "yx")]
    scale = [{"type": "scale", "scale": [5, 1, 1]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    with closing(ZarrSource(path=tmp_path / "m.zarr", follow=60)) as source:
        with pytest.raises(
            SourceError, match=r"a frame every 300 s, but is over after 60 s without one: give --follow 900"
        ):
            calibrated(source, RunConfig())
        assert calibrated(source, RunConfig(frame_interval_s=5)).info.frame_interval_s == 5


def test_close_ends_it(tmp_path):
    append(array(tmp_path / "m.zarr"), 0)
    source = ZarrSource(path=tmp_path / "m.zarr", follow=600)
    threading.Timer(0.1, source.close).start()
    assert len(list(source.frames())) == 1


SAID = {"summary": {"PixelSize_um": 0.1}, "said": lambda axes: {"ElapsedTime-ms": 10.0 * axes["time"] + 2}}


def index_of(folder):
    return folder / "NDTiff.index"


def cut(folder, share):
    """Take the end of the index away, as it is while its writer goes on; return the whole."""
    whole = index_of(folder).read_bytes()
    index_of(folder).write_bytes(whole[: int(share * len(whole))])
    return whole


def test_ndtiff_is_followed_by_its_index(tmp_path):
    folder = tiff_files.ndtiff(tmp_path / "a", [({"time": t}, image) for t, image in enumerate(MOVIE)], **SAID)
    whole = cut(folder, 0.31)
    source = TiffSource(path=folder, follow=IDLE_S)
    assert (source.info.n_frames, source.info.pixel_size_um) == (None, 0.1)
    frames = source.frames()
    came = [next(frames) for _ in range(12)]
    index_of(folder).write_bytes(whole)
    came += frames
    assert outcome(came) == (list(range(40)), {})
    assert [frame.time_s for frame in came] == pytest.approx([0.01 * t + 0.002 for t in range(40)])
    assert source.info.clock == "camera"


def test_ndtiff_of_several_channels_gives_the_one_that_was_chosen(tmp_path):
    images = [({"time": t, "channel": name}, MOVIE[t] + (name == "GFP")) for t in range(8) for name in ("DAPI", "GFP")]
    folder = tiff_files.ndtiff(tmp_path / "a", images, **SAID)
    whole = cut(folder, 0.5)
    frames = TiffSource(path=folder, follow=IDLE_S, channel="DAPI").frames()
    came = [next(frames) for _ in range(3)]
    index_of(folder).write_bytes(whole)
    assert outcome([*came, *frames]) == (list(range(8)), {})


def test_a_second_channel_that_comes_later_must_be_chosen(tmp_path):
    images = [({"time": t, "channel": name}, MOVIE[t]) for t in range(2) for name in ("DAPI", "GFP")]
    folder = tiff_files.ndtiff(tmp_path / "a", images, **SAID)
    whole = cut(folder, 0.3)
    source = TiffSource(path=folder, follow=IDLE_S)
    index_of(folder).write_bytes(whole)
    with pytest.raises(SourceError, match="has another channel, GFP: choose one with --channel"):
        list(source.frames())


def test_an_image_that_ndtiff_never_got_is_lost(tmp_path):
    images = [({"time": t}, MOVIE[t]) for t in range(8) if t not in (3, 4)]
    folder = tiff_files.ndtiff(tmp_path / "a", images, **SAID)
    kept, lost = outcome(TiffSource(path=folder, follow=IDLE_S).frames())
    assert kept == [0, 1, 2, 5, 6, 7]
    assert list(lost) == [3, 4]


def test_pixels_that_are_not_there_yet_are_no_black_image(tmp_path):
    folder = tiff_files.ndtiff(tmp_path / "a", [({"time": t}, MOVIE[t]) for t in range(3)], **SAID)
    file = folder / "a_NDTiffStack.tif"
    whole = file.read_bytes()
    at = whole.index(MOVIE[2].tobytes())
    file.write_bytes(whole[:at] + bytes(MOVIE[2].nbytes) + whole[at + MOVIE[2].nbytes :])
    frames = TiffSource(path=folder, follow=5, frames="0:3").frames()
    came = [next(frames), next(frames)]
    threading.Timer(0.05, file.write_bytes, (whole,)).start()
    assert outcome([*came, *frames]) == ([0, 1, 2], {})


def test_a_stack_by_micro_manager_is_not_followed_and_a_complete_file_is(tmp_path):
    tiff_files.by_tifffile(tmp_path / "m.tif", MOVIE)
    assert outcome(TiffSource(path=tmp_path / "m.tif", follow=IDLE_S).frames()) == ([*range(len(MOVIE))], {})
    tiff_files.mmstack(tmp_path / "mm.tif", MOVIE)
    with pytest.raises(SourceError, match=r"by Micro-Manager.*: leave --follow out"):
        TiffSource(path=tmp_path / "mm.tif", follow=IDLE_S)


@pytest.mark.parametrize("frames", [None, "20:30"])
def test_that_no_frame_came_is_no_complete_movie(tmp_path, frames):
    append(array(tmp_path / "m.zarr"), *range(3 if frames else 0))
    with pytest.raises(SourceError, match=r"no frame came within .* s: start its writer"):
        list(ZarrSource(path=tmp_path / "m.zarr", frames=frames, follow=IDLE_S).frames())


def test_a_movie_that_is_gone_has_not_ended(tmp_path):
    append(array(tmp_path / "m.zarr"), *range(3))
    frames = ZarrSource(path=tmp_path / "m.zarr", follow=IDLE_S).frames()
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    shutil.rmtree(tmp_path / "m.zarr")
    with pytest.raises(SourceError, match="is not there any more: it was deleted or moved"):
        next(frames)


def test_a_data_set_that_is_gone_has_not_ended(tmp_path):
    tiff_files.ndtiff(tmp_path / "m", [({"time": t}, MOVIE[t]) for t in range(3)], **SAID)
    frames = TiffSource(path=tmp_path / "m", follow=IDLE_S).frames()
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    shutil.rmtree(tmp_path / "m")
    with pytest.raises(SourceError, match="is not there any more: it was deleted or moved"):
        next(frames)


def test_an_index_that_breaks_off_is_no_complete_movie(tmp_path):
    folder = tiff_files.ndtiff(tmp_path / "m", [({"time": t}, MOVIE[t]) for t in range(4)], **SAID)
    index = folder / "NDTiff.index"
    index.write_bytes(index.read_bytes()[:-20])
    source = TiffSource(path=folder, follow=IDLE_S)
    assert outcome(source.frames()) == ([0, 1, 2], {3: "never written: nothing new came for 0.3 s"})
    assert "did it die?" in source.remarks()[0]
