"""Simulated images of single-molecule FISH, made on the fly: `streamtrack.simulation.smfish`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.simulation.smfish import EDGE_PX, SmfishRanges, draw_smfish
from streamtrack_engines.training_data.truth import Truth

_BEYOND_PX = 2
_HELD_OUT_SPOTS = 50.0


@dataclass(frozen=True, slots=True)
class Smfish(SmfishRanges):
    """Simulated crops of RNA spots on white and Perlin noise (DeepSpot: Bouilhol et al. 2022).

    What a crop may look like is said by the ranges of `streamtrack.simulation.smfish.SmfishRanges`.

    Parameters
    ----------
    empty_fraction
        Share of the crops without a spot.
    """

    empty_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Refuse ranges that nothing can be drawn from."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name.endswith("_fraction"):
                reason = None if 0 <= value <= 1 else "a share lies between 0 and 1"
            elif min(value, default=0) <= 0:
                reason = "all numbers must be above 0"
            elif each.name == "deformation_points" and value[0] < 2:
                reason = "a grid has two points at least"
            else:
                reason = None if list(value) == sorted(value) else "the second number must not be smaller"
            if reason:
                raise ConfigError(f"training data 'smfish': {each.name} = {value}: {reason}")

    def batch(self, rng: np.random.Generator, n: int, size_px: int, n_before: int) -> Truth:
        """Return ``n`` images, spots up to 2 px beyond their border; those before, if asked for, are the same."""
        return self._of([self._draw(rng, size_px) for _ in range(n)], n_before)

    def held_out(self, seed: int, n: int, size_px: int, n_before: int) -> Iterator[tuple[str, Truth]]:
        """Yield the paper's images of 50 spots in 256x256 px, of fixed and of variable intensity."""
        for name, share in (("fixed", 0.0), ("variable", 1.0)):
            ranges = SmfishRanges(spots=(_HELD_OUT_SPOTS, _HELD_OUT_SPOTS), variable_fraction=share)
            rng = np.random.default_rng(seed)
            yield name, self._of([draw_smfish(rng, size_px, ranges) for _ in range(n)], n_before)

    def example(self, n_frames: int, height: int, width: int) -> NDArray[np.float32]:
        """Return a movie of one image of the paper's kind, in which all spots are bright."""
        clear = replace(self, variable_fraction=1.0, spots=(100.0, 100.0), empty_fraction=0.0)
        image, _ = draw_smfish(np.random.default_rng(0), max(height, width), clear, edge_px=EDGE_PX)
        return np.repeat(image[None, :height, :width], n_frames, axis=0)

    def _draw(self, rng: np.random.Generator, size_px: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        n_spots = 0 if rng.random() < self.empty_fraction else None
        return draw_smfish(rng, size_px, self, edge_px=-_BEYOND_PX, n_spots=n_spots)

    @staticmethod
    def _of(drawn: list[tuple[NDArray[np.float32], NDArray[np.float64]]], n_before: int) -> Truth:
        noisy = np.stack([np.repeat(image[None], n_before + 1, axis=0) for image, _ in drawn])
        crop = np.repeat(np.arange(len(drawn)), [len(spots) for _, spots in drawn])
        places = np.concatenate([spots for _, spots in drawn])
        return Truth(noisy, np.column_stack((crop, places)).astype(np.float32))
