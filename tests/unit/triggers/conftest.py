"""Simulated detections for triggers."""

import numpy as np
import pytest

from streamtrack.testing.linkers import detections_at


@pytest.fixture(scope="session")
def simulate_tracks():
    """Return a function giving the detections, frame by frame, of diffusing particles in 512 x 512 px.

    5 % are missed, 5 % are false, and of the particles 2 % a frame vanish and come up somewhere else.
    """

    def run(*, n, frames, seed=1):
        rng = np.random.default_rng(seed)
        place = rng.uniform(0, 512, (n, 2))
        for _ in range(frames):
            false = rng.uniform(0, 512, (rng.poisson(0.05 * n), 2))
            yield detections_at(np.concatenate((place[rng.random(n) < 0.95] + rng.normal(0, 0.3, 2), false)))
            place = np.clip(place + rng.normal(0, 2, (n, 2)), 0, 511)
            gone = rng.random(n) < 0.02
            place[gone] = rng.uniform(0, 512, (gone.sum(), 2))

    return run
