import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from streamtrack_engines.doubts import doubts_about, part_of
from streamtrack_engines.engine import DenodetEngine


def frame(sigma=1.3, height=80.0, n=60, background=100.0, seed=0, size_px=256):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size_px, :size_px]
    mean = np.full((size_px, size_px), background)
    for row, column in rng.uniform(10, size_px - 10, (n, 2)):
        mean += height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2 / sigma**2)
    return rng.poisson(mean.clip(0)).astype(np.uint16)


def said(pixels, **settings):
    return " / ".join(doubts_about(pixels, **{"is_dark": False, "is_binned": False} | settings))


@pytest.mark.parametrize("sigma", [0.9, 1.3, 2.5])
@pytest.mark.parametrize("height", [20.0, 80.0, 2000.0])
def test_nothing_is_said_of_a_movie_as_it_should_be(sigma, height):
    assert said(frame(sigma, height)) == ""
    assert said(frame(n=0)) == ""


def test_uneven_light_and_broad_structures_are_no_large_spots():
    slope = np.linspace(0.4, 1.6, 256) * 100.0
    assert "px wide" not in said(np.random.default_rng(0).poisson(np.broadcast_to(slope, (256, 256))).astype(np.uint16))
    assert "px wide" not in said(frame(40.0, 50.0, 5))


@pytest.mark.parametrize("steepest", [0.3, 0.6])
def test_uneven_light_is_told_unless_the_network_knows_of_it(steepest):
    mean = 25.0 * (1 + steepest * np.broadcast_to(np.linspace(-1, 1, 256), (256, 256)))
    pixels = np.random.default_rng(0).poisson(mean).astype(np.uint16)
    assert "the light is uneven" in said(pixels)
    assert "--engine denodet, with its own weights" in said(pixels)
    assert said(pixels, sees_locally=True) == ""


def test_dark_spots_are_told_with_the_setting():
    assert 'set polarity = "dark"' in said(frame(height=-60.0, background=300.0))
    assert said(frame(height=-60.0, background=300.0), is_dark=True) == ""
    assert 'set polarity = "bright"' in said(frame(), is_dark=True)


@pytest.mark.parametrize("sigma", [5.0, 6.0])
def test_large_spots_are_told_with_their_size(sigma):
    text = said(frame(sigma, 120.0, 12))
    assert "set spot_size = " in text
    assert float(text.rsplit(" ", 1)[1]) == pytest.approx(2.355 * sigma, rel=0.3)
    assert said(frame(sigma, 120.0, 12), is_binned=True) == ""


def test_noise_that_a_filter_has_spread_is_told():
    blurred = gaussian_filter(10.0 * frame(), 1.25).astype(np.uint16)
    assert "neighbouring pixels is alike" in said(blurred)
    assert said(blurred, sees_locally=True) == ""


def test_saturation_is_told():
    pixels = np.minimum(frame(height=3000.0), 1023).astype(np.uint16)
    assert "saturated at 1023" in said(pixels)


def test_only_the_middle_of_a_large_frame_is_looked_at():
    assert part_of(np.zeros((2048, 300), np.uint16)).shape == (512, 300)


def test_the_engine_remarks_what_looks_wrong_once_per_movie():
    engine = DenodetEngine(backend="onnxruntime", threads=1)
    engine.prepare((256, 256), "uint16")
    assert engine.remarks() == []
    engine.detect(frame(height=-60.0, background=300.0), denoise=False)
    assert 'set polarity = "dark"' in engine.remarks()[0]
    engine.detect(frame(), denoise=False)
    assert len(engine.remarks()) == 1
    engine.close()


def test_a_movie_without_a_particle_is_told():
    engine = DenodetEngine(backend="onnxruntime", threads=1)
    engine.prepare((64, 64), "uint16")
    for seed in range(5):
        engine.detect(frame(n=0, seed=seed, size_px=64), denoise=False)
    assert engine.remarks() == ["no particle in any of 5 frames"]
    engine.close()
