"""The front door: what a notebook calls gives what the command line gives."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import zarr

import streamtrack
from streamtrack.errors import ConfigError, SourceError

MOVIE, CLEAN, TRUTH = streamtrack.simulate("receptor", snr=7, density=300, frames=12, size=128, seed=5)


def test_an_array_gives_the_tracks_of_the_command_line_byte_for_byte(cli, tmp_path):
    stored = zarr.create_array(tmp_path / "movie.zarr", shape=MOVIE.shape, chunks=(1, 128, 128), dtype=MOVIE.dtype)
    stored[:] = MOVIE
    assert cli("track", tmp_path / "movie.zarr", "--out", tmp_path / "a")[0] == 0
    streamtrack.track(MOVIE, tmp_path / "b", progress=False)
    streamtrack.track(MOVIE, progress=False).save(tmp_path / "c")
    csv = (tmp_path / "a" / "tracks.csv").read_bytes()
    assert len(csv.splitlines()) > 100
    assert (tmp_path / "b" / "tracks.csv").read_bytes() == csv
    assert (tmp_path / "c" / "tracks.csv").read_bytes() == csv
    assert (tmp_path / "c" / "overview.png").stat().st_size > 10_000


def test_results_are_tables_a_report_and_a_picture():
    results = streamtrack.track(MOVIE, progress=False, source={"pixel_size_um": 0.1, "frame_interval_s": 0.5})
    assert list(results.tracks.columns[:4]) == ["frame", "particle", "y", "x"]
    np.testing.assert_allclose(results.tracks["x_um"], 0.1 * results.tracks["x"])
    np.testing.assert_allclose(results.tracks["time_s"], 0.5 * results.tracks["frame"])
    assert len(results.detections) == results.report["detections"] > len(results.tracks) / 2
    assert results.report["status"] == "completed"
    assert len(results.plot().axes) == 5
    assert "completed: 12 frames" in results._repr_html_()


def test_results_are_read_from_a_folder(tmp_path):
    made = streamtrack.track(MOVIE, tmp_path / "run", progress=False)
    read = streamtrack.read(tmp_path / "run")
    assert read.tracks.equals(made.tracks)
    assert read.plot().axes[0].images
    with pytest.raises(streamtrack.StreamtrackError, match="already holds"):
        read.save(tmp_path / "run")


def test_nothing_is_left_on_the_disk_without_out(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    results = streamtrack.track(MOVIE, progress=False)
    assert len(results.tracks)
    del results
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_in_ones_own_loop_says_what_the_run_says():
    tracks = streamtrack.track(MOVIE, progress=False).detections
    with streamtrack.Tracker(MOVIE.shape[1:], MOVIE.dtype, denoise=True) as tracker:
        found = [tracker(image) for image in MOVIE]
    np.testing.assert_array_equal(np.concatenate([r.detections.y for r in found]), tracks["y"].astype(np.float32))
    assert found[0].denoised.shape == (128, 128)
    assert found[-1].tracks.n_live > 5


def test_a_single_picture_is_searched():
    found = streamtrack.detect(MOVIE[5])
    true = TRUTH[TRUTH["frame"] == 5]
    nearest = np.hypot(
        found["y"].to_numpy()[:, None] - true["y"].to_numpy(), found["x"].to_numpy()[:, None] - true["x"].to_numpy()
    ).min(axis=1)
    assert len(found) > 0.8 * len(true)
    assert np.median(nearest) < 0.5


def test_a_feed_is_tracked_while_it_is_filled(tmp_path):
    feed = streamtrack.Feed(MOVIE.shape[1:], "uint8" if MOVIE.dtype == np.uint8 else "uint16", capacity=100)

    def camera():
        feed.started.wait(60)
        for image in MOVIE:
            feed.push(image)
        feed.finish()

    thread = threading.Thread(target=camera)
    thread.start()
    results = streamtrack.track(feed, tmp_path / "run", progress=False, ingest={"policy": "block"})
    thread.join(10)
    assert results.report["frames"]["processed"] == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "denodett"}, "did you mean 'denodet'"),
        ({"engine": {"treshold": 0.5}}, "did you mean 'threshold'"),
        ({"linker": "imn"}, "did you mean 'imm'"),
        ({"threshold": 0.5}, r"unknown keyword 'threshold'.*engine=\{'threshold'"),
        ({"source": {"pixel_size": 1}}, "pixel_size_um"),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_cure(settings, message):
    with pytest.raises(streamtrack.StreamtrackError, match=message):
        streamtrack.track(MOVIE, progress=False, **settings)


def test_lost_frames_are_a_warning():
    with pytest.warns(UserWarning, match="1 x the image is"):
        streamtrack.track([MOVIE[0], MOVIE[1][:64], MOVIE[2]], progress=False)


def test_importing_is_quick_and_brings_nothing_heavy():
    code = (
        "import sys, streamtrack; dir(streamtrack); heavy = {'numba', 'pandas', 'matplotlib', 'numpy', 'zarr'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in streamtrack.__all__:
        assert getattr(streamtrack, name).__doc__


@pytest.mark.parametrize(
    "wrong",
    [{"time_s": float("nan")}, {"time_s": 1.0}, {"time_s": "x"}, {"index": 1}, {"index": 2**70}, {"index": "a"}],
)
def test_a_tracker_goes_on_after_a_wrong_time_or_index(wrong):
    with streamtrack.Tracker(MOVIE.shape[1:], MOVIE.dtype) as tracker:
        tracker(MOVIE[0], time_s=0.5, index=0)
        tracker(MOVIE[1], time_s=1.0, index=1)
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            tracker(MOVIE[2], **{"time_s": 2.0, "index": 2, **wrong})
        assert tracker(MOVIE[2], time_s=2.0).frame.index == 2


@pytest.mark.parametrize("shape", [(64,), 64, (64.7, 64), (64, 64, 3), "ab"])
def test_a_tracker_needs_the_shape_of_an_image(shape):
    with pytest.raises(ConfigError, match="is not that of an image"):
        streamtrack.Tracker(shape)


def test_a_picture_of_any_byte_order_is_taken_and_a_masked_one_refused():
    plain = streamtrack.detect(MOVIE[0])
    assert streamtrack.detect(MOVIE[0].astype(">u2")).equals(plain)
    masked = np.ma.masked_array(MOVIE, MOVIE > 100)
    with pytest.raises(SourceError, match="masked array"):
        streamtrack.detect(masked[0])
    with pytest.raises(SourceError, match="masked array"):
        streamtrack.track(masked)


def test_a_density_that_no_memory_holds_is_refused():
    with pytest.raises(ConfigError, match="density"):
        streamtrack.simulate(density=1e9, size=64, frames=4)


def off():
    raise RuntimeError("the camera\nis off")
    yield


def soon_off():
    yield from MOVIE[:2]
    raise RuntimeError("the camera\nis off")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: streamtrack.read(5), "folder = 5: expected str, bytes or os.PathLike object, not int"),
        (lambda: streamtrack.track(MOVIE, 5), "folder = 5: expected str"),
        (lambda: streamtrack.track(MOVIE, engine=5), "engine = 5: give the name of a plug-in, or a table"),
        (lambda: streamtrack.detect("image.tif"), "image.tif is a path: detect takes the image itself"),
        (lambda: streamtrack.detect(MOVIE[0], engine=None), "engine = None: give the name of a plug-in"),
        (lambda: streamtrack.track(MOVIE, source=3), "source = 3: give the name"),
        (lambda: streamtrack.track(MOVIE, measures=5), "measures = 5: give names of plug-ins"),
        (lambda: streamtrack.Feed(5, "uint16"), "shape = 5 is not that of an image"),
        (lambda: streamtrack.Feed((64, 64), "uint15"), "dtype 'uint15'"),
        (lambda: streamtrack.track(off()), "the movie failed before its first image: the camera is off"),
        (lambda: streamtrack.track(soon_off(), progress=False), "the source failed: RuntimeError: the camera is off"),
    ],
)
def test_what_is_of_the_wrong_kind_is_one_line_and_leaves_nothing(call, message, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(streamtrack.StreamtrackError) as said:
        call()
    assert message in str(said.value)
    assert "\n" not in str(said.value)
    assert not list(tmp_path.iterdir())


def test_one_measure_or_sink_is_named_without_a_list_and_a_buffer_is_an_array():
    results = streamtrack.track(memoryview(MOVIE), measures="intensity", sinks="tables", progress=False)
    assert "snr" in results.detections


LOOK_AT_MODULES = """
import sys
from pathlib import Path
from streamtrack.sinks.overview import OverviewSink
from streamtrack.testing.sinks import example_results, example_source

sink = OverviewSink()
sink.open(Path(sys.argv[1]), example_source())
for result in example_results(40):
    sink.write(result)
print("matplotlib" in sys.modules)
sink.close()
print("matplotlib.pyplot" in sys.modules)
"""


def test_matplotlib_comes_at_the_end_and_without_pyplot(tmp_path):
    command = [sys.executable, "-c", LOOK_AT_MODULES, str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == ["False", "False"]


def test_messages_name_keywords_and_no_options(tmp_path):
    movie = np.zeros((4, 2, 64, 64), np.uint16)
    zarr.create_array(tmp_path / "m.zarr", data=movie, chunks=(1, 1, 64, 64), dimension_names=["t", "c", "y", "x"])
    with pytest.raises(SourceError) as caught:
        streamtrack.track(tmp_path / "m.zarr", progress=False)
    assert str(caught.value).endswith('2 channels: choose one with source={"channel": ...}, of 0, 1')
    with pytest.raises(SourceError) as caught:
        streamtrack.track(tmp_path / "m.zarr", source={"channel": 0, "frames": "all"}, progress=False)
    assert 'give source={"frames": "A:B"}, for example source={"frames": "0:4"}' in str(caught.value)


def test_a_mask_may_be_an_array(tmp_path):
    mask = np.zeros(MOVIE.shape[1:], bool)
    mask[: mask.shape[0] // 2] = True
    results = streamtrack.track(MOVIE, tmp_path / "out", mask=mask, progress=False)
    assert len(results.tracks) > 0
    assert results.tracks["y"].max() < mask.shape[0] // 2
    (file,) = (tmp_path / "out").glob("mask-*.npy")
    assert results.report["config"]["mask"] == str(file)
    assert (np.load(file) == mask).all()
    again = streamtrack.track(MOVIE, mask=mask.astype(np.uint8).tolist(), progress=False)
    assert again.tracks[["y", "x"]].equals(results.tracks[["y", "x"]])
    with pytest.raises(ConfigError, match=r"mask is an array of shape \(2, 3, 4\), float64: it must be \(H, W\)"):
        streamtrack.track(MOVIE, mask=np.zeros((2, 3, 4)), progress=False)


def test_a_setting_with_alternatives_names_them_all():
    with pytest.raises(ConfigError, match=r"blinking = 'maybe' is not valid: .*'auto'"):
        streamtrack.track(MOVIE, linker={"blinking": "maybe"}, progress=False)
