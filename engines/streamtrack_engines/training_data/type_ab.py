"""The images of detectSpot's paper, made on the fly: `streamtrack.simulation.spot_images`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.simulation.spot_images import GROUNDS, IMAGE_PX, Ground, draw_light, expose
from streamtrack_engines.training_data.truth import Truth

_EXAMPLE_SNR = 10.0
_EXAMPLE_SPOTS = (150, 150)  # some are in the smallest frame


@dataclass(frozen=True, slots=True)
class TypeAB:
    """Crops of synthetic images of type A (white noise) and B (textures below it), which stand still.

    Parameters
    ----------
    grounds
        What lies below the spots, one of these for each crop: ``A``, ``B1``, ``B2``.
    snr
        Signal-to-noise ratios: height of a spot over the standard deviation of the noise; one of these for each crop.
    spots
        Fewest and most spots in 256x256 px.
    held_out_snr
        Signal-to-noise ratios on which the training is evaluated.
    beyond_px
        How far beyond a crop spots are told of, px.
    """

    grounds: tuple[Ground, ...] = GROUNDS
    snr: tuple[float, ...] = (20.0, 10.0, 5.0, 2.0, 1.0)
    spots: tuple[int, int] = (50, 50)
    held_out_snr: tuple[float, ...] = (6.0, 2.0, 1.0)
    beyond_px: float = 14.0

    def __post_init__(self) -> None:
        """Refuse what no image can be drawn of."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "beyond_px":
                reason = None if value >= 0 else "it must be 0 or more"
            elif each.name == "spots":
                reason = None if 1 <= value[0] <= value[1] else "1 or more, and the second number not the smaller"
            else:
                reason = None if value and (each.name == "grounds" or min(value) > 0) else "some, all above 0"
            if reason:
                raise ConfigError(f"training data 'type_ab': {each.name} = {value}: {reason}")

    def batch(self, rng: np.random.Generator, n: int, size_px: int, n_before: int) -> Truth:
        """Return ``n`` crops, each of an image of its own."""
        crops = [self._crop(rng, size_px, n_before) for _ in range(n)]
        noisy, places = zip(*crops, strict=True)
        numbers = np.repeat(np.arange(n), [len(each) for each in places])
        return Truth(np.stack(noisy), np.column_stack((numbers, np.concatenate(places))).astype(np.float32))

    def _crop(
        self, rng: np.random.Generator, size_px: int, n_before: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return frames (T, S, S) of a part of an image, and the spots in it and around it."""
        ground, snr = self.grounds[rng.integers(len(self.grounds))], self.snr[rng.integers(len(self.snr))]
        whole_px = max(IMAGE_PX, size_px)
        light, places = draw_light(rng, ground, int(rng.integers(self.spots[0], self.spots[1] + 1)), whole_px)
        top, left = rng.integers(0, whole_px - size_px + 1, 2)
        part = light[top : top + size_px, left : left + size_px]
        places = places - (top, left)
        near = ((places > -self.beyond_px) & (places < size_px - 1 + self.beyond_px)).all(1)
        frames = np.stack([expose(rng, part, snr) for _ in range(n_before + 1)])
        return frames.astype(np.float32), places[near]

    def held_out(self, seed: int, n: int, size_px: int, n_before: int) -> Iterator[tuple[str, Truth]]:
        """Yield crops with 50 spots in 256x256 px, one lot for each ground and signal-to-noise ratio."""
        for ground in self.grounds:
            for snr in self.held_out_snr:
                plain = replace(self, grounds=(ground,), snr=(snr,), spots=(50, 50))
                yield f"{ground}_snr{snr:g}", plain.batch(np.random.default_rng(seed), n, size_px, n_before)

    def example(self, n_frames: int, height: int, width: int) -> NDArray[np.float32]:
        """Return a movie of many clear spots."""
        clear = replace(self, grounds=self.grounds[:1], snr=(_EXAMPLE_SNR,), spots=_EXAMPLE_SPOTS)
        crops = clear.batch(np.random.default_rng(0), 1, max(height, width), n_frames - 1)
        return np.ascontiguousarray(crops.noisy[0, :, :height, :width])
