"""What a deploy graph says about itself: one JSON text in the ONNX file's metadata."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from streamtrack.errors import EngineError

METADATA_KEY = "streamtrack"

FRAME, DETECTIONS, DENOISED = "frame", "detections", "denoised"
"""Names of the graph's input and outputs."""

REQUIRED_COLUMNS = ("y", "x", "score", "intensity", "sigma")
"""Position in px, score 0 to 1, intensity above the local background in counts, standard deviation per axis in px."""


class DeployMetadata(BaseModel):
    """How a deploy graph was made and how to read its output; `export` writes it, every back end reads it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    """Raised when a reader of the old format would misread the file."""
    network: str
    streamtrack_version: str
    columns: tuple[str, ...]
    """Of the ``detections`` table; `REQUIRED_COLUMNS` are among them."""
    threshold: float = Field(gt=0, le=1)
    """Score from which a row is a detection, unless the user says otherwise."""
    max_detections: int = Field(ge=1)
    n_frames: int = Field(default=1, ge=1)
    """That the graph takes at once: the current one, last, and those before it; an unknown one is all zeros."""
    precision: Literal["float32", "float16"] = "float32"
    """In which the network computes; the table and the denoised frame are float32 always."""
    calibration: tuple[float, float, float] | None = None
    """Slope, sparse and shift of `streamtrack_engines.peaks.Calibration`; in the graph as constants, too."""
    normalisation: str
    recipe: dict[str, Any]
    """Of the training, as in its TOML file, defaults filled in."""
    training_data: dict[str, Any]
    """Ranges from which the training's images were drawn."""
    training_steps: int
    checkpoint_sha256: str

    @field_validator("columns")
    @classmethod
    def _has_required_columns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        lacking = [name for name in REQUIRED_COLUMNS if name not in columns]
        if lacking:
            raise ValueError(f"lacks {', '.join(lacking)}")
        return columns

    def to_properties(self) -> dict[str, str]:
        """Return the ONNX ``metadata_props``."""
        return {METADATA_KEY: self.model_dump_json()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], name: str) -> "DeployMetadata":
        """Read what `to_properties` wrote; raises EngineError naming the file ``name``."""
        cure = "write it with 'streamtrack export' of this version"
        if METADATA_KEY not in properties:
            raise EngineError(f"{name} has no streamtrack metadata: {cure}")
        try:
            return cls.model_validate_json(properties[METADATA_KEY])
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "JSON"
            raise EngineError(f"the metadata of {name} cannot be read ({place}: {first['msg']}): {cure}") from error
