import numpy as np
import pandas as pd
import pytest

from streamtrack.simulation.render import add_spots, round_spot
from streamtrack_engines.likeness.particles import measure_particles

SIZE, FRAMES = 128, 30


def _movie(sigma_px, step_px=0.7, speed_px=0.0, spread=0.3, n=14):
    rng = np.random.default_rng(1)
    yx = np.stack(np.meshgrid(*[np.linspace(18, SIZE - 18, 4)] * 2), -1).reshape(-1, 2)[:n]
    height = 300 * rng.lognormal(0, spread, n)
    frames, rows = [], []
    for frame in range(FRAMES):
        yx = yx + rng.normal(0, step_px, yx.shape) + np.array([0.0, speed_px])
        image = np.full((SIZE, SIZE), 30.0, np.float32)
        add_spots(image, yx[:, 0], yx[:, 1], height, np.zeros(n), round_spot(sigma_px))
        frames.append(rng.poisson(image).astype(np.uint16))
        rows.append(pd.DataFrame({"frame": frame, "particle": range(n), "y": yx[:, 0], "x": yx[:, 1], "sigma": 0.05}))
    table = pd.concat(rows, ignore_index=True).assign(score=0.9)
    return np.stack(frames), table, height


@pytest.mark.parametrize("sigma_px", [0.9, 1.5, 2.5])
def test_width_and_brightness_are_those_of_the_spots(sigma_px):
    movie, table, height = _movie(sigma_px)
    measured = measure_particles(movie, table, table)
    assert measured.sigma_px.value == pytest.approx(sigma_px, rel=0.05)
    assert measured.amplitude_counts[2] == pytest.approx(np.median(height), rel=0.15)
    assert measured.amplitude_log_sd == pytest.approx(np.std(np.log(height)), rel=0.3)
    assert measured.density == pytest.approx(0.9 * 14 / SIZE**2 * 512**2, rel=1e-6)


def test_steps_and_speeds():
    movie, table, _ = _movie(1.3, step_px=0.7)
    low, high = measure_particles(movie, table, table).step_px
    assert 0.4 < low < 0.7 < high < 1.0
    movie, table, _ = _movie(1.3, step_px=0.1, speed_px=1.4)
    measured = measure_particles(movie, table, table)
    assert measured.directed_share == 1.0
    assert measured.speed_px == pytest.approx((1.4, 1.4), abs=0.1)


def test_of_too_few_nothing_is_said():
    movie, table, _ = _movie(1.3)
    measured = measure_particles(movie, table[:3], table[:3])
    assert measured.sigma_px is None
    assert measured.step_px is None
