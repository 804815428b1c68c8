"""Synthetic images of spots in grey levels, as in detectSpot's paper (Mabaso et al.): types A and B.

The text gives: 256x256 px, 50 spots of 20 grey levels, white noise, SNR the height of a spot over the noise's standard
deviation. The rest is ours, see ``docs/decisions/0036-detectspot.md``: spots are Gaussians anywhere, nearer to each
other or not, on 100 grey levels of 8 bits. The ground of type A is flat; the grounds of type B have textures of 20 grey
levels from the darkest to the brightest place: ``B1`` grains of two sizes, ``B2`` smooth blobs, some as small as spots.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from streamtrack.simulation.backgrounds import haze
from streamtrack.simulation.render import add_spots, round_spot

Ground = Literal["A", "B1", "B2"]
GROUNDS: tuple[Ground, ...] = get_args(Ground)

IMAGE_PX = 256
SPOTS = 50
HEIGHT = 20.0
"""Of a spot, grey levels."""
SIGMA_PX = (1.5, 2.0)
LEVEL = 100.0
TEXTURE_LEVELS = 20.0
GRAINS_PX: Mapping[float, float] = {3.0: 1.0, 12.0: 1.3}
"""Standard deviation of the filter that makes grains, px, and their share in the texture ``B1``."""
BLOBS, BLOB_SIGMA_PX = 45, (2.0, 8.0)
"""Of ``B2``: in an image, each of a height between 0 and 1."""

Image = NDArray[np.float32]


def spot_image(
    rng: np.random.Generator, ground: Ground, snr: float, spots: int = SPOTS, size_px: int = IMAGE_PX
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Draw an image (S, S) and its spots (N, 2), y and x in px; ``spots`` is their number in 256x256 px."""
    light, places = draw_light(rng, ground, spots, size_px)
    return expose(rng, light, snr), places


def draw_light(
    rng: np.random.Generator, ground: Ground, spots: int = SPOTS, size_px: int = IMAGE_PX
) -> tuple[Image, NDArray[np.float64]]:
    """Draw an image without noise, grey levels, and its spots (N, 2), as `spot_image`."""
    light = LEVEL + _texture(rng, ground, size_px)
    places = rng.uniform(0, size_px - 1, (round(spots * (size_px / IMAGE_PX) ** 2), 2))
    for y, x in places[:, :, None]:
        add_spots(light, y, x, np.array([HEIGHT]), np.zeros(1), round_spot(rng.uniform(*SIGMA_PX)))
    return light, places


def expose(rng: np.random.Generator, light: Image, snr: float) -> NDArray[np.uint8]:
    """Return an image with white noise."""
    noise = rng.standard_normal(light.shape, np.float32) * np.float32(HEIGHT / snr)
    return (light + noise).round().clip(0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, ground: Ground, size_px: int) -> Image:
    """Return grey levels (S, S) from 0 on."""
    if ground == "A":
        return np.zeros((size_px, size_px), np.float32)
    texture = _grains(rng, size_px) if ground == "B1" else _blobs(rng, size_px)
    texture -= texture.min()
    return texture * np.float32(TEXTURE_LEVELS / max(float(texture.max()), 1e-6))


def _grains(rng: np.random.Generator, size_px: int) -> Image:
    texture = np.zeros((size_px, size_px), np.float32)
    for sigma_px, share in GRAINS_PX.items():
        grains = gaussian_filter(rng.standard_normal((size_px, size_px), np.float32), sigma_px)
        texture += np.float32(share / float(grains.std())) * grains
    return texture


def _blobs(rng: np.random.Generator, size_px: int) -> Image:
    return haze(rng, size_px, max(1, round(BLOBS * (size_px / IMAGE_PX) ** 2)), BLOB_SIGMA_PX, 1.0)
