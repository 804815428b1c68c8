"""Crops of one's own images, in which the particles are marked, mixed with simulated ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import exp, log
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError
from streamtrack.settings import NotNegative, Positive, checks_settings
from streamtrack_engines.levels import SpotSize, binning_for
from streamtrack_engines.training_data.images import MarkedImage, Reading
from streamtrack_engines.training_data.own_crops import Window, cut
from streamtrack_engines.training_data.plausible import check_plausible
from streamtrack_engines.training_data.reading import Stamp, read_clicks, read_folder, stamp_of
from streamtrack_engines.training_data.truth import OWN, TrainingData, Truth, joined, turned

LEAST_FRAMES = 5
"""Marked frames of a single movie: the last fifth of them is held out."""

_HELD_OUT_SNR = (2.0, 4.0)
_EXAMPLE_LEVELS = 250.0
_SCALED = 0.5
"""Share of crops that are interpolated, which makes noise of neighbours alike."""
_NEAR_A_MARK = 0.6
"""Share of crops that have a mark in them for sure, if there is any."""

Part = Annotated[float, Field(gt=0, lt=1)]
Mixed = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, slots=True)
class Marks:
    """The marked frames of some images that are learnt from, or those that are held out: images and frame numbers."""

    frames: tuple[tuple[MarkedImage, int], ...]

    @property
    def n_points(self) -> int:
        """How many particles are marked."""
        return sum(len(image.marked[frame].points) for image, frame in self.frames)

    @property
    def n_images(self) -> int:
        """How many files."""
        return len({image.name for image, _ in self.frames})


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnImages:
    """Crops of one's own images, mixed with simulated ones: what all kinds of them have in common.

    Parameters
    ----------
    spot_size
        Full width at half maximum of the spots in px. From 7 px on images are binned, as the engine does it.
    pixel_size_um
        How large a pixel is, for positions in µm.
    held_out_share
        Share of the images, drawn at random, that is never learnt from; of a single movie, of its last marked frames.
    seed
        Draws them.
    empty_frames
        Frames without any mark hold no particle, and are learnt from as such; otherwise nobody looked there.
    simulated_fraction
        Share of the batches that are simulated, so that the network does not forget what it knows.
    simulated
        What these are: ``kind`` of the training data, by default ``crops``, and its settings.
    source
        Settings of the images' source: ``{ channel = 0 }``.
    most_scaled, most_brightened
        Crops are made so many times larger or brighter at most, or smaller or darker.
    beyond_px
        How far beyond a crop marks are told of, simulated ones too: a head that counts needs three times its
        ``spread_px``.
    """

    path: Path
    spot_size: SpotSize | None = None
    pixel_size_um: Positive | None = None
    held_out_share: Part = 0.2
    seed: Annotated[int, Field(ge=0)] = 0
    empty_frames: bool = False
    simulated_fraction: Mixed = 0.5
    simulated: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    most_scaled: Annotated[float, Field(ge=1, le=2)] = 1.15
    most_brightened: Annotated[float, Field(ge=1, le=10)] = 1.5
    beyond_px: NotNegative = 0.0
    files: Stamp = field(init=False, repr=False, compare=False)
    simulation: TrainingData = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read everything, so that mistakes show at once."""
        object.__setattr__(self, "files", self._stamp())
        object.__setattr__(self, "simulation", self._simulation())
        learnt, held_out = self.parts()
        if not learnt.n_points or not held_out.n_points:
            raise ConfigError(f"{self.path}: no point in what is {'held out' if learnt.n_points else 'learnt from'}")

    def _stamp(self) -> Stamp:
        return stamp_of(self.path)

    def _simulation(self) -> TrainingData:
        """Return the training data of the simulated crops; raises ConfigError."""
        table = {"kind": "crops"} | (self.simulated or {})
        if table["kind"] == "crops":
            table.setdefault("held_out_snr", _HELD_OUT_SNR)
        elif self.beyond_px:
            table.setdefault("beyond_px", self.beyond_px)
        if table["kind"] == "crops" and self.beyond_px and self.simulated_fraction > 0:
            raise ConfigError(
                f"{self.path}: beyond_px = {self.beyond_px:g}, but simulated 'crops' tell of no particle beyond them: "
                'take simulated = { kind = "cells" } or simulated_fraction = 0'
            )
        data: TrainingData = registry.build("training_data", PluginConfig(**table)).instance
        return data

    @property
    def binning(self) -> int:
        """So many pixels along each axis are one for the network."""
        return binning_for(self.spot_size)

    @property
    def is_split_by_image(self) -> bool:
        """Whether whole images are held out; otherwise frames of the only movie."""
        return len(self.read()) > 1

    @property
    def reading(self) -> Reading:
        """How images are read."""
        return Reading(tuple(sorted((self.source or {}).items())), self.spot_size, self.empty_frames)

    def read(self) -> Sequence[MarkedImage]:
        """Return all images with their marks; raises StreamtrackError."""
        raise NotImplementedError

    def parts(self) -> tuple[Marks, Marks]:
        """Return what is learnt from and what is held out: whole images, or the last frames of a single movie."""
        images = self.read()
        n_held_out = max(1, round(self.held_out_share * len(images)))
        if len(images) > 1:
            order = np.random.default_rng((self.seed, 1)).permutation(len(images))
            held_out = set(order[:n_held_out].tolist())
            learnt, tested = (
                tuple(
                    (image, frame)
                    for number, image in enumerate(images)
                    if (number in held_out) is is_held_out
                    for frame in sorted(image.marked)
                )
                for is_held_out in (False, True)
            )
            return Marks(learnt), Marks(tested)
        frames = [(images[0], frame) for frame in sorted(images[0].marked)]
        if len(frames) < LEAST_FRAMES:
            raise ConfigError(
                f"{self.path}: {images[0].name} alone has marks, in {len(frames)} frame{'s' * (len(frames) != 1)}: a "
                f"part must be left to test on, so mark a second image, or {LEAST_FRAMES} frames of a movie at least"
            )
        last = max(1, round(self.held_out_share * len(frames)))
        return Marks(tuple(frames[:-last])), Marks(tuple(frames[-last:]))

    def batch(self, rng: np.random.Generator, n: int, size_px: int, n_before: int) -> Truth:
        """Return ``n`` crops: all simulated, or all of one's own images, those held out left out."""
        if rng.random() < self.simulated_fraction:
            return self.simulation.batch(rng, n, size_px, n_before)
        return joined([self._crop(rng, self.parts()[0], size_px, n_before) for _ in range(n)])

    def held_out(self, seed: int, n: int, size_px: int, n_before: int) -> Iterator[tuple[str, Truth]]:
        """Yield crops of the images held out, and simulated ones, where some are learnt from."""
        rng = np.random.default_rng(seed)
        marks = self.parts()[1]
        yield OWN, joined([self._crop(rng, marks, size_px, n_before, changed=False) for _ in range(n)])
        if self.simulated_fraction > 0:
            yield from self.simulation.held_out(seed, n, size_px, n_before)

    def example(self, n_frames: int, height: int, width: int) -> NDArray[np.float32]:
        """Return the part of an image with the most marks, its levels from 0 to 250."""
        learnt, _ = self.parts()
        image, frame = max(learnt.frames, key=lambda each: len(each[0].marked[each[1]].points))
        points, side = image.marked[frame].points, max(height, width)
        near = (np.abs(points[:, None] - points[None]) < side / 2).all(-1).sum(1)
        top, left = np.rint(points[near.argmax()] - side / 2).astype(int).tolist()
        window = Window(frame, top, left, side).inside(image)
        frames = cut(np.random.default_rng(0), image, window, n_frames - 1, always_known=True).noisy[0]
        frames = frames - frames.min()
        movie = np.rint(frames * min(1.0, _EXAMPLE_LEVELS / max(float(frames.max()), 1.0)))
        return np.ascontiguousarray(movie[:, :height, :width], np.float32)

    def _crop(
        self, rng: np.random.Generator, marks: Marks, size_px: int, n_before: int, *, changed: bool = True
    ) -> Truth:
        """Return one crop; if ``changed``, turned, mirrored, scaled and brightened at random."""
        image, frame = marks.frames[rng.integers(len(marks.frames))]
        factor = exp(rng.uniform(-1, 1) * log(self.most_scaled)) if changed and rng.random() < _SCALED else 1.0
        side = round(size_px / factor)
        points = image.marked[frame].points
        height, width = image.frames[frame].shape
        if len(points) and rng.random() < _NEAR_A_MARK:
            top, left = np.rint(points[rng.integers(len(points))] - rng.uniform(0, side, 2)).astype(int).tolist()
        else:
            top, left = (int(rng.integers(min(0, size - side), max(1, size - side + 1))) for size in (height, width))
        window = Window(frame, top, left, side).inside(image)
        crop = cut(rng, image, window, n_before, beyond_px=self.beyond_px / factor).scaled(size_px)
        truth = Truth(crop.noisy, crop.points, known={"radius_px": crop.radius_px})
        if not changed:
            return truth
        brightness = np.float32(exp(rng.uniform(-1, 1) * log(self.most_brightened)))
        return turned(replace(truth, noisy=truth.noisy * brightness), int(rng.integers(8)))


@checks_settings
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder(OwnImages):
    """Images in a folder, each with a table of points or a label mask beside it, mixed with simulated crops.

    Of ``cell.tif`` the table is ``cell.csv`` or ``cell_points.csv`` (napari, TrackMate, Fiji, streamtrack; also
    ``.xml``, ``.parquet``), the mask ``cell_masks.tif``; or files of the image's name in folders ``points`` or
    ``masks``; or one table for all images with a column ``image``. All particles of a marked frame must be marked.

    Parameters
    ----------
    path
        The folder, or one that holds ``images`` beside ``points`` or ``masks``.
    """

    def read(self) -> Sequence[MarkedImage]:
        """Return all images with their marks."""
        return _folder(self.path, self.pixel_size_um, self.reading, self.files)


@checks_settings
@dataclass(frozen=True, slots=True, kw_only=True)
class Clicks(OwnImages):
    """Points that somebody set in one movie, as napari saves them, mixed with simulated crops.

    All particles of a frame with points must be marked. The last marked frames are held out, whatever the ``seed``.

    Parameters
    ----------
    path
        The movie.
    points
        The table: napari's points (``index, axis-0, axis-1, axis-2``), or any that the kind ``folder`` takes.
    """

    points: Path

    def _stamp(self) -> Stamp:
        return *stamp_of(self.path), *stamp_of(self.points)

    def read(self) -> Sequence[MarkedImage]:
        """Return the movie with its marks."""
        return _clicks(self.path, self.points, self.pixel_size_um, self.reading, self.files)


@lru_cache(2)
def _folder(path: Path, pixel_size_um: float | None, reading: Reading, files: Stamp) -> Sequence[MarkedImage]:
    return _plausible(read_folder(path, pixel_size_um, reading), pixel_size_um, reading)


@lru_cache(2)
def _clicks(
    path: Path, points: Path, pixel_size_um: float | None, reading: Reading, files: Stamp
) -> Sequence[MarkedImage]:
    return _plausible(read_clicks(path, points, pixel_size_um, reading), pixel_size_um, reading)


def _plausible(images: Sequence[MarkedImage], pixel_size_um: float | None, reading: Reading) -> Sequence[MarkedImage]:
    check_plausible(images, binning_for(reading.spot_size), pixel_size_um is not None)
    return images
