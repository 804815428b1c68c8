import time

import numpy as np
import pytest

from streamtrack.bench.replay import LoadedMovie, ReplaySource, load_movie
from streamtrack.errors import ConfigError, SourceError
from streamtrack.testing.sources import SourceTests
from streamtrack.types import SourceInfo

MOVIE = "sim:vesicle?size=48&frames=6&density=100"


class TestReplay(SourceTests):
    def make_source(self, tmp_path):
        return ReplaySource(movie=load_movie(MOVIE), n_frames=20)


class TestReplayAsACamera(SourceTests):
    def make_source(self, tmp_path):
        return ReplaySource(movie=load_movie(MOVIE), n_frames=20, fps=500)


def numbered(n):
    pixels = tuple(np.full((32, 32), k, np.uint8) for k in range(n))
    return LoadedMovie(SourceInfo("numbers", (32, 32), "uint8", n), pixels)


@pytest.mark.parametrize(
    ("n", "shown"), [(1, [0, 0, 0, 0, 0, 0]), (2, [0, 1, 0, 1, 0, 1]), (4, [0, 1, 2, 3, 2, 1, 0, 1])]
)
def test_a_movie_goes_forwards_and_backwards(n, shown):
    frames = list(ReplaySource(movie=numbered(n), n_frames=len(shown)).frames())
    assert [int(frame.pixels[0, 0]) for frame in frames] == shown
    assert [frame.index for frame in frames] == list(range(len(shown)))


def test_frames_come_at_the_rate_whatever_the_taker_does():
    source = ReplaySource(movie=numbered(4), n_frames=30, fps=200)
    assert source.info.live
    grabbed = []
    for frame in source.frames():
        grabbed.append(frame.grabbed_ns)
        if frame.index == 10:
            time.sleep(0.03)
    late_ms = (np.array(grabbed) - grabbed[0]) / 1e6 - 5.0 * np.arange(30)
    assert late_ms.min() > -1
    assert np.median(np.abs(late_ms)) < 4, "after a pause the camera is where it would have been without"


def test_a_source_without_a_rate_waits():
    assert not ReplaySource(movie=numbered(4), n_frames=30).info.live


def test_only_so_many_frames_are_loaded():
    movie = load_movie(MOVIE, 4)
    assert len(movie.pixels) == 4
    assert movie.info.shape == (48, 48)


def test_a_movie_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        load_movie(str(tmp_path / "nowhere.zarr"))
    with pytest.raises(ConfigError, match="virus"):
        load_movie("sim:virus")
