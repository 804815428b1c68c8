"""Crops with known particles for training: a few frames each of the challenge's scenes and of real cameras."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.backgrounds import Background, haze, random_discs, random_slope, random_waves
from streamtrack.simulation.camera import CHALLENGE_CAMERA, Camera, hot_pixels
from streamtrack.simulation.crop_ranges import CropRanges, Range
from streamtrack.simulation.everyday import (
    History,
    blobs,
    border,
    brightness_of_kinds,
    cut_history,
    enlarge,
    texture,
    with_outliers,
)
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

POINTS_MARGIN_PX = 2.0
"""Particles count as points of a crop up to this far outside its pixels."""

_SCENARIO_SHARES = tuple({"vesicle": 0.25, "receptor": 0.25, "microtubule": 0.5}[name] for name in SCENARIO_NAMES)
"""Heads of comets are the hardest to find."""

_HAZE_SIGMA_PX = (4.0, 20.0)
_HAZE_NOISES = 40.0  # brighter ones are `blobs`
_MEMORYLESS_STEP_PX = 30.0


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
    history: History | None = None
    border: NDArray[np.bool_] | None = None


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
    ranges: CropRanges,
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


def seeded_crops(seed: Sequence[int], n_crops: int, size_px: int, ranges: CropRanges, n_before: int) -> CropBatch:
    """Return the crops of `sample_crops` that belong to a seed; for another process to call."""
    return sample_crops(np.random.default_rng(seed), n_crops, size_px, ranges, n_before=n_before)


def _sample_crop(rng: np.random.Generator, size_px: int, n_before: int, n_after: int, ranges: CropRanges) -> _Crop:
    n_frames = n_before + 1 + n_after
    snr = _log_uniform(rng, ranges.snr)
    if rng.random() >= ranges.camera_fraction:
        return _show(rng, _challenge_scene(rng, snr), size_px, n_before, n_frames, ranges)
    if rng.random() >= ranges.enlarged_fraction:
        scene = _camera_scene(rng, snr, size_px, n_before, n_frames, ranges)
        return _show(rng, scene, size_px, n_before, n_frames, ranges)
    factor = _log_uniform(rng, ranges.enlarged)
    small_px = round(size_px / factor)
    widest = ranges.spot_sigma_px[1] / factor
    narrow = replace(ranges, camera_comet_fraction=0.0, spot_sigma_px=(min(ranges.spot_sigma_px[0], widest), widest))
    scene = _camera_scene(rng, snr, small_px, n_before, n_frames, narrow)
    return _enlarged(_show(rng, scene, small_px, n_before, n_frames, ranges), size_px, int(rng.integers(1, 4)))


def _enlarged(crop: _Crop, size_px: int, order: int) -> _Crop:
    factor = size_px / crop.noisy.shape[-1]
    noisy = np.rint(enlarge(crop.noisy, size_px, order)).clip(0.0)
    signal, background = (enlarge(image, size_px, 1) for image in (crop.signal, crop.background))
    return _Crop(noisy, signal, background, (crop.points + 0.5) * factor - 0.5)


def _show(
    rng: np.random.Generator, scene: _Scene, size_px: int, n_before: int, n_frames: int, ranges: CropRanges
) -> _Crop:
    """Draw the frames of a scene as its camera takes them."""
    moments = simulate_moments(rng, scene.motion, _density(rng, ranges), n_frames, (size_px, size_px))
    brightness = scene.relative_amplitudes(1 + max(int(p["particle"].max(initial=-1)) for p in moments))
    history = scene.history or History(n_frames)
    noisy = np.zeros((n_frames, size_px, size_px), np.float32)
    moments = [_in_cells(scene, particles) for particles in moments]
    signals_e = [
        _draw(rng, scene, particles, brightness, size_px, shift_px, spots)
        for particles, shift_px, spots in zip(moments, history.shift_px, history.spots, strict=True)
    ]
    backgrounds_e = _backgrounds(scene, history, size_px)
    for frame in range(_first_known(rng, n_before, ranges), n_frames):
        noisy[frame] = scene.camera.expose(rng, history.light[frame] * (signals_e[frame] + backgrounds_e[frame]))
    gain, offset = np.float32(scene.camera.gain), np.float32(scene.camera.offset_counts)
    points = _points(moments[n_before] if history.spots[n_before] else moments[n_before][:0], size_px)
    signal = gain * signals_e[n_before]
    if scene.border is not None:
        noisy[:, scene.border] = signal[scene.border] = 0.0
        nearest = np.rint(points).astype(np.intp).clip(0, size_px - 1)
        points = points[~scene.border[nearest[:, 0], nearest[:, 1]]]
    return _Crop(noisy, signal, gain * backgrounds_e[n_before] + offset, points)


def _backgrounds(scene: _Scene, history: History, size_px: int) -> list[NDArray[np.float32]]:
    """Return the electrons (S, S) of background and haze in each frame."""
    pixel = np.arange(size_px, dtype=np.float32)
    still = scene.background.at(pixel[:, None], pixel) + scene.haze_e
    return [
        scene.background.at(pixel[:, None] - shift[0], pixel - shift[1]) + scene.haze_e if shift.any() else still
        for shift in history.shift_px.astype(np.float32)
    ]


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
    shift_px: NDArray[np.float64],
    light: float,
) -> NDArray[np.float32]:
    """Return the electrons (S, S) of the particles of one frame."""
    y, x = particles["y"], particles["x"]
    amplitude = amplitude_from_snr(scene.snr, scene.background.at(y, x)) * brightness[particles["particle"]] * light
    if scene.flicker_log_sd:
        amplitude *= rng.lognormal(0.0, scene.flicker_log_sd, len(y))
    image = np.zeros((size_px, size_px), np.float32)
    y, x = y + shift_px[0], x + shift_px[1]
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


def _camera_scene(
    rng: np.random.Generator, snr: float, size_px: int, n_before: int, n_frames: int, ranges: CropRanges
) -> _Scene:
    is_bright, is_cut, has_blobs, has_border = rng.random(4) < (
        ranges.bright_fraction,
        ranges.cut_fraction,
        ranges.blob_fraction,
        ranges.border_fraction,
    )
    snr = _log_uniform(rng, ranges.bright_snr) if is_bright else snr
    background = _camera_background(rng, size_px, ranges)
    peak_e = float(amplitude_from_snr(snr, background.mean_e))
    has_haze, has_cells = rng.random(2) < (ranges.haze_fraction, ranges.cell_fraction)
    n_haze = rng.poisson(rng.uniform(*ranges.haze_spots)) if has_haze else 0
    haze_e = haze(rng, size_px, n_haze, _HAZE_SIGMA_PX, min(peak_e, _HAZE_NOISES * sqrt(background.mean_e)))
    if has_blobs:
        haze_e += blobs(rng, size_px, ranges.blob_sigma_px, sqrt(background.mean_e))
    if ranges.texture_fraction and rng.random() < ranges.texture_fraction:
        height_e = min(peak_e, _HAZE_NOISES * sqrt(background.mean_e)) * rng.uniform(*ranges.texture_height)
        haze_e += np.float32(height_e) * texture(rng, size_px, ranges.texture_grain_px)
    camera = _camera(rng, size_px, background.mean_e, peak_e, ranges)
    if is_bright and rng.random() < ranges.noise_free_fraction:
        camera = Camera(camera.gain, camera.offset_counts, noise_free=True)
    return _Scene(
        motion=_camera_motion(rng, ranges),
        relative_amplitudes=_camera_amplitudes(rng, ranges),
        snr=snr,
        background=background,
        haze_e=haze_e,
        camera=camera,
        flicker_log_sd=rng.uniform(*ranges.flicker_log_sd),
        cells=Background(1.0, random_waves(rng, 3, 2.0, (64.0, 512.0))) if has_cells else None,
        history=cut_history(rng, n_before, n_frames, ranges.shift_px) if is_cut else None,
        border=border(rng, size_px) if has_border else None,
    )


def _camera_background(rng: np.random.Generator, size_px: int, ranges: CropRanges) -> Background:
    has_slope, has_stripes, has_discs = rng.random(3) < (
        ranges.slope_fraction,
        ranges.stripe_fraction,
        ranges.disc_fraction,
    )
    n_waves = 0 if has_slope else 4
    waves = random_waves(rng, n_waves, rng.uniform(*ranges.background_contrast), ranges.background_wave_px)
    if has_stripes:
        waves += random_waves(rng, 1, rng.uniform(*ranges.stripe_contrast), ranges.stripe_px)
    return Background(
        _log_uniform(rng, ranges.background_e),
        waves,
        random_slope(rng, size_px, ranges.steepest_slope) if has_slope else (0.0, 0.0, 0.0),
        random_discs(rng, size_px, int(rng.integers(1, 4)), ranges.disc_radius_px, ranges.disc_contrast)
        if has_discs
        else (),
    )


def _camera_amplitudes(rng: np.random.Generator, ranges: CropRanges) -> Callable[[int], NDArray[np.float64]]:
    """Return what draws the brightness of some particles, relative to the one that the SNR stands for."""
    log_sd = rng.uniform(*ranges.amplitude_log_sd)
    has_kinds, has_outliers = rng.random(2) < (ranges.population_fraction, ranges.outlier_fraction)

    def draw(n: int) -> NDArray[np.float64]:
        brightness = rng.lognormal(0.0, log_sd, n)
        if has_kinds:
            brightness *= brightness_of_kinds(rng, n, ranges.population_ratio)
        return with_outliers(rng, brightness, ranges.outlier_ratio) if has_outliers else brightness

    return draw


def _camera_motion(rng: np.random.Generator, ranges: CropRanges) -> Scenario:
    """Draw how the particles of a real-camera crop look and move."""
    if rng.random() < ranges.camera_comet_fraction:
        sigmas = (ranges.comet_front_px, ranges.comet_tail_px, ranges.comet_across_px)
        profile = Comet(*(rng.uniform(*sigma) for sigma in sigmas))
    else:
        profile = round_spot(rng.uniform(*ranges.spot_sigma_px))
    if rng.random() < ranges.fast_fraction:
        slowest, fastest = sorted(rng.uniform(*ranges.fast_px, 2))
        return Scenario(profile, rng.uniform(*ranges.death), 0.0, (slowest, fastest), 0.5, 0.0, 0.0, 1.0, 1.0)
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
