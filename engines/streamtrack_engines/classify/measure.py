"""The measure ``classify``: the class of each particle, told from a patch of the frame around it."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import MeasureError
from streamtrack.settings import checks_settings
from streamtrack.types import Column, Detections, Pixels
from streamtrack_engines.classify.file import LOG_PROBABILITIES, PACKAGED, PATCHES, open_classifier

_WARM_UP = 64


@checks_settings
class Classify:
    """Tells of which class each particle is, from all the frames of its track so far.

    Parameters
    ----------
    weights
        ``"kinds"`` comes with the package and tells vesicles, comets, doublets, hot pixels and debris; or the path of
        an ``.onnx`` file that ``streamtrack train`` wrote for classes of one's own.
    most_per_frame
        How many particles are measured in one frame, those of new tracks first, then in turn; None for all.
    threads
        CPU threads; by default one for each core.

    Raises
    ------
    MeasureError
        The weights are missing, damaged, or no classifier.
    """

    averages = True

    def __init__(
        self,
        *,
        weights: str = PACKAGED,
        most_per_frame: Annotated[int, Field(ge=1)] | None = 500,
        threads: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        self._session, self._metadata = open_classifier(weights, threads)
        self._weights, self.most_per_frame = weights, most_per_frame
        self._reach = np.arange(self._metadata.patch_px) - self._metadata.patch_px // 2

    @property
    def columns(self) -> tuple[Column, ...]:
        """The class, its number, and how likely it is, 0 to 1."""
        return Column("class", classes=self._metadata.classes), Column("class_probability")

    @property
    def info(self) -> Mapping[str, Any]:
        """Weights, classes and versions."""
        metadata = self._metadata
        return {
            "weights": self._weights,
            "classes": list(metadata.classes),
            "patch_px": metadata.patch_px,
            "held_out_accuracy": metadata.accuracy,
            "weights_version": metadata.streamtrack_version,
            "onnxruntime": ort.__version__,
        }

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Warm up."""
        zeros = np.zeros(_WARM_UP, np.float32)
        self.measure(np.zeros(shape, dtype), Detections(zeros, zeros, zeros, zeros, zeros), np.arange(_WARM_UP))

    def measure(self, pixels: Pixels, found: Detections, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the logarithms of the probabilities of the classes, (R, C), of some rows; raises MeasureError."""
        y, x = found.y[rows], found.x[rows]
        if len(rows) == 0:
            return np.empty((0, len(self._metadata.classes)), np.float32)
        try:
            (seen,) = self._session.run([LOG_PROBABILITIES], {PATCHES: patches_at(pixels, y, x, self._reach)})
        except Exception as error:  # its exceptions have no public base class
            raise MeasureError(f"ONNX Runtime failed: {str(error).splitlines()[0]}") from error
        height, width = pixels.shape
        is_there = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)  # not NaN
        return np.where(is_there[:, None], seen, np.float32(np.nan))

    def values(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the likeliest class and its probability, (N, 2), for logarithms (N, C), or means of some."""
        likely = seen.max(1, initial=-np.inf)
        total = np.exp(seen - likely[:, None]).sum(1)
        values = np.column_stack([seen.argmax(1), 1 / total]).astype(np.float32)
        values[np.isnan(total)] = np.nan
        return values


def patches_at(
    pixels: Pixels, y: NDArray[np.floating], x: NDArray[np.floating], reach: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the pixels (N, P, P), float32, around places (N,), px; beyond the frame the nearest pixel stands in."""
    rows, columns = (
        (np.nan_to_num(place).clip(-1, side).round().astype(np.int64)[:, None] + reach).clip(0, side - 1)
        for place, side in zip((y, x), pixels.shape, strict=True)
    )
    patches: NDArray[np.float32] = pixels[rows[:, :, None], columns[:, None, :]].astype(np.float32, copy=False)
    return patches
