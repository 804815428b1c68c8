"""What movies show beside well-behaved particles: cuts and jumps, outliers, blobs, borders, enlarged pixels."""

from functools import lru_cache
from math import exp, log

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from streamtrack.simulation.render import add_spots, round_spot
from streamtrack.simulation.smfish import fractal_noise

Range = tuple[float, float]


class History:
    """How the frames of a crop differ from the current one.

    Attributes
    ----------
    shift_px
        (T, 2): by how much the whole field lies elsewhere, y and x.
    spots, light
        (T,): how bright the particles are, and everything, background included.
    """

    def __init__(self, n_frames: int) -> None:
        self.shift_px = np.zeros((n_frames, 2))
        self.spots = np.ones(n_frames)
        self.light = np.ones(n_frames, np.float32)


def cut_history(rng: np.random.Generator, n_before: int, n_frames: int, shift_px: Range) -> History:
    """Draw frames before the current one that may not be believed: light goes off or on, or the field moves."""
    history = History(n_frames)
    if n_before == 0:
        return history
    cut = rng.integers(n_before) + 1  # from this frame on it is as in the current one
    kind = rng.choice(["dark", "lit", "alternating", "dimmed", "jump", "drift"], p=[0.3, 0.15, 0.05, 0.2, 0.15, 0.15])
    if kind == "dark":
        history.spots[cut:] = 0.0
    elif kind == "lit":
        history.spots[:cut] = 0.0
    elif kind == "alternating":
        history.spots[n_before - 1 :: -2] = 0.0
    elif kind == "dimmed":
        history.light[:cut] = exp(rng.uniform(log(0.1), log(10.0)))
    else:
        heading = rng.uniform(0, 2 * np.pi)
        step = rng.uniform(*shift_px) * np.array([np.sin(heading), np.cos(heading)])
        frames = np.arange(n_frames) - n_before
        history.shift_px = frames[:, None] * step if kind == "drift" else (frames < cut - n_before)[:, None] * step
    return history


def brightness_of_kinds(rng: np.random.Generator, n: int, ratio: Range) -> NDArray[np.float64]:
    """Draw how many times the faintest each of ``n`` particles is: two kinds, or anything between, log-uniform."""
    most = exp(rng.uniform(log(ratio[0]), log(ratio[1])))
    share = (rng.random(n) < 0.5).astype(np.float64) if rng.random() < 0.5 else rng.random(n)
    return most**share


def with_outliers(rng: np.random.Generator, brightness: NDArray[np.float64], ratio: Range) -> NDArray[np.float64]:
    """Return the brightness of particles of which a few are many times brighter than all others."""
    few = rng.random(len(brightness)) < min(1.0, rng.integers(1, 40) / max(len(brightness), 1))
    return np.where(few, brightness * exp(rng.uniform(log(ratio[0]), log(ratio[1]))), brightness)


def blobs(rng: np.random.Generator, size_px: int, sigma_px: Range, noise_e: float) -> NDArray[np.float32]:
    """Return the electrons (S, S) of one or two objects far larger than the particles, from faint to blinding."""
    image = np.zeros((size_px, size_px), np.float32)
    for _ in range(rng.integers(1, 3)):
        y, x = rng.uniform(-10, size_px + 10, (2, 1))
        amplitude = np.array([noise_e * exp(rng.uniform(log(3.0), log(5000.0)))])
        add_spots(image, y, x, amplitude, np.zeros(1), round_spot(exp(rng.uniform(*np.log(sigma_px)))))
    return image


def texture(rng: np.random.Generator, size_px: int, grain_px: Range) -> NDArray[np.float32]:
    """Return grains (S, S) of two sizes, from 0 at the darkest to 1 at the brightest; a third are Perlin noise."""
    smallest = exp(rng.uniform(log(grain_px[0]), log(grain_px[1])))
    if rng.random() < 1 / 3:
        grains = fractal_noise(rng, size_px, 8 * smallest)
    else:
        grains = np.zeros((size_px, size_px), np.float32)
        for sigma_px in (smallest, smallest * rng.uniform(1.5, 5.0)):
            layer = gaussian_filter(rng.standard_normal((size_px, size_px), np.float32), sigma_px)
            grains += np.float32(rng.uniform(0.3, 1.0) / float(layer.std())) * layer
    grains -= grains.min()
    return grains / max(float(grains.max()), 1e-6)


def border(rng: np.random.Generator, size_px: int) -> NDArray[np.bool_]:
    """Return where a crop (S, S) shows nothing, as beside the image of a registered movie."""
    outside = np.zeros((size_px, size_px), bool)
    for _ in range(rng.integers(1, 3)):
        width = int(rng.integers(1, size_px // 4))
        np.rot90(outside, int(rng.integers(4)))[:width] = True
    return outside


def enlarge(images: NDArray[np.float32], size_px: int, order: int) -> NDArray[np.float32]:
    """Return square images (..., s, s) interpolated to ``size_px``; place p becomes (p + 1/2) size_px / s - 1/2."""
    along = _interpolation(images.shape[-1], size_px, order)
    return np.asarray(along @ images @ along.T, np.float32)


@lru_cache(maxsize=64)
def _interpolation(n_from: int, n_to: int, order: int) -> NDArray[np.float32]:
    """Return the matrix (n_to, n_from) of a spline interpolation along one axis."""
    unit = np.eye(n_from, dtype=np.float64)
    zoomed = zoom(unit, (n_to / n_from, 1.0), order=order, mode="nearest", grid_mode=True)  # type: ignore[call-overload]
    return np.asarray(zoomed, np.float32)
