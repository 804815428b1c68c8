"""The engine that runs everywhere: a deploy graph in ONNX Runtime, on the CPU."""

import hashlib
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, EngineError
from streamtrack.types import MIN_FRAME_PX, Detections, Pixels
from streamtrack_engines.backends.metadata import (
    DENOISED,
    DETECTIONS,
    FRAME,
    REQUIRED_COLUMNS,
    DeployMetadata,
)
from streamtrack_engines.weights import read_weights

_LEVELS: dict[str, np.dtype[Any]] = {"uint8": np.dtype("u1"), "uint16": np.dtype("<u2"), "float32": np.dtype("<u2")}
"""What the graph gets for pixels of each dtype, lowest byte first."""
_MAX_LEVEL = 65535


class OnnxRuntimeEngine:
    """Finds particles with a deploy graph (see `streamtrack_engines.export`) in ONNX Runtime.

    Weights for more than one frame see the frames before, too, as far back as `reset` or `prepare`. The same frames
    give the same bits each time. float32 frames are rounded to 65,536 levels between their least and greatest pixel,
    which changes nothing else: the network sees each frame normalised by itself, and counts are scaled back.

    Parameters
    ----------
    weights
        Name of weights that come with the package, or path of an ``.onnx`` file that ``streamtrack export`` wrote.
    threshold
        Score from which a peak is a detection, above 0 and at most 1; by default the one in the weights' file.
    threads
        CPU threads for one frame; by default one for each core.

    Raises
    ------
    ConfigError
        A setting is out of range.
    EngineError
        The weights are missing, damaged, or no deploy graph.
    """

    def __init__(self, *, weights: str = "denodet", threshold: float | None = None, threads: int | None = None) -> None:
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(f"threshold {threshold:g} must be above 0 and at most 1")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads {threads} must be at least 1, or be left out for one per core")
        content = read_weights(weights)
        self._weights = weights
        self._threads = threads or default_threads()
        self._session: ort.InferenceSession | None = _open(content, weights, self._threads)
        self._metadata = _read_metadata(self._session, weights)
        self._threshold = self._metadata.threshold if threshold is None else threshold
        self._sha256 = hashlib.sha256(content).hexdigest()
        self._columns = [self._metadata.columns.index(name) for name in REQUIRED_COLUMNS]
        self._prepared: tuple[tuple[int, ...], str] | None = None
        self._history = _History(self._metadata.n_frames, (0, 0), _LEVELS["uint8"])
        self._full_tables = 0

    @property
    def info(self) -> Mapping[str, Any]:
        """Back end, weights and versions, and how many frames may hold more particles than the table has rows."""
        return {
            "backend": "onnxruntime",
            "onnxruntime": ort.__version__,
            "weights": self._weights,
            "weights_sha256": self._sha256,
            "weights_version": self._metadata.streamtrack_version,
            "network": self._metadata.network,
            "n_frames": self._metadata.n_frames,
            "threshold": self._threshold,
            "max_detections": self._metadata.max_detections,
            "frames_with_full_table": self._full_tables,
            "threads": self._threads,
        }

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Warm up for frames of this shape and dtype; raises EngineError on those that it cannot take."""
        if dtype not in _LEVELS:
            raise EngineError(f"frames of dtype {dtype} cannot be taken: convert them to {', '.join(_LEVELS)}")
        if min(shape) < MIN_FRAME_PX:
            raise EngineError(f"a frame of {shape[0]} x {shape[1]} px is too small: at least 32 x 32")
        self._check_fixed_size(*shape, _LEVELS[dtype].itemsize)
        self._prepared = (tuple(shape), dtype)
        self._history = _History(self._metadata.n_frames, shape, _LEVELS[dtype])
        for _ in range(2):
            self.detect(np.zeros(shape, dtype), denoise=True)
        self.reset()

    def reset(self) -> None:
        """Forget the frames seen so far: the next one does not follow them."""
        self._history.clear()

    def detect(self, pixels: Pixels, *, denoise: bool) -> tuple[Detections, NDArray[np.float32] | None]:
        """Find particles in the next frame, and denoise it (H, W) if asked to, which costs hardly more.

        Raises EngineError if the frame is not what `prepare` was told, or has pixels that are not finite; such a frame
        counts as not seen.
        """
        if self._session is None or (pixels.shape, pixels.dtype.name) != self._prepared:
            state = "closed" if self._session is None else f"prepared for {self._prepared or 'nothing'}"
            raise EngineError(f"frame is {pixels.shape} {pixels.dtype}, but the engine is {state}: call prepare first")
        scale, offset = _write_levels(pixels, self._history.current)
        outputs = [DETECTIONS, DENOISED] if denoise else [DETECTIONS]
        table, *image = self._session.run(outputs, {FRAME: self._history.raw})
        self._history.advance()
        denoised = image[0] if denoise else None
        if denoised is not None and pixels.dtype == np.float32:
            denoised = denoised * scale + offset
        return self._detections(table, scale), denoised

    def close(self) -> None:
        """Release the session's memory."""
        self._session = None

    def _detections(self, table: NDArray[np.float32], scale: float) -> Detections:
        y, x, score, mass, sigma = np.ascontiguousarray(table[:, self._columns].T)
        n = int(np.count_nonzero(score >= self._threshold))  # the best come first
        self._full_tables += n == len(table)
        return Detections(y[:n], x[:n], score[:n], mass[:n] * scale, sigma[:n])

    def _check_fixed_size(self, *wanted: int) -> None:
        """Raise EngineError if the weights are for one kind of frame only, and not for that: height, width, bytes."""
        if self._session is None:
            raise EngineError("the engine is closed: make a new one")
        taken = self._session.get_inputs()[0].shape[2:]
        if any(isinstance(size, int) and size != want for size, want in zip(taken, wanted, strict=True)):
            raise EngineError(
                f"weights {self._weights} are for frames of {taken[0]} x {taken[1]} px of {taken[2]} bytes, not of "
                f"{wanted[0]} x {wanted[1]} px of {wanted[2]}: export without --height, --width and --dtype"
            )


class _History:
    """The current frame and those before it, as the graph takes them; frames that are not known are zeros.

    Attributes
    ----------
    raw
        (1, T, H, W, B) uint8, oldest first.
    current
        (H, W), a view of the last one: write the next frame into it, run the graph, then call `advance`. A run that
        failed leaves no trace, as the next frame is written over its own.
    """

    def __init__(self, n_frames: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._frames = np.zeros((n_frames, *shape), dtype)
        self.raw = self._frames.view(np.uint8).reshape(1, n_frames, *shape, dtype.itemsize)
        self.current = self._frames[-1]

    def advance(self) -> None:
        """Make the current frame the one before."""
        for older, newer in zip(self._frames, self._frames[1:], strict=False):
            older[:] = newer  # one by one: numpy would copy the whole movie first, as source and target overlap

    def clear(self) -> None:
        """Know no frame."""
        self._frames.fill(0)


def default_threads() -> int:
    """Return the number of cores to compute on: those this process may use, without hyper-threads beyond 4."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable if usable <= 4 else max(4, usable // 2)


def _open(content: bytes, weights: str, threads: int) -> ort.InferenceSession:
    """Return a session of an ONNX file; raises EngineError if it is none."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only; those come as exceptions as well
    # Waiting threads shall sleep, not spin: source, linker and sinks need the cores too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base class
        raise EngineError(f"weights {weights} are damaged or no ONNX file: {str(error).splitlines()[0]}") from error


def _read_metadata(session: ort.InferenceSession, weights: str) -> DeployMetadata:
    """Return what the file says about itself, checked against its inputs and outputs."""
    metadata = DeployMetadata.from_properties(session.get_modelmeta().custom_metadata_map, f"weights {weights}")
    inputs = [(value.name, value.type, len(value.shape), value.shape[1:2]) for value in session.get_inputs()]
    outputs = {value.name for value in session.get_outputs()}
    if inputs != [(FRAME, "tensor(uint8)", 5, [metadata.n_frames])] or not {DETECTIONS, DENOISED} <= outputs:
        raise EngineError(
            f"weights {weights} are no deploy graph (inputs {[name for name, *_ in inputs]}, outputs "
            f"{sorted(outputs)}): write them with 'streamtrack export'"
        )
    return metadata


def _write_levels(pixels: Pixels, levels: NDArray[Any]) -> tuple[float, float]:
    """Write what the graph takes into `levels`; return scale and offset: pixels = levels * scale + offset."""
    if pixels.dtype != np.float32:
        levels[:] = pixels
        return 1.0, 0.0
    low, high = float(pixels.min()), float(pixels.max())
    if not math.isfinite(high - low):
        raise EngineError("the frame has NaN or infinite pixels: replace them first")
    scale = (high - low) / _MAX_LEVEL or 1.0
    np.rint((pixels.astype(np.float64) - low) / scale, out=levels, casting="unsafe")
    return scale, low
