import numpy as np
import pytest

from streamtrack.errors import EngineError
from streamtrack_engines.engine import DenodetEngine
from streamtrack_engines.levels import CELLS_PX, Levels, binning_for


def written(frame, binning=1, polarity="bright"):
    levels = Levels(frame.shape, frame.dtype.name, binning, polarity)
    dtype = np.uint8 if levels.size.itemsize == 1 else np.uint16
    out = np.zeros((levels.size.height, levels.size.width), dtype)
    levels.write(frame, out)
    return levels, out


def movie(seed, yx, sigma, height, shape=(192, 200), background=100.0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    mean = np.full(shape, background)
    for row, column in yx:
        mean += height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2 / sigma**2)
    return np.random.default_rng(seed).poisson(mean.clip(0)).astype(np.uint16)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("binning", [1, 2, 3])
def test_an_image_of_levels_is_the_frame_again(dtype, polarity, binning):
    frame = np.random.default_rng(0).integers(0, 250, (100, 131)).astype(dtype)
    levels, out = written(frame, binning, polarity)
    image = levels.image(out.astype(np.float32))
    assert image.shape == frame.shape
    assert image.dtype == np.float32
    height, width = (size // binning * binning for size in frame.shape)
    blocks = frame[:height, :width].reshape(height // binning, binning, width // binning, binning).mean((1, 3))
    np.testing.assert_allclose(image[:height:binning, :width:binning], blocks, atol=0.51 if dtype == "uint16" else 0.01)


def test_places_and_intensities_are_those_of_the_frame():
    frame = movie(0, [(60.0, 80.0)], 5.0, 400.0)
    levels, out = written(frame, 3)
    row, column = np.unravel_index(out.argmax(), out.shape)
    one = np.ones(1, np.float32)
    found = levels.detections(float(row) * one, float(column) * one, one, float(out.sum()) * one, one, extra={})
    assert abs(found.y[0] - 60) < 3
    assert abs(found.x[0] - 80) < 3
    assert found.sigma[0] == 3
    assert found.mass[0] == pytest.approx(frame[:192, :198].sum(dtype=float), rel=0.01)
    assert all(getattr(found, name).dtype == np.float32 for name in ("y", "x", "mass", "sigma"))


@pytest.mark.parametrize(("spot_size", "binning"), [(None, 1), (39.0, 1), (40.0, 2), (60.0, 3)])
def test_only_cells_that_the_network_does_not_know_are_binned(spot_size, binning):
    assert binning_for(spot_size, CELLS_PX) == binning


@pytest.mark.parametrize(("spot_size", "binning"), [(None, 1), (3.0, 1), (6.9, 1), (8.2, 2), (14.0, 4)])
def test_only_spots_that_the_network_does_not_know_are_binned(spot_size, binning):
    assert binning_for(spot_size) == binning


def test_frames_that_are_too_small_once_binned_are_refused():
    with pytest.raises(EngineError, match="at least 96 x 96, as spots of that size"):
        Levels((90, 200), "uint16", 3, "bright")


@pytest.mark.parametrize("sigma", [4.0, 6.0])
def test_large_spots_are_found_once_their_size_is_told(sigma):
    yx = [(50.0, 40.3), (120.2, 60.0), (60.0, 150.7), (140.5, 150.0)]
    with _engine(spot_size=2.355 * sigma) as find:
        found = find([movie(seed, yx, sigma, 150.0) for seed in range(3)])
    assert len(found) == 4
    order = np.lexsort((found.x, found.y))
    truth = np.array(sorted(yx))
    assert np.hypot(*(np.column_stack((found.y, found.x))[order] - truth).T).max() < 1.0


def test_dark_spots_are_found_as_well_as_bright_ones():
    yx = [(50.0, 40.3), (120.2, 60.0), (60.0, 150.7), (140.5, 150.0)]
    frames = [movie(seed, yx, 1.4, -150.0, background=300.0) for seed in range(3)]
    with _engine(polarity="dark") as find:
        found = find(frames)
    assert len(found) == 4
    assert (found.mass > 0).all()


def test_faint_ones_are_left_out_on_request():
    yx = [(50.0, 40.3), (120.2, 60.0)]
    frame = movie(0, yx[:1], 1.4, 60.0) + movie(1, yx[1:], 1.4, 600.0)
    with _engine() as find:
        both = find([frame])
    with _engine(min_mass=2000.0) as find:
        one = find([frame])
    assert len(both) == 2
    assert len(one) == 1
    assert one.mass[0] > 2000


class _engine:
    """The shipped weights with some settings; finds particles in the last of some frames."""

    def __init__(self, **settings):
        self._engine = DenodetEngine(backend="onnxruntime", threads=1, **settings)

    def __enter__(self):
        return self._find

    def __exit__(self, *_):
        self._engine.close()

    def _find(self, frames):
        self._engine.prepare(frames[0].shape, frames[0].dtype.name)
        for frame in frames:
            found, _ = self._engine.detect(frame, denoise=False)
        return found
