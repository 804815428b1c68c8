"""How particles look and move: width of their image, brightness, number, steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamtrack_engines.likeness.camera import Estimate

AREA_PX = 512
"""Densities are particles per image of this side."""

_SURE = 0.5
_FIRST_SIGMA_PX = 1.5
_WIDEST_PX = 6.0
_MOST_FITTED = 600
_LEAST_FITTED = 20
_LEAST_CONTRAST = 4.0
"""Noise units of a peak that is worth a fit."""
_ROUNDS = 3
_ITERATIONS = 25
_LONG_TRACK = 6
_LEAST_STEP_PX = 0.05

Image = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ParticleMeasures:
    """What is known of the particles; None where there were too few.

    Attributes
    ----------
    sigma_px
        Width of a particle's image: standard deviation of a round Gaussian.
    amplitude_counts
        Peak heights of the particles, 5, 25, 50, 75 and 95 %.
    amplitude_log_sd
        Standard deviation of their logarithm, that of the fits' errors taken off.
    density
        Particles per 512x512 px: the sum of their probabilities.
    step_px
        Steps per axis and frame of those that diffuse, 10 and 90 % of the tracks.
    speed_px
        Speeds per frame of those that move straight on, 10 and 90 %; None where none does.
    directed_share
        Share of the tracks that do.
    n_fitted
        On how many spots width and heights are based.
    """

    sigma_px: Estimate | None
    amplitude_counts: tuple[float, ...] | None
    amplitude_log_sd: float | None
    density: float
    step_px: tuple[float, float] | None
    speed_px: tuple[float, float] | None
    directed_share: float
    n_fitted: int


def measure_particles(movie: NDArray[Any], detections: pd.DataFrame, tracks: pd.DataFrame) -> ParticleMeasures:
    """Return what can be known of the particles of a movie (T, H, W).

    ``detections`` have columns ``frame, y, x, score``, ``tracks`` also ``particle`` and ``sigma``.
    """
    density = float(detections["score"].sum()) / len(movie) / movie[0].size * AREA_PX**2
    fits = _fits(movie, detections)
    steps, speeds, share = _motion(tracks)
    if fits is None:
        return ParticleMeasures(None, None, None, density, steps, speeds, share, 0)
    sigma, height, height_error = fits
    width = Estimate(float(np.median(sigma)), float(1.25 * np.std(sigma) / np.sqrt(len(sigma))))
    spread = float(np.var(np.log(height)) - np.mean((height_error / height) ** 2))
    quantiles = tuple(np.quantile(height, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist())
    return ParticleMeasures(width, quantiles, sqrt(max(spread, 0.0)), density, steps, speeds, share, len(sigma))


def _fits(movie: NDArray[Any], detections: pd.DataFrame) -> tuple[Image, Image, Image] | None:
    """Return widths, heights and the errors of these, of clear spots that stand alone; None of too few."""
    sigma_px = _FIRST_SIGMA_PX
    found = None
    for _ in range(_ROUNDS):
        reach = ceil(2.6 * sigma_px) + 1
        patches = list(_patches(movie, detections, reach, 6 * sigma_px))
        if len(patches) < _LEAST_FITTED:
            return None
        pixels = np.stack(patches)
        at, error = _fit(pixels, sigma_px)
        noise = error[:, 5]
        keep = (at[:, 3] > _LEAST_CONTRAST * noise) & (at[:, 2] > 0.4) & (at[:, 2] < _WIDEST_PX)
        keep &= (np.abs(at[:, :2]) < 1.5).all(1) & (error[:, 2] < 0.3 * at[:, 2]) & np.isfinite(error).all(1)
        if keep.sum() < _LEAST_FITTED:
            return None
        found = at[keep, 2], at[keep, 3], error[keep, 3]
        sigma_px = float(np.median(found[0]))
    return found


def _patches(
    movie: NDArray[Any], detections: pd.DataFrame, reach: int, apart_px: float
) -> Iterator[NDArray[np.float64]]:
    """Yield the surroundings of sure detections that stand alone, spread over the movie."""
    height, width = movie.shape[1:]
    per_frame = max(1, -(-_MOST_FITTED // len(movie)))
    for frame in detections["frame"].unique().tolist():
        rows = detections[detections["frame"] == frame]
        all_yx = rows[["y", "x"]].to_numpy()
        yx = all_yx[rows["score"].to_numpy() >= _SURE]
        if not len(yx) or not 0 <= frame < len(movie):
            continue
        near = cKDTree(all_yx).query_ball_point(yx, apart_px, return_length=True)
        row, column = np.rint(yx).astype(int).T
        inside = (np.minimum(row, column) >= reach) & (row < height - reach) & (column < width - reach)
        for y, x in zip(row[inside & (near == 1)][:per_frame], column[inside & (near == 1)][:per_frame], strict=True):
            yield movie[frame, y - reach : y + reach + 1, x - reach : x + reach + 1].astype(np.float64)


def _fit(patches: Image, sigma_px: float) -> tuple[Image, Image]:
    """Fit a round Gaussian to each patch (N, S, S) by damped least squares.

    Returns (N, 5): y, x from the middle, sigma, height, background; and (N, 6): the errors of these, and the noise.
    """
    n, side, _ = patches.shape
    steps = np.arange(side) - side // 2
    y, x = (each.ravel() for each in np.meshgrid(steps, steps, indexing="ij"))
    pixels = patches.reshape(n, -1)
    ground = np.median(pixels, axis=1)
    at = np.column_stack([np.zeros((n, 2)), np.full(n, sigma_px), pixels.max(1) - ground, ground])
    damping = np.full(n, 1e-2)
    shape, slopes = _model(at, y, x)
    cost = ((pixels - shape) ** 2).sum(1)
    for _ in range(_ITERATIONS):
        curvature = np.einsum("npa,npb->nab", slopes, slopes)
        scaled = curvature * (1 + damping[:, None, None] * np.eye(5)) + 1e-9 * np.eye(5)
        step = np.linalg.solve(scaled, np.einsum("npa,np->na", slopes, pixels - shape)[..., None])[..., 0]
        tried = at + step
        tried[:, 2] = tried[:, 2].clip(0.3, 2 * side)
        tried[:, :2] = tried[:, :2].clip(-side, side)
        tried_shape, tried_slopes = _model(tried, y, x)
        tried_cost = ((pixels - tried_shape) ** 2).sum(1)
        better = tried_cost < cost
        at[better], cost[better], shape[better] = tried[better], tried_cost[better], tried_shape[better]
        slopes[better] = tried_slopes[better]
        damping = np.where(better, damping / 4, damping * 4).clip(1e-9, 1e6)
    noise = np.sqrt(cost / (side * side - 5))
    curvature = np.einsum("npa,npb->nab", slopes, slopes) + 1e-9 * np.eye(5)
    variances = np.diagonal(np.linalg.inv(curvature), axis1=1, axis2=2).clip(0)
    return at, np.column_stack([np.sqrt(variances) * noise[:, None], noise])


def _model(at: Image, y: Image, x: Image) -> tuple[Image, Image]:
    """Return the pixels (N, P), and how they change with each parameter (N, P, 5)."""
    dy, dx = y - at[:, :1], x - at[:, 1:2]
    sigma, height = at[:, 2:3], at[:, 3:4]
    squared = dy**2 + dx**2
    bell = np.exp(-squared / (2 * sigma**2))
    light = height * bell
    slopes = np.stack(
        [light * dy / sigma**2, light * dx / sigma**2, light * squared / sigma**3, bell, np.ones_like(bell)], axis=2
    )
    return light + at[:, 4:5], slopes


def _motion(tracks: pd.DataFrame) -> tuple[tuple[float, float] | None, tuple[float, float] | None, float]:
    """Return the steps of tracks that diffuse, the speeds of those that go straight on, and the share of these."""
    steps, speeds = [], []
    for _, track in tracks.sort_values("frame").groupby("particle"):
        if len(track) < _LONG_TRACK:
            continue
        moved = (
            np.diff(track[["y", "x"]].to_numpy(np.float64), axis=0)
            / np.diff(track["frame"].to_numpy(np.float64))[:, None]
        )
        drift = moved.mean(0)
        around = np.sqrt(np.mean((moved - drift) ** 2) * len(moved) / max(len(moved) - 1, 1))
        if np.hypot(*drift) > 3 * around / np.sqrt(len(moved)) and np.hypot(*drift) > 1.0:
            speeds.append(float(np.hypot(*drift)))
        else:
            error = float(track["sigma"].median()) if "sigma" in track else 0.0
            steps.append(sqrt(max(float(np.mean(moved**2)) - 2 * error**2, _LEAST_STEP_PX**2)))
    share = len(speeds) / max(len(speeds) + len(steps), 1)
    return _range(steps), _range(speeds) if share > 0.05 else None, share


def _range(values: list[float]) -> tuple[float, float] | None:
    if not values:
        return None
    low, high = np.quantile(values, (0.1, 0.9))
    return float(low), float(high)
