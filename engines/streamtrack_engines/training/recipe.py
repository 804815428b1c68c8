"""The recipe of a training run: everything that decides its outcome, read from one TOML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from streamtrack import registry
from streamtrack.config import PluginConfig, read_toml, validate
from streamtrack.errors import ConfigError, foreign_errors
from streamtrack_engines.older import recipe_as_now

_STRICT = ConfigDict(frozen=True, extra="forbid")
_PARTS: dict[str, registry.Group] = {"network": "networks", "head": "heads", "data": "training_data"}


class EvaluationSettings(BaseModel):
    """Held-out crops, the same whenever they are needed."""

    model_config = _STRICT

    every_minutes: float = Field(default=4.0, gt=0)
    """A checkpoint is written with each evaluation."""
    n_crops: int = Field(default=12, ge=1)
    """Of each kind that the data have."""
    crop_px: int = Field(default=256, ge=16)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    seed: int = Field(default=1_000_003, ge=0)


class CalibrationSettings(BaseModel):
    """Frames on which scores become probabilities, when the run is over."""

    model_config = _STRICT

    n_frames: int = Field(default=200, ge=1)
    frame_px: int = Field(default=512, ge=32)


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
    crop_px: int = Field(default=128, ge=16)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    schedule: Literal["cosine", "plateau"] = "cosine"
    """How the learning rate falls over the run: half a cosine down to 0, or to a tenth whenever the loss has not fallen
    for a tenth of the run, which is DENODET's as printed: ten of its hundred epochs."""
    warmup_steps: int = Field(default=100, ge=0)
    denoising: float = Field(default=0.5, ge=0)
    """Weight of the loss of the denoised image, where the network gives one: the paper's gamma."""
    detection_only_fraction: float = Field(default=0.2, ge=0, le=1)
    """The paper's first stage: so much of the run goes by before the denoising loss is added."""
    largest_gradient: float = Field(default=20.0, gt=0)
    """Gradients are cut to this norm: one odd batch must not spoil the optimizer's memory of the others."""
    norm_fraction: float = Field(default=0.25, ge=0, le=1)
    """So much of the run batch norms take the statistics of each batch; then they keep those of the data."""
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    """The weights that are evaluated and shipped are this exponential moving average of the trained ones."""
    weights: str | None = None
    """Learn on from these, packaged or a deploy file, rather than from random ones; ``--from`` goes before."""
    teacher: str | None = None
    """Packaged weights, or a deploy file, with the head ``presence``: what they say counts beside the truth in crops
    where it is nearer to that than the network's own."""
    network: PluginConfig = PluginConfig(kind="denodet")
    """What computes; the other keys are the network's own: ``streamtrack plugins networks NAME``."""
    head: PluginConfig = PluginConfig(kind="presence")
    """What its channels mean: ``streamtrack plugins heads NAME``."""
    data: PluginConfig = PluginConfig(kind="crops")
    """What is learnt from: ``streamtrack plugins training_data NAME``."""
    calibration: CalibrationSettings = CalibrationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


def recipe_of(table: Mapping[str, Any], where: str) -> Recipe:
    """Return the recipe of a table, an older version's too, all defaults filled in; raises ConfigError.

    ``where`` names the file.
    """
    with foreign_errors(ConfigError, where):
        now = recipe_as_now(table)
    recipe = validate(Recipe, now, where)
    parts = {}
    for name, group in _PARTS.items():
        config: PluginConfig = getattr(recipe, name)
        # What is learnt from is also made: mistakes that a signature does not see shall show now.
        made = registry.build(group, config).settings if name == "data" else registry.check_settings(group, config)
        parts[name] = PluginConfig(kind=config.kind, **made)
    _check_beyond(parts["head"], parts["data"], where)
    if recipe.teacher and recipe.head.kind != "presence":
        raise ConfigError(f"{where}: teacher = {recipe.teacher!r}: only the head 'presence' can learn from another")
    _check_sizes(recipe, where)
    return recipe.model_copy(update=parts)


def _check_beyond(head: PluginConfig, data: PluginConfig, where: str) -> None:
    """Raise ConfigError where the head has to know particles of which the training data do not tell."""
    needed: float = registry.build("heads", head).instance.beyond_px
    if needed > data.settings.get("beyond_px", 0.0):
        can = "only 'cells', 'clicks', 'deeptrack', 'folder' and 'type_ab' can"
        cure = can if "beyond_px" not in data.settings else "set it in [data]"
        raise ConfigError(
            f"{where}: the head {head.kind!r} has to know particles {needed:g} px beyond a crop, beyond_px = "
            f"{needed:g} of the training data: {cure}"
        )


def _check_sizes(recipe: Recipe, where: str) -> None:
    stride = registry.load("networks", recipe.network.kind).stride
    sizes = {
        "crop_px": recipe.crop_px,
        "evaluation.crop_px": recipe.evaluation.crop_px,
        "calibration.frame_px": recipe.calibration.frame_px,
    }
    for key, size in sizes.items():
        if size % stride:
            cure = f"network {recipe.network.kind!r} takes multiples of {stride}"
            raise ConfigError(f"{where}: {key} = {size} is not valid: {cure}")


def read_recipe(path: Path, *, minutes: float | None = None) -> Recipe:
    """Read a recipe, with its length replaced if ``minutes`` is given; raises ConfigError."""
    recipe = read_toml(path)
    if minutes is not None:
        recipe.pop("steps", None)
        recipe["minutes"] = minutes
    _find_beside(recipe.get("data"), path.parent)
    return recipe_of(recipe, str(path))


def _find_beside(data: Any, folder: Path) -> None:
    """Make the paths of what is learnt from those from the recipe's folder."""
    for key in ("path", "points"):
        if isinstance(data, dict) and isinstance(data.get(key), str):
            data[key] = (folder / Path(data[key]).expanduser()).as_posix()
