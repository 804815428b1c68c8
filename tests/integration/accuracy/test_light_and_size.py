"""What `intensity` and `size` say of simulated cameras' frames, beside what is true."""

import numpy as np
import pytest

from streamtrack.measures.intensity import Intensity
from streamtrack.measures.size import Size
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.simulation.camera import CHALLENGE_CAMERA, Camera
from streamtrack.simulation.render import Comet, add_spots, amplitude_from_snr, round_spot
from streamtrack.testing.measures import found_at

SIGMA_PX = 1.15
"""Of the simulated vesicles."""
FOUND_PX = 0.2
"""Error of the positions, as an engine finds them."""


def measured(measure, snr, density, frames=6):
    """Return what is measured of the vesicles of a movie, and their rows of the truth."""
    movie = Movie(MovieSettings("vesicle", snr, density, frames))
    measure.prepare((512, 512), movie.dtype.name)
    truth = [movie.tracks[movie.tracks.frame == frame] for frame in range(frames)]
    rng = np.random.default_rng(0)
    values = []
    for frame, table in enumerate(truth):
        found = found_at(table[["y", "x"]].to_numpy() + rng.normal(0, FOUND_PX, (len(table), 2)))
        values.append(measure.values(measure.measure(movie.noisy(frame), found, np.arange(len(table)))))
    return np.concatenate(values), np.concatenate([table.amplitude for table in truth])


@pytest.mark.parametrize(("snr", "density"), [(4, 100), (7, 100), (7, 500)])
def test_the_sum_of_light_is_the_particles_own_within_three_percent(snr, density):
    values, amplitude = measured(Intensity(), snr, density)
    ratio = values[:, 0] / (2 * np.pi * SIGMA_PX**2 * amplitude)
    assert np.nanmean(ratio) == pytest.approx(1, abs=0.03)
    assert np.nanmean(values[:, 2]) == pytest.approx(16, rel=0.02)
    assert np.isnan(ratio).mean() < 0.1  # near the border of the image


@pytest.mark.parametrize("method", ["moments", "fit"])
@pytest.mark.parametrize("density", [100, 500])
def test_sigma_is_right_within_five_percent_at_snr_7(method, density):
    values, _ = measured(Size(method=method), 7, density)
    assert np.nanmean(values[:, 0]) == pytest.approx(SIGMA_PX, rel=0.05)
    assert np.nanmedian(values[:, 0]) == pytest.approx(SIGMA_PX, rel=0.02)
    assert np.isnan(values).mean() < 0.15
    assert 1 <= np.nanmedian(values[:, 1]) < 1.2


def frame_of(profile, snr=20.0, camera=CHALLENGE_CAMERA, background=16.0, at=((30.3, 40.8),)):
    image = np.full((64, 96), background, np.float32)
    y, x = np.array(at, float).T
    height = np.full(len(y), float(amplitude_from_snr(snr, background)))
    add_spots(image, y, x, height, np.zeros(len(y)), profile)
    return camera.expose(np.random.default_rng(1), image).astype(np.uint16), height[0]


def of(measure, pixels, *places):
    measure.prepare(pixels.shape, "uint16")
    return measure.values(measure.measure(pixels, found_at(places), np.arange(len(places))))


@pytest.mark.parametrize("method", ["moments", "fit"])
@pytest.mark.parametrize(("sigma_px", "radius_px"), [(0.9, 4.0), (1.6, 5.0), (3.0, 9.0)])
def test_sizes_from_sharp_to_wide(method, sigma_px, radius_px):
    pixels, _ = frame_of(round_spot(sigma_px))
    ((sigma, aspect),) = of(Size(method=method, radius_px=radius_px), pixels, (30.2, 41.0))
    assert sigma == pytest.approx(sigma_px, rel=0.05)
    assert aspect == pytest.approx(1, abs=0.1)


def test_the_aspect_of_a_long_spot_is_told():
    pixels, _ = frame_of(Comet(3.0, 3.0, 1.5))
    ((_, aspect),) = of(Size(method="fit", radius_px=9), pixels, (30.3, 40.8))
    assert aspect == pytest.approx(2, rel=0.1)


def test_light_is_linear_in_the_cameras_gain_and_knows_no_offset():
    pixels, height = frame_of(round_spot(1.2))
    scaled, _ = frame_of(round_spot(1.2), camera=Camera(gain=10, offset_counts=500))
    ((light, mean, background, snr),) = of(Intensity(), pixels, (30.3, 40.8))
    ((light_10, mean_10, background_10, snr_10),) = of(Intensity(), scaled, (30.3, 40.8))
    assert light == pytest.approx(2 * np.pi * 1.2**2 * height, rel=0.05)
    assert light_10 == pytest.approx(10 * light, rel=1e-3)
    assert (mean_10, background_10) == pytest.approx((10 * mean + 500, 10 * background + 500), rel=1e-3)
    assert snr_10 == pytest.approx(snr, rel=1e-3)


def test_a_neighbours_light_is_not_counted():
    at = ((30.0, 40.0), (30.0, 45.5))
    alone, _ = frame_of(round_spot(1.15), at=at[:1])
    beside, _ = frame_of(round_spot(1.15), at=at)
    (one,) = of(Intensity(), alone, at[0])
    both = of(Intensity(), beside, *at)
    assert both[:, 0] == pytest.approx([one[0], one[0]], rel=0.05)
    assert both[:, 2] == pytest.approx([one[2], one[2]], rel=0.05)


def test_what_reaches_beyond_the_image_is_not_measured():
    pixels, _ = frame_of(round_spot(1.15))
    assert np.isnan(of(Intensity(), pixels, (1.0, 50.0), (62.0, 50.0), (30.0, 94.0))).all()


def test_a_few_of_a_crowd_are_measured_as_among_all():
    places = np.random.default_rng(0).uniform(10, (54, 86), (60, 2))
    pixels, _ = frame_of(round_spot(1.15), at=places)
    for measure in (Intensity(), Size()):
        measure.prepare(pixels.shape, "uint16")
        every = measure.measure(pixels, found_at(places), np.arange(60))
        rows = np.array([5, 40, 17])
        np.testing.assert_array_equal(measure.measure(pixels, found_at(places), rows), every[rows])
