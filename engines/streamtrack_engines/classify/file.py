"""A classifier's ONNX file: patches in, logarithms of the probabilities of its classes out."""

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamtrack.errors import MeasureError, foreign_errors

ort.disable_telemetry_events()  # under Windows; elsewhere the package's variable does

METADATA_KEY = "streamtrack_classifier"
PATCHES, LOG_PROBABILITIES = "patches", "log_probabilities"
"""Names of the graph's input, (N, P, P) float32 counts, and its output, (N, C) float32."""

PACKAGED = "kinds"
"""Weights that come with the package."""

_CURE = "train with 'streamtrack train' and a recipe of network kind \"patch_cnn\""


class ClassifierMetadata(BaseModel):
    """What a classifier's file says about itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    streamtrack_version: str
    patch_px: int = Field(ge=1)
    classes: tuple[str, ...] = Field(min_length=2)
    temperature: float
    accuracy: float
    """Share of the images held out that were told right."""
    recipe: dict[str, Any]


def open_classifier(weights: str, threads: int | None = None) -> tuple[ort.InferenceSession, ClassifierMetadata]:
    """Return a classifier, ready to run, and what its file says.

    Parameters
    ----------
    weights
        `PACKAGED`, or the path of an ``.onnx`` file that ``streamtrack train`` wrote.
    threads
        CPU threads; one per core if None.

    Raises
    ------
    MeasureError
        The file is missing, damaged, or no classifier.
    """
    content = _read(weights)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # its errors come as exceptions as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with foreign_errors(MeasureError, f"classifier {weights} is damaged or no ONNX file"):
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        properties = session.get_modelmeta().custom_metadata_map
    try:
        metadata = ClassifierMetadata.model_validate_json(properties.get(METADATA_KEY, ""))
    except ValidationError as error:
        raise MeasureError(f"{weights} is no classifier of streamtrack: {_CURE}") from error
    names = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
    if names != [PATCHES, LOG_PROBABILITIES]:
        raise MeasureError(f"{weights} is no classifier of streamtrack (it has {', '.join(names)}): {_CURE}")
    return session, metadata


def _read(weights: str) -> bytes:
    if weights == PACKAGED:
        return files("streamtrack_engines.classify").joinpath("weights", f"{PACKAGED}.onnx").read_bytes()
    if not weights.endswith(".onnx"):
        raise MeasureError(f"there is no classifier {weights!r}: packaged is {PACKAGED}; or give an .onnx file")
    try:
        return Path(weights).read_bytes()
    except OSError as error:
        raise MeasureError(f"cannot read the classifier {weights} ({error.strerror}): {_CURE}") from error
