"""Deploy graphs on any CPU, in ONNX Runtime."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack_engines.backends.cpu import FrameHistory, default_threads, warmed_up
from streamtrack_engines.backends.deploy_file import without_denoised
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME
from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner

NAME = "onnxruntime"


def reason_against() -> str | None:
    """Return None: ONNX Runtime comes with the package and needs nothing."""
    return None


def open_runner(file: DeployFile, size: FrameSize, threads: int | None) -> Runner:
    """Load a graph and warm it up; `threads` is one per core if None. Raises EngineError."""
    return warmed_up(OnnxRuntimeRunner(file, size, threads or default_threads()), file)


class OnnxRuntimeRunner:
    """A `streamtrack_engines.backends.runner.Runner` in ONNX Runtime. The same frames give the same bits each time.

    The graph is loaded twice, with and without the denoised frame: ONNX Runtime computes all of a graph, whichever
    output is asked for.
    """

    def __init__(self, file: DeployFile, size: FrameSize, threads: int) -> None:
        self._threads = threads
        self._precision = file.metadata.precision
        self.history = FrameHistory(file.metadata.n_frames, size)
        alone = without_denoised(file.content) if True in file.programs else file.content
        self._sessions = {
            denoise: _open(file.content if denoise else alone, file.name, threads) for denoise in file.programs
        }

    @property
    def info(self) -> Mapping[str, Any]:
        """Version, precision and threads."""
        return {"onnxruntime": ort.__version__, "precision": self._precision, "threads": self._threads}

    @property
    def current(self) -> NDArray[Any]:
        """Shape (H, W): the next frame is written here."""
        return self.history.current

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the graph on `current` and the frames before it, as in `Runner`; raises EngineError."""
        if not self._sessions:
            raise EngineError("the runner is closed: open another")
        outputs = [DETECTIONS, DENOISED] if denoise else [DETECTIONS]
        try:
            table, *image = self._sessions[denoise].run(outputs, {FRAME: self.history.raw})
        except Exception as error:  # its exceptions have no public base class
            raise EngineError(f"ONNX Runtime failed: {str(error).splitlines()[0]}") from error
        self.history.advance()
        return table, image[0] if denoise else None

    def clear(self) -> None:
        """Forget the frames seen so far."""
        self.history.clear()

    def close(self) -> None:
        """Release the sessions' memory."""
        self._sessions = {}


def _open(content: bytes, name: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only; those come as exceptions as well
    # Waiting threads shall sleep, not spin: source, linker and sinks need the cores too, and it gains 1 % at most.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base class
        raise EngineError(f"ONNX Runtime cannot load {name}: {str(error).splitlines()[0]}") from error
