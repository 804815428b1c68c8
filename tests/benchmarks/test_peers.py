import numpy as np
import pytest

from benchmarks.detection.detectors import PEERS, missing, peaks, peer
from streamtrack.simulation import MovieSettings
from streamtrack.simulation.render import add_spots
from streamtrack.simulation.scenarios import BACKGROUND_E, SCENARIOS

SHAPE = (96, 128)
PLACES = [(40.0, 60.0), (40.3, 60.7), (20.5, 100.5)]


def frame_with_spot(scenario, y, x, heading=0.0, amplitude_e=400.0):
    image = np.full(SHAPE, BACKGROUND_E, np.float32)
    place = (np.array([y]), np.array([x]), np.array([amplitude_e]), np.array([heading]))
    add_spots(image, *place, SCENARIOS[scenario].profile)
    return np.random.default_rng(5).poisson(image).astype(np.uint16)


def strongest(name, scenario, pixels):
    return peer(name, MovieSettings(scenario, snr=7, density=50))(pixels).yx[0]


@pytest.mark.parametrize(("y", "x"), PLACES)
@pytest.mark.parametrize("scenario", ["vesicle", "receptor"])
@pytest.mark.parametrize("name", [name for name in PEERS if name != "ufish"])
def test_peers_find_a_bright_spot_to_a_fifth_of_a_pixel(name, scenario, y, x):
    found = strongest(name, scenario, frame_with_spot(scenario, y, x))
    assert np.hypot(*(found - (y, x))) < 0.2


@pytest.mark.parametrize(("y", "x"), PLACES)
def test_ufish_finds_a_bright_spot_to_its_pixel(y, x):
    if reason := missing("ufish"):
        pytest.skip(reason)
    found = strongest("ufish", "receptor", frame_with_spot("receptor", y, x))
    assert np.abs(found - (y, x)).max() < 0.75  # its output marks whole pixels


@pytest.mark.parametrize("heading", [0.0, 1.0, 2.5, 4.0, 5.7])
def test_the_matched_filter_finds_the_head_of_a_comet(heading):
    pixels = frame_with_spot("microtubule", 45.4, 60.8, heading)
    filtered, symmetric = (strongest(name, "microtubule", pixels) for name in ("matched_filter", "dog"))
    assert np.hypot(*(filtered - (45.4, 60.8))) < 0.4
    assert np.hypot(*(symmetric - (45.4, 60.8))) > 1.0  # behind the head, as a symmetric filter must


def test_the_matched_filter_takes_one_comet_for_one():
    pixels = frame_with_spot("microtubule", 45.4, 60.8, 1.0)
    found = peer("matched_filter", MovieSettings("microtubule", snr=7, density=50))(pixels)
    assert found.strength[1] < found.strength[0] / 4


@pytest.mark.parametrize("name", ["matched_filter", "dog", "wavelet", "trackpy"])
@pytest.mark.parametrize(("y", "x"), [(0.2, 60.0), (95.0, 127.1)])
def test_peers_find_a_spot_at_the_border(name, y, x):
    found = strongest(name, "vesicle", frame_with_spot("vesicle", y, x))
    assert np.hypot(*(found - (y, x))) < 0.7


def test_the_noise_of_the_matched_filter_has_unit_variance():
    pixels = np.random.default_rng(3).poisson(BACKGROUND_E, (256, 256)).astype(np.uint8)
    found = peer("matched_filter", MovieSettings("vesicle", snr=1, density=1))(pixels)
    assert 3.5 < found.strength[0] < 6.0  # the highest of some thousands of Gaussian numbers


def test_a_peak_is_moved_to_the_top_of_a_tilted_paraboloid():
    y, x = np.mgrid[:21, :21].astype(np.float32)
    dy, dx = y - 10.2, x - 9.7
    found = peaks(100 - (dy**2 + dx**2 + 1.5 * dy * dx), 1)
    np.testing.assert_allclose(found.yx[0], (10.2, 9.7), atol=1e-3)


def test_candidates_above_a_threshold_are_the_strongest():
    image = np.zeros((32, 32), np.float32)
    image[[5, 15, 25], [6, 16, 26]] = [3, 9, 6]
    found = peaks(image, 3)
    assert found.above(5.0).tolist() == [[15, 16], [25, 26]]
