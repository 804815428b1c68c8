"""Everything that is measured of a movie, together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import streamtrack
from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError
from streamtrack.protocols import FrameSource
from streamtrack.types import Frame
from streamtrack_engines.likeness.camera import CameraMeasures, measure_camera
from streamtrack_engines.likeness.light import LightMeasures, measure_light
from streamtrack_engines.likeness.particles import ParticleMeasures, measure_particles

MOST_FRAMES, MOST_PX = 240, 512
"""The first frames are measured, and the middle of the image."""

LEAST_FRAMES = 20
WEIGHTS = "denodet-local"
"""They know uneven light, and find spots of any width up to a sigma of 3.5 px."""

_THRESHOLD = 0.25
"""What may be a particle is no background."""
_MASK_SIGMAS = 4.0
_LEAST_MASK_PX, _FIRST_MASK_PX = 5.0, 8.0


@dataclass(frozen=True, slots=True, eq=False)
class MovieMeasures:
    """What was measured of a movie, ``counts`` (T, H, W), of that name, and where its particles are in each frame."""

    name: str
    counts: NDArray[Any]
    detections: pd.DataFrame
    camera: CameraMeasures
    light: LightMeasures
    particles: ParticleMeasures

    @property
    def background_e(self) -> float | None:
        """Mean background in electrons, where gain and offset are known."""
        if self.camera.gain is None or self.camera.offset_counts is None:
            return None
        return max((self.light.mean - self.camera.offset_counts.value) / self.camera.gain.value, 0.01)

    @property
    def snr(self) -> tuple[float, ...] | None:
        """Peak over the noise at the peak, 5, 25, 50, 75 and 95 % of the particles that were fitted."""
        if self.particles.amplitude_counts is None:
            return None
        heights = np.array(self.particles.amplitude_counts)
        if self.background_e is not None and self.camera.gain is not None:
            electrons = heights / self.camera.gain.value
            return tuple((electrons / np.sqrt(electrons + self.background_e)).tolist())
        return tuple((heights / max(noise_of(self.counts), 1e-6)).tolist())


def noise_of(movie: NDArray[Any]) -> float:
    """Return the standard deviation of a pixel from frame to frame, particles left out."""
    change = movie[1:].astype(np.float32) - movie[:-1]
    return float(1.4826 * np.median(np.abs(change)) / 2**0.5)


def read_movie(path: Path, source_settings: Mapping[str, Any]) -> NDArray[Any]:
    """Return the first frames of a movie, their middle, (T, H, W); raises SourceError, and ConfigError of too few."""
    table = {**registry.source_from_text(str(path)), **source_settings}
    source: FrameSource = registry.build("sources", PluginConfig(**table)).instance
    frames = []
    try:
        for frame in source.frames():
            if isinstance(frame, Frame):
                top, left = (max(0, (size - MOST_PX) // 2) for size in frame.pixels.shape)
                frames.append(frame.pixels[top : top + MOST_PX, left : left + MOST_PX].copy())
            if len(frames) == MOST_FRAMES:
                break
    finally:
        source.close()
    if len(frames) < LEAST_FRAMES:
        raise ConfigError(
            f"{path} has {len(frames)} frames, too few to tell noise from what stays: {LEAST_FRAMES} or, better, 200"
        )
    movie = np.stack(frames)
    if not np.isfinite(movie).all():
        raise ConfigError(f"{path} has NaN or infinite pixels, which say nothing of a camera: crop it, or replace them")
    return movie


def measure_movie(counts: NDArray[Any], name: str) -> MovieMeasures:
    """Return what can be known of a movie (T, H, W), counts; raises StreamtrackError."""
    engine = {"kind": "denodet", "weights": WEIGHTS, "threshold": _THRESHOLD}
    results = streamtrack.track(counts, engine=engine, progress=False)
    detections, tracks = results.detections, results.tracks
    particles = measure_particles(counts, detections, tracks)
    is_clear = clear_of(detections, counts.shape, _mask_px(particles))
    camera = measure_camera(counts, is_clear)
    offset = 0.0 if camera.offset_counts is None else camera.offset_counts.value
    return MovieMeasures(name, counts, detections, camera, measure_light(counts, is_clear, offset), particles)


def _mask_px(particles: ParticleMeasures) -> float:
    if particles.sigma_px is None:
        return _FIRST_MASK_PX
    return max(_LEAST_MASK_PX, _MASK_SIGMAS * particles.sigma_px.value)


def clear_of(detections: pd.DataFrame, shape: tuple[int, ...], reach_px: float) -> NDArray[np.bool_]:
    """Return where, in a movie of a shape (T, H, W), nothing was found within some px."""
    is_clear = np.ones(shape, np.bool_)
    reach = int(np.ceil(reach_px))
    steps = np.arange(-reach, reach + 1)
    disc = steps[:, None] ** 2 + steps**2 <= reach_px**2
    rows, columns = (each[disc] for each in np.meshgrid(steps, steps, indexing="ij"))
    for frame in detections["frame"].unique().tolist():
        y, x = np.rint(detections.loc[detections["frame"] == frame, ["y", "x"]].to_numpy()).astype(int).T
        row, column = (y[:, None] + rows).ravel(), (x[:, None] + columns).ravel()
        inside = (row >= 0) & (row < shape[1]) & (column >= 0) & (column < shape[2])
        is_clear[frame, row[inside], column[inside]] = False
    return is_clear
