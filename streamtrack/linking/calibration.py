"""What the linker learns from the movie itself: how far particles step, how fast and in which way they move."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.linking.dark_states import RATES_MEMORY, RATES_WEIGHT, Blinking, DarkStates
from streamtrack.linking.records import Evidence
from streamtrack.linking.running_mean import RunningMean

FIRST_STEP_PX = 2.0
"""Brownian step per frame and axis, until the movie says otherwise."""

FIRST_SPEED_PX = 5.0
"""Spread of velocities of directed motion, px/frame per axis, until the movie says otherwise."""

FIRST_PRIOR = (0.45, 0.45, 0.1)
"""Share of each motion model, until the movie says otherwise."""

LEAST_STEP_PX, GREATEST_STEP_PX = 0.1, 20.0
LEAST_SPEED_PX, GREATEST_SPEED_PX = 1.0, 40.0
LEAST_PRIOR = 0.02
"""Bounds of what is learnt: nothing may become so improbable that the opposite is no longer linked, hence learnt."""

FIRST_DEATH = 0.02
"""Probability that a particle goes for good from one frame to the next, until the movie says otherwise."""

LEAST_DEATH, MOST_DEATH = 0.002, 0.05
"""Tracks that break look like deaths: believed without bound, they would break more."""

FIRST_WEIGHT, MEMORY = 30.0, 1000.0
"""In links: the first values count as much as the former, and what is older than the latter is forgotten."""

WOBBLE_PX = 0.5
"""Directed motion: noise of the position per frame and axis."""

VELOCITY_CHANGE_PX = 0.35
"""Directed motion: noise of the velocity, px/frame, per frame and axis."""

TETHERED_STEP_PX = 0.3
"""Tethered motion: step per frame and axis."""

SWITCH_PROBABILITY = 0.04
"""Probability per frame that a particle draws its way of moving anew."""


class MotionCalibration:
    """Learns the Brownian step, the speed of directed motion, and the share of each motion model.

    Each is the mean over the links of settled tracks, weighted by the probability of its model: one step of
    expectation maximisation per frame.

    Parameters
    ----------
    step_px
        Brownian step per frame and axis if it is known; None to learn it.
    detection
        Probability that a particle is detected in a frame if it is known; None to learn it.
    blinking
        Whether particles go dark for some frames; "auto" to learn it.
    """

    def __init__(
        self, step_px: float | None = None, detection: float | None = None, blinking: Blinking = "auto"
    ) -> None:
        self._step_px = step_px
        self.dark = DarkStates(detection, blinking)
        self._deaths = RunningMean(FIRST_DEATH, RATES_WEIGHT, RATES_MEMORY)
        self._step_var = RunningMean(FIRST_STEP_PX**2, FIRST_WEIGHT, MEMORY)
        self._speed_var = RunningMean(FIRST_SPEED_PX**2, FIRST_WEIGHT, MEMORY)
        self._prior = RunningMean(np.array(FIRST_PRIOR), FIRST_WEIGHT, MEMORY)

    def learn(self, evidence: Evidence, n_died: int, found_again: tuple[float, float] = (0.0, 0.0)) -> None:
        """Take in what the links of one frame say, and how many settled tracks ended with it.

        ``found_again``: of particles whose tracks had ended, how many came back lately, after how many frames.
        """
        self.dark.learn(evidence, found_again)
        self._deaths.add(n_died, evidence.n_seen + sum(evidence.n_missed.tolist()))
        self._step_var.add(evidence.step_var, evidence.brownian)
        self._speed_var.add(evidence.speed_var, evidence.directed)
        self._prior.add(evidence.probability, evidence.n_tracks)

    def learn_speed(self, squares: float, n: float) -> None:
        """Take in velocities that did not come to links: the sum of their squares per axis, and how many they are."""
        self._speed_var.add(squares, n)

    @property
    def step_px(self) -> float:
        """Brownian step per frame and axis."""
        if self._step_px is not None:
            return self._step_px
        return math.sqrt(min(max(float(self._step_var.value), LEAST_STEP_PX**2), GREATEST_STEP_PX**2))

    @property
    def speed_px(self) -> float:
        """Spread of velocities of directed motion, px/frame per axis."""
        return math.sqrt(min(max(float(self._speed_var.value), LEAST_SPEED_PX**2), GREATEST_SPEED_PX**2))

    def spread(self) -> float:
        """Return how far a particle gets that is not seen, px² per frame and axis."""
        brownian, directed, tethered = self.prior
        return float(brownian * self.step_px**2 + directed * self.speed_px**2 + tethered * TETHERED_STEP_PX**2)

    @property
    def death(self) -> float:
        """Probability that a particle goes for good from one frame to the next."""
        return min(max(float(self._deaths.value), LEAST_DEATH), MOST_DEATH)

    @property
    def prior(self) -> NDArray[np.float64]:
        """Share of each motion model, shape (N_MODELS,)."""
        share = np.maximum(self._prior.value, LEAST_PRIOR)
        prior: NDArray[np.float64] = share / share.sum()
        return prior

    def describe(self, step: float) -> tuple[Any, ...]:
        """Return the fields of ``FRAME`` that say how particles move, from ``switch`` on, for substeps of a length."""
        switch = 1.0 - (1.0 - SWITCH_PROBABILITY) ** step
        step_var = (self.step_px**2, WOBBLE_PX**2, TETHERED_STEP_PX**2)  # in the order of MOTION_MODES
        return switch, self.prior, step_var, VELOCITY_CHANGE_PX**2, self.speed_px**2

    @property
    def learnt(self) -> tuple[RunningMean, ...]:
        """All that was learnt, to be saved and restored."""
        return self._step_var, self._speed_var, self._prior, self._deaths, *self.dark.learnt
