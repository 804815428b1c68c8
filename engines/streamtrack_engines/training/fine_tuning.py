"""From a folder of marked images to weights that know them: the recipe nobody has to write, and what comes after."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError
from streamtrack.output import check_output, output_file
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.export import ExportSettings, export
from streamtrack_engines.heads.density import Density
from streamtrack_engines.parts import make_data, make_head
from streamtrack_engines.training.held_out import HeldOut, count_error, draw_hits, score_held_out, write_held_out
from streamtrack_engines.training.recipe import Recipe, recipe_of
from streamtrack_engines.training_data.own import OwnImages

DEFAULT_WEIGHTS = "denodet"
RECIPE, WEIGHTS, TABLE, PICTURE = "recipe.toml", "weights.onnx", "held_out.csv", "held_out.png"

MINUTES = 10.0
_WIDEST_PX = 7.0
_OF_WIDTH = 0.7
"""Objects of this share of their width's full width at half maximum are binned as spots of that size are."""
_WORSE = 0.005

_FIXED: Mapping[str, Any] = {
    "batch_size": 4,
    "views": 2,
    "crop_px": 128,
    "learning_rate": 7e-4,
    "warmup_steps": 50,
    "norm_fraction": 0.0,
    "detection_only_fraction": 0.0,
    "average_decay": 0.995,
}
_CELLS: Mapping[str, Any] = {"crop_px": 192, "learning_rate": 1e-3}
"""For networks of particles of 6 to 48 px, which see them as they are."""
_SIMULATED: Mapping[str, str] = {"cells": "cells", "density": "cells", "patch": "type_ab"}
"""Data that teach a head, for it not to forget; of other heads ``crops``."""
_SMALL: Mapping[str, Mapping[str, Any]] = {
    "calibration": {"n_frames": 60, "frame_px": 256},
    "evaluation": {"n_crops": 8, "crop_px": 256, "every_minutes": 2.5},
}


def recipe_for(data: Mapping[str, Any], weights: str, minutes: float | None) -> dict[str, Any]:
    """Return the table of a recipe that has some weights learn from one's own images.

    Parameters
    ----------
    data
        Its table ``[data]``: kind ``folder`` or ``clicks``. Without ``spot_size``, that of the marks' radii is set.
    weights
        Packaged, or a file of ``streamtrack train`` or ``export``.

    Raises
    ------
    StreamtrackError
        The images cannot be learnt from, or the weights be learnt on from.
    """
    network, head = network_and_head(weights)
    data = {key: value for key, value in data.items() if value is not None}
    if head["kind"] in ("cells", "density"):
        if "spot_size" in data:
            raise ConfigError(f"weights {weights} know particles of 6 to 48 px as they are: leave out --spot-size")
        fixed = {**_FIXED, **_CELLS}
    elif head["kind"] in ("presence", "disc", "patch"):
        if "spot_size" not in data and (size := spot_size_of(data)) is not None:
            data["spot_size"] = size
        fixed = dict(_FIXED)
    else:
        raise ConfigError(
            f"weights {weights} find what no simulation teaches (head {head['kind']!r}): begin with --from "
            f"{DEFAULT_WEIGHTS}, with --spot-size for large particles"
        )
    if kind := _SIMULATED.get(head["kind"]):
        data["simulated"] = {"kind": kind}
    if beyond_px := make_head(PluginConfig(**head)).beyond_px:
        data["beyond_px"] = beyond_px
    parts = {"network": network, "head": head, "data": data, **_SMALL}
    teacher = {"teacher": weights} if head["kind"] == "presence" else {}  # of what it knows it is to forget nothing
    table = {"weights": weights, **teacher, "minutes": MINUTES if minutes is None else minutes, **fixed, **parts}
    recipe_of(table, "the recipe")
    return table


def network_and_head(weights: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tables of network and head of weights; raises ConfigError where streamtrack did not make them."""
    metadata = read_deploy_file(weights).metadata
    if metadata.head is None:
        raise ConfigError(f"weights {weights} were not made by streamtrack, which can train its own only")
    return metadata.network.model_dump(mode="json"), metadata.head.model_dump(mode="json")


def spot_size_of(data: Mapping[str, Any]) -> float | None:
    """Return the size to search at, of objects whose radii are known; None where they are spots, or nobody knows."""
    own = own_images({"kind": data["kind"], **{key: value for key, value in data.items() if key != "kind"}})
    radii = [image.marked[frame].radius_px for image, frame in own.parts()[0].frames]
    known = np.concatenate([each[np.isfinite(each)] for each in radii])
    size = _OF_WIDTH * 2 * float(np.median(known)) if len(known) else 0.0
    return round(min(size, 60.0), 1) if size >= _WIDEST_PX else None


def own_images(table: Mapping[str, Any]) -> OwnImages:
    """Return the training data of a table ``[data]`` of one's own images; raises StreamtrackError."""
    data = make_data(PluginConfig(**table))
    assert isinstance(data, OwnImages)
    return data


def write_recipe(table: Mapping[str, Any], path: Path) -> None:
    """Write a recipe as TOML; raises SinkError, and ConfigError if there is one already."""
    check_output(path, overwrite=False)
    with output_file(path) as partial:
        partial.write_text(as_toml(table), encoding="utf-8", newline="\n")


def as_toml(table: Mapping[str, Any]) -> str:
    """Return a table of numbers, texts, lists and tables of these as TOML; what is None is left out."""
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if _is_plain(value)]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", *(f"{name} = {_value(each)}" for name, each in value.items() if each is not None)]
    return "\n".join(lines) + "\n"


def _is_plain(value: Any) -> bool:
    return value is not None and not isinstance(value, Mapping)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_value(each)}' for key, each in value.items())} }}"
    text = value.as_posix() if isinstance(value, Path) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def finish(recipe: Recipe, checkpoint: Path, console: Console) -> HeldOut | None:
    """Write the weights of a finished training, and how good they are on the images that were held out.

    Returns None where the training was not of one's own images, or particles are counted. Raises StreamtrackError.
    """
    data = make_data(recipe.data)
    if not isinstance(data, OwnImages):
        return None
    folder = checkpoint.parent
    weights = folder / WEIGHTS
    export(checkpoint, weights, ExportSettings())
    if isinstance(head := make_head(recipe.head), Density):
        for line in said_of_counts(count_error(str(weights), head, data), data, weights):
            console.print(line, soft_wrap=True, markup=False, highlight=False)
        return None
    console.print("looking for the particles of the images held out")
    before = None if recipe.weights is None else score_held_out(recipe.weights, data)
    after = score_held_out(str(weights), data)
    outcome = HeldOut(before, after)
    write_held_out(outcome, folder / TABLE)
    with output_file(folder / PICTURE) as partial:
        draw_hits(outcome, data).savefig(partial, dpi=110)
    for line in said(outcome, data, recipe, weights):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return outcome


def said(outcome: HeldOut, data: OwnImages, recipe: Recipe, weights: Path) -> list[str]:
    """Return what is to be said of a training that is over."""
    after, held_out = outcome.after, data.parts()[1]
    where = f"{held_out.n_points} particles in {len(held_out.frames)} frames that it did not learn from"
    lines = [f"{where}, at {after.gate_px:g} px ({PICTURE}):"]
    if outcome.before is not None:
        lines.append(f"  before ({recipe.weights}): {outcome.before.in_words}")
    lines.append(f"  after: {after.in_words}")
    if not data.is_split_by_image:
        lines.append("  all marks are of one movie, whose frames are alike: in another movie it may do worse")
    if outcome.before is not None and after.f1 < outcome.before.f1 - _WORSE:
        cure = "more minutes, or more marked images, help"
        lines.append(f"Training made it worse: keep the old weights, {recipe.weights}; {cure}")
        return lines
    return [*lines, *_ending("", weights)]


def said_of_counts(error: float, data: OwnImages, weights: Path) -> list[str]:
    """Return what is to be said of a training to count that is over; ``error`` is `count_error`."""
    held_out = data.parts()[1]
    frames = f"{len(held_out.frames)} frame{'s' * (len(held_out.frames) != 1)} that it did not learn from"
    how_good = f"{held_out.n_points} particles in {frames}: on average a count is off by {error:.1%}"
    return [how_good, *_ending(" --engine density", weights)]


def _ending(engine: str, weights: Path) -> list[str]:
    return [
        f"streamtrack track MOVIE{engine} --weights {weights}",
        f"{weights.name} carries a part of your images, 128 x 128 px, on which back ends are tried",
    ]
