"""Movies with ground truth, after the Particle Tracking Challenge."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.settings import Positive, checks_settings
from streamtrack.simulation import shot_noise
from streamtrack.simulation.motion import simulate_tracks
from streamtrack.simulation.render import add_spots, amplitude_from_snr
from streamtrack.simulation.scenarios import (
    BACKGROUND_E,
    MIN_TRACK_FRAMES,
    SCENARIOS,
    ScenarioName,
    relative_amplitudes,
)
from streamtrack.types import MIN_FRAME_PX

Length = Annotated[int, Field(ge=MIN_TRACK_FRAMES)]
Density = Annotated[float, Field(ge=0, le=100_000)]
Side = Annotated[int, Field(ge=MIN_FRAME_PX)]
Seed = Annotated[int, Field(ge=0)]


@checks_settings
@dataclass(frozen=True, slots=True)
class MovieSettings:
    """What a simulated movie shows.

    Attributes
    ----------
    scenario
        ``vesicle``, ``receptor`` or ``microtubule``.
    snr
        A / sqrt(A + background) with the peak amplitude A of a particle.
    density
        Particles per 512x512 px in a frame, on average; may be 0.
    frames
        Length.
    height_px, width_px
        Size.
    seed
        The same settings give the same movie.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    scenario: ScenarioName
    snr: Positive = 4.0
    density: Density = 500.0
    frames: Length = 100
    height_px: Side = 512
    width_px: Side = 512
    seed: Seed = 1


class Movie:
    """A simulated movie; its frames are drawn when asked for, in any order.

    Particles that are not in the ground truth are not in the image either. The noise is Poisson alone.

    Parameters
    ----------
    settings
        The same settings give the same tracks and pixels.

    Attributes
    ----------
    tracks
        Ground truth: columns ``frame``, ``particle``, ``y``, ``x`` (px), ``heading`` (rad; a comet points along
        (dy, dx) = (sin, cos)) and ``amplitude`` (peak, in counts), ordered by frame and particle.
    dtype
        uint8, or uint16 where two particles on top of each other could come to more than 255 counts. Beyond the
        highest value pixels are saturated.
    """

    def __init__(self, settings: MovieSettings) -> None:
        self.settings = settings
        self.tracks = _tracks(settings)
        brightest = BACKGROUND_E + 2 * float(amplitude_from_snr(settings.snr, BACKGROUND_E))
        self.dtype = np.dtype(np.uint8 if brightest + 6 * brightest**0.5 <= 255 else np.uint16)
        self._first_row = np.searchsorted(self.tracks["frame"], np.arange(settings.frames + 1))

    def __len__(self) -> int:
        return self.settings.frames

    def clean(self, frame: int) -> NDArray[np.float32]:
        """Return a frame without noise, background included: shape (H, W), counts."""
        rows = self.tracks.iloc[self._first_row[frame] : self._first_row[frame + 1]]
        image = np.full((self.settings.height_px, self.settings.width_px), BACKGROUND_E, np.float32)
        y, x, amplitude, heading = (rows[name].to_numpy() for name in ("y", "x", "amplitude", "heading"))
        add_spots(image, y, x, amplitude, heading, SCENARIOS[self.settings.scenario].profile)
        return image

    def noisy(self, frame: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return a frame as the camera gives it: shape (H, W), ``dtype``, counts."""
        rng = np.random.default_rng([self.settings.seed, 1, frame])
        counts = shot_noise.expose(rng, self.clean(frame))
        if self.dtype == np.uint8:
            return np.minimum(counts, np.float32(255)).astype(np.uint8)
        return np.minimum(counts, np.float32(65535)).astype(np.uint16)


def ground_truth(settings: MovieSettings) -> pd.DataFrame:
    """Return the true tracks of a movie: columns ``frame``, ``particle``, ``y``, ``x``, ordered by frame."""
    return _tracks(settings)[["frame", "particle", "y", "x"]]


def _tracks(settings: MovieSettings) -> pd.DataFrame:
    rng = np.random.default_rng([settings.seed, 0])
    tracks = simulate_tracks(
        rng, settings.scenario, settings.density, settings.frames, (settings.height_px, settings.width_px)
    )
    n_particles = int(tracks.particle.max(initial=-1)) + 1
    peak = float(amplitude_from_snr(settings.snr, BACKGROUND_E))
    table = pd.DataFrame(
        {
            "frame": tracks.frame,
            "particle": tracks.particle,
            "y": tracks.y,
            "x": tracks.x,
            "heading": tracks.heading,
            "amplitude": peak * relative_amplitudes(rng, settings.scenario, n_particles)[tracks.particle],
        }
    )
    return table.sort_values(["frame", "particle"], ignore_index=True)
