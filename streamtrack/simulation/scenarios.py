"""The numbers of the Particle Tracking Challenge's three two-dimensional scenarios.

Fitted to the published training frames (SNR 7) and ground-truth tracks of Chenouard et al., Nat. Methods 11 (2014)
281. Assumed, for want of frames: that the background is the same at other SNRs, and the profile of the vesicles.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.render import AiryDisc, Comet, Profile, round_spot

ScenarioName = Literal["vesicle", "receptor", "microtubule"]
SCENARIO_NAMES: tuple[ScenarioName, ...] = get_args(ScenarioName)

BACKGROUND_E = 16.0
"""Mean of the background; the noise is Poisson alone: gain 1, no offset, no read noise."""

AREA_PX = 512
"""Densities are particles per image of this side."""

MIN_TRACK_FRAMES = 4
"""The challenge's ground truth has no shorter track."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the particles look and move. They are Brownian or directed, and may switch between the two after each frame.

    Attributes
    ----------
    profile
        Their image.
    death
        Probability per frame that a track ends, from its fourth frame on.
    brownian_sigma_px
        Step per axis and frame in the Brownian state.
    speed_px
        Directed state: lowest and highest speed per frame; a run starts with a uniform speed and heading.
    velocity_walk_px
        Directed state: random walk of the velocity, per axis and frame; the speed is reflected at its limits.
    to_directed, to_brownian
        Probabilities per frame of switching.
    first_directed, mean_directed
        Probability that a new track starts in the directed state; mean share of directed steps.
    """

    profile: Profile
    death: float
    brownian_sigma_px: float = 0.0
    speed_px: tuple[float, float] = (0.0, 0.0)
    velocity_walk_px: float = 0.0
    to_directed: float = 0.0
    to_brownian: float = 0.0
    first_directed: float = 0.0
    mean_directed: float = 0.0

    @property
    def mean_life_frames(self) -> float:
        """Mean length of a track that neither leaves the image nor the movie."""
        return MIN_TRACK_FRAMES - 1 + 1 / self.death


SCENARIOS: dict[ScenarioName, Scenario] = {
    "vesicle": Scenario(profile=round_spot(1.15), death=0.05, brownian_sigma_px=1.99),
    "receptor": Scenario(
        profile=AiryDisc(first_zero_px=3.40),
        death=0.09,
        brownian_sigma_px=0.59,
        speed_px=(2.5, 6.5),
        velocity_walk_px=0.87,
        to_directed=0.10,
        to_brownian=0.19,
        first_directed=0.11,
        mean_directed=0.29,
    ),
    "microtubule": Scenario(
        profile=Comet(front_px=1.58, tail_px=6.3, across_px=1.60),
        death=0.13,
        speed_px=(3.0, 7.0),
        velocity_walk_px=0.63,
        first_directed=1.0,
        mean_directed=1.0,
    ),
}


def relative_amplitudes(rng: np.random.Generator, scenario: ScenarioName, n: int) -> NDArray[np.float64]:
    """Draw the particles' brightness, constant along a track, relative to the one that the SNR stands for.

    Microtubules were found between 28 and 59 (median 48) where the SNR of 7 asks for 61.7; the others vary by 3 %.
    """
    if scenario == "microtubule":
        return rng.triangular(0.45, 0.85, 0.96, n)
    return rng.normal(1.0, 0.03, n)
