"""Particles of five kinds, and what is none: for what tells them apart."""

from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.camera import Camera
from streamtrack.simulation.render import Comet, add_spots, amplitude_from_snr, round_spot

Kind = Literal["vesicle", "comet", "doublet", "hot_pixel", "debris"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DOUBLET_PX = (3.0, 6.0)
"""How far apart the two of a doublet are."""

_NEIGHBOUR_PX = 9.0  # others are further away, or they would be doublets
_SCRATCH_PX = 65


@dataclass(frozen=True, slots=True)
class Spot:
    """A part of a particle: where, from its centre, px; its height; and its profile, with the heading of a comet."""

    dy: float
    dx: float
    height: float
    heading: float
    profile: Comet | None
    """None lights a single pixel."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one particle looks like in every frame: its brightest point is 1."""

    kind: Kind
    spots: tuple[Spot, ...]

    def add_to(self, image_e: NDArray[np.float32], y: float, x: float, amplitude_e: float) -> None:
        """Draw the particle, without noise, with its centre at (y, x) px."""
        for spot in self.spots:
            at, height_e = (y + spot.dy, x + spot.dx), amplitude_e * spot.height
            if spot.profile is None:
                _light_pixel(image_e, *at, height_e)
            else:
                row, column, peak_e, heading = (np.array([value]) for value in (*at, height_e, spot.heading))
                add_spots(image_e, row, column, peak_e, heading, spot.profile)


def _light_pixel(image_e: NDArray[np.float32], y: float, x: float, amplitude_e: float) -> None:
    row, column = round(y), round(x)
    if 0 <= row < image_e.shape[0] and 0 <= column < image_e.shape[1]:
        image_e[row, column] += np.float32(amplitude_e)


def random_look(rng: np.random.Generator, kind: Kind, sigma_px: float) -> Look:
    """Return a particle of a kind as it is seen through a microscope whose points have a sigma, px."""
    make = {"comet": _comet, "doublet": _doublet, "debris": _debris}
    if kind in make:
        return Look(kind, make[kind](rng, sigma_px))
    return Look(kind, (Spot(0.0, 0.0, 1.0, 0.0, round_spot(sigma_px) if kind == "vesicle" else None),))


def _comet(rng: np.random.Generator, sigma_px: float) -> tuple[Spot, ...]:
    profile = Comet(sigma_px, sigma_px * rng.uniform(3.0, 6.0), sigma_px * rng.uniform(1.0, 1.25))
    return (Spot(0.0, 0.0, 1.0, rng.uniform(0, 2 * pi), profile),)


def _doublet(rng: np.random.Generator, sigma_px: float) -> tuple[Spot, ...]:
    """Return two round spots; the centre is one of them, or between them where a detector would say so."""
    apart, angle = rng.uniform(*DOUBLET_PX), rng.uniform(0, 2 * pi)
    first = rng.choice((-0.5, 0.0, -1.0)) if apart < 3.5 * sigma_px else rng.choice((0.0, -1.0))
    heights = rng.permutation((1.0, rng.uniform(0.7, 1.0)))
    return tuple(
        Spot(sin(angle) * apart * place, cos(angle) * apart * place, float(height), 0.0, round_spot(sigma_px))
        for place, height in zip((first, first + 1), heights, strict=True)
    )


def _debris(rng: np.random.Generator, sigma_px: float) -> tuple[Spot, ...]:
    """Return an irregular lump, whose parts overlap; the centre is near its brightest point."""
    sigma = rng.uniform(3.0, 8.0)
    parts = []
    for dy, dx in rng.normal(0.0, 0.6 * sigma, (rng.integers(3, 7), 2)).tolist():
        across = sigma * rng.uniform(0.4, 1.0)
        length = across * rng.uniform(1.0, 2.0)
        parts.append(Spot(dy, dx, rng.uniform(0.4, 1.0), rng.uniform(0, 2 * pi), Comet(length, length, across)))
    image = np.zeros((_SCRATCH_PX, _SCRATCH_PX), np.float32)
    middle = _SCRATCH_PX // 2
    Look("debris", tuple(parts)).add_to(image, middle, middle, 1.0)
    top_y, top_x = np.unravel_index(int(image.argmax()), image.shape)
    centred = (replace(part, dy=part.dy + middle - top_y, dx=part.dx + middle - top_x) for part in parts)
    return tuple(replace(part, height=part.height / float(image.max())) for part in centred)


def kind_patches(
    rng: np.random.Generator, n: int, size_px: int, snr: tuple[float, float], n_frames: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw particles, each kind as often, each by another camera and in the middle of a patch.

    Parameters
    ----------
    n
        How many.
    size_px
        Height and width of the patches.
    snr
        Lowest and highest A / sqrt(A + background) with the peak amplitude A, both in electrons; log-uniform.
    n_frames
        How often each particle is seen, always a little elsewhere.

    Returns
    -------
    patches, kinds
        (n, n_frames, size_px, size_px) float32, counts; (n,) int64, index in `KINDS`.
    """
    kinds = rng.permutation(np.arange(n) % len(KINDS))
    patches = np.empty((n, n_frames, size_px, size_px), np.float32)
    for patch, kind in zip(patches, kinds, strict=True):
        _draw(rng, patch, KINDS[kind], float(np.exp(rng.uniform(*np.log(snr)))))
    return patches, kinds


def _draw(rng: np.random.Generator, patch: NDArray[np.float32], kind: Kind, snr: float) -> None:
    sigma_px, background_e = rng.uniform(0.9, 1.4), float(np.exp(rng.uniform(*np.log((4.0, 200.0)))))
    amplitude_e = float(amplitude_from_snr(snr, background_e))
    camera = Camera(
        gain=rng.uniform(0.5, 4.0), offset_counts=rng.uniform(0.0, 200.0), read_noise_e=rng.uniform(0.0, 2.0)
    )
    look, others = random_look(rng, kind, sigma_px), _others(rng, patch.shape[-1], sigma_px)
    middle = patch.shape[-1] // 2
    for frame in patch:
        image_e = np.full(frame.shape, background_e, np.float32)
        dy, dx = rng.normal(0.0, 0.3, 2) + rng.uniform(-0.5, 0.5, 2)  # an error, and rounding to a pixel
        look.add_to(image_e, middle + dy, middle + dx, amplitude_e)
        for other, y, x in others:
            other.add_to(image_e, middle + y, middle + x, amplitude_e)
        frame[:] = camera.expose(rng, image_e)


def _others(rng: np.random.Generator, size_px: int, sigma_px: float) -> list[tuple[Look, float, float]]:
    """Return the neighbours of a particle, and where they are: too far to be one with it."""
    places = rng.uniform(-size_px / 2 - 3, size_px / 2 + 3, (rng.poisson(0.7), 2))
    far = places[np.hypot(*places.T) > _NEIGHBOUR_PX]
    return [(random_look(rng, "vesicle", sigma_px), y, x) for y, x in far.tolist()]
