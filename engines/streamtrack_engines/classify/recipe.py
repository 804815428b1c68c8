"""The recipe of a classifier: everything that decides its training, read from one TOML file."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from streamtrack.config import read_toml, validate
from streamtrack_engines.classify.images import Folder, Kinds

_STRICT = ConfigDict(frozen=True, extra="forbid")

Share = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1)]


class PatchCnnSettings(BaseModel):
    """Keyword arguments of `streamtrack_engines.classify.networks.PatchCnn`."""

    model_config = _STRICT

    kind: Literal["patch_cnn"]
    patch_px: int = Field(default=21, ge=8, le=256)
    widths: tuple[Width, ...] = Field(default=(8, 16, 32), min_length=1)
    convs: int = Field(default=1, ge=1)


class TextCnnSettings(BaseModel):
    """Keyword arguments of `streamtrack_engines.classify.networks.TextCnn`."""

    model_config = _STRICT

    kind: Literal["text_cnn"]
    patch_px: int = Field(default=50, ge=8, le=256)
    widths: tuple[Width, Width] = (32, 64)
    dense: int = Field(default=128, ge=1)


class Augmentation(BaseModel):
    """How a patch is changed anew whenever it is seen; each number is the most to either side."""

    model_config = _STRICT

    rotation_deg: float = Field(default=30.0, ge=0, le=180)
    shift: Share = 0.1
    """Share of the patch's side."""
    shear: Share = 0.2
    zoom: Share = 0.2
    flip: bool = True
    """Whether half of them are mirrored, left to right."""

    @property
    def is_any(self) -> bool:
        """Whether anything is changed."""
        return any(self.model_dump().values())


class ClassifierRecipe(BaseModel):
    """One training of a classifier."""

    model_config = _STRICT

    seed: int = Field(default=0, ge=0)
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=64, ge=2)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0)
    """Falls to 0 with half a cosine."""
    label_smoothing: Share = 0.05
    held_out: float = Field(default=0.25, gt=0, lt=1)
    """Share of the images, drawn at random, that are tested and calibrated on."""
    network: PatchCnnSettings | TextCnnSettings = Field(discriminator="kind")
    data: Folder | Kinds = Field(discriminator="kind")
    augmentation: Augmentation = Augmentation()


def is_classifier(recipe: dict[str, Any]) -> bool:
    """Return whether a recipe is for a classifier, by the kind of its network."""
    network = recipe.get("network")
    return isinstance(network, dict) and network.get("kind") in ("patch_cnn", "text_cnn")


def read_classifier_recipe(path: Path) -> ClassifierRecipe:
    """Read a recipe; raises ConfigError. A relative path of images is one from the recipe's folder."""
    recipe = validate(ClassifierRecipe, read_toml(path), str(path))
    if isinstance(recipe.data, Folder):
        data = recipe.data.model_copy(update={"path": path.parent / recipe.data.path})
        recipe = recipe.model_copy(update={"data": data})
    return recipe
