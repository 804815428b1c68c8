"""What accuracy is measured against: the Cramer-Rao bound, and the figures that were published.

No unbiased estimator, however clever, has a smaller error than the bound (Ober et al., Biophys. J. 86 (2004) 1185).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.render import AiryDisc, Comet, Profile, add_spots, amplitude_from_snr
from streamtrack.simulation.scenarios import BACKGROUND_E, SCENARIOS, ScenarioName, relative_amplitudes

PUBLISHED_SOURCE = (
    "DENODET, tables I and II, on the Particle Tracking Challenge's own images: F1 at 5 px and RMSE in px, means over "
    "its densities; best_f1 is the best of SOS, Detnet, DCN and DENODET"
)
PUBLISHED_SNRS = (1.0, 2.0, 4.0, 7.0)
PUBLISHED: dict[ScenarioName, dict[str, tuple[float, ...]]] = {
    "vesicle": {
        "denodet_f1": (0.444, 0.952, 0.994, 0.989),
        "denodet_rmse_px": (1.62, 0.68, 0.42, 0.41),
        "best_f1": (0.523, 0.952, 0.994, 0.992),
        "best_rmse_px": (1.62, 0.68, 0.39, 0.28),
    },
    "receptor": {
        "denodet_f1": (0.440, 0.862, 0.995, 0.993),
        "denodet_rmse_px": (1.59, 0.60, 0.41, 0.40),
        "best_f1": (0.440, 0.862, 0.995, 0.993),
        "best_rmse_px": (1.40, 0.60, 0.32, 0.215),
    },
    "microtubule": {
        "denodet_f1": (0.550, 0.845, 0.977, 0.980),
        "denodet_rmse_px": (2.33, 1.13, 0.47, 0.395),
        "best_f1": (0.550, 0.845, 0.977, 0.980),
        "best_rmse_px": (2.19, 1.13, 0.47, 0.395),
    },
}

POSES = 200
STEP_PX = 0.05
STEP_RAD = 0.02
BORDER_PX = 4


@cache
def cramer_rao_px(scenario: ScenarioName, snr: float) -> float:
    """Return the least root mean squared distance, in px, at which a particle that lies alone can be located.

    Its amplitude (the mean one of the scenario) and the uniform background are unknown to the estimator, and so is the
    heading of a comet. The position within the pixel and the heading are uniform; the mean is over both.
    """
    rng = np.random.default_rng(0)
    amplitude = float(amplitude_from_snr(snr, BACKGROUND_E) * relative_amplitudes(rng, scenario, 100_000).mean())
    profile = SCENARIOS[scenario].profile
    poses = rng.uniform((-0.5, -0.5, 0), (0.5, 0.5, 2 * np.pi), (POSES, 3))
    return float(np.sqrt(np.mean([_variance(profile, amplitude, pose) for pose in poses])))


def _variance(profile: Profile, amplitude: float, pose: NDArray[np.float64]) -> float:
    """Return the bound on the variance of y plus that of x, in px squared."""
    shape = _spot(profile, pose)
    steps = np.diag([STEP_PX, STEP_PX, STEP_RAD])[: 2 if is_round(profile) else 3]
    slopes = [
        amplitude * (_spot(profile, pose + step) - _spot(profile, pose - step)) / (2 * step.max()) for step in steps
    ]
    gradient = np.stack([*slopes, shape, np.ones_like(shape)]).reshape(len(slopes) + 2, -1)
    # Poisson numbers: each pixel informs by the squared slope of its mean, divided by the mean.
    information = gradient / (BACKGROUND_E + amplitude * shape).ravel() @ gradient.T
    return float(np.trace(np.linalg.inv(information)[:2, :2]))


def _spot(profile: Profile, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the image of a particle of height 1 at (y, x, heading) from the centre of the middle pixel."""
    half = int(profile.reach_px) + BORDER_PX
    image = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    y, x, heading = pose[:, None]
    add_spots(image, half + y, half + x, np.ones(1), heading, profile)
    return image.astype(np.float64)


def is_round(profile: Profile) -> bool:
    """Return whether the heading of a particle does not show."""
    return isinstance(profile, AiryDisc) or profile == Comet(profile.front_px, profile.front_px, profile.front_px)
