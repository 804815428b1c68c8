"""What a deploy graph says about itself: one JSON text in the ONNX file's metadata."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from streamtrack.config import PluginConfig
from streamtrack.errors import EngineError
from streamtrack.types import Column
from streamtrack_engines.older import metadata_as_now

METADATA_KEY = "streamtrack"

FRAME, DETECTIONS, DENOISED = "frame", "detections", "denoised"
"""Names of the graph's input and outputs."""

REQUIRED_COLUMNS = ("y", "x", "score", "intensity", "sigma")
"""Position in px, score 0 to 1, intensity above the local background in counts, standard deviation per axis in px."""

COUNT, COUNT_SIGMA = Column("count"), Column("count_sigma")
"""Of a network that counts: particles in a tile of the frame, and the standard deviation of the error of that number in
frames like those of the training. Over tiles the first is added up, the second in quadrature."""


class DeployMetadata(BaseModel):
    """How a deploy graph was made and how to read its output; `export` writes it, every back end reads it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[3] = 3
    """Raised when a reader of the old format would misread the file."""
    streamtrack_version: str
    network: PluginConfig
    """Kind and settings."""
    head: PluginConfig | None = None
    """Kind and settings; None of a network that streamtrack did not make, and cannot rebuild."""
    columns: tuple[Column, ...]
    """Of the ``detections`` table; `REQUIRED_COLUMNS` are among them."""
    image: str | None = None
    """Kind of the output ``denoised``; None if there is no such output."""
    threshold: float = Field(gt=0, le=1)
    """Score from which a row is a detection, unless the user says otherwise."""
    max_detections: int = Field(ge=1)
    """Rows of the table, for each tile if there are several."""
    tile_px: int | None = Field(default=None, ge=1)
    """Most height and width of a tile; None where a frame of any size is one."""
    n_frames: int = Field(default=1, ge=1)
    """That the graph takes at once: the current one, last, and those before it; an unknown one is all zeros."""
    precision: Literal["float32", "float16"] = "float32"
    """In which the network computes; the table and the image are float32 always."""
    spot_size: float | None = Field(default=None, gt=0)
    """At which the network learnt to see particles, px; None where it finds them in frames as they are."""
    calibration: tuple[float, ...] = ()
    """Of the head; in the graph as constants, too."""
    recipe: dict[str, Any] = {}
    """Of the training, as in its TOML file, defaults filled in."""
    training_data: dict[str, Any] = {}
    """Kind and settings of what was learnt from."""
    training_steps: int = 0
    checkpoint_sha256: str = ""

    @field_validator("columns")
    @classmethod
    def _has_required_columns(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        names = [column.name for column in columns]
        lacking = [name for name in REQUIRED_COLUMNS if name not in names]
        if lacking:
            raise ValueError(f"lacks {', '.join(lacking)}")
        if len(set(names)) < len(names):
            raise ValueError("two columns have the same name")
        return columns

    def column(self, name: str) -> int:
        """Return the place of a column in the table."""
        return [column.name for column in self.columns].index(name)

    def n_rows(self, height: int, width: int) -> int:
        """Return how many rows the table has for frames of some size."""
        if self.tile_px is None:
            return self.max_detections
        tiles = [-(-size // self.tile_px) for size in (height, width)]
        return self.max_detections * tiles[0] * tiles[1]

    def to_properties(self) -> dict[str, str]:
        """Return the ONNX ``metadata_props``."""
        return {METADATA_KEY: self.model_dump_json()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], name: str) -> "DeployMetadata":
        """Read what `to_properties` wrote, of formats 1 and 2 too; raises EngineError naming the file ``name``."""
        cure = "write it with 'streamtrack export' of this version"
        if METADATA_KEY not in properties:
            raise EngineError(f"{name} has no streamtrack metadata: {cure}, or give it some with 'streamtrack pack'")
        try:
            said = json.loads(properties[METADATA_KEY])
            return cls.model_validate(metadata_as_now(said))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "JSON"
            raise EngineError(f"the metadata of {name} cannot be read ({place}: {first['msg']}): {cure}") from error
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise EngineError(f"the metadata of {name} cannot be read ({error}): {cure}") from error
