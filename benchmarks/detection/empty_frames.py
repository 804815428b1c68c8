"""Frames without a single particle: whatever is found in them is false."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import Pixels

SHAPE = (512, 512)
TEXTURE_MEAN_E = 50.0
TEXTURE_CONTRAST = 3.0
TEXTURE_WAVES_PX = (20.0, 200.0)

Frames = Iterator[Pixels]


def uniform(rng: np.random.Generator, background_e: float) -> Frames:
    """Yield Poisson noise of a uniform background."""
    while True:
        yield rng.poisson(background_e, SHAPE).astype(np.uint16)


def textured(rng: np.random.Generator) -> Frames:
    """Yield frames each with a random background of its own; see `texture`."""
    while True:
        yield rng.poisson(texture(rng)).astype(np.uint16)


def textured_movie(rng: np.random.Generator) -> Frames:
    """Yield frames that all have the same random background, as those of a fixed sample."""
    mean_e = texture(rng)
    while True:
        yield rng.poisson(mean_e).astype(np.uint16)


def half_saturated(rng: np.random.Generator) -> Frames:
    """Yield 8-bit frames whose right half is at the end of its range, a few pixels falling short; noise in the left."""
    mean_e = np.repeat([60.0, 300.0], SHAPE[1] // 2) * np.ones((SHAPE[0], 1))
    while True:
        yield np.minimum(rng.poisson(mean_e), 255).astype(np.uint8)


def saturated(_: np.random.Generator) -> Frames:
    """Yield 8-bit frames that are nothing but 255."""
    while True:
        yield np.full(SHAPE, 255, np.uint8)


def read_noise(rng: np.random.Generator) -> Frames:
    """Yield frames of a dark sample: offset 100 counts, 1 electron of light and a read noise of 2 electrons."""
    while True:
        yield np.rint(100 + rng.poisson(1.0, SHAPE) + rng.normal(0, 2, SHAPE)).clip(0).astype(np.uint16)


def texture(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return mean electrons per pixel (H, W): waves of 20 to 200 px, brightest to darkest 3 to 1, mean 50."""
    per_y, per_x = np.fft.fftfreq(SHAPE[0])[:, None], np.fft.rfftfreq(SHAPE[1])
    cycles_per_px = np.hypot(per_y, per_x)
    wanted = (cycles_per_px >= 1 / TEXTURE_WAVES_PX[1]) & (cycles_per_px <= 1 / TEXTURE_WAVES_PX[0])
    # Equal power per octave: the broad waves are as strong as the narrow ones.
    weight = np.where(wanted, 1 / np.maximum(cycles_per_px, 1e-9), 0.0)
    waves = np.fft.irfft2(weight * np.fft.rfft2(rng.standard_normal(SHAPE)), SHAPE)
    waves = (waves - waves.min()) / np.ptp(waves)
    mean_e = np.asarray(TEXTURE_CONTRAST**waves, np.float64)
    return mean_e * TEXTURE_MEAN_E / mean_e.mean()


EMPTY: Mapping[str, tuple[Callable[[np.random.Generator], Frames], bool]] = {
    "uniform 4 e": (lambda rng: uniform(rng, 4.0), False),
    "uniform 16 e": (lambda rng: uniform(rng, 16.0), False),
    "uniform 64 e": (lambda rng: uniform(rng, 64.0), False),
    "uniform 256 e": (lambda rng: uniform(rng, 256.0), False),
    "textured": (textured, False),
    "half saturated": (half_saturated, False),
    "saturated": (saturated, False),
    "read noise": (read_noise, False),
    "uniform 16 e, consecutive": (lambda rng: uniform(rng, 16.0), True),
    "textured, consecutive": (textured_movie, True),
}
"""Per kind its frames, and whether they are shown as one movie; otherwise each is a first frame."""
