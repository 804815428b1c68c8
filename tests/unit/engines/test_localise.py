"""Places of bright round spots, by fits: as near to the truth as can be, and nothing else touched."""

import numpy as np
import pytest

from streamtrack.simulation.render import Comet, add_spots, round_spot
from streamtrack.types import Detections
from streamtrack_engines.engine import DenodetEngine
from streamtrack_engines.localise import LEAST_ERROR_PX, Spots

GROUND_E = 20.0
NETWORK_PX = 0.15


def shown(places, amplitude, sigma=1.3, *, size_px=200, profile=None, seed=0):
    """Return a frame of spots at places (N, 2), counts as electrons."""
    image = np.full((size_px, size_px), GROUND_E, np.float32)
    y, x = np.asarray(places, float).T
    add_spots(image, y, x, np.broadcast_to(float(amplitude), len(y)), np.zeros(len(y)), profile or round_spot(sigma))
    return np.random.default_rng(seed).poisson(image).astype(np.uint16)


def said(places, score=0.9, error_px=NETWORK_PX):
    """Return what a network says that finds them with some error."""
    y, x = np.asarray(places, np.float32).T
    n = np.ones(len(y), np.float32)
    return Detections(y.copy(), x.copy(), score * n, 1000 * n, error_px * n, {"kind": np.arange(len(y), dtype="f4")})


def localised(frame, found, **settings):
    spots = Spots(**settings)
    spots.prepare(frame.shape)
    return spots.localised(frame, found)


def lattice(rng, apart_px, size_px=200):
    """Return places apart from each other, anywhere within their pixels."""
    middle = np.arange(apart_px, size_px - apart_px, apart_px)
    return np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2) + rng.uniform(-0.5, 0.5, (len(middle) ** 2, 2))


def error_of(found, places):
    """Return the root mean squared distance, px."""
    return float(np.sqrt(np.mean((found.y - places[:, 0]) ** 2 + (found.x - places[:, 1]) ** 2)))


def bound_px(amplitude, sigma):
    """Return the Cramer-Rao bound of the distance, px, for a spot in the middle of a pixel or at its edge."""
    pixel, bounds = np.arange(-20, 21.0), []
    for phase in (0.0, 0.25, 0.5):
        light = amplitude * np.exp(-(pixel[:, None] ** 2 + (pixel - phase) ** 2) / (2 * sigma**2))
        slope_y, slope_x = light * pixel[:, None] / sigma**2, light * (pixel - phase) / sigma**2
        bounds.append(sum(1 / np.sum(slope**2 / (light + GROUND_E)) for slope in (slope_y, slope_x)))
    return float(np.sqrt(np.mean(bounds)))


@pytest.mark.parametrize("sigma", [1.0, 1.3, 2.0, 3.0])
@pytest.mark.parametrize("amplitude", [150.0, 1000.0, 10000.0])
def test_clear_spots_are_within_one_and_a_half_of_the_cramer_rao_bound(sigma, amplitude):
    rng = np.random.default_rng(1)
    places = lattice(rng, max(12.0, 9 * sigma))
    found = localised(shown(places, amplitude, sigma), said(places + rng.normal(0, NETWORK_PX, places.shape)))
    assert len(found) == len(places)
    assert error_of(found, places) < 1.5 * bound_px(amplitude, sigma)


def test_the_error_that_is_said_is_the_error():
    rng = np.random.default_rng(2)
    places = lattice(rng, 12)
    found = localised(shown(places, 400.0), said(places + rng.normal(0, NETWORK_PX, places.shape)))
    in_sigmas = np.column_stack((found.y - places[:, 0], found.x - places[:, 1])) / found.sigma[:, None]
    assert 0.75 < float(np.sqrt(np.mean(in_sigmas**2))) < 1.35


def test_where_in_its_pixel_a_spot_lies_does_not_matter():
    """No bias to the middle or the edge of pixels."""
    rng = np.random.default_rng(3)
    places = np.concatenate([lattice(rng, 12, 400) for _ in range(4)])
    found = [
        localised(shown(part, 110.0, size_px=400, seed=k), said(part)) for k, part in enumerate(np.split(places, 4))
    ]
    error = np.concatenate([each.x for each in found]) - places[:, 1]
    phase = ((places[:, 1] % 1) * 5).astype(int)
    bias = np.array([error[phase == k].mean() for k in range(5)])
    assert np.abs(bias).max() < 0.015


@pytest.mark.parametrize("unit", [1e-12, 1e-7, 1e-3, 1e30])
def test_the_unit_of_a_pixels_value_does_not_matter(unit):
    rng = np.random.default_rng(4)
    places = lattice(rng, 12)
    frame, start = shown(places, 400.0).astype(np.float32), said(places + rng.normal(0, NETWORK_PX, places.shape))
    in_counts, found = (localised(frame * np.float32(times), start) for times in (1, unit))
    np.testing.assert_allclose(found.y, in_counts.y, atol=0.001)
    np.testing.assert_allclose(found.sigma, in_counts.sigma, rtol=0.01)


def test_a_spot_that_was_found_twice_counts_once_with_the_better_score():
    rng = np.random.default_rng(4)
    places = lattice(rng, 20)
    twice = said(np.concatenate((places - 0.3, places[:30] + 0.4)))
    twice.score[:30] = 0.5
    found = localised(shown(places, 2000.0), twice)
    assert len(found) == len(places)
    assert found.score.min() == pytest.approx(0.9)
    assert found.mass.tolist() == [1000] * (len(places) - 30) + [2000] * 30  # a network gave each half of the light
    assert set(found.extra["kind"][-30:]) == set(range(len(places), len(places) + 30))


def test_spots_of_many_widths_without_noise_count_once_too():
    rng = np.random.default_rng(11)
    places = lattice(rng, 20)
    row, column = np.mgrid[:200, :200]
    frame = np.zeros((200, 200))
    for (y, x), sigma in zip(places, rng.uniform(0.9, 1.6, len(places)), strict=True):
        frame += 250 * np.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * sigma**2))
    found = localised(np.rint(frame).astype(np.uint16), said(np.concatenate((places - 0.25, places + 0.25))))
    assert len(found) == len(places)
    away = np.hypot(found.y[:, None] - places[:, 0], found.x[:, None] - places[:, 1]).min(axis=0)
    assert away.max() < 0.03


@pytest.mark.parametrize("apart_px", [1.5, 2.0, 3.0, 5.0])
def test_two_spots_near_each_other_stay_two(apart_px):
    rng = np.random.default_rng(5)
    first = lattice(rng, 25)
    pairs = np.concatenate((first, first[:20] + np.array([0.0, apart_px])))
    found = localised(shown(pairs, 1000.0), said(pairs + rng.normal(0, 0.1, pairs.shape)))
    assert len(found) == len(pairs)
    assert error_of(found, pairs) < 0.15


def test_heads_of_comets_stay_where_the_network_sees_them():
    rng = np.random.default_rng(6)
    places = lattice(rng, 25)
    frame = shown(places, 2000.0, profile=Comet(1.58, 6.3, 1.6))
    before = said(places)
    found = localised(frame, before)
    assert np.array_equal(found.y, before.y)
    assert np.array_equal(found.x, before.x)


def test_faint_spots_and_empty_frames_are_the_networks():
    places = lattice(np.random.default_rng(7), 15)
    before = said(places)
    assert localised(shown(places, 25.0), before) is before
    nothing = Detections.empty()
    assert localised(shown(places, 25.0), nothing) is nothing


def test_large_spots_are_fitted_where_their_size_is_told_and_dark_ones_too():
    rng = np.random.default_rng(8)
    places = lattice(rng, 45)
    frame = shown(places, 400.0, 5.0)
    before = said(places + rng.normal(0, 0.4, places.shape), error_px=0.4)
    assert error_of(localised(frame, before, fwhm_px=5.0 * 2.355), places) < 0.06
    assert error_of(localised(1000 - frame, before, fwhm_px=5.0 * 2.355, is_dark=True), places) < 0.06


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_places_stay_inside_the_frame_whatever_it_shows(dtype):
    rng = np.random.default_rng(9)
    frame = rng.integers(0, 250, (40, 50)).astype(dtype)
    frame[:3], frame[:, -2:] = 255, 0
    places = rng.uniform((-0.5, -0.5), (39.5, 49.5), (60, 2))
    found = localised(frame, said(places, error_px=3.0))
    assert np.isfinite(found.y).all()
    assert found.y.min() >= -0.5
    assert found.y.max() <= 39.5
    assert found.x.max() <= 49.5
    assert found.sigma.min() >= LEAST_ERROR_PX


def test_the_engine_fits_unless_it_is_told_not_to():
    rng = np.random.default_rng(10)
    places = lattice(rng, 20, 128)
    frame = shown(places, 3000.0, size_px=128)
    errors = {}
    for how in ("gaussian", "network"):
        engine = DenodetEngine(localise=how, backend="onnxruntime", threads=1)
        try:
            engine.prepare(frame.shape, "uint16")
            found, _ = engine.detect(frame, denoise=False)
            assert engine.info["localise"] == how
        finally:
            engine.close()
        away = np.hypot(found.y[:, None] - places[:, 0], found.x[:, None] - places[:, 1])
        errors[how] = float(np.sqrt(np.mean(away.min(axis=0) ** 2)))
    assert errors["gaussian"] < 0.02 < errors["network"]
