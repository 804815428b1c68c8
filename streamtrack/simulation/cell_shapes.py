"""What single cells look like: ellipses with a wavy outline and a bay perhaps, darker and brighter parts inside."""

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

_NOTCHED = 2.0
_VISIBLE = 0.4  # of a cell's brightest part: where anyone would draw its outline
_WIDEST = 2.1  # times the radius: how far an outline reaches at most


@dataclass(frozen=True, slots=True)
class CellKind:
    """What the cells of one crop have in common.

    Attributes
    ----------
    radius_px, log_sd
        Of a disc of a typical cell's area; standard deviation of its logarithm.
    elongation
        How much longer than wide cells are, by standard deviations of a normal distribution.
    waviness
        Of the outlines, in radii.
    dome
        How much dimmer a cell is where it ends: 0 not at all.
    ring
        How much of the light in the middle is missing, 0 to 1.
    texture
        Standard deviation of the light inside.
    holes
        Mean number of darker, or brighter, parts.
    brightness_log_sd
        Standard deviation of the logarithm of how bright cells are.
    huddled
        Share of the cells that are put beside another one.
    overlap
        Share of a cell that may lie under others.
    small
        Share of fragments and small cells.
    """

    radius_px: float
    log_sd: float
    elongation: float
    waviness: float
    dome: float
    ring: float
    texture: float
    holes: float
    brightness_log_sd: float
    huddled: float
    overlap: float
    small: float


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One cell on a small square image of its own: its light, which pixels are inside, and its radius."""

    light: Image
    inside: NDArray[np.bool_]
    radius_px: float

    @property
    def area_px(self) -> float:
        """Return how many pixels are inside."""
        return float(np.count_nonzero(self.inside))


def draw_cell(rng: np.random.Generator, kind: CellKind) -> Cell:
    """Draw a cell of a kind, now and then a fragment or a bright one that divides."""
    radius, brightness = kind.radius_px * rng.lognormal(0, kind.log_sd), rng.lognormal(0, kind.brightness_log_sd)
    aspect, waviness = 1 + kind.elongation * abs(rng.normal()), kind.waviness
    if rng.random() < kind.small:  # fragments, or what divides
        radius, brightness = radius * rng.uniform(0.3, 0.65), brightness * rng.uniform(0.7, 3.0)
    elif rng.random() < 0.04:
        radius, brightness, aspect = radius * rng.uniform(0.6, 0.9), brightness * rng.uniform(2, 5), rng.uniform(1, 2.5)
    return draw_shape(rng, kind, max(radius, 2.0), min(aspect, 3.5), waviness, brightness)


def draw_shape(
    rng: np.random.Generator, kind: CellKind, radius: float, aspect: float, waviness: float, brightness: float
) -> Cell:
    """Draw a cell of some radius (px), length over width, waviness and brightness."""
    reach = int(np.ceil(radius * min(_WIDEST, sqrt(aspect) * (1 + 3 * waviness)))) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    shift = rng.uniform(-0.5, 0.5, 2)
    turn = rng.uniform(0, pi)
    along = ((y - shift[0]) * np.sin(turn) + (x - shift[1]) * np.cos(turn)) / sqrt(aspect)
    across = ((y - shift[0]) * np.cos(turn) - (x - shift[1]) * np.sin(turn)) * sqrt(aspect)
    angle = np.arctan2(across, along)
    outline = np.ones_like(angle)
    for order in range(2, 6):
        outline += np.float32(waviness * rng.normal() / (order - 1)) * np.cos(order * angle + rng.uniform(0, 2 * pi))
    reached = np.hypot(along, across) / (radius * outline.clip(0.45, 1.6))
    edge = ((1 - reached) * radius + 0.5).clip(0, 1)  # a pixel wide
    profile = edge * (1 - reached.clip(0, 1) ** 2 + 0.02) ** np.float32(kind.dome * rng.uniform(0.5, 1.0))
    inside = profile > _VISIBLE
    if kind.ring:
        profile *= 1 - kind.ring * np.exp(-((reached / 0.75) ** 4)).astype(np.float32)
    if rng.random() < _NOTCHED * kind.waviness:
        profile *= _notch(rng, y, x, radius)
        inside &= profile > _VISIBLE * profile.max()
    for _ in range(rng.poisson(kind.holes)):
        profile *= _hole(rng, y, x, radius)
    return Cell((brightness * profile).astype(np.float32), inside, radius)


def _notch(rng: np.random.Generator, y: Image, x: Image, radius: float) -> Image:
    """Return what a bay in the outline leaves of the light: cells that look like kidneys."""
    heading, size = rng.uniform(0, 2 * pi), radius * rng.uniform(0.2, 0.5)
    away = np.hypot(y - radius * np.sin(heading), x - radius * np.cos(heading)) / size
    return np.asarray(1 / (1 + np.exp(((1 - away) * 6).clip(-30, 30))), np.float32)


def _hole(rng: np.random.Generator, y: Image, x: Image, radius: float) -> Image:
    """Return what a nucleolus leaves of the light, or what a bright grain makes of it."""
    centre, size = rng.normal(0, 0.4 * radius, 2), radius * rng.uniform(0.08, 0.28)
    depth = rng.uniform(0.1, 0.7) if rng.random() < 0.7 else -rng.uniform(0.1, 0.8)
    away = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return np.asarray(1 - depth * np.exp(-away / (2 * size**2)), np.float32)
