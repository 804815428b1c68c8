"""Simulated crops round particles whose centre, diameter and light are known: spots, rings, and bright field."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi
from typing import Literal, get_args

import torch
from torch import Tensor

Particle = Literal["spot", "ring", "bright_field"]
PARTICLES: tuple[Particle, ...] = get_args(Particle)

FWHM = 2.354820045
"""Of a Gaussian, in sigmas: the diameter of a spot."""

_NEAR_PX = 0.7  # half of the crops are as rounded to a pixel, as after a first look
_MARGIN_PX = 4.0  # from particle to neighbour, besides the diameter


@dataclass(frozen=True, slots=True, eq=False)
class PlacedCrops:
    """Simulated crops, and the truth.

    Attributes
    ----------
    counts
        (N, P, P) float32.
    truth
        (N, 4), as `streamtrack_engines.places.networks.QUANTITIES`; the light of bright field is NaN.
    """

    counts: Tensor
    truth: Tensor


@dataclass(frozen=True, slots=True)
class Ranges:
    """Of what the simulated particles are drawn.

    Attributes
    ----------
    snr
        Of the brightest point: A / sqrt(A + background), both in electrons; log-uniform. Of bright field: the largest
        change of the light over its noise.
    offset_px
        The particle's centre lies up to this far from the middle of the crop, along each axis.
    diameter_px
        Of spots: FWHM; of rings: of the brightest circle; in bright field: of the particle. Log-uniform.
    background_e
        Log-uniform.
    neighbours
        How many there are on average.
    slope
        How much the background rises across the crop at most, as a share of the amplitude.
    """

    snr: tuple[float, float] = (1.0, 30.0)
    offset_px: float = 3.0
    diameter_px: tuple[float, float] = (1.9, 5.5)
    background_e: tuple[float, float] = (4.0, 400.0)
    neighbours: float = 0.5
    slope: float = 0.3


def simulated(
    generator: torch.Generator, n: int, size_px: int, kinds: Sequence[Particle], ranges: Ranges, n_frames: int = 1
) -> PlacedCrops:
    """Draw particles, each kind as often; each is seen in some frames, with the same light and another offset.

    Returns
    -------
    PlacedCrops
        Of n * n_frames crops, the frames of one particle after each other.
    """
    draw = _Draws(generator, n)
    diameter, snr, ground = (
        draw.log_uniform(*limits) for limits in (ranges.diameter_px, ranges.snr, ranges.background_e)
    )
    amplitude = (snr**2 + (snr**4 + 4 * snr**2 * ground).sqrt()) / 2
    profile = _Profile(draw, kinds, diameter)
    is_bright_field = profile.is_kind("bright_field")
    amplitude = torch.where(is_bright_field, snr * ground.sqrt(), amplitude)
    sign = torch.where(is_bright_field & (draw.uniform(0, 1) < 0.5), -1.0, 1.0)
    camera = draw.uniform(0.5, 4.0), draw.uniform(0.0, 200.0), draw.uniform(0.0, 2.0) * ~is_bright_field
    counts, truth = [], []
    for _ in range(n_frames):
        reach = torch.where(draw.uniform(0, 1) < 0.5, min(_NEAR_PX, ranges.offset_px), ranges.offset_px)
        offsets = torch.stack([draw.uniform(-1, 1) * reach for _ in range(2)], 1)
        image = profile.image(size_px, offsets)
        angle, distance = draw.uniform(0, 2 * pi), diameter + _MARGIN_PX + draw.uniform(0, 6)
        beside = offsets + distance[:, None] * torch.stack([angle.sin(), angle.cos()], 1)
        has_neighbour = draw.uniform(0, 1) < ranges.neighbours
        image = image + (has_neighbour * draw.uniform(0.4, 1.2))[:, None, None] * profile.image(size_px, beside)
        image = sign[:, None, None] * image + ranges.slope * _plane(draw, size_px)
        counts.append(_exposed(generator, image * amplitude[:, None, None], ground, is_bright_field, camera))
        light = torch.where(is_bright_field, torch.nan, amplitude * profile.total() * camera[0])
        truth.append(torch.stack([*offsets.T, diameter.log(), light.log()], 1))
    return PlacedCrops(torch.stack(counts, 1).flatten(0, 1), torch.stack(truth, 1).flatten(0, 1))


class _Draws:
    """Draws one number for each of n particles."""

    def __init__(self, generator: torch.Generator, n: int) -> None:
        self.generator, self.n = generator, n

    def uniform(self, least: float, most: float) -> Tensor:
        return least + (most - least) * torch.rand(self.n, generator=self.generator)

    def log_uniform(self, least: float, most: float) -> Tensor:
        return self.uniform(log(least), log(most)).exp()


class _Profile:
    """The light of particles over the distance from their centres; its largest value is 1."""

    def __init__(self, draw: _Draws, kinds: Sequence[Particle], diameter: Tensor) -> None:
        numbers = torch.tensor([PARTICLES.index(kind) for kind in kinds])
        self._kind = numbers[torch.arange(draw.n) % len(kinds)]
        self._diameter = diameter
        self._wall = draw.uniform(0.8, 2.0)  # sigma of a ring's, px
        self._wave, self._phase, self._decay = draw.uniform(3.0, 8.0), draw.uniform(0, 2 * pi), draw.uniform(1.5, 5.0)
        self._inside = draw.uniform(-1.0, 1.0)

    def is_kind(self, kind: Particle) -> Tensor:
        return self._kind == PARTICLES.index(kind)

    def total(self) -> Tensor:
        """Return the light of a particle of amplitude 1."""
        radius, wall = self._diameter / 2, self._wall
        apart = radius / wall
        inner = torch.exp(-(apart**2) / 2) + apart * (pi / 2) ** 0.5 * (1 + torch.erf(apart / 2**0.5))
        spot = 2 * pi * (self._diameter / FWHM) ** 2
        return torch.where(self.is_kind("ring"), 2 * pi * wall**2 * inner, spot)

    def image(self, size_px: int, offsets: Tensor) -> Tensor:
        """Return images (N, P, P) with the particles at offsets (N, 2) from the middle, px."""
        side = torch.arange(size_px) - float(size_px // 2)
        squares = (side - offsets[:, :, None]) ** 2
        far = squares[:, 0, :, None] + squares[:, 1, None, :]
        out = torch.empty_like(far)
        for kind in PARTICLES:
            which = self.is_kind(kind)
            if which.any():
                out[which] = getattr(self, f"_{kind}")(far[which], which)
        return out

    def _spot(self, far: Tensor, which: Tensor) -> Tensor:
        return torch.exp(-0.5 * far / (self._diameter[which, None, None] / FWHM) ** 2)

    def _ring(self, far: Tensor, which: Tensor) -> Tensor:
        away = far.sqrt() - self._diameter[which, None, None] / 2
        return torch.exp(-0.5 * (away / self._wall[which, None, None]) ** 2)

    def _bright_field(self, far: Tensor, which: Tensor) -> Tensor:
        """Return a disc with a soft edge, and fringes round it that fade away."""
        radius, wave, phase, decay, inside = (
            each[which, None, None] for each in (self._diameter / 2, self._wave, self._phase, self._decay, self._inside)
        )
        away = far.sqrt() - radius
        fringes = torch.cos(2 * pi * away / wave + phase) * torch.exp(-away.abs() / decay)
        image = inside * torch.sigmoid(-away / 0.6) + fringes
        return image / image.abs().amax((-2, -1), keepdim=True).clamp(min=0.3)


def _plane(draw: _Draws, size_px: int) -> Tensor:
    side = torch.linspace(-0.5, 0.5, size_px)
    angle, slope = draw.uniform(0, 2 * pi), draw.uniform(0, 1)
    along = (slope * angle.sin())[:, None, None] * side[:, None] + (slope * angle.cos())[:, None, None] * side
    return along


def _exposed(
    generator: torch.Generator,
    image_e: Tensor,
    ground: Tensor,
    is_bright_field: Tensor,
    camera: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Return counts: shot noise and read noise; in bright field the noise of the background everywhere."""
    gain, offset, read_noise = (each[:, None, None] for each in camera)
    level = ground[:, None, None]
    mean = (level + image_e).clamp(min=0)
    noise = torch.randn(mean.shape, generator=generator)
    electrons = torch.poisson(mean, generator)
    bright_field = is_bright_field[:, None, None]
    electrons = torch.where(bright_field, level + image_e + level.sqrt() * noise, electrons + read_noise * noise)
    return gain * electrons + offset
