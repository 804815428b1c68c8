"""What ``streamtrack train`` does with the recipe of a network for crops."""

from pathlib import Path

import torch
from rich.console import Console

from streamtrack import __version__
from streamtrack.errors import ConfigError
from streamtrack.output import output_file
from streamtrack_engines.onnx_model import as_onnx
from streamtrack_engines.places.file import CROPS, METADATA_KEY, SAID, CropMetadata
from streamtrack_engines.places.networks import QUANTITIES, CropCnn
from streamtrack_engines.places.recipe import CropRecipe, read_crop_recipe
from streamtrack_engines.places.training import CropTraining
from streamtrack_engines.training.loop import make_folder

FILE_NAME, STATE_NAME = "crops.onnx", "checkpoint.pt"


def train_from(recipe_path: Path, out_dir: Path, console: Console, *, resume: bool) -> Path:
    """Train and write ``crops.onnx`` into a folder, made if missing; returns its path.

    Raises ConfigError if there is one already, or if the recipe is wrong.
    """
    recipe = read_crop_recipe(recipe_path)
    file, state = out_dir / FILE_NAME, out_dir / STATE_NAME
    if file.exists() or (state.exists() and not resume):
        raise ConfigError(f"{out_dir} already holds a training: choose another folder, or go on with --resume")
    make_folder(out_dir)
    training = CropTraining(recipe)
    if resume:
        training.load(state)
    training.run(lambda step, loss: console.print(f"step {step} of {recipe.steps}: loss {loss:.4f}"), state)
    with output_file(file) as unfinished:
        unfinished.write_bytes(to_onnx(training.trained, recipe))
    console.print(f"{file}", soft_wrap=True)
    return file


def to_onnx(network: CropCnn, recipe: CropRecipe) -> bytes:
    """Return the file of a network."""
    import onnx

    size_px = recipe.network.crop_px
    metadata = CropMetadata(
        streamtrack_version=__version__,
        crop_px=size_px,
        quantities=QUANTITIES,
        recipe=recipe.model_dump(mode="json"),
    )
    n_free = {0: torch.export.Dim("n", min=1)}
    model = as_onnx(network.eval(), (torch.zeros(2, size_px, size_px),), [CROPS], [SAID], (n_free,))
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    return bytes(model.SerializeToString(deterministic=True))
