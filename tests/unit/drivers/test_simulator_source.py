import numpy as np
import pytest

from streamtrack.errors import ConfigError
from streamtrack.simulation import Movie, MovieSettings
from streamtrack_drivers.simulator import SimulatorSource


def test_frames_are_those_of_the_movie():
    source = SimulatorSource(scenario="microtubule", snr=3, density=300, frames=6, size=80, seed=4)
    movie = Movie(MovieSettings("microtubule", 3, 300, 6, 80, 80, 4))
    frames = list(source.frames())
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert [frame.time_s for frame in frames] == [0, 1, 2, 3, 4, 5]
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, movie.noisy(frame.index))
        assert frame.pixels.flags.c_contiguous
    stamps = [frame.grabbed_ns for frame in frames]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize(("snr", "dtype"), [(4.0, "uint8"), (20.0, "uint16")])
def test_info_says_what_comes(snr, dtype):
    source = SimulatorSource(scenario="vesicle", snr=snr, frames=5, size=64)
    info = source.info
    assert info.name == "sim:vesicle"
    assert (info.shape, info.dtype, info.n_frames) == ((64, 64), dtype, 5)
    assert not info.live
    frame = next(iter(source.frames()))
    assert (frame.pixels.shape, frame.pixels.dtype.name) == (info.shape, info.dtype)


def test_details_are_enough_to_repeat_the_movie():
    source = SimulatorSource(scenario="receptor", density=40, frames=5, size=64, seed=9)
    movie = Movie(MovieSettings(**source.info.details))
    np.testing.assert_array_equal(next(source.frames()).pixels, movie.noisy(0))


def test_close_ends_running_frames():
    source = SimulatorSource(scenario="vesicle", frames=50, size=32)
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match=r"size = 16 .* 32"):
        SimulatorSource(scenario="vesicle", size=16)
