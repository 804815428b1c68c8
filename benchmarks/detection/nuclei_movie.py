"""Movies of nuclei whose way is known, made of a real image: it drifts, turns, is bent, and nuclei divide."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

MARGIN_PX = 56
"""So much of the image is left out at each side, to come in."""

DRIFT_PX = 0.5
TURN_DEGREES = 0.1
BENT_PX, BENT_OVER_PX = 12.0, (300.0, 700.0)
DIVIDING = 0.004
"""Chance of each nucleus in each frame; then its halves go apart by `APART_PX` a frame."""
APART_PX, FARTHEST_PX = 0.4, 6.0
_DARK, _GAIN, _READ = 110.0, 0.5, 3.0

Image = NDArray[np.float32]
Numbers = NDArray[np.float64]


class MovieOfNuclei(NamedTuple):
    """Frames (T, H, W), and the true tracks: columns ``frame, particle, y, x``, px; a half is a new particle."""

    frames: NDArray[np.uint16]
    truth: pd.DataFrame
    n_divisions: int


class _Half(NamedTuple):
    """A half of a nucleus that has divided: its light, which way it goes, from where, since when, and its number."""

    light: Image
    way: Numbers
    start: Numbers
    since: int
    particle: int


def nuclei_movie(pixels: NDArray[np.uint16], nuclei: Numbers, n_frames: int, seed: int) -> MovieOfNuclei:
    """Return a movie of an image (H, W) with nuclei (N, 3): y, x and radius, px."""
    rng = np.random.default_rng(seed)
    still = pixels.astype(np.float32)
    whole = dict(enumerate(nuclei))
    halves: list[_Half] = []
    frames, truth, n_divisions, next_particle = [], [], 0, len(nuclei)
    motion = _Motion(rng, still.shape)
    for frame in range(n_frames):
        for particle in [each for each in whole if frame and rng.random() < DIVIDING]:
            nucleus = whole.pop(particle)
            still, light = _taken_out(still, nucleus)
            heading = rng.uniform(0, 2 * np.pi)
            way = np.array([np.sin(heading), np.cos(heading)])
            for side in (-1, 1):
                halves.append(_Half(light, side * way, nucleus[:2], frame, next_particle))
                next_particle += 1
            n_divisions += 1
        image, places = still.copy(), {particle: nucleus[:2] for particle, nucleus in whole.items()}
        for half in halves:
            radius = len(half.light) / 4
            apart = 0.45 * radius + min(FARTHEST_PX, APART_PX * (frame - half.since))
            places[half.particle] = half.start + apart * half.way
            _add(image, half.light, places[half.particle])
        frames.append(_seen(rng, motion.image(image, frame)))
        truth.append(_truth(frame, places, motion, frames[-1].shape))
    return MovieOfNuclei(np.stack(frames), pd.concat(truth, ignore_index=True), n_divisions)


class _Motion:
    """Where the places of the image are in each frame."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        heading, self._turn = rng.uniform(0, 2 * np.pi), np.deg2rad(TURN_DEGREES) * rng.choice([-1, 1])
        self._drift = DRIFT_PX * np.array([np.sin(heading), np.cos(heading)])
        self._middle = (np.array(shape) - 1) / 2
        n = 4
        length, way = rng.uniform(*BENT_OVER_PX, n), rng.uniform(0, 2 * np.pi, n)
        self._waves = np.stack([np.sin(way), np.cos(way)]) * 2 * np.pi / length
        self._height = rng.normal(0, BENT_PX / 2, (2, n))
        self._phase, self._pace = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.02, 0.06, n)
        self._shape = shape

    def _bent(self, y: Numbers, x: Numbers, frame: int) -> Numbers:
        """Return how far places (N,) of a frame are moved to and fro, (2, N); nothing in the first frame."""
        phase = self._waves[0][:, None] * y + self._waves[1][:, None] * x + self._phase[:, None]
        return self._height @ (np.sin(phase + (self._pace * frame)[:, None]) - np.sin(phase))

    def image(self, still: Image, frame: int) -> Image:
        """Return the part of the image inside the margin as the frame shows it."""
        y, x = (each.ravel() for each in np.mgrid[tuple(slice(MARGIN_PX, size - MARGIN_PX) for size in self._shape)])
        away = np.stack([y, x]) - self._bent(y, x, frame) - (self._middle + frame * self._drift)[:, None]
        source = self._turned(-frame) @ away + self._middle[:, None]
        seen = map_coordinates(still, source, order=1, mode="nearest")
        return np.asarray(seen.reshape([size - 2 * MARGIN_PX for size in self._shape]))

    def places(self, places: Numbers, frame: int) -> Numbers:
        """Return where places (N, 2) of the image are in the frame."""
        moved = (places - self._middle) @ self._turned(frame).T + self._middle + frame * self._drift
        at = moved
        for _ in range(8):
            at = moved + self._bent(at[:, 0], at[:, 1], frame).T
        return np.asarray(at - MARGIN_PX)

    def _turned(self, frame: int) -> Numbers:
        angle = frame * self._turn
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _taken_out(still: Image, nucleus: Numbers) -> tuple[Image, Image]:
    """Return the image without a nucleus, and what half of its light looks like, smaller, (2 R, 2 R)."""
    y, x, radius = nucleus
    rows, columns = np.indices(still.shape)
    away = np.hypot(rows - y, columns - x)
    around = still[(away > 1.4 * radius) & (away < 2.2 * radius)]
    ground = float(np.quantile(around, 0.2)) if len(around) else float(still.min())
    mask = gaussian_filter((away < 1.25 * radius).astype(np.float32), 1.5)
    light = (still - ground).clip(0) * mask
    reach = int(2 * radius)
    padded = np.pad(light, reach + 1)
    top, left = round(y) + 1, round(x) + 1
    cut = padded[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    return still - light, zoom(cut, 0.7, order=1)


def _add(image: Image, light: Image, place: Numbers) -> None:
    """Add light to an image around a place."""
    reach = len(light) // 2
    top, left = (round(float(each)) - reach for each in place)
    rows, columns = (slice(max(0, start), max(0, start + len(light))) for start in (top, left))
    here = image[rows, columns]
    here += light[rows.start - top :, columns.start - left :][: here.shape[0], : here.shape[1]]


def _seen(rng: np.random.Generator, image: Image) -> NDArray[np.uint16]:
    noise = np.sqrt(_READ**2 + _GAIN * (image - _DARK).clip(0)) * rng.standard_normal(image.shape, np.float32)
    return np.rint(image + noise).clip(0, 65535).astype(np.uint16)


def _truth(frame: int, places: dict[int, Numbers], motion: _Motion, shape: tuple[int, ...]) -> pd.DataFrame:
    yx = motion.places(np.array(list(places.values())), frame)
    inside = ((yx >= 0) & (yx <= np.array(shape) - 1)).all(1)
    columns = {"frame": frame, "particle": np.array(list(places))[inside], "y": yx[inside, 0], "x": yx[inside, 1]}
    return pd.DataFrame(columns)
