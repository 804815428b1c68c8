"""An engine that counts particles instead of finding them."""

from dataclasses import replace
from math import inf
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import ConfigError
from streamtrack.settings import checks_settings
from streamtrack.types import Detections, Pixels
from streamtrack_engines.backends.metadata import COUNT, COUNT_SIGMA
from streamtrack_engines.backends.runner import DeployFile
from streamtrack_engines.backends.selection import Choice
from streamtrack_engines.levels import Levels, Polarity, SpotSize
from streamtrack_engines.network_engine import NetworkEngine, engine_of
from streamtrack_engines.weights import about_weights


@checks_settings
class DensityEngine(NetworkEngine):
    """Counts nuclei and cells where they cannot be told apart, and maps how dense they are; finds and tracks none.

    Each frame has the values ``count``, the integral of the map, and ``count_sigma``, the standard deviation of its
    error in images like those of the training. The image is the map, particles per px.

    Parameters
    ----------
    spot_size
        Diameter of the particles in px, from 40 px on: then the frame is binned. Smaller ones need not be told.
    """

    default_weights = "density"
    frame_columns = (COUNT, COUNT_SIGMA)

    def __init__(
        self,
        *,
        weights: str | None = None,
        spot_size: SpotSize | None = None,
        polarity: Polarity = "bright",
        threads: Annotated[int, Field(ge=1)] | None = None,
        backend: Choice = "auto",
    ) -> None:
        super().__init__(weights=weights, spot_size=spot_size, polarity=polarity, threads=threads, backend=backend)
        self._counted = [self._file.metadata.column(each.name) for each in self.frame_columns]
        self._forget_counts()

    @classmethod
    def about(cls) -> list[str]:
        """Return what ``streamtrack plugins engines`` says of the engine's own weights."""
        return about_weights(cls.default_weights)

    def remarks(self) -> list[str]:
        """Return what was counted in the frames so far."""
        if not self._n_frames:
            return []
        of = "in the frame" if self._n_frames == 1 else "a frame on average"
        span = "" if self._n_frames == 1 else f", {self._least:.1f} to {self._most:.1f}"
        return [
            f"{self._total / self._n_frames:.1f} particles {of}{span}",
            "particles are counted and not found: there are no detections and no tracks; frames.parquet has count and "
            "count_sigma of each frame",
        ]

    def _read(self, weights: str | None) -> DeployFile:
        file = super()._read(weights)
        if not {COUNT, COUNT_SIGMA} <= set(file.metadata.columns):
            raise ConfigError(
                f"weights {file.name} find particles and count none: take --engine {engine_of(file)}, or weights with "
                "the head 'density'"
            )
        return file

    def _forget_counts(self) -> None:
        self._n_frames, self._total, self._least, self._most = 0, 0.0, inf, 0.0

    def _found(self, pixels: Pixels, table: NDArray[np.float32], levels: Levels) -> Detections:
        of_tiles, sigmas = table[:, self._counted].T.astype(np.float64)
        count, sigma = float(of_tiles.sum()), float(np.sqrt((sigmas**2).sum()))
        self._n_frames, self._total = self._n_frames + 1, self._total + count
        self._least, self._most = min(self._least, count), max(self._most, count)
        return replace(Detections.empty(), frame_values={COUNT.name: count, COUNT_SIGMA.name: sigma})
