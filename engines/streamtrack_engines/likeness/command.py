"""What ``streamtrack train --like MOVIE`` does before and after the training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from streamtrack.config import PluginConfig
from streamtrack.metrics.detection import Score, match
from streamtrack.output import output_file
from streamtrack_engines.engine import GraphEngine
from streamtrack_engines.likeness.measure import MovieMeasures, measure_movie, read_movie
from streamtrack_engines.likeness.page import CROP_PX, PAGE, facts_of, page_of, unknown
from streamtrack_engines.likeness.recipe import recipe_like, weights_for
from streamtrack_engines.parts import make_data
from streamtrack_engines.training.fine_tuning import network_and_head
from streamtrack_engines.training.recipe import Recipe, recipe_of
from streamtrack_engines.training_data.truth import TrainingData, seeded

_SEED = 5_000_011
_SHOWN, _TESTED, _TESTED_PX = 4, 24, 256
_GATE_PX = 5.0


def measured(movie: Path, source: Mapping[str, Any], console: Console) -> MovieMeasures:
    """Return the measures of a movie, and say them; raises StreamtrackError."""
    console.print(f"measuring {movie}", soft_wrap=True, markup=False, highlight=False)
    measures = measure_movie(read_movie(movie, source), movie.name)
    for name, value in facts_of(measures):
        console.print(f"  {name}: {value}", soft_wrap=True, markup=False, highlight=False)
    for line in unknown(measures):
        console.print(f"  {line}", soft_wrap=True, markup=False, highlight=False)
    return measures


def recipe_table(measures: MovieMeasures, weights: str | None, minutes: float | None) -> dict[str, Any]:
    """Return the table of the recipe for a movie; raises StreamtrackError where weights cannot be learnt on from."""
    weights = weights or weights_for(measures)
    table = recipe_like(measures, *network_and_head(weights), weights)
    table["minutes"] = table["minutes"] if minutes is None else minutes
    recipe_of(table, "the recipe")
    return table


def write_page(measures: MovieMeasures, data: Mapping[str, Any], path: Path, remarks: Sequence[str] = ()) -> None:
    """Write the page with crops of the movie and of a recipe's data; raises SinkError."""
    simulated = seeded(_only_like(data), (_SEED, 0), _SHOWN, 2 * CROP_PX, 0).noisy[:, 0]
    with output_file(path) as partial:
        partial.write_text(page_of(measures, list(simulated), remarks), encoding="utf-8", newline="\n")


def _only_like(data: Mapping[str, Any]) -> TrainingData:
    """Return the data of a recipe without the crops that are there so that nothing is forgotten, and with particles."""
    return make_data(PluginConfig(**{**data, "camera_fraction": 1.0, "empty_fraction": 0.0}))


def compared(recipe: Recipe, weights: Path) -> list[str]:
    """Return what is to be said of new weights beside those that they learnt on from, on crops that neither saw."""
    data = _only_like(recipe.data.model_dump())
    after = _score(str(weights), data)
    lines = [f"on {_TESTED} simulated crops like the movie that it did not learn from, at {_GATE_PX:g} px:"]
    if recipe.weights is not None:
        before = _score(recipe.weights, data)
        lines.append(f"  before ({recipe.weights}): F1 {before.f1:.3f}")
    lines.append(f"  after: F1 {after.f1:.3f}")
    if recipe.weights is not None and after.f1 < before.f1:
        return [*lines, f"Training brought nothing: keep the old weights, {recipe.weights}"]
    return [*lines, f"streamtrack track MOVIE --weights {weights}"]


def _score(weights: str, data: TrainingData) -> Score:
    """Return how good weights are on simulated crops, as a run would use them."""
    engine = GraphEngine(weights=weights, backend="onnxruntime")
    truth = seeded(data, (_SEED, 1), _TESTED, _TESTED_PX, engine.frames_before)
    n_right = n_found = n_true = 0
    for number, frames in enumerate(truth.noisy):
        places = truth.points[truth.points[:, 0] == number, 1:]
        found = _found(engine, frames.astype(np.uint16))
        inside = ((places > 0) & (places < _TESTED_PX - 1)).all(1)
        n_right += len(match(places[inside], found, _GATE_PX)[0])
        n_found, n_true = n_found + len(found), n_true + int(inside.sum())
    engine.close()
    return Score(_GATE_PX, n_right, n_found - n_right, n_true - n_right)


def _found(engine: GraphEngine, frames: NDArray[np.uint16]) -> NDArray[np.float64]:
    engine.prepare(frames.shape[1:], frames.dtype.name)
    known = [frame for frame in frames if frame.any()]
    for frame in known:
        found, _ = engine.detect(frame, denoise=False)
    return np.stack([found.y, found.x], 1).astype(np.float64)


__all__ = ["PAGE", "compared", "measured", "recipe_table", "write_page"]
