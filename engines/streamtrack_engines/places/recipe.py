"""The recipe of a network for crops: everything that decides its training, read from one TOML file."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamtrack.config import read_toml, validate
from streamtrack_engines.places.particles import Particle, Ranges

_STRICT = ConfigDict(frozen=True, extra="forbid")

Positive = Annotated[float, Field(gt=0)]
Width = Annotated[int, Field(ge=1)]


class CropCnnSettings(BaseModel):
    """Keyword arguments of `streamtrack_engines.places.networks.CropCnn`."""

    model_config = _STRICT

    kind: Literal["crop_cnn"]
    crop_px: int = Field(default=16, ge=8, le=128)
    stride: int = Field(default=1, ge=1, le=4)
    widths: tuple[Width, Width, Width] = (16, 24, 24)
    maps: int = Field(default=6, ge=1)
    dense: int = Field(default=48, ge=1)

    @model_validator(mode="after")
    def _halves_twice(self) -> Self:
        if self.crop_px % (4 * self.stride):
            raise ValueError(f"crop_px = {self.crop_px} must be a multiple of {4 * self.stride}, four times stride")
        return self


class ParticleSettings(BaseModel):
    """What `streamtrack_engines.places.particles.simulated` draws."""

    model_config = _STRICT

    kind: Literal["particles"]
    particles: tuple[Particle, ...] = Field(default=("spot",), min_length=1)
    snr: tuple[Positive, Positive] = (1.0, 30.0)
    offset_px: float = Field(default=3.0, gt=0)
    diameter_px: tuple[Positive, Positive] = (1.9, 5.5)
    background_e: tuple[Positive, Positive] = (4.0, 400.0)
    neighbours: float = Field(default=0.5, ge=0, le=1)
    slope: float = Field(default=0.3, ge=0)

    @property
    def ranges(self) -> Ranges:
        """What is drawn, without what is in it."""
        return Ranges(**self.model_dump(exclude={"kind", "particles"}))


class CropRecipe(BaseModel):
    """One training of a network for crops."""

    model_config = _STRICT

    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=8000, ge=1)
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    """Rises over the first steps, then falls to 0 with half a cosine."""
    network: CropCnnSettings
    data: ParticleSettings


def is_for_crops(recipe: dict[str, Any]) -> bool:
    """Return whether a recipe is for a network for crops, by the kind of its network."""
    network = recipe.get("network")
    return isinstance(network, dict) and network.get("kind") == "crop_cnn"


def read_crop_recipe(path: Path) -> CropRecipe:
    """Read a recipe; raises ConfigError."""
    return validate(CropRecipe, read_toml(path), str(path))
