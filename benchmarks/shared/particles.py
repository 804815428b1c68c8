"""Simulated detections of particles whose identity is known: what linkers are compared on.

Particles of 512 x 512 px frames, in constant number: one that dies or leaves the image is replaced by a new one
somewhere else. They live for 4 frames and then die with a chance of 1 in 46 per frame. In each frame 5 % of them are
missed, false detections come on top (Poisson, 5 % of the number of particles, anywhere), and positions are off by
0.3 px per axis. They move in one of three ways, those of the vesicles, microtubules and receptors of the Particle
Tracking Challenge (Chenouard et al., Nature Methods 11 (2014) 281):

- ``brownian``: steps of 2 px per axis and frame.
- ``directed``: 2 to 6 px/frame in any direction; per axis and frame the velocity changes by 0.2 px/frame and the
  position is off its course by 0.5 px.
- ``switching``: Brownian or directed, with a chance of 5 % per frame of changing from one to the other; each directed
  stretch has a velocity of its own, which stays.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamtrack.types import Detections

Motion = Literal["brownian", "directed", "switching"]
MOTIONS: tuple[Motion, ...] = ("brownian", "directed", "switching")

SHAPE = (512, 512)
LEAST_LIFE_FRAMES, MEAN_LIFE_FRAMES = 4, 50
MISSED, FALSE = 0.05, 0.05
LOCALISATION_PX = 0.3
STEP_PX = 2.0
LEAST_SPEED_PX, GREATEST_SPEED_PX = 2.0, 6.0
VELOCITY_CHANGE_PX = 0.2
WOBBLE_PX = 0.5
SWITCH_PROBABILITY = 0.05


class ParticleSettings(NamedTuple):
    """Which particles, how many in each frame, and for how long; the same settings give the same detections."""

    motion: Motion
    n: int
    frames: int
    seed: int


class Simulated(NamedTuple):
    """The detections of every frame, and the true tracks: columns ``frame``, ``particle``, ``y``, ``x`` (px)."""

    detections: list[Detections]
    truth: pd.DataFrame


def simulate(settings: ParticleSettings) -> Simulated:
    """Simulate a movie."""
    detections, truth = [], []
    for frame, (found, particles) in enumerate(stream(settings)):
        detections.append(found)
        columns = {"frame": frame, "particle": particles.identity, "y": particles.y_px, "x": particles.x_px}
        truth.append(pd.DataFrame(columns))
    return Simulated(detections, pd.concat(truth, ignore_index=True))


def stream(settings: ParticleSettings) -> Iterator[tuple[Detections, "Particles"]]:
    """Yield the detections of frame after frame, with the particles as they are in that frame, until they move on."""
    rng = np.random.default_rng([settings.seed, MOTIONS.index(settings.motion), settings.n])
    particles = Particles(settings.motion, settings.n, rng)
    for frame in range(settings.frames):
        if frame:
            particles.move()
        yield particles.detect(), particles


class Particles:
    """Particles of one movie."""

    def __init__(self, motion: Motion, n: int, rng: np.random.Generator) -> None:
        self._motion = motion
        self._rng = rng
        self._position = rng.uniform(0, SHAPE, (n, 2))
        self._velocity = self._velocities(n)
        self._directed = self._modes(n)
        # The first ones are in the midst of their lives.
        self._frames_left = np.maximum(LEAST_LIFE_FRAMES, self._lives(n) - LEAST_LIFE_FRAMES)
        self.identity = np.arange(n)
        self._next_identity = n

    @property
    def y_px(self) -> NDArray[np.float64]:
        """True positions, shape (N,)."""
        return self._position[:, 0].copy()

    @property
    def x_px(self) -> NDArray[np.float64]:
        """True positions, shape (N,)."""
        return self._position[:, 1].copy()

    def move(self) -> None:
        """Go on to the next frame."""
        n = len(self._position)
        if self._motion == "switching":
            switch = self._rng.random(n) < SWITCH_PROBABILITY
            self._directed ^= switch
            self._velocity[switch] = self._velocities(np.count_nonzero(switch))
        elif self._motion == "directed":
            self._velocity += self._rng.normal(0, VELOCITY_CHANGE_PX, (n, 2))
        directed_step = self._velocity + self._rng.normal(0, WOBBLE_PX, (n, 2))
        brownian_step = self._rng.normal(0, STEP_PX, (n, 2))
        self._position += np.where(self._directed[:, None], directed_step, brownian_step)
        self._frames_left -= 1
        outside = ((self._position < 0) | (self._position >= SHAPE)).any(axis=1)
        self._replace(outside | (self._frames_left <= 0))

    def detect(self) -> Detections:
        """Return what is found of them in this frame, in random order."""
        n = len(self._position)
        seen = self._position[self._rng.random(n) >= MISSED]
        false = self._rng.uniform(0, SHAPE, (self._rng.poisson(FALSE * n), 2))
        found = np.concatenate((seen + self._rng.normal(0, LOCALISATION_PX, seen.shape), false))
        y, x = self._rng.permutation(found).T.astype(np.float32)
        ones = np.ones(len(found), np.float32)
        return Detections(y, x, score=ones, mass=ones, sigma=np.full(len(found), LOCALISATION_PX, np.float32))

    def _replace(self, gone: NDArray[np.bool_]) -> None:
        n = np.count_nonzero(gone)
        self._position[gone] = self._rng.uniform(0, SHAPE, (n, 2))
        self._velocity[gone] = self._velocities(n)
        self._directed[gone] = self._modes(n)
        self._frames_left[gone] = self._lives(n)
        self.identity = self.identity.copy()
        self.identity[gone] = np.arange(self._next_identity, self._next_identity + n)
        self._next_identity += n

    def _velocities(self, n: int) -> NDArray[np.float64]:
        speed = self._rng.uniform(LEAST_SPEED_PX, GREATEST_SPEED_PX, n)
        angle = self._rng.uniform(0, 2 * np.pi, n)
        return speed[:, None] * np.column_stack((np.sin(angle), np.cos(angle)))

    def _modes(self, n: int) -> NDArray[np.bool_]:
        """Return which of n new particles are directed."""
        if self._motion == "switching":
            return self._rng.random(n) < 0.5
        return np.full(n, self._motion == "directed")

    def _lives(self, n: int) -> NDArray[np.int64]:
        return LEAST_LIFE_FRAMES + self._rng.geometric(1 / (MEAN_LIFE_FRAMES - LEAST_LIFE_FRAMES), n)
