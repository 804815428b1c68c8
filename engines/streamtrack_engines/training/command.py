"""``streamtrack train``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamtrack_engines.training.loop import train
from streamtrack_engines.training.recipe import read_recipe


def train_command(
    recipe: Annotated[Path, typer.Argument(help="TOML file that says how to train.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint, the logs and the curves.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in that folder.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Wall time, instead of the length in the recipe.")] = None,
) -> None:
    """Train DENODET on simulated crops; Ctrl-C leaves a checkpoint to resume from."""
    console = Console()
    outcome = train(read_recipe(recipe, minutes=minutes), out, resume=resume, console=console)
    ending = "done" if outcome.finished else "stopped, go on with --resume,"
    console.print(f"{ending} at step {outcome.step}: {outcome.checkpoint}", soft_wrap=True)
