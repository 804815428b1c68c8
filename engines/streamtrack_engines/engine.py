"""Engines that find particles with a deploy graph: what it is, its file says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import ConfigError
from streamtrack.psf import read_psf
from streamtrack.settings import NotNegative, Share, checks_settings
from streamtrack.types import Column, Detections, Pixels
from streamtrack_engines.astigmatism import COLUMNS as HEIGHT
from streamtrack_engines.astigmatism import AstigmaticSpots
from streamtrack_engines.backends.metadata import COUNT, REQUIRED_COLUMNS
from streamtrack_engines.backends.runner import DeployFile
from streamtrack_engines.backends.selection import Choice
from streamtrack_engines.doubts import doubts_about, part_of
from streamtrack_engines.levels import Levels, Polarity, SpotSize
from streamtrack_engines.localise import Spots
from streamtrack_engines.network_engine import NetworkEngine
from streamtrack_engines.places.file import PACKAGED
from streamtrack_engines.places.second_look import CropPlaces

Localise = Literal["gaussian", "network", "spots", "particles"] | str
"""Or the path of an ``.onnx`` file."""

SEE_LOCALLY = ("denodet-local", "compact")
"""Networks that see each place on the scale of the noise around it."""

OWN_IMAGES = ("clicks", "folder")
"""Kinds of training data that are somebody's own images."""

_MANY_FRAMES = 5
"""From so many on it is odd if there is no particle in any."""


@checks_settings
class GraphEngine(NetworkEngine):
    """Finds particles with the network in any file that ``streamtrack export`` or ``pack`` wrote.

    Parameters
    ----------
    threshold
        Score from which a peak is a detection; by default the one in the weights' file.
    spot_size
        Full width at half maximum of the spots in px. From 7 px on the frame is binned, as the network knows no larger
        spots; smaller ones it finds whatever their size, and need not be told. By default the one in the weights' file,
        where they learnt from images at some size. For a network that tells the size of what it finds, as ``cells``:
        the diameter, and from 40 px on.
    localise
        ``"gaussian"``: the places of bright round spots are those of a fit to the frame, which is nearer to the truth
        than any network, and what was found twice counts once. ``"network"``: all places are the network's, as they
        are by default where it tells the size of what it finds. ``"particles"``: places of rings and of particles in
        bright field, 5 to 24 px, are those of a small network that looks at 32x32 px round each, where it is surer;
        ``"spots"``: likewise of spots, from 16x16 px. Or an ``.onnx`` file of such a network.
    psf
        File of ``streamtrack calibrate psf``, where a cylindrical lens tells how high particles are: adds the columns
        ``z_um`` and ``sigma_z_um``, NaN where the spot does not tell, and places are of the same fit. A relative path
        is looked for beside the run's file.
    min_mass
        Detections with less intensity (counts above the local background) are left out.
    """

    def __init__(
        self,
        *,
        weights: str | None = None,
        threshold: Share | None = None,
        spot_size: SpotSize | None = None,
        polarity: Polarity = "bright",
        localise: Localise = "gaussian",
        psf: Path | None = None,
        min_mass: NotNegative = 0.0,
        threads: Annotated[int, Field(ge=1)] | None = None,
        backend: Choice = "auto",
        config_folder: Path | None = None,
    ) -> None:
        super().__init__(weights=weights, spot_size=spot_size, polarity=polarity, threads=threads, backend=backend)
        metadata = self._file.metadata
        self._min_mass = min_mass
        self._psf = psf
        self._localise = "network" if localise == "gaussian" and self._is_sized else localise
        self._spots = self._second_look(self._localise, config_folder)
        self._threshold = metadata.threshold if threshold is None else threshold
        self._columns = [metadata.column(name) for name in REQUIRED_COLUMNS]
        self._extra = tuple(each for each in metadata.columns if each.name not in REQUIRED_COLUMNS)
        self._full_tables = self._n_frames = self._n_found = 0
        self._first: Pixels | None = None
        self._looks: list[str] | None = None

    def _second_look(self, localise: str, folder: Path | None) -> Spots | AstigmaticSpots | CropPlaces | None:
        is_dark = self._polarity == "dark"
        if self._psf is not None and self._is_sized:
            raise ConfigError("psf tells the heights of points, and this engine finds what has a size: leave it out")
        if self._psf is not None and localise not in ("gaussian", "network"):
            raise ConfigError(f"with psf places are of its own fit, not of localise = {localise!r}: leave one out")
        if self._psf is not None:
            return AstigmaticSpots(read_psf((folder or Path.cwd()) / self._psf.expanduser()), is_dark=is_dark)
        if localise == "gaussian":
            return Spots(self._spot_size, is_dark=is_dark)
        if localise not in ("network", *PACKAGED) and not localise.endswith(".onnx"):
            known = ", ".join(("gaussian", "network", *PACKAGED))
            raise ConfigError(f"localise = {localise!r} is none of {known}, and no .onnx file")
        return None if localise == "network" else CropPlaces(localise, self._threads, is_dark=is_dark)

    def _read(self, weights: str | None) -> DeployFile:
        file = super()._read(weights)
        if COUNT in file.metadata.columns:
            raise ConfigError(f"weights {file.name} count particles and find none of them: take --engine density")
        return file

    @property
    def columns(self) -> tuple[Column, ...]:
        """What is said of each detection besides position, score, intensity and sigma."""
        return self._extra if self._psf is None else self._extra + HEIGHT

    @property
    def threshold(self) -> float:
        """Score from which a peak is a detection."""
        return self._threshold

    def set_threshold(self, value: float) -> None:
        """Set the threshold for the frames from now on; raises ConfigError unless it is above 0 and at most 1."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value <= 1:
            raise ConfigError(f"threshold = {value!r} must be above 0 and at most 1")
        self._threshold = float(value)

    @property
    def info(self) -> Mapping[str, Any]:
        """Back end, weights and versions, and how many frames may hold more particles than the table has rows."""
        return {
            **super().info,
            "threshold": self._threshold,
            "max_detections": self._file.metadata.max_detections,
            "localise": self._localise if self._psf is None else "gaussian",
            "psf": None if self._psf is None else str(self._psf),
            "frames_with_full_table": self._full_tables,
        }

    def remarks(self) -> list[str]:
        """Return what looks wrong with the movie so far, with the setting that mends it."""
        said = []
        if self._full_tables:
            metadata = self._file.metadata
            where = "" if metadata.tile_px is None else f" in an area of {metadata.tile_px} x {metadata.tile_px} px"
            most = f"all {metadata.max_detections} detections that the weights allow{where}"
            said.append(f"{self._full_tables} frames have {most}: particles may be missing")
        if self._n_frames >= _MANY_FRAMES and self._n_found == 0:
            said.append(f"no particle in any of {self._n_frames} frames")
        if self._first is not None and self._looks is None and not self._knows_own_images:
            self._looks = doubts_about(
                self._first,
                is_dark=self._polarity == "dark",
                is_binned=self._binning > 1,
                sees_locally=self._file.metadata.network.kind in SEE_LOCALLY,
                is_sized=self._is_sized,
            )
        return said + (self._looks or [])

    @property
    def _knows_own_images(self) -> bool:
        """Whether the weights learnt from images of somebody's own: what looks odd to ours is usual to them."""
        return self._file.metadata.training_data.get("kind") in OWN_IMAGES

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Open a back end, as every `NetworkEngine`."""
        if self._spots is not None:
            self._spots.prepare((shape[0], shape[1]))
        super().prepare(shape, dtype)

    def _forget_counts(self) -> None:
        self._full_tables = self._n_frames = self._n_found = 0
        self._first = self._looks = None

    def _found(self, pixels: Pixels, table: NDArray[np.float32], levels: Levels) -> Detections:
        detections = self._detections(table, levels)
        if self._spots is not None:
            detections = self._spots.localised(pixels, detections)
        self._n_frames, self._n_found = self._n_frames + 1, self._n_found + len(detections)
        if self._first is None and pixels.min() != pixels.max():
            self._first = part_of(pixels)
        return detections

    def _detections(self, table: NDArray[np.float32], levels: Levels) -> Detections:
        """Return the rows of the table that are above the threshold, in arrays of their own."""
        certain = table[:, self._columns[2]] >= self._threshold
        most = self._file.metadata.max_detections
        self._full_tables += bool(certain[most - 1 :: most].any())  # of each tile the best come first
        rows = table[certain]
        if self._min_mass > 0:
            rows = rows[levels.counts(rows[:, self._columns[3]]) >= self._min_mass]
        measured = ((each, rows[:, self._file.metadata.column(each.name)]) for each in self._extra)
        extra = {each.name: levels.measured(values, each.unit) for each, values in measured}
        y, x, score, mass, sigma = rows.T[self._columns]
        return levels.detections(y, x, score, mass, sigma, extra)


class DenodetEngine(GraphEngine):
    """Finds particles with DENODET (Yao et al.), and denoises: round spots and comets, as fluorescence shows them."""

    networks = ("denodet", "denodet-local", "compact")


class UnetEngine(GraphEngine):
    """Finds particles with a U-Net at half resolution, and denoises: in half of DENODET's time on a CPU."""

    default_weights = "unet"
    networks = ("unet",)


class CellEngine(GraphEngine):
    """Finds cells and nuclei of 6 to 48 px, larger ones with ``spot_size``, and tells their size; denoises nothing."""

    default_weights = "cells"
    networks = ("cells",)


class DetectSpotEngine(GraphEngine):
    """Finds round spots with detectSpot (Mabaso et al.), patch by patch: to compare with, slow; denoises nothing."""

    default_weights = "detectspot"
    networks = ("detectspot",)


class DeepSpotEngine(GraphEngine):
    """Finds spots of single-molecule FISH with DeepSpot (Bouilhol et al.), and makes all of them equally bright.

    The image is the enhanced one: 255 at each spot, the rest of the frame between 0 and 255 as it was.
    """

    default_weights = "deepspot"
    networks = ("deepspot",)
