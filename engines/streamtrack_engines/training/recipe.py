"""The recipe of a training run: everything that decides its outcome, read from one TOML file."""

from dataclasses import fields
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator

from streamtrack.config import read_toml, validate
from streamtrack.simulation.crops import LOG_UNIFORM, CropRanges
from streamtrack_engines.networks import Kind
from streamtrack_engines.networks.compact import STRIDE
from streamtrack_engines.networks.denodet import Norm

_STRICT = ConfigDict(frozen=True, extra="forbid")


def _possible(value: object, info: ValidationInfo) -> object:
    if isinstance(value, float) and not 0 <= value <= 1:
        raise ValueError("a share lies between 0 and 1")
    if isinstance(value, tuple) and value[0] > value[1]:
        raise ValueError("the second number must not be smaller than the first")
    if isinstance(value, tuple) and value[0] <= 0 and info.field_name in (*LOG_UNIFORM, "death"):
        raise ValueError("both numbers must be above 0")
    return value


CropSettings = create_model(  # the simulation's dataclass, with checks on what a user types
    "CropSettings",
    __config__=_STRICT,
    __validators__={"_all_possible": field_validator("*")(_possible)},
    **{f.name: (f.type, f.default) for f in fields(CropRanges)},  # type: ignore[call-overload]
)


class NetworkSettings(BaseModel):
    """What `streamtrack_engines.networks.make_network` is asked for."""

    model_config = _STRICT

    kind: Kind = "full"
    n_frames: int = Field(default=3, ge=1, le=8)
    """The current frame and those before it."""
    norm: Norm = "batch"


class LossWeights(BaseModel):
    """Weights of the terms in :mod:`streamtrack_engines.training.losses`."""

    model_config = _STRICT

    presence: float = Field(default=800.0, ge=0)
    """The mean over all pixels is small: 1 in 500 holds a particle."""
    position: float = Field(default=0.5, ge=0)
    denoising: float = Field(default=0.5, ge=0)
    """The paper's gamma."""


class EvaluationSettings(BaseModel):
    """Held-out crops of the challenge's three scenes, made anew from ``seed`` whenever they are needed."""

    model_config = _STRICT

    every_minutes: float = Field(default=4.0, gt=0)
    """A checkpoint is written with each evaluation."""
    snr: tuple[float, ...] = (1.0, 2.0, 4.0, 7.0)
    density: float = Field(default=500.0, gt=0)
    """Particles per 512x512 px."""
    n_crops: int = Field(default=12, ge=1)
    crop_px: int = Field(default=256, ge=16, multiple_of=STRIDE)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    seed: int = Field(default=1_000_003, ge=0)


class CalibrationSettings(BaseModel):
    """Frames on which scores become probabilities, when the run is over."""

    model_config = _STRICT

    n_frames: int = Field(default=200, ge=1)
    frame_px: int = Field(default=512, ge=32, multiple_of=STRIDE)


class Recipe(BaseModel):
    """One training run."""

    model_config = _STRICT

    minutes: float = Field(default=60.0, gt=0)
    """Wall time of the run: the learning rate falls with it, so that a busy machine still finishes in time."""
    steps: int | None = Field(default=None, ge=1)
    """If given, the run ends after so many steps, and ``minutes`` does not count."""
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bfloat16: bool | Literal["auto"] = "auto"
    """``"auto"``: where the processor can compute in it."""
    batch_size: int = Field(default=16, ge=1)
    views: int = Field(default=1, ge=1, le=8)
    """So many steps in a row see the same crops, mirrored or turned: for machines that are slow at making them."""
    crop_px: int = Field(default=128, ge=16, multiple_of=STRIDE)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_steps: int = Field(default=100, ge=0)
    detection_only_fraction: float = Field(default=0.2, ge=0, le=1)
    """The paper's first stage: so much of the run goes by before the denoising loss is added."""
    largest_gradient: float = Field(default=20.0, gt=0)
    """Gradients are cut to this norm: one odd batch must not spoil the optimizer's memory of the others."""
    norm_fraction: float = Field(default=0.25, ge=0, le=1)
    """So much of the run batch norms take the statistics of each batch; then they keep those of the data."""
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    """The weights that are evaluated and shipped are this exponential moving average of the trained ones."""
    network: NetworkSettings = NetworkSettings()
    loss: LossWeights = LossWeights()
    crops: CropSettings = CropSettings()  # type: ignore[valid-type]
    calibration: CalibrationSettings = CalibrationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def crop_ranges(self) -> CropRanges:
        """What the training crops may look like."""
        return CropRanges(**self.crops.model_dump())  # type: ignore[attr-defined]


def read_recipe(path: Path, *, minutes: float | None = None) -> Recipe:
    """Read a recipe, with its length replaced if ``minutes`` is given; raises ConfigError."""
    recipe = read_toml(path)
    if minutes is not None:
        recipe.pop("steps", None)
        recipe["minutes"] = minutes
    return validate(Recipe, recipe, str(path))
