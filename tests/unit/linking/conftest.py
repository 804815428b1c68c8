"""Simulated detections of particles whose identity is known."""

import numpy as np
import pytest

from streamtrack.testing.linkers import detections_at

SIDE_PX = 512
LIFETIME_FRAMES = 46


def _headings(rng, n):
    """Velocities of 2 to 6 px/frame in any direction, shape (n, 2)."""
    speed, angle = rng.uniform(2, 6, n), rng.uniform(0, 2 * np.pi, n)
    return speed[:, None] * np.column_stack((np.sin(angle), np.cos(angle)))


class Particles:
    """Particles in steady number: each that dies or leaves the image is replaced by a new one somewhere else."""

    def __init__(self, motion, n, step_px, rng):
        self.motion, self.step_px, self.rng = motion, step_px, rng
        self.position = rng.uniform(0, SIDE_PX, (n, 2))
        self.velocity = _headings(rng, n)
        self.directed = np.full(n, motion == "directed")
        self.identity = np.arange(n)
        self.next_identity = n

    def move(self):
        rng, n = self.rng, len(self.position)
        if self.motion == "switching":
            switch = rng.random(n) < 0.05
            self.directed ^= switch
            self.velocity[switch] = _headings(rng, switch.sum())
        self.velocity += rng.normal(0, 0.2, (n, 2))
        brownian = rng.normal(0, self.step_px, (n, 2))
        directed = self.velocity + rng.normal(0, 0.5, (n, 2))
        self.position += np.where(self.directed[:, None], directed, brownian)
        outside = ((self.position < 0) | (self.position >= SIDE_PX)).any(axis=1)
        self._replace(outside | (rng.random(n) < 1 / LIFETIME_FRAMES))

    def _replace(self, dead):
        n = dead.sum()
        self.position[dead] = self.rng.uniform(0, SIDE_PX, (n, 2))
        self.velocity[dead] = _headings(self.rng, n)
        self.identity[dead] = np.arange(self.next_identity, self.next_identity + n)
        self.next_identity += n

    def detect(self):
        """5 % missed, 5 % false (identity -1), 0.3 px localisation error, in random order."""
        rng, n = self.rng, len(self.position)
        seen = rng.random(n) < 0.95
        false = rng.uniform(0, SIDE_PX, (rng.poisson(0.05 * n), 2))
        positions = np.concatenate((self.position[seen] + rng.normal(0, 0.3, (seen.sum(), 2)), false))
        identity = np.concatenate((self.identity[seen], np.full(len(false), -1)))
        order = rng.permutation(len(positions))
        return detections_at(positions[order]), identity[order]


@pytest.fixture(scope="session")
def simulate():
    """Return a function giving, frame by frame, detections in an image of 512 x 512 px and whose they are."""

    def run(motion, *, n=500, frames=50, step_px=2.0, seed=1):
        particles = Particles(motion, n, step_px, np.random.default_rng(seed))
        movie = []
        for _ in range(frames):
            movie.append(particles.detect())
            particles.move()
        return movie

    return run
