"""Deploy graphs on any CPU, in ONNX Runtime."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack_engines.backends.cpu import FrameHistory, default_threads
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME
from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner

NAME = "onnxruntime"


def reason_against() -> str | None:
    """Return None: ONNX Runtime comes with the package and needs nothing."""
    return None


def open_runner(file: DeployFile, size: FrameSize, threads: int | None) -> Runner:
    """Load a graph and warm it up; `threads` is one per core if None. Raises EngineError."""
    runner = OnnxRuntimeRunner(file, size, threads or default_threads())
    runner.run(denoise=True)
    runner.clear()
    return runner


class OnnxRuntimeRunner:
    """A `streamtrack_engines.backends.runner.Runner` in ONNX Runtime. The same frames give the same bits each time."""

    def __init__(self, file: DeployFile, size: FrameSize, threads: int) -> None:
        self._threads = threads
        self._precision = file.metadata.precision
        self._history = FrameHistory(file.metadata.n_frames, size)
        self._session: ort.InferenceSession | None = _open(file, threads)

    @property
    def info(self) -> Mapping[str, Any]:
        """Version, precision and threads."""
        return {"onnxruntime": ort.__version__, "precision": self._precision, "threads": self._threads}

    @property
    def current(self) -> NDArray[Any]:
        """Shape (H, W): the next frame is written here."""
        return self._history.current

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the graph on `current` and the frames before it, as in `Runner`; raises EngineError."""
        if self._session is None:
            raise EngineError("the runner is closed: open another")
        outputs = [DETECTIONS, DENOISED] if denoise else [DETECTIONS]
        try:
            table, *image = self._session.run(outputs, {FRAME: self._history.raw})
        except Exception as error:  # its exceptions have no public base class
            raise EngineError(f"ONNX Runtime failed: {str(error).splitlines()[0]}") from error
        self._history.advance()
        return table, image[0] if denoise else None

    def clear(self) -> None:
        """Forget the frames seen so far."""
        self._history.clear()

    def close(self) -> None:
        """Release the session's memory."""
        self._session = None


def _open(file: DeployFile, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only; those come as exceptions as well
    # Waiting threads shall sleep, not spin: source, linker and sinks need the cores too, and it gains 1 % at most.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base class
        raise EngineError(f"ONNX Runtime cannot load {file.name}: {str(error).splitlines()[0]}") from error
