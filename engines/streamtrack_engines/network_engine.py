"""What engines have in common that run a deploy graph: its file, a back end, frames in and out."""

from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, EngineError
from streamtrack.registry import load, names
from streamtrack.types import DENOISED, Detections, Pixels
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.metadata import COUNT
from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner
from streamtrack_engines.backends.selection import HALF_PRECISION, BackendName, Choice, get_backend, open_first
from streamtrack_engines.backends.stream_runner import StreamRunner
from streamtrack_engines.levels import CELLS_PX, SPOTS_PX, Levels, Polarity, binning_for
from streamtrack_engines.weights import about_weights, half_precision_of

SIZE = "radius_px"
"""A column of networks that find what is larger than a spot."""


def engine_of(file: DeployFile) -> str:
    """Return the name of the engine that weights are for; 'graph' where they are of a network without one."""
    if COUNT in file.metadata.columns:
        return "density"
    kind = file.metadata.network.kind
    return next((name for name in names("engines") if kind in getattr(load("engines", name), "networks", ())), "graph")


class NetworkEngine:
    """Runs a deploy graph on frame after frame, in the fastest back end that the machine has.

    Weights for more than one frame see the frames before, too, as far back as `reset` or `prepare`. The same frames
    give the same bits each time, on the same machine in the same back end. float32 frames are rounded to 65,536 levels
    between their least and greatest pixel, which changes nothing else: the network sees each frame normalised by
    itself, and counts are scaled back.

    Parameters
    ----------
    weights
        Name of weights that come with the package, or path of an ``.onnx`` file; by default the engine's own.
    polarity
        ``"dark"`` for dark spots on bright ground.
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

    default_weights: ClassVar[str] = "denodet-local"
    networks: ClassVar[tuple[str, ...]] = ()
    """Kinds of network that the engine's name stands for; any if empty."""

    def __init__(
        self, *, weights: str | None, spot_size: float | None, polarity: Polarity, threads: int | None, backend: Choice
    ) -> None:
        if backend != "auto" and (reason := get_backend(backend).reason_against()):
            raise EngineError(f"engine back end {backend}: {reason}")
        self._file = self._read(weights)
        metadata = self._file.metadata
        self._is_sized = any(each.name == SIZE for each in metadata.columns)
        is_wide = self._is_sized or metadata.network.kind == "cells"
        self._spot_size = metadata.spot_size if spot_size is None else spot_size
        self._binning = binning_for(self._spot_size, CELLS_PX if is_wide else SPOTS_PX)
        self._polarity = polarity
        self._threads = threads
        self._choice: Choice = backend
        self._has_image = metadata.image is not None
        self._runner: Runner | None = None
        self._size: FrameSize | None = None
        self._prepared: tuple[tuple[int, ...], str] | None = None
        self._closed = False
        self._levels: Levels | None = None
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
                f"weights {name} are of the network {kind!r}, which the engine {self.networks[0]!r} does not run: take "
                f"other weights, or --engine {engine_of(file)}"
            )
        return file

    @property
    def frames_before(self) -> int:
        """How many frames before the current one the network sees."""
        return self._file.metadata.n_frames - 1

    @property
    def image(self) -> str:
        """Kind of the image that `detect` gives, as ``SourceInfo.image`` has it."""
        return self._file.metadata.image or DENOISED

    @property
    def info(self) -> Mapping[str, Any]:
        """Back end, weights and versions.

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
            "binning": self._binning,
            "polarity": self._polarity,
            **self._about_runner,
        }

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
        is_warm = self._prepared == (tuple(shape), dtype)
        self._prepared, self._levels = (tuple(shape), dtype), levels
        for denoise in () if is_warm else (True, False):
            self.detect(np.zeros(shape, dtype), denoise=denoise)
        self.reset()
        self._forget_counts()

    def _forget_counts(self) -> None:
        """Forget what was counted over the frames of a movie."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the frames seen so far: the next one does not follow them."""
        if self._runner is not None:
            self._runner.clear()

    def detect(self, pixels: Pixels, *, denoise: bool) -> tuple[Detections, NDArray[np.float32] | None]:
        """Return what is in the next frame, and its image (H, W) if asked for, and if the network gives one.

        Raises EngineError if the frame is not what `prepare` was told, or has pixels that are not finite; such a frame
        counts as not seen.
        """
        runner, levels = self._runner, self._levels
        if runner is None or levels is None or (pixels.shape, pixels.dtype.name) != self._prepared:
            state = "closed" if self._closed else f"prepared for {self._prepared or 'nothing'}"
            raise EngineError(f"frame is {pixels.shape} {pixels.dtype}, but the engine is {state}: call prepare first")
        levels.write(pixels, runner.current)
        table, image = runner.run(denoise=denoise and self._has_image)
        return self._found(pixels, table, levels), None if image is None else levels.image(image, self.image)

    def _found(self, pixels: Pixels, table: NDArray[np.float32], levels: Levels) -> Detections:
        """Return what a table says of a frame, in arrays of its own."""
        raise NotImplementedError

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
