"""Crops with known particles for training: single frames of the challenge's scenes and of real cameras."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, pi

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation import shot_noise
from streamtrack.simulation.render import Comet, Profile, add_spots, amplitude_from_snr, round_spot
from streamtrack.simulation.scenarios import AREA_PX, BACKGROUND_E, SCENARIO_NAMES, SCENARIOS, relative_amplitudes

Range = tuple[float, float]

POINTS_MARGIN_PX = 2.0
"""Particles count as points of a crop up to this far outside its pixels."""


@dataclass(frozen=True, slots=True)
class CropRanges:
    """What a crop may look like. Ranges are (low, high); each crop draws its own values, uniform unless said otherwise.

    Attributes
    ----------
    camera_fraction
        Share of crops as a real camera might give them; the others follow the challenge's model exactly: vesicles,
        receptors and microtubules in equal parts.
    camera_comet_fraction
        Share of comets among the real-camera crops; the others have round Gaussian spots.
    empty_fraction
        Share of crops without any particle.
    low_density_fraction
        Share of the other crops whose density is log-uniform; for the rest it is uniform.
    density
        Particles per 512x512 px.
    snr
        A / sqrt(A + local background) with the peak amplitude A, both in electrons.
    spot_sigma_px
        Round spots of real cameras.
    comet_front_px, comet_tail_px, comet_across_px
        Sigmas of the comets of real cameras.
    amplitude_log_sd
        Real cameras: standard deviation of the logarithm of the amplitude from particle to particle.
    background_e
        Real cameras: mean background in electrons, log-uniform.
    background_contrast, background_wave_px
        Real cameras: brightest over darkest background of a pattern of bright and dark patches, and its wave lengths
        along y and x, log-uniform.
    gain, offset_counts, read_noise_e
        Real cameras: counts per electron, log-uniform; counts in the dark; standard deviation of the read noise.
    """

    camera_fraction: float = 0.4
    camera_comet_fraction: float = 0.2
    empty_fraction: float = 0.06
    low_density_fraction: float = 0.5
    density: Range = (30.0, 1200.0)
    snr: Range = (0.9, 9.0)
    spot_sigma_px: Range = (0.8, 2.2)
    comet_front_px: Range = (1.1, 2.2)
    comet_tail_px: Range = (3.0, 9.0)
    comet_across_px: Range = (1.1, 2.2)
    amplitude_log_sd: Range = (0.0, 0.4)
    background_e: Range = (2.0, 400.0)
    background_contrast: Range = (1.0, 3.0)
    background_wave_px: Range = (96.0, 768.0)
    gain: Range = (0.2, 4.0)
    offset_counts: Range = (0.0, 200.0)
    read_noise_e: Range = (0.0, 3.0)


@dataclass(frozen=True, slots=True, eq=False)
class CropBatch:
    """Crops and the truth about them: ``noisy`` is ``signal + background`` plus noise, all in camera counts.

    Attributes
    ----------
    noisy
        Shape (B, S, S), float32, whole numbers >= 0.
    signal
        Shape (B, S, S), float32: the particles alone, without noise.
    background
        Shape (B, S, S), float32: background and camera offset, without noise.
    points
        Shape (M, 3), float32: crop index, y, x of the particles whose reference point (a comet's head) lies on the
        crop's pixels or up to 2 px outside.
    """

    noisy: NDArray[np.float32]
    signal: NDArray[np.float32]
    background: NDArray[np.float32]
    points: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Background:
    """Mean electrons per pixel: a product of a wave along y and one along x on the logarithmic scale."""

    mean_e: float
    log_amplitude: float = 0.0
    wave_px: Range = (AREA_PX, AREA_PX)
    phase: Range = (0.0, 0.0)

    def at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        along_y = np.cos(2 * pi * y / self.wave_px[0] + self.phase[0])
        along_x = np.cos(2 * pi * x / self.wave_px[1] + self.phase[1])
        return self.mean_e * np.exp(self.log_amplitude * along_y * along_x)


@dataclass(frozen=True, slots=True)
class _Camera:
    gain: float = 1.0
    offset_counts: float = 0.0
    read_noise_e: float = 0.0

    def expose(self, rng: np.random.Generator, mean_e: NDArray[np.float32]) -> NDArray[np.float32]:
        electrons = shot_noise.expose(rng, mean_e)
        if self.read_noise_e > 0:
            electrons += np.float32(self.read_noise_e) * rng.standard_normal(mean_e.shape, np.float32)
        counts: NDArray[np.float32] = np.rint(np.float32(self.gain) * electrons + np.float32(self.offset_counts))
        return np.maximum(counts, np.float32(0))


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    profile: Profile
    relative_amplitudes: Callable[[int], NDArray[np.float64]]
    background: _Background
    camera: _Camera


def sample_crops(rng: np.random.Generator, n_crops: int, size_px: int, ranges: CropRanges = CropRanges()) -> CropBatch:
    """Draw ``n_crops`` (at least 1) crops of ``size_px`` x ``size_px``, each from a scene of its own.

    Particles beyond the border shed their light into the crop. The same state of ``rng`` gives the same crops.
    """
    noisy, signal, background, points = zip(*(_sample_crop(rng, size_px, ranges) for _ in range(n_crops)), strict=True)
    index = np.repeat(np.arange(n_crops), [len(yx) for yx in points])
    return CropBatch(
        np.stack(noisy),
        np.stack(signal),
        np.stack(background),
        np.column_stack((index, *np.vstack(points).T)).astype("f4"),
    )


def _sample_crop(
    rng: np.random.Generator, size_px: int, ranges: CropRanges
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Return noisy, signal, background (S, S) and points (N, 2)."""
    scene = _camera_scene(rng, ranges) if rng.random() < ranges.camera_fraction else _challenge_scene(rng)
    snr = rng.uniform(*ranges.snr)
    y, x = _positions(rng, size_px, scene.profile.reach_px, ranges)
    amplitude = amplitude_from_snr(snr, scene.background.at(y, x)) * scene.relative_amplitudes(len(y))
    signal_e = np.zeros((size_px, size_px), np.float32)
    add_spots(signal_e, y, x, amplitude, rng.uniform(0, 2 * pi, len(y)), scene.profile)
    pixel = np.arange(size_px, dtype=np.float64)
    background_e = scene.background.at(pixel[:, None], pixel).astype(np.float32)

    gain, offset = np.float32(scene.camera.gain), np.float32(scene.camera.offset_counts)
    edge = 0.5 + POINTS_MARGIN_PX
    near = (np.minimum(y, x) >= -edge) & (np.maximum(y, x) <= size_px - 1 + edge)
    return (
        scene.camera.expose(rng, signal_e + background_e),
        gain * signal_e,
        gain * background_e + offset,
        np.column_stack((y[near], x[near])),
    )


def _positions(
    rng: np.random.Generator, size_px: int, reach_px: float, ranges: CropRanges
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw y and x, uniform over the crop and as far around it as light reaches into it."""
    side_px = size_px + 2 * reach_px
    n = rng.poisson(_density(rng, ranges) * (side_px / AREA_PX) ** 2)
    y, x = rng.uniform(-0.5 - reach_px, size_px - 0.5 + reach_px, (2, n))
    return y, x


def _density(rng: np.random.Generator, ranges: CropRanges) -> float:
    if rng.random() < ranges.empty_fraction:
        return 0.0
    if rng.random() < ranges.low_density_fraction:
        return _log_uniform(rng, ranges.density)
    return rng.uniform(*ranges.density)


def _challenge_scene(rng: np.random.Generator) -> _Scene:
    scenario = SCENARIO_NAMES[rng.integers(len(SCENARIO_NAMES))]
    return _Scene(
        SCENARIOS[scenario].profile,
        lambda n: relative_amplitudes(rng, scenario, n),
        _Background(BACKGROUND_E),
        _Camera(),
    )


def _camera_scene(rng: np.random.Generator, ranges: CropRanges) -> _Scene:
    if rng.random() < ranges.camera_comet_fraction:
        sigmas = (ranges.comet_front_px, ranges.comet_tail_px, ranges.comet_across_px)
        profile = Comet(*(rng.uniform(*sigma) for sigma in sigmas))
    else:
        profile = round_spot(rng.uniform(*ranges.spot_sigma_px))
    log_sd = rng.uniform(*ranges.amplitude_log_sd)
    background = _Background(
        mean_e=_log_uniform(rng, ranges.background_e),
        log_amplitude=log(rng.uniform(*ranges.background_contrast)) / 2,
        wave_px=(_log_uniform(rng, ranges.background_wave_px), _log_uniform(rng, ranges.background_wave_px)),
        phase=(rng.uniform(0, 2 * pi), rng.uniform(0, 2 * pi)),
    )
    camera = _Camera(
        _log_uniform(rng, ranges.gain), rng.uniform(*ranges.offset_counts), rng.uniform(*ranges.read_noise_e)
    )
    return _Scene(profile, lambda n: rng.lognormal(0.0, log_sd, n), background, camera)


def _log_uniform(rng: np.random.Generator, limits: Range) -> float:
    return exp(rng.uniform(log(limits[0]), log(limits[1])))
