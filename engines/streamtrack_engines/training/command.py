"""``streamtrack train``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamtrack.config import read_toml
from streamtrack.errors import ConfigError
from streamtrack_engines.classify.command import train_from
from streamtrack_engines.classify.recipe import is_classifier
from streamtrack_engines.training.loop import train
from streamtrack_engines.training.recipe import read_recipe


def train_command(
    recipe: Annotated[Path, typer.Argument(help="TOML file that says how to train.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint, the logs and the curves.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in that folder.")] = False,
    weights: Annotated[
        str | None,
        typer.Option("--from", help="Learn on from weights: a name, or an .onnx file of 'streamtrack export'."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall time, instead of the length in the recipe.")] = None,
) -> None:
    """Train a network; Ctrl-C leaves a checkpoint to resume from.

    A recipe whose network is of the kind patch_cnn trains a classifier, in minutes and in one go.
    """
    console = Console()
    if is_classifier(read_toml(recipe)):
        if resume or minutes or weights:
            raise ConfigError("a classifier is trained in one go, for the epochs of its recipe: leave out the options")
        train_from(recipe, out, console)
        return
    if resume and weights:
        raise ConfigError("--resume goes on from the folder's checkpoint: leave out --from")
    outcome = train(read_recipe(recipe, minutes=minutes), out, resume=resume, weights=weights, console=console)
    ending = "done" if outcome.finished else "stopped, go on with --resume,"
    console.print(f"{ending} at step {outcome.step}: {outcome.checkpoint}", soft_wrap=True)
