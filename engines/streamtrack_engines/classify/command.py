"""What ``streamtrack train`` does with the recipe of a classifier."""

import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from streamtrack import __version__
from streamtrack.errors import ConfigError
from streamtrack.output import output_file
from streamtrack_engines.classify.file import LOG_PROBABILITIES, METADATA_KEY, PATCHES, ClassifierMetadata
from streamtrack_engines.classify.recipe import ClassifierRecipe, read_classifier_recipe
from streamtrack_engines.classify.training import TrainedClassifier, train_classifier
from streamtrack_engines.onnx_model import as_onnx
from streamtrack_engines.training.loop import make_folder

FILE_NAME = "classifier.onnx"
CONFUSION_NAME = "confusion.csv"


def train_from(recipe_path: Path, out_dir: Path, console: Console) -> TrainedClassifier:
    """Train a classifier and write ``classifier.onnx`` and ``confusion.csv`` into a folder, made if missing.

    Raises ConfigError if there is one already, or if recipe or images are wrong.
    """
    recipe = read_classifier_recipe(recipe_path)
    file = out_dir / FILE_NAME
    if any((out_dir / name).exists() for name in (FILE_NAME, CONFUSION_NAME)):
        raise ConfigError(f"{out_dir} already holds a classifier: choose another folder")
    images = recipe.data.read(recipe.network.patch_px, recipe.seed)
    make_folder(out_dir)
    console.print(f"{len(images.labels)} images of {len(images.classes)} classes: {', '.join(images.classes)}")
    trained = train_classifier(
        recipe, images, lambda epoch, loss: console.print(f"epoch {epoch} of {recipe.epochs}: loss {loss:.4f}")
    )
    with output_file(file) as unfinished:
        unfinished.write_bytes(to_onnx(trained, recipe, images.classes))
    _write_confusion(out_dir / CONFUSION_NAME, trained.confusion, images.classes)
    share = f"{trained.accuracy:.1%} of the {trained.confusion.sum()} held out are right"
    console.print(f"{file}: {share}, {trained.balanced_accuracy:.1%} as the mean over the classes", soft_wrap=True)
    return trained


def to_onnx(trained: TrainedClassifier, recipe: ClassifierRecipe, classes: tuple[str, ...]) -> bytes:
    """Return the file of a classifier."""
    import onnx

    size_px = recipe.network.patch_px
    metadata = ClassifierMetadata(
        streamtrack_version=__version__,
        patch_px=size_px,
        classes=classes,
        temperature=trained.classifier.temperature,
        accuracy=trained.accuracy,
        recipe=recipe.model_dump(mode="json", exclude={"data": {"path"}}),
    )
    n_free = {0: torch.export.Dim("n", min=1)}
    example = torch.zeros(2, size_px, size_px)
    model = as_onnx(trained.classifier, (example,), [PATCHES], [LOG_PROBABILITIES], (n_free,))
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    return bytes(model.SerializeToString(deterministic=True))


def _write_confusion(path: Path, confusion: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    with output_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))
