"""Whether a back end finds what the CPU finds, frame by frame and track by track."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from streamtrack.linking.imm import ImmLinker
from streamtrack.metrics.detection import match, score_links
from streamtrack.protocols import Engine
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.simulation.scenarios import SCENARIO_NAMES
from streamtrack.step import Step
from streamtrack.types import Detections, Frame, Pixels

SEED = 90_100
GATE_PX = 1.0
"""Pairs further apart are not one particle found twice."""
LEAST_F1, MOST_MEDIAN_PX = 0.999, 0.01


def parity_movies(n_frames: int, size_px: int) -> list[Movie]:
    """Return movies of every scenario at SNR 2 and 4 with ``n_frames`` frames each."""
    cells = [(scenario, snr) for scenario in SCENARIO_NAMES for snr in (2.0, 4.0)]
    return [
        Movie(MovieSettings(scenario, snr, 400.0, n_frames, size_px, size_px, SEED + k))
        for k, (scenario, snr) in enumerate(cells)
    ]


def frames_of(movie: Movie) -> list[Pixels]:
    """Return all frames as uint16."""
    return [movie.noisy(index).astype(np.uint16) for index in range(len(movie))]


def detect_all(engine: Engine, frames: Sequence[Pixels]) -> list[Detections]:
    """Return what a prepared engine finds in a movie."""
    engine.reset()
    return [engine.detect(pixels, denoise=False)[0] for pixels in frames]


def agreement(reference: Iterable[Detections], found: Iterable[Detections]) -> dict[str, Any]:
    """Return how well detections agree: F1 between them, and the differences of those that are paired.

    Returns
    -------
    dict
        ``frames``, ``particles`` of the reference, ``f1``, ``median_px`` and ``max_px`` of the distance, ``max_score``
        of the difference in score, and ``passed``.
    """
    n_frames = n_pairs = n_reference = n_found = 0
    distances, scores = [np.empty(0)], [np.empty(0)]
    for one, other in zip(reference, found, strict=True):
        i, j, distance = match(np.stack([one.y, one.x], 1), np.stack([other.y, other.x], 1), GATE_PX)
        distances.append(distance)
        scores.append(np.abs(one.score[i] - other.score[j]))
        n_frames, n_pairs = n_frames + 1, n_pairs + len(i)
        n_reference, n_found = n_reference + len(one), n_found + len(other)
    px, score = np.concatenate(distances), np.concatenate(scores)
    f1 = 2 * n_pairs / (n_reference + n_found) if n_reference + n_found else 1.0
    median_px = float(np.median(px)) if len(px) else 0.0
    return {
        "frames": n_frames,
        "particles": n_reference,
        "f1": round(f1, 6),
        "median_px": round(median_px, 6),
        "max_px": round(float(px.max(initial=0)), 6),
        "max_score": round(float(score.max(initial=0)), 6),
        "passed": f1 >= LEAST_F1 and median_px <= MOST_MEDIAN_PX,
    }


def track_movie(engine: Engine, frames: Sequence[Pixels]) -> pd.DataFrame:
    """Return the tracks (frame, particle, y, x) of a movie, as the loop finds them, revisions done."""
    linker = ImmLinker()
    linker.prepare((frames[0].shape[0], frames[0].shape[1]))
    step = Step(engine, linker)
    particle: list[Any] = []
    rows: list[Detections] = []
    for index, pixels in enumerate(frames):
        result = step(Frame(index, pixels, 0, float(index)))
        revised = result.tracks.revised
        particle.append(result.tracks.particle.copy())
        rows.append(result.detections)
        for where, which, who in zip(revised.frame_index, revised.detection, revised.particle, strict=True):
            particle[where][which] = who
    table = {
        "frame": np.repeat(np.arange(len(rows)), [len(each) for each in rows]),
        "particle": np.concatenate(particle),
        "y": np.concatenate([each.y for each in rows]).astype(np.float64),
        "x": np.concatenate([each.x for each in rows]).astype(np.float64),
    }
    tracks = pd.DataFrame(table)
    return tracks[tracks["particle"] >= 0].reset_index(drop=True)


def compare_tracks(truth: pd.DataFrame, cpu: pd.DataFrame, gpu: pd.DataFrame) -> dict[str, Any]:
    """Return the F1 of the links: the GPU's against the CPU's, and both against the truth."""
    return {
        "gpu_against_cpu_f1": score_links(cpu, gpu, GATE_PX).f1,
        "gpu_against_truth_f1": score_links(truth, gpu).f1,
        "cpu_against_truth_f1": score_links(truth, cpu).f1,
    }


def tracking_movie(n_frames: int, size_px: int) -> Movie:
    """Return the movie that is tracked."""
    settings = MovieSettings("vesicle", 4.0, 500.0, n_frames, size_px, size_px, SEED)
    return Movie(replace(settings, seed=SEED + 50))
