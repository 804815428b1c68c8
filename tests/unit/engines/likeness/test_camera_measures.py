import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from streamtrack.simulation.camera import Camera
from streamtrack_engines.likeness.camera import measure_camera
from streamtrack_engines.likeness.light import measure_light

SIZE, FRAMES = 160, 120


def _movie(seed, background_e=25.0, slope=0.35, **camera):
    rng = np.random.default_rng(seed)
    across = np.linspace(-1, 1, SIZE, dtype=np.float32)
    mean_e = np.float32(background_e) * (1 + np.float32(slope) * across * np.ones((SIZE, 1), np.float32))
    taken = Camera(**camera)
    return np.stack([taken.expose(rng, mean_e) for _ in range(FRAMES)]).astype(np.uint16)


def _measured(movie):
    return measure_camera(movie, np.ones(movie.shape, bool))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "camera",
    [
        {"gain": 2.2, "offset_counts": 100.0, "read_noise_e": 1.6},
        {"gain": 0.6, "offset_counts": 60.0, "read_noise_e": 3.0},
        {"gain": 5.0, "offset_counts": 200.0, "read_noise_e": 2.5, "electron_multiplying": True},
    ],
)
def test_gain_offset_and_read_noise_are_those_of_the_camera(seed, camera):
    measured = _measured(_movie(seed, **camera))
    assert measured.electron_multiplying is camera.get("electron_multiplying", False)
    assert measured.gain.value == pytest.approx(camera["gain"], rel=0.1)
    assert measured.offset_counts.value == pytest.approx(camera["offset_counts"], rel=0.1)
    assert measured.read_noise_e.value == pytest.approx(camera["read_noise_e"], rel=0.2)


def test_what_cannot_be_known_is_said():
    even = _measured(_movie(0, slope=0.0, gain=2.0, offset_counts=100.0, read_noise_e=1.5)[:30])
    assert even.gain is None
    assert "too even" in even.reasons["gain"]
    bright = _measured(_movie(0, background_e=3000.0, gain=1.0, offset_counts=100.0, read_noise_e=1.0))
    assert bright.read_noise_e is None
    assert "shot noise outweighs it" in bright.reasons["read noise"]
    movie = _movie(0, gain=2.0, offset_counts=100.0)
    smooth = _measured(np.rint(gaussian_filter(movie.astype(float), (0, 1, 1))).astype(np.uint16))
    assert smooth.gain is None
    assert "as after a filter" in smooth.reasons["gain"]


def test_places_that_are_not_clear_do_not_count():
    camera = {"gain": 2.2, "offset_counts": 100.0, "read_noise_e": 1.6}
    movie = _movie(0, **camera)
    clear = np.ones(movie.shape, bool)
    for frame in range(FRAMES):  # something bright passes by
        row = frame % SIZE
        movie[frame, row : row + 6] += 400
        clear[frame, row : row + 6] = False
    assert measure_camera(movie, clear).gain.value == pytest.approx(2.2, rel=0.1)
    assert not clear.all()


def test_light_has_its_slope_and_stripes():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    mean = 40 * (1 + 0.3 * (x / SIZE * 2 - 1)) * (1 + 0.3 * np.sin(2 * np.pi * (0.6 * y + 0.8 * x) / 16))
    movie = (rng.poisson(np.broadcast_to(mean, (40, SIZE, SIZE))) + 100).astype(np.uint16)
    light = measure_light(movie, np.ones(movie.shape, bool), 100.0)
    assert light.steepest == pytest.approx(0.3, abs=0.05)
    assert light.stripe_px == pytest.approx(16, rel=0.1)
    assert light.stripe_contrast == pytest.approx(1.3 / 0.7, rel=0.15)
    plain = measure_light((rng.poisson(40.0, movie.shape) + 100).astype(np.uint16), np.ones(movie.shape, bool), 100.0)
    assert plain.stripe_px is None
    assert plain.contrast < 1.15
    assert plain.steepest < 0.03
