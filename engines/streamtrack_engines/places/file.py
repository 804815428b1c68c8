"""The ONNX file of a network for crops: crops in, what it says of each particle out."""

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamtrack.errors import EngineError, foreign_errors

ort.disable_telemetry_events()  # under Windows; elsewhere the package's variable does

METADATA_KEY = "streamtrack_crops"
CROPS, SAID = "crops", "said"
"""Names of the graph's input, (N, P, P) float32 counts, and its output, (N, 8) float32."""

PACKAGED = ("spots", "particles")
"""Weights that come with the package."""

AT_MOST = 64
"""Crops in one call: a crowd takes no more memory."""

_CURE = "train with 'streamtrack train' and a recipe of network kind \"crop_cnn\""


class CropMetadata(BaseModel):
    """What a file says about itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    streamtrack_version: str
    crop_px: int = Field(ge=1)
    quantities: tuple[str, ...]
    recipe: dict[str, Any]


class CropFile:
    """A network for crops, ready to run.

    Parameters
    ----------
    weights
        One of `PACKAGED`, or the path of an ``.onnx`` file that ``streamtrack train`` wrote.
    threads
        CPU threads; one per core if None.

    Raises
    ------
    EngineError
        The file is missing, damaged, or of something else.
    """

    def __init__(self, weights: str, threads: int | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.use_deterministic_compute = True
        options.log_severity_level = 4  # its errors come as exceptions as well
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = _read(weights)
        with foreign_errors(EngineError, f"weights {weights} are damaged or no ONNX file"):
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            properties = self._session.get_modelmeta().custom_metadata_map
        try:
            self.metadata = CropMetadata.model_validate_json(properties.get(METADATA_KEY, ""))
        except ValidationError as wrong:
            raise EngineError(f"weights {weights} are not of a network for crops: {_CURE}") from wrong

    def said(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what is said of crops (N, P, P), counts: (N, 8), values and the logarithms of their errors."""
        parts = [crops[k : k + AT_MOST] for k in range(0, len(crops), AT_MOST)]
        with foreign_errors(EngineError, "ONNX Runtime failed"):
            said = [self._session.run([SAID], {CROPS: part})[0] for part in parts]
        return np.concatenate(said) if said else np.empty((0, 2 * len(self.metadata.quantities)), np.float32)


def _read(weights: str) -> bytes:
    if weights in PACKAGED:
        return files("streamtrack_engines.places").joinpath("weights", f"{weights}.onnx").read_bytes()
    if not weights.endswith(".onnx"):
        raise EngineError(f"there are no weights {weights!r} for crops: take {' or '.join(PACKAGED)}, or a file")
    try:
        return Path(weights).read_bytes()
    except OSError as wrong:
        raise EngineError(f"cannot read the weights {weights} ({wrong.strerror}): {_CURE}") from wrong
