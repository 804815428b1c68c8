"""Simulated crops of a live cell's particles, made on the fly: `streamtrack.simulation.crops`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.simulation.crop_ranges import LOG_UNIFORM, CropRanges
from streamtrack.simulation.crops import sample_crops
from streamtrack_engines.training_data.truth import Truth

_EXAMPLE_SNR = 6.0
_EXAMPLE_DENSITY = 400.0


@dataclass(frozen=True, slots=True)
class Crops(CropRanges):
    """Simulated crops of round spots and comets, as the Particle Tracking Challenge and as real cameras show them.

    What a crop may look like is said by the ranges of `streamtrack.simulation.crop_ranges.CropRanges`.

    Parameters
    ----------
    held_out_snr
        Signal-to-noise ratios of the challenge's scenes on which the training is evaluated.
    held_out_density
        Their particles per 512x512 px.
    """

    held_out_snr: tuple[float, ...] = (1.0, 2.0, 4.0, 7.0)
    held_out_density: float = 500.0

    def __post_init__(self) -> None:
        """Refuse ranges that nothing can be drawn from."""
        for each in fields(self):
            if reason := _reason_against(each.name, getattr(self, each.name)):
                raise ConfigError(f"training data 'crops': {each.name} = {getattr(self, each.name)}: {reason}")

    def batch(self, rng: np.random.Generator, n: int, size_px: int, n_before: int) -> Truth:
        """Return ``n`` crops, each from a scene of its own."""
        crops = sample_crops(rng, n, size_px, self, n_before=n_before)
        return Truth(crops.noisy, crops.points, crops.signal)

    def held_out(self, seed: int, n: int, size_px: int, n_before: int) -> Iterator[tuple[str, Truth]]:
        """Yield crops of the challenge's three scenes, one lot for each signal-to-noise ratio."""
        for snr in self.held_out_snr:
            scenes = _plain(Crops(), snr, self.held_out_density, of_cameras=False)
            yield f"snr{snr:g}", scenes.batch(np.random.default_rng(seed), n, size_px, n_before)

    def example(self, n_frames: int, height: int, width: int) -> NDArray[np.float32]:
        """Return a movie of clear particles: the challenge's, or of cameras where there are no others."""
        scenes = _plain(self, _EXAMPLE_SNR, _EXAMPLE_DENSITY, of_cameras=self.camera_fraction == 1)
        crops = scenes.batch(np.random.default_rng(0), 1, max(height, width), n_frames - 1)
        return np.ascontiguousarray(crops.noisy[0, :, :height, :width])


def _plain(crops: Crops, snr: float, density: float, *, of_cameras: bool) -> Crops:
    """Return the data with all frames known, and of one density and signal-to-noise ratio."""
    return replace(
        crops,
        camera_fraction=float(of_cameras),
        empty_fraction=0.0,
        low_density_fraction=0.0,
        first_frame_fraction=0.0,
        density=(density, density),
        snr=(snr, snr),
    )


def _reason_against(name: str, value: Any) -> str | None:
    if isinstance(value, float):
        if name == "held_out_density":
            return None if value > 0 else "it must be above 0"
        return None if 0 <= value <= 1 else "a share lies between 0 and 1"
    if name != "held_out_snr" and value[0] > value[1]:
        return "the second number must not be smaller than the first"
    if name in (*LOG_UNIFORM, "death", "held_out_snr") and min(value) <= 0:
        return "all numbers must be above 0"
    return None
