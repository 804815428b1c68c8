"""From images to detections, for linkers to be compared on what they get in practice."""

import numpy as np

from benchmarks.shared.particles import Simulated
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.simulation import Movie, MovieSettings


def detect(settings: MovieSettings) -> Simulated:
    """Detect the particles of a simulated movie with the default engine, weights and threshold."""
    engine: Engine = build("engines", PluginConfig(kind="denodet", threads=1)).instance
    movie = Movie(settings)
    engine.prepare((settings.height_px, settings.width_px), np.dtype(movie.dtype).name)
    detections = [engine.detect(movie.noisy(index), denoise=False)[0] for index in range(len(movie))]
    engine.close()
    return Simulated(detections, movie.tracks[["frame", "particle", "y", "x"]])
