"""What one process of the accuracy benchmark does: one detector on one set of frames.

Ours has the one threshold of its weights. Peers have the best threshold that there is, chosen on the very frames that
are scored, which no user could do: an oracle per set of frames.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, label

from benchmarks.detection.detectors import Candidates, peer
from benchmarks.detection.empty_frames import EMPTY
from streamtrack.config import PluginConfig
from streamtrack.metrics.detection import DetectionScore, match
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.types import Pixels

Positions = NDArray[np.float64]
Row = dict[str, Any]


class Ours(NamedTuple):
    """One of our engines as a method.

    Attributes
    ----------
    kind
        Name of the engine.
    weights
        Its packaged weights.
    n_before
        Frames that it sees before the one that is scored: all it can use, or none.
    """

    kind: str
    weights: str
    n_before: int


OURS = {
    "denodet": Ours("denodet", "denodet-local", 2),
    "denodet_first_frame": Ours("denodet", "denodet-local", 0),
    "denodet_challenge": Ours("denodet", "denodet", 2),
    "unet": Ours("unet", "unet", 2),
    "denodet_paper": Ours("denodet", "denodet-paper", 0),
}
HISTORY_FRAMES = 2
SPACING_FRAMES = 10
"""Scored frames lie so far apart, so that they hardly share particles."""
LEAST_SCORE = 0.1
SCORE_BINS = np.linspace(LEAST_SCORE, 1.0, 11)
PHASES = 10
SWEEP_STEPS = 12
SWEEP_ROUNDS = 4
SWEEP_RANGE = (0.1, 3.0)
"""How many candidates the sweep keeps at least and at most, as a multiple of the true number."""


def score_cell(method: str, settings: MovieSettings) -> Row:
    """Score frames of a movie at 5 and 2 px; for ``denodet``, also count right detections by score."""
    movie = _movie(settings)
    indices = range(HISTORY_FRAMES, settings.frames, SPACING_FRAMES)
    truth = [_truth(movie, index) for index in indices]
    candidates = list(map(_finder(method, movie), indices))
    threshold = _threshold(method, truth, candidates, 5.0)
    found = [each.above(threshold) for each in candidates]
    wide, narrow = score_frames(truth, found, 5.0), score_frames(truth, found, 2.0)
    row: Row = {"method": method, "scenario": settings.scenario, "snr": settings.snr, "density": settings.density}
    row |= {"frames": len(indices), "threshold": threshold, "f1_5px": wide.f1, "f1_2px": narrow.f1}
    row |= {"precision_5px": wide.precision, "recall_5px": wide.recall, "rmse_px": wide.rmse_px}
    row = {name: None if isinstance(value, float) and isnan(value) else value for name, value in row.items()}
    return row | {"score_bins": _score_bins(truth, candidates)} if method == "denodet" else row


def score_phases(method: str, settings: MovieSettings) -> Row:
    """Measure how the mean error depends on where in its pixel a particle lies, over 10 x 10 phases.

    ``largest_px`` is the largest mean error along y or x in any phase, with its standard error; ``rms_px`` that of all
    phases, what is expected from chance alone taken off.
    """
    movie = _movie(settings)
    indices = range(HISTORY_FRAMES, settings.frames)
    truth = [_truth(movie, index) for index in indices]
    candidates = list(map(_finder(method, movie), indices))
    threshold = _threshold(method, truth, candidates, 5.0)
    spots, errors = [], []
    for true, found in zip(truth, (each.above(threshold) for each in candidates), strict=True):
        i, j, _ = match(true, found, 2.0)
        spots.append(true[i])
        errors.append(found[j] - true[i])
    row: Row = {"method": method, "scenario": settings.scenario, "snr": settings.snr, "density": settings.density}
    return row | _by_phase(np.concatenate(spots), np.concatenate(errors))


def _by_phase(spots: Positions, errors: Positions) -> Row:
    phase = ((spots - np.floor(spots)) * PHASES).astype(np.intp) @ (PHASES, 1)
    groups = [errors[phase == k] for k in range(PHASES**2)]
    groups = [group for group in groups if len(group) > 1]
    mean = np.array([group.mean(axis=0) for group in groups])
    standard_error = np.array([group.std(axis=0, ddof=1) / np.sqrt(len(group)) for group in groups])
    worst = np.unravel_index(np.abs(mean).argmax(), mean.shape)
    excess = max(float(np.mean(mean**2 - standard_error**2)), 0.0)
    row: Row = {"spots": len(spots), "phases": len(groups), "largest_px": float(abs(mean[worst]))}
    return row | {"largest_se_px": float(standard_error[worst]), "rms_px": excess**0.5}


def count_false(kind: str, n_frames: int, seed: int) -> Row:
    """Return the mean number of detections per frame where there is nothing."""
    make, consecutive = EMPTY[kind]
    skipped = HISTORY_FRAMES if consecutive else 0
    frames = islice(make(np.random.default_rng(seed)), n_frames + skipped)
    found = _detect(OURS["denodet"], frames, reset_each=not consecutive)
    counts = [len(each.above(default_threshold("denodet"))) for each in found]
    return {"kind": kind, "frames": n_frames, "detections_per_frame": float(np.mean(counts[skipped:]))}


def score_pairs(method: str, folder: Path) -> list[Row]:
    """Score the test pairs of DeepSpot (Bouilhol et al. 2022) at 3 px, per set and all together; each frame alone."""
    sets = {each.parent.name: read_pairs(each) for each in sorted(folder.glob("*/test"))}
    find = _still_finder(method)
    found = {name: [find(image) for image, _ in pairs] for name, pairs in sets.items()}
    truth = {name: [spots for _, spots in pairs] for name, pairs in sets.items()}
    for by_set in (found, truth):
        by_set["pooled"] = [each for frames in by_set.values() for each in frames]  # type: ignore[misc]
    rows = []
    for name, candidates in found.items():
        threshold = _threshold(method, truth[name], candidates, 3.0)
        f1 = score_frames(truth[name], [each.above(threshold) for each in candidates], 3.0).f1
        rows.append({"method": method, "set": name, "pairs": len(candidates), "threshold": threshold, "f1_3px": f1})
    return rows


def score_frames(truth: Sequence[Positions], found: Sequence[Positions], gate_px: float) -> DetectionScore:
    """Score the detections of several frames, all counted together."""
    distance = np.concatenate([match(true, here, gate_px)[2] for true, here in zip(truth, found, strict=True)])
    n_truth, n_found = sum(map(len, truth)), sum(map(len, found))
    rmse_px = float(np.sqrt(np.mean(distance**2))) if len(distance) else float("nan")
    return DetectionScore(gate_px, len(distance), n_found - len(distance), n_truth - len(distance), rmse_px)


def best_threshold(truth: Sequence[Positions], candidates: Sequence[Candidates], gate_px: float) -> float:
    """Return the strength from which on candidates count so that F1 over all frames is highest.

    A coarse sweep over the number that is kept, then finer ones around the best.
    """
    strengths = np.sort(np.concatenate([each.strength for each in candidates]))[::-1]
    if len(strengths) == 0:
        return 0.0
    low, high = (factor * sum(map(len, truth)) for factor in SWEEP_RANGE)
    scores: dict[int, float] = {}
    for _ in range(SWEEP_ROUNDS):
        kept = np.unique(np.clip(np.geomspace(low, high, SWEEP_STEPS).astype(int), 1, len(strengths))).tolist()
        for n in set(kept) - scores.keys():
            scores[n] = score_frames(truth, [each.above(strengths[n - 1]) for each in candidates], gate_px).f1
        best = kept.index(max(kept, key=scores.__getitem__))
        low, high = kept[max(best - 1, 0)], kept[min(best + 1, len(kept) - 1)]
    return float(strengths[max(scores, key=scores.__getitem__) - 1])


def _threshold(method: str, truth: Sequence[Positions], candidates: Sequence[Candidates], gate_px: float) -> float:
    return default_threshold(method) if method in OURS else best_threshold(truth, candidates, gate_px)


@cache
def engine_info(method: str) -> dict[str, Any]:
    """Return what one of our engines says about itself: its threshold is that of the weights."""
    engine = _built(OURS[method])
    engine.close()
    return dict(engine.info)


def default_threshold(method: str) -> float:
    """Return the threshold of the weights of one of our engines."""
    return float(engine_info(method)["threshold"])


@lru_cache(maxsize=1)
def _engine(ours: Ours, shape: tuple[int, ...], dtype: str) -> Engine:
    """Return an engine that is ready for such frames, its threshold lowered to see what lower scores are worth."""
    engine = _built(ours, threshold=LEAST_SCORE)
    engine.prepare((shape[0], shape[1]), dtype)
    return engine


def _built(ours: Ours, **settings: Any) -> Engine:
    table = {"kind": ours.kind, "weights": ours.weights, "threads": 1, **settings}
    engine: Engine = build("engines", PluginConfig.model_validate(table)).instance
    return engine


@lru_cache(maxsize=1)
def _movie(settings: MovieSettings) -> Movie:
    return Movie(settings)


def _truth(movie: Movie, index: int) -> Positions:
    return movie.tracks.loc[movie.tracks["frame"] == index, ["y", "x"]].to_numpy(np.float64)


def _finder(method: str, movie: Movie) -> Callable[[int], Candidates]:
    """Return what finds candidates in the frame of a movie with a given index."""
    if method not in OURS:
        find = peer(method, movie.settings)
        return lambda index: find(movie.noisy(index))
    ours = OURS[method]
    return lambda index: _detect(ours, map(movie.noisy, range(index - ours.n_before, index + 1)))[-1]


def _still_finder(method: str) -> Callable[[Pixels], Candidates]:
    """Return what finds candidates in a picture of its own; peers are set as for vesicles."""
    if method not in OURS:
        return peer(method, MovieSettings("vesicle"))
    return lambda image: _detect(OURS[method], [image])[-1]


def _detect(ours: Ours, frames: Iterable[Pixels], *, reset_each: bool = False) -> list[Candidates]:
    """Show frames to the engine, one after the other, as a movie or each as a first frame."""
    found = []
    for k, pixels in enumerate(frames):
        engine = _engine(ours, pixels.shape, pixels.dtype.name)
        if k == 0 or reset_each:
            engine.reset()
        detections, _ = engine.detect(pixels, denoise=False)
        found.append(Candidates.strongest(np.stack([detections.y, detections.x], axis=1), detections.score))
    return found


def _score_bins(truth: Sequence[Positions], candidates: Sequence[Candidates]) -> list[list[float]]:
    """Return, by bins of the score: how many detections, the sum of their scores, and how many are right at 5 px."""
    score = np.concatenate([each.strength for each in candidates])
    right = np.concatenate([_is_right(true, each.yx) for true, each in zip(truth, candidates, strict=True)])
    weights = (np.ones(len(score)), score, right)
    return [np.histogram(score, SCORE_BINS, weights=each)[0].tolist() for each in weights]


def _is_right(truth: Positions, found: Positions) -> NDArray[np.float64]:
    right = np.zeros(len(found))
    right[match(truth, found, 5.0)[1]] = 1
    return right


def read_pairs(folder: Path) -> list[tuple[Pixels, Positions]]:
    """Return DeepSpot's images with their spots: the centroids of where the target is not the image."""
    pairs = []
    for path in sorted((folder / "original").glob("*.png")):
        image, target = (imagecodecs.imread(each) for each in (path, folder / "target" / path.name))
        spots, n = label(image != target)
        pairs.append((image, np.array(center_of_mass(spots > 0, spots, range(1, n + 1))).reshape(-1, 2)))
    return pairs
