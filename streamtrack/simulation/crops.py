"""Crops with known particles for training: a few frames each of the challenge's scenes and of real cameras."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.backgrounds import Background, haze, random_waves
from streamtrack.simulation.camera import CHALLENGE_CAMERA, Camera, hot_pixels
from streamtrack.simulation.motion import simulate_moments
from streamtrack.simulation.render import Comet, add_spots, amplitude_from_snr, round_spot
from streamtrack.simulation.scenarios import (
    BACKGROUND_E,
    SCENARIO_NAMES,
    SCENARIOS,
    Scenario,
    ScenarioName,
    relative_amplitudes,
)

Range = tuple[float, float]

POINTS_MARGIN_PX = 2.0
"""Particles count as points of a crop up to this far outside its pixels."""

LOG_UNIFORM = ("density", "snr", "brownian_sigma_px", "background_e", "background_wave_px", "gain", "hot_share")
"""Ranges of `CropRanges` that must lie above 0."""

_SCENARIO_SHARES = tuple({"vesicle": 0.25, "receptor": 0.25, "microtubule": 0.5}[name] for name in SCENARIO_NAMES)
"""Heads of comets are the hardest to find."""

_HAZE_SIGMA_PX = (4.0, 20.0)
_MEMORYLESS_STEP_PX = 30.0


@dataclass(frozen=True, slots=True)
class CropRanges:
    """What a crop may look like. Ranges are (low, high); each crop draws its own values, uniform unless said otherwise.

    Attributes
    ----------
    camera_fraction
        Share of crops as a real camera might give them; the others follow the challenge's model exactly: half of them
        microtubules, a quarter vesicles, a quarter receptors.
    camera_comet_fraction
        Share of comets among the real-camera crops; the others have round Gaussian spots.
    empty_fraction
        Share of crops without any particle.
    low_density_fraction
        Share of the other crops whose density is log-uniform; for the rest it is uniform.
    first_frame_fraction
        Share of crops without the frames before the current one, as at the start of a movie or after a loss; in a third
        of them only the oldest is missing.
    density
        Particles per 512x512 px.
    snr
        A / sqrt(A + local background) with the peak amplitude A, both in electrons and without haze; log-uniform.
    brownian_sigma_px, speed_px, death
        Real cameras: steps per axis and frame, log-uniform; speed of directed motion, px per frame; chance to vanish
        from one frame to the next.
    memoryless_fraction
        Real cameras: share of crops whose particles move so far that the frames before tell nothing.
    spot_sigma_px
        Round spots of real cameras.
    comet_front_px, comet_tail_px, comet_across_px
        Sigmas of the comets of real cameras.
    amplitude_log_sd, flicker_log_sd
        Real cameras: standard deviation of the logarithm of the amplitude from particle to particle, and of each
        particle from frame to frame.
    background_e
        Real cameras: mean background in electrons, log-uniform.
    background_contrast, background_wave_px
        Real cameras: brightest over darkest background of a pattern of waves, and their lengths, log-uniform.
    cell_fraction
        Real cameras: share of crops whose particles lie in some parts of the image only, as in cells.
    haze_fraction, haze_spots
        Real cameras: share of crops with light from out of focus, and the number of its spots.
    gain, offset_counts, read_noise_e
        Real cameras: counts per electron, log-uniform; counts in the dark; standard deviation of the read noise.
    electron_multiplying_fraction
        Real cameras: share of EMCCDs.
    faulty_fraction, hot_share, column_noise
        Real cameras: share of those with hot pixels and uneven columns; how many of the pixels are hot, log-uniform;
        standard deviation of the columns in units of the noise.
    saturated_fraction
        Real cameras: share of crops that are cut off between the mean background and a particle's peak.
    smoothed_fraction, smoothing_sigma_px
        Real cameras: share of crops that went through a Gaussian filter, and its sigma.
    """

    camera_fraction: float = 0.4
    camera_comet_fraction: float = 0.2
    empty_fraction: float = 0.2
    low_density_fraction: float = 0.5
    first_frame_fraction: float = 0.15
    density: Range = (20.0, 1500.0)
    snr: Range = (0.8, 12.0)
    brownian_sigma_px: Range = (0.05, 4.0)
    speed_px: Range = (0.0, 8.0)
    death: Range = (0.01, 0.15)
    memoryless_fraction: float = 0.1
    spot_sigma_px: Range = (0.8, 2.5)
    comet_front_px: Range = (1.1, 2.2)
    comet_tail_px: Range = (3.0, 9.0)
    comet_across_px: Range = (1.1, 2.2)
    amplitude_log_sd: Range = (0.0, 0.5)
    flicker_log_sd: Range = (0.0, 0.2)
    background_e: Range = (2.0, 400.0)
    background_contrast: Range = (1.0, 4.0)
    background_wave_px: Range = (24.0, 768.0)
    cell_fraction: float = 0.25
    haze_fraction: float = 0.3
    haze_spots: Range = (0.0, 12.0)
    gain: Range = (0.2, 4.0)
    offset_counts: Range = (0.0, 200.0)
    read_noise_e: Range = (0.0, 3.0)
    electron_multiplying_fraction: float = 0.25
    faulty_fraction: float = 0.3
    hot_share: Range = (1e-5, 1e-3)
    column_noise: Range = (0.0, 0.3)
    saturated_fraction: float = 0.1
    smoothed_fraction: float = 0.15
    smoothing_sigma_px: Range = (0.4, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class CropBatch:
    """Crops and the truth about one frame of each, the current one, in camera counts.

    Attributes
    ----------
    noisy
        Shape (B, T, S, S), float32, whole numbers >= 0: T frames in a row. A frame that is not known is all zeros.
    signal
        Shape (B, S, S), float32: the particles of the current frame alone, without noise.
    background
        Shape (B, S, S), float32: background, haze and camera offset, without noise or faults of the camera.
    points
        Shape (M, 3), float32: crop index, y, x of the particles whose reference point (a comet's head) lies on the
        crop's pixels or up to 2 px outside, in the current frame.
    """

    noisy: NDArray[np.float32]
    signal: NDArray[np.float32]
    background: NDArray[np.float32]
    points: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    motion: Scenario
    relative_amplitudes: Callable[[int], NDArray[np.float64]]
    snr: float
    background: Background
    haze_e: NDArray[np.float32] | float = 0.0
    camera: Camera = CHALLENGE_CAMERA
    flicker_log_sd: float = 0.0
    cells: Background | None = None
    """Particles are where this is above 1."""


@dataclass(frozen=True, slots=True, eq=False)
class _Crop:
    noisy: NDArray[np.float32]
    signal: NDArray[np.float32]
    background: NDArray[np.float32]
    points: NDArray[np.float64]


def sample_crops(
    rng: np.random.Generator,
    n_crops: int,
    size_px: int,
    ranges: CropRanges = CropRanges(),
    *,
    n_before: int = 0,
    n_after: int = 0,
) -> CropBatch:
    """Draw ``n_crops`` (at least 1) crops of ``size_px`` x ``size_px``, each from a scene of its own.

    Each shows ``n_before`` frames, the current one, and ``n_after`` more. Particles beyond the border shed their light
    into the crop. The same state of ``rng`` gives the same crops.
    """
    crops = [_sample_crop(rng, size_px, n_before, n_after, ranges) for _ in range(n_crops)]
    index = np.repeat(np.arange(n_crops), [len(crop.points) for crop in crops])
    return CropBatch(
        np.stack([crop.noisy for crop in crops]),
        np.stack([crop.signal for crop in crops]),
        np.stack([crop.background for crop in crops]),
        np.column_stack((index, *np.vstack([crop.points for crop in crops]).T)).astype("f4"),
    )


def _sample_crop(rng: np.random.Generator, size_px: int, n_before: int, n_after: int, ranges: CropRanges) -> _Crop:
    snr = _log_uniform(rng, ranges.snr)
    is_camera = rng.random() < ranges.camera_fraction
    scene = _camera_scene(rng, snr, size_px, ranges) if is_camera else _challenge_scene(rng, snr)
    n_frames = n_before + 1 + n_after
    moments = simulate_moments(rng, scene.motion, _density(rng, ranges), n_frames, (size_px, size_px))
    brightness = scene.relative_amplitudes(1 + max(int(p["particle"].max(initial=-1)) for p in moments))
    pixel = np.arange(size_px, dtype=np.float32)
    background_e = scene.background.at(pixel[:, None], pixel) + scene.haze_e
    noisy = np.zeros((n_frames, size_px, size_px), np.float32)
    moments = [_in_cells(scene, particles) for particles in moments]
    signals_e = [_draw(rng, scene, particles, brightness, size_px) for particles in moments]
    for frame in range(_first_known(rng, n_before, ranges), n_frames):
        noisy[frame] = scene.camera.expose(rng, signals_e[frame] + background_e)
    gain, offset = np.float32(scene.camera.gain), np.float32(scene.camera.offset_counts)
    points = _points(moments[n_before], size_px)
    return _Crop(noisy, gain * signals_e[n_before], gain * background_e + offset, points)


def _first_known(rng: np.random.Generator, n_before: int, ranges: CropRanges) -> int:
    """Return the first frame that is known: 0, unless this is a crop without some or all of those before."""
    if n_before == 0 or rng.random() >= ranges.first_frame_fraction:
        return 0
    return 1 if rng.random() < 1 / 3 else n_before


def _in_cells(scene: _Scene, particles: NDArray[np.void]) -> NDArray[np.void]:
    return particles if scene.cells is None else particles[scene.cells.at(particles["y"], particles["x"]) > 1]


def _draw(
    rng: np.random.Generator,
    scene: _Scene,
    particles: NDArray[np.void],
    brightness: NDArray[np.float64],
    size_px: int,
) -> NDArray[np.float32]:
    """Return the electrons (S, S) of the particles of one frame."""
    y, x = particles["y"], particles["x"]
    amplitude = amplitude_from_snr(scene.snr, scene.background.at(y, x)) * brightness[particles["particle"]]
    if scene.flicker_log_sd:
        amplitude *= rng.lognormal(0.0, scene.flicker_log_sd, len(y))
    image = np.zeros((size_px, size_px), np.float32)
    add_spots(image, y, x, amplitude, np.arctan2(particles["vy"], particles["vx"]), scene.motion.profile)
    return image


def _points(particles: NDArray[np.void], size_px: int) -> NDArray[np.float64]:
    """Return y, x (N, 2) of the particles on the crop or just outside."""
    y, x = particles["y"], particles["x"]
    edge = 0.5 + POINTS_MARGIN_PX
    near = (np.minimum(y, x) >= -edge) & (np.maximum(y, x) <= size_px - 1 + edge)
    return np.column_stack((y[near], x[near]))


def _density(rng: np.random.Generator, ranges: CropRanges) -> float:
    if rng.random() < ranges.empty_fraction:
        return 0.0
    if rng.random() < ranges.low_density_fraction:
        return _log_uniform(rng, ranges.density)
    return rng.uniform(*ranges.density)


def _challenge_scene(rng: np.random.Generator, snr: float) -> _Scene:
    name: ScenarioName = rng.choice(SCENARIO_NAMES, p=_SCENARIO_SHARES)
    return _Scene(SCENARIOS[name], lambda n: relative_amplitudes(rng, name, n), snr, Background(BACKGROUND_E))


def _camera_scene(rng: np.random.Generator, snr: float, size_px: int, ranges: CropRanges) -> _Scene:
    background = Background(
        _log_uniform(rng, ranges.background_e),
        random_waves(rng, 4, rng.uniform(*ranges.background_contrast), ranges.background_wave_px),
    )
    peak_e = float(amplitude_from_snr(snr, background.mean_e))
    log_sd = rng.uniform(*ranges.amplitude_log_sd)
    has_haze, has_cells = rng.random(2) < (ranges.haze_fraction, ranges.cell_fraction)
    n_haze = rng.poisson(rng.uniform(*ranges.haze_spots)) if has_haze else 0
    return _Scene(
        motion=_camera_motion(rng, ranges),
        relative_amplitudes=lambda n: rng.lognormal(0.0, log_sd, n),
        snr=snr,
        background=background,
        haze_e=haze(rng, size_px, n_haze, _HAZE_SIGMA_PX, peak_e),
        camera=_camera(rng, size_px, background.mean_e, peak_e, ranges),
        flicker_log_sd=rng.uniform(*ranges.flicker_log_sd),
        cells=Background(1.0, random_waves(rng, 3, 2.0, (64.0, 512.0))) if has_cells else None,
    )


def _camera_motion(rng: np.random.Generator, ranges: CropRanges) -> Scenario:
    """Draw how the particles of a real-camera crop look and move."""
    if rng.random() < ranges.camera_comet_fraction:
        sigmas = (ranges.comet_front_px, ranges.comet_tail_px, ranges.comet_across_px)
        profile = Comet(*(rng.uniform(*sigma) for sigma in sigmas))
    else:
        profile = round_spot(rng.uniform(*ranges.spot_sigma_px))
    slowest, fastest = sorted(rng.uniform(*ranges.speed_px, 2))
    to_directed, to_brownian = rng.uniform(0.0, 0.3, 2) * (rng.random(2) < 0.7)
    directed = to_directed / max(to_directed + to_brownian, 1e-9)
    motion = Scenario(
        profile,
        death=rng.uniform(*ranges.death),
        brownian_sigma_px=_log_uniform(rng, ranges.brownian_sigma_px),
        speed_px=(slowest, fastest),
        velocity_walk_px=rng.uniform(0.0, 0.9),
        to_directed=to_directed,
        to_brownian=to_brownian,
        first_directed=directed,
        mean_directed=directed,
    )
    if rng.random() < ranges.memoryless_fraction:
        return replace(
            motion, brownian_sigma_px=_MEMORYLESS_STEP_PX, to_directed=0.0, first_directed=0.0, mean_directed=0.0
        )
    return motion


def _camera(rng: np.random.Generator, size_px: int, background_e: float, peak_e: float, ranges: CropRanges) -> Camera:
    camera = Camera(
        gain=_log_uniform(rng, ranges.gain),
        offset_counts=rng.uniform(*ranges.offset_counts),
        read_noise_e=rng.uniform(*ranges.read_noise_e),
        electron_multiplying=rng.random() < ranges.electron_multiplying_fraction,
    )
    if rng.random() < ranges.faulty_fraction:
        noise_e = sqrt(background_e + camera.read_noise_e**2)
        dark_e = hot_pixels(rng, (size_px, size_px), _log_uniform(rng, ranges.hot_share), 100 * noise_e)
        dark_e += np.float32(noise_e * rng.uniform(*ranges.column_noise)) * rng.standard_normal(size_px, np.float32)
        camera = replace(camera, dark_e=dark_e)
    if rng.random() < ranges.saturated_fraction:
        brightest_e = background_e + rng.uniform(0.2, 1.0) * peak_e
        camera = replace(camera, full_scale_counts=round(camera.offset_counts + camera.gain * brightest_e))
    if rng.random() < ranges.smoothed_fraction:
        camera = replace(camera, smoothing_sigma_px=rng.uniform(*ranges.smoothing_sigma_px))
    return camera


def _log_uniform(rng: np.random.Generator, limits: Range) -> float:
    return exp(rng.uniform(log(limits[0]), log(limits[1])))
