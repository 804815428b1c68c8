import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import j1

from streamtrack.simulation.render import AiryDisc, Comet, add_spots, amplitude_from_snr, round_spot
from streamtrack.simulation.scenarios import SCENARIOS

AIRY = SCENARIOS["receptor"].profile
COMET = SCENARIOS["microtubule"].profile


def draw(profile, y, x, amplitude=1.0, heading=0.0, shape=(64, 64)):
    image = np.zeros(shape, np.float32)
    add_spots(image, *(np.atleast_1d(np.float64(a)) for a in (y, x, amplitude, heading)), profile)
    return image


def offsets(y, x, shape=(64, 64)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return rows - y, columns - x


def airy_integrated_over_pixels(y, x, first_zero_px, shape=(64, 64), n=21):
    """The textbook formula, averaged over n x n points in each pixel."""
    dy, dx = offsets(y, x, shape)
    total = np.zeros(shape)
    for sub_y in (np.arange(n) + 0.5) / n - 0.5:
        for sub_x in (np.arange(n) + 0.5) / n - 0.5:
            v = np.hypot(dy + sub_y, dx + sub_x) * 3.8317059702075125 / first_zero_px + 1e-12
            total += (2 * j1(v) / v) ** 2
    return total / n**2


def test_amplitudes_of_the_challenge():
    published = [4.5, 10.2, 17.3, 25.9, 61.7]
    amplitudes = [float(amplitude_from_snr(snr, 16.0)) for snr in (1, 2, 3, 4, 7)]
    np.testing.assert_allclose(amplitudes, published, atol=0.06)


@pytest.mark.parametrize("background", [2.0, 16.0, 400.0])
def test_amplitude_gives_back_the_snr(background):
    amplitude = amplitude_from_snr(3.3, background)
    assert amplitude / np.sqrt(amplitude + background) == pytest.approx(3.3)


@pytest.mark.parametrize(("y", "x"), [(30.0, 30.0), (30.5, 30.5), (30.27, 31.41), (30.0, 29.55)])
def test_receptor_is_an_airy_disc_integrated_over_the_pixels(y, x):
    peak = airy_integrated_over_pixels(32, 32, 3.40).max()
    expected = airy_integrated_over_pixels(y, x, 3.40) / peak
    within = np.hypot(*offsets(y, x)) < 9
    np.testing.assert_allclose(draw(AIRY, y, x)[within], expected[within], atol=0.002)


def test_receptor_has_a_dark_and_a_bright_ring():
    image = draw(AIRY, 32, 32)
    assert image[34, 35] == pytest.approx(0.005, abs=0.001)  # 3.6 px from the centre; the pixel's width fills it a bit
    assert image[34, 36] == pytest.approx(0.0165, abs=0.001)  # 4.5 px
    assert image[32, 38] < 0.002  # 6 px, second dark ring


def test_core_of_the_receptor_is_as_wide_as_the_published_gaussian():
    image, distance = draw(AIRY, 32, 32), np.hypot(*offsets(32, 32))
    near = distance < 6
    (_, sigma), _ = curve_fit(lambda r, a, s: a * np.exp(-(r**2) / 2 / s**2), distance[near], image[near], p0=(1, 1))
    assert 1.15 <= sigma <= 1.18


@pytest.mark.parametrize("sigma_px", [0.8, 1.15, 2.2])
def test_round_spot_is_a_gaussian(sigma_px):
    dy, dx = offsets(30.3, 33.8)
    expected = 5 * np.exp(-(dy**2 + dx**2) / 2 / sigma_px**2)
    np.testing.assert_allclose(draw(round_spot(sigma_px), 30.3, 33.8, 5.0), expected, atol=5 * 1.3e-4)


@pytest.mark.parametrize("heading", np.linspace(0, 2 * np.pi, 17))
def test_comet_follows_the_fitted_formula(heading):
    dy, dx = offsets(31.4, 32.7)
    along = dy * np.sin(heading) + dx * np.cos(heading)
    across = dy * np.cos(heading) - dx * np.sin(heading)
    sigma = np.where(along > 0, 1.58, 6.3)
    expected = np.exp(-(across**2) / 2 / 1.60**2 - along**2 / 2 / sigma**2)
    np.testing.assert_allclose(draw(COMET, 31.4, 32.7, heading=heading), expected, atol=1.3e-4)


def test_comet_is_brightest_at_its_head_and_trails_behind():
    image = draw(COMET, 20, 40, amplitude=10, heading=np.pi / 2)  # moves towards larger y
    assert np.unravel_index(image.argmax(), image.shape) == (20, 40)
    assert image[20, 40] == 10
    assert image[15, 40] > 7 > 0.2 > image[25, 40]


@pytest.mark.parametrize("profile", [AIRY, COMET, round_spot(1.5)])
def test_light_beyond_the_border_is_lost_and_no_other_pixel_changes(profile):
    whole = draw(profile, 31.2, 34.6, heading=0.6)
    rows, columns = slice(31, 50), slice(30, 37)
    cut = draw(profile, 31.2 - 31, 34.6 - 30, heading=0.6, shape=(19, 7))
    np.testing.assert_allclose(cut, whole[rows, columns], atol=1e-6)


@pytest.mark.parametrize("profile", [AiryDisc(2.8), Comet(1.2, 4.0, 1.5), round_spot(1.5)])
def test_no_light_beyond_the_reach(profile):
    far = np.hypot(*offsets(32, 32)) > profile.reach_px
    assert not draw(profile, 32, 32, heading=2.0)[far].any()


def test_spots_add_up():
    image = draw(AIRY, [30.2, 33.1], [30.0, 31.0], [4.0, 7.0], [0.0, 0.0])
    apart = draw(AIRY, 30.2, 30.0, 4.0) + draw(AIRY, 33.1, 31.0, 7.0)
    np.testing.assert_allclose(image, apart, rtol=1e-6, atol=1e-6)
