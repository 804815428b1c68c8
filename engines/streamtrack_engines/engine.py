"""Engines that run a deploy graph, in the fastest back end that the machine has: what it is, its file says."""

from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import ConfigError, EngineError
from streamtrack.settings import NotNegative, Share, checks_settings
from streamtrack.types import Column, Detections, Pixels
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.metadata import REQUIRED_COLUMNS
from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner
from streamtrack_engines.backends.selection import HALF_PRECISION, BackendName, Choice, get_backend, open_first
from streamtrack_engines.backends.stream_runner import StreamRunner
from streamtrack_engines.doubts import doubts_about, part_of
from streamtrack_engines.levels import CELLS_PX, SPOTS_PX, Levels, Polarity, SpotSize, binning_for
from streamtrack_engines.localise import Spots
from streamtrack_engines.weights import about_weights, half_precision_of

SEE_LOCALLY = ("denodet-local", "compact")
"""Networks that see each place on the scale of the noise around it."""

OWN_IMAGES = ("clicks", "folder")
"""Kinds of training data that are somebody's own images."""

SIZE = "radius_px"
"""A column of networks that find what is larger than a spot."""

_MANY_FRAMES = 5
"""From so many on it is odd if there is no particle in any."""


@checks_settings
class GraphEngine:
    """Finds particles with the network in any file that ``streamtrack export`` or ``pack`` wrote.

    Weights for more than one frame see the frames before, too, as far back as `reset` or `prepare`. The same frames
    give the same bits each time, on the same machine in the same back end. float32 frames are rounded to 65,536 levels
    between their least and greatest pixel, which changes nothing else: the network sees each frame normalised by
    itself, and counts are scaled back.

    Parameters
    ----------
    weights
        Name of weights that come with the package, or path of an ``.onnx`` file; by default the engine's own.
    threshold
        Score from which a peak is a detection; by default the one in the weights' file.
    spot_size
        Full width at half maximum of the spots in px. From 7 px on the frame is binned, as the network knows no larger
        spots; smaller ones it finds whatever their size, and need not be told. By default the one in the weights' file,
        where they learnt from images at some size. For a network that tells the size of what it finds, as ``cells``:
        the diameter, and from 40 px on.
    polarity
        ``"dark"`` for dark spots on bright ground.
    localise
        ``"gaussian"``: the places of bright round spots are those of a fit to the frame, which is nearer to the truth
        than any network, and what was found twice counts once. ``"network"``: all places are the network's, as they
        always are where it tells the size of what it finds.
    min_mass
        Detections with less intensity (counts above the local background) are left out.
    threads
        CPU threads for one frame; by default one for each core. Back ends on a GPU do not care.
    backend
        What runs the graph; by default the first that can of TensorRT, TensorRT for RTX, torch (these three on NVIDIA
        GPUs), OpenVINO and ONNX Runtime. `info` says which it was, and why others were passed over.

    Raises
    ------
    ConfigError
        A setting is out of range, or the weights are not of the engine that was asked for.
    EngineError
        The weights are missing, damaged, or no deploy graph; or the back end that was asked for is not there.
    """

    default_weights: ClassVar[str] = "denodet"
    networks: ClassVar[tuple[str, ...]] = ()
    """Kinds of network that the engine's name stands for; any if empty."""

    def __init__(
        self,
        *,
        weights: str | None = None,
        threshold: Share | None = None,
        spot_size: SpotSize | None = None,
        polarity: Polarity = "bright",
        localise: Literal["gaussian", "network"] = "gaussian",
        min_mass: NotNegative = 0.0,
        threads: Annotated[int, Field(ge=1)] | None = None,
        backend: Choice = "auto",
    ) -> None:
        if backend != "auto" and (reason := get_backend(backend).reason_against()):
            raise EngineError(f"engine back end {backend}: {reason}")
        self._file = self._read(weights)
        spot_size = self._file.metadata.spot_size if spot_size is None else spot_size
        self._is_sized = any(each.name == SIZE for each in self._file.metadata.columns)
        self._binning = binning_for(spot_size, CELLS_PX if self._is_sized else SPOTS_PX)
        self._polarity, self._min_mass = polarity, min_mass
        is_fitted = localise == "gaussian" and not self._is_sized
        self._spots = Spots(spot_size, is_dark=polarity == "dark") if is_fitted else None
        self._threads = threads
        self._choice: Choice = backend
        self._threshold = self._file.metadata.threshold if threshold is None else threshold
        self._columns = [self._file.metadata.column(name) for name in REQUIRED_COLUMNS]
        self._extra = tuple(each for each in self._file.metadata.columns if each.name not in REQUIRED_COLUMNS)
        self._has_image = self._file.metadata.image is not None
        self._runner: Runner | None = None
        self._size: FrameSize | None = None
        self._prepared: tuple[tuple[int, ...], str] | None = None
        self._closed = False
        self._levels: Levels | None = None
        self._full_tables = self._n_frames = self._n_found = 0
        self._first: Pixels | None = None
        self._looks: list[str] | None = None
        self._about_runner: dict[str, Any] = {"backend": None, "passed_over": {}}

    @classmethod
    def about(cls) -> list[str]:
        """Return what ``streamtrack plugins engines`` says of the engine's own weights."""
        return about_weights(cls.default_weights) if cls.networks else []

    def _read(self, weights: str | None) -> DeployFile:
        """Return the file of some weights; raises ConfigError if its network is another than the engine's name says."""
        name = weights or self.default_weights
        file = read_deploy_file(name)
        kind = file.metadata.network.kind
        if self.networks and kind not in self.networks:
            raise ConfigError(
                f"weights {name} are of the network {kind!r}, not of the engine {self.networks[0]!r}: take other "
                "weights, or the engine 'graph', which runs any"
            )
        return file

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the network says of each detection besides position, score, intensity and sigma."""
        return self._extra

    @property
    def frames_before(self) -> int:
        """How many frames before the current one the network sees."""
        return self._file.metadata.n_frames - 1

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
        """Back end, weights and versions, and how many frames may hold more particles than the table has rows.

        ``backend`` is None before the first `prepare`; ``passed_over`` says of each back end that would have been
        preferred why it was not taken.
        """
        metadata = self._file.metadata
        return {
            "weights": self._file.name,
            "weights_sha256": self._file.sha256,
            "weights_version": metadata.streamtrack_version,
            "network": metadata.network.kind,
            "n_frames": metadata.n_frames,
            "threshold": self._threshold,
            "max_detections": metadata.max_detections,
            "binning": self._binning,
            "polarity": self._polarity,
            "localise": "network" if self._spots is None else "gaussian",
            "frames_with_full_table": self._full_tables,
            **self._about_runner,
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
        """Open a back end for frames of this shape and dtype, and warm it up; one that is warm forgets only.

        Raises EngineError on frames that cannot be taken, or if no back end, or not the one asked for, can run.
        """
        if self._closed:
            raise EngineError("the engine is closed: make a new one")
        levels = Levels(shape, dtype, self._binning, self._polarity)
        self._check_fixed(levels.size)
        if levels.size != self._size:
            self._open(levels.size)
        if self._spots is not None:
            self._spots.prepare((shape[0], shape[1]))
        is_warm = self._prepared == (tuple(shape), dtype)
        self._prepared, self._levels = (tuple(shape), dtype), levels
        for denoise in () if is_warm else (True, False):
            self.detect(np.zeros(shape, dtype), denoise=denoise)
        self.reset()
        self._forget_counts()

    def _forget_counts(self) -> None:
        self._full_tables = self._n_frames = self._n_found = 0
        self._first = self._looks = None

    def reset(self) -> None:
        """Forget the frames seen so far: the next one does not follow them."""
        if self._runner is not None:
            self._runner.clear()

    def detect(self, pixels: Pixels, *, denoise: bool) -> tuple[Detections, NDArray[np.float32] | None]:
        """Find particles in the next frame, and denoise it (H, W) if asked to, and if the network can.

        Raises EngineError if the frame is not what `prepare` was told, or has pixels that are not finite; such a frame
        counts as not seen.
        """
        runner, levels = self._runner, self._levels
        if runner is None or levels is None or (pixels.shape, pixels.dtype.name) != self._prepared:
            state = "closed" if self._closed else f"prepared for {self._prepared or 'nothing'}"
            raise EngineError(f"frame is {pixels.shape} {pixels.dtype}, but the engine is {state}: call prepare first")
        levels.write(pixels, runner.current)
        table, image = runner.run(denoise=denoise and self._has_image)
        detections = self._detections(table, levels)
        if self._spots is not None:
            detections = self._spots.localised(pixels, detections)
        self._n_frames, self._n_found = self._n_frames + 1, self._n_found + len(detections)
        if self._first is None and pixels.min() != pixels.max():
            self._first = part_of(pixels)
        return detections, None if image is None else levels.image(image)

    def for_another_stream(self) -> Self:
        """Return an engine prepared as this one for another stream: it shares the network, where the back end can."""
        if self._runner is None or self._prepared is None:
            raise EngineError("the engine is not prepared: call prepare first")
        other = copy(self)
        shape, dtype = self._prepared
        other._levels = Levels((shape[0], shape[1]), dtype, self._binning, self._polarity)
        other._forget_counts()
        sharing = self._runner if isinstance(self._runner, StreamRunner) else StreamRunner.sharing(self._runner)
        if sharing is None:  # on a GPU each stream has a network of its own
            other._runner = other._size = None
            other.prepare((shape[0], shape[1]), dtype)
        else:
            self._runner, other._runner = sharing, sharing.another()
        return other

    @property
    def memory_bytes(self) -> int | None:
        """What the earlier frames of a stream take where several share the network; None where they do not."""
        return self._runner.memory_bytes if isinstance(self._runner, StreamRunner) else None

    def close(self) -> None:
        """Release device and memory."""
        self._closed = True
        self._release()

    def _open(self, size: FrameSize) -> None:
        """Replace the runner; none is left if that fails."""
        self._release()
        opened = open_first(self._choice, self._file_for, size, self._threads)
        self._runner, self._size = opened.runner, size
        self._about_runner = {
            **opened.runner.info,
            "backend": opened.name,
            "passed_over": dict(opened.passed_over),
            "weights": opened.file.name,
            "weights_sha256": opened.file.sha256,
        }

    def _release(self) -> None:
        if self._runner is not None:
            self._runner.close()
        self._runner = self._size = self._prepared = None

    def _file_for(self, backend: BackendName) -> DeployFile:
        """Return the packaged weights in half precision where they are better, otherwise the file as it was named."""
        half = half_precision_of(self._file.name) if backend in HALF_PRECISION else None
        return self._file if half is None else read_deploy_file(half)

    def _check_fixed(self, size: FrameSize) -> None:
        """Raise EngineError if the graph takes frames of another size only."""
        only = self._file.fixed
        if only is not None and size != only:
            raise EngineError(
                f"weights {self._file.name} are for frames of {only.height} x {only.width} px of {only.itemsize} "
                f"bytes, not of {size.height} x {size.width} px of {size.itemsize}: export without --height, --width "
                "and --dtype"
            )

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
