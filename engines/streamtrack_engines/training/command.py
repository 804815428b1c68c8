"""``streamtrack train``."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from streamtrack.config import read_toml
from streamtrack.errors import ConfigError
from streamtrack_engines.classify.command import train_from
from streamtrack_engines.classify.recipe import is_classifier
from streamtrack_engines.engine import OWN_IMAGES
from streamtrack_engines.export import ExportSettings, export
from streamtrack_engines.places.command import train_from as train_for_crops
from streamtrack_engines.places.recipe import is_for_crops
from streamtrack_engines.training.fine_tuning import (
    DEFAULT_WEIGHTS,
    PICTURE,
    RECIPE,
    TABLE,
    WEIGHTS,
    as_toml,
    finish,
    recipe_for,
    write_recipe,
)
from streamtrack_engines.training.loop import check_new, make_folder, train
from streamtrack_engines.training.recipe import Recipe, read_recipe
from streamtrack_engines.training.view import TrainingView
from streamtrack_engines.training_data.reading import left_out


def train_command(
    out: Annotated[Path, typer.Option(help="Folder for the weights, the checkpoint, the logs and the pictures.")],
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of images, each with a table of points or a label mask beside it; movie, with --points; or "
            "a TOML file that says how to train."
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Movie without any mark: it is measured, and learnt from are simulations that look like it."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in that folder.")] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Learn on from weights: a name, or an .onnx file of 'streamtrack train' or 'export'. From one's own "
            f"images by default {DEFAULT_WEIGHTS}.",
        ),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="Points in the movie: as napari saves them, or another table of points.")
    ] = None,
    spot_size: Annotated[
        float | None,
        typer.Option(help="Full width at half maximum of the particles, px; from 7 on images are binned to see them."),
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(min=1e-6, max=1e6, help="Micrometers per pixel, where points are in micrometers.")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Channel of the images, by index or label.")] = None,
    empty_frames: Annotated[
        bool, typer.Option("--empty-frames", help="Frames and images without a point hold no particle.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(help="Wall time, instead of the length in the recipe.")] = None,
    view: Annotated[
        bool, typer.Option("--view", help="Show it in the browser: curves, crops with hits and misses, stop and keep.")
    ] = False,
) -> None:
    """Train a network; Ctrl-C leaves a checkpoint to resume from.

    From one's own images it takes ten minutes and needs no recipe: it writes one, weights.onnx for 'streamtrack track
    --weights', and how good they are on images held out (held_out.csv, .png). A recipe whose network is of the kind
    patch_cnn trains a classifier, in minutes and in one go; of the kind crop_cnn one that tells places, sizes and
    light from crops.
    """
    console = Console()
    images = {"spot_size": spot_size, "pixel_size_um": pixel_size, "empty_frames": empty_frames or None}
    source = {} if channel is None else {"channel": channel}
    if (recipe is None) == (like is None):
        raise ConfigError("name one: a folder of images, a movie with --points, a recipe, or a movie with --like")
    if resume and weights:
        raise ConfigError("--resume goes on from the folder's checkpoint: leave out --from")
    is_recipe = recipe is not None and recipe.suffix.lower() == ".toml"
    if (like or is_recipe) and (points is not None or any(each is not None for each in images.values())):
        raise ConfigError("--points, --spot-size, --pixel-size and --empty-frames are for images of one's own alone")
    if is_recipe and channel is not None:
        raise ConfigError("--channel is for images and movies alone: a recipe has source = { channel = ... } in [data]")
    if like is not None:
        _train_like(like, source, out, weights, minutes, resume, console, view)
        return
    assert recipe is not None
    if not is_recipe:
        recipe = _own_recipe(
            recipe, points, images | {"source": source or None}, weights, minutes, out, resume, console
        )
    elif is_classifier(read_toml(recipe)):
        if resume or minutes is not None or weights or view:
            raise ConfigError("a classifier is trained in one go, for the epochs of its recipe: leave out the options")
        train_from(recipe, out, console)
        return
    elif is_for_crops(read_toml(recipe)):
        if minutes is not None or weights or view:
            raise ConfigError("a network for crops is trained for the steps of its recipe: leave out the options")
        train_for_crops(recipe, out, console, resume=resume)
        return
    _train(recipe, out, weights, minutes, resume, console, view)


def _train(
    path: Path, out: Path, weights: str | None, minutes: float | None, resume: bool, console: Console, view: bool
) -> tuple[Recipe, Path] | None:
    """Train by a recipe; returns it and the checkpoint where the training is over."""
    recipe = read_recipe(path, minutes=minutes)
    recipe = recipe if weights is None else recipe.model_copy(update={"weights": weights})
    if not resume and recipe.data.kind in OWN_IMAGES:
        check_new(out, (WEIGHTS, TABLE, PICTURE))
    with ExitStack() as stack:
        page = stack.enter_context(TrainingView(out)) if view else None
        if page is not None:
            console.print(f"view at {page.address}", soft_wrap=True, markup=False, highlight=False)
        outcome = train(recipe, out, resume=resume, console=console, view=page)
        ending = "done" if outcome.finished else "stopped, go on with --resume,"
        console.print(f"{ending} at step {outcome.step}: {outcome.checkpoint}", soft_wrap=True)
        if not outcome.finished:
            return None
        finish(recipe, outcome.checkpoint, console)
        return recipe, outcome.checkpoint


def _own_recipe(
    images: Path,
    points: Path | None,
    about: dict[str, Any],
    weights: str | None,
    minutes: float | None,
    out: Path,
    resume: bool,
    console: Console,
) -> Path:
    """Return the path of the recipe for one's own images, which is written, and printed, unless it is to be resumed."""
    path = out / RECIPE
    if resume:
        _check_same(path, {"path": images, "points": points, **about})
        return path
    if points is None and not images.is_dir():
        raise ConfigError(
            f"{images} is neither a folder of images nor a recipe (.toml): name one, or add --points TABLE to a movie"
        )
    data: dict[str, Any] = {"kind": "folder" if points is None else "clicks", "path": images.absolute()}
    data |= {} if points is None else {"points": points.absolute()}
    check_new(out, (RECIPE, WEIGHTS, TABLE, PICTURE))
    table = recipe_for(data | about, weights or DEFAULT_WEIGHTS, minutes)
    for line in left_out(images, about["pixel_size_um"]) if points is None else ():
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    _write(table, path, console)
    return path


def _check_same(path: Path, given: Mapping[str, Any]) -> None:
    """Raise ConfigError where a training that is to go on did not begin with what is given."""
    if not path.is_file():
        raise ConfigError(f"there is no training to go on with in {path.parent}: begin one without --resume")
    begun = read_toml(path).get("data", {})
    for key, value in given.items():
        was, now = (each.absolute().as_posix() if isinstance(each, Path) else each for each in (begun.get(key), value))
        if now is not None and was != now:
            raise ConfigError(
                f"the training in {path.parent} began with {key} = {was}, not {now}: leave that out, or give another "
                "folder to --out and begin there"
            )


def _write(table: dict[str, Any], path: Path, console: Console) -> None:
    make_folder(path.parent)
    write_recipe(table, path)
    console.print(f"{path}:\n{as_toml(table)}", soft_wrap=True, markup=False, highlight=False)


def _train_like(
    movie: Path,
    source: dict[str, Any],
    out: Path,
    weights: str | None,
    minutes: float | None,
    resume: bool,
    console: Console,
    view: bool,
) -> None:
    """Measure a movie, and train on simulations that look like it."""
    from streamtrack_engines.likeness.command import PAGE, compared, measured, recipe_table, write_page

    if not resume:
        check_new(out, (RECIPE, WEIGHTS, PAGE))
    measures = measured(movie, source, console)
    if not resume:
        table = recipe_table(measures, weights, minutes)
        _write(table, out / RECIPE, console)
        write_page(measures, table["data"], out / PAGE)
        console.print(f"{out / PAGE}: crops of the movie beside simulated ones", soft_wrap=True)
    over = _train(out / RECIPE, out, None, minutes, resume, console, view)
    if over is None:
        return
    recipe, checkpoint = over
    export(checkpoint, out / WEIGHTS, ExportSettings())
    lines = compared(recipe, out / WEIGHTS)
    write_page(measures, recipe.data.model_dump(), out / PAGE, lines)
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
