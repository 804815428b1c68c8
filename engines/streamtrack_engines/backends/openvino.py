"""Deploy graphs on CPUs in OpenVINO, in two thirds of ONNX Runtime's time (docs/decisions/0010-back-ends.md)."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack_engines.backends.cpu import FrameHistory, default_threads, warmed_up
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME
from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner

NAME = "openvino"

_ISA = "ONEDNN_MAX_CPU_ISA"
_TELEMETRY = "openvino_telemetry"


def reason_against() -> str | None:
    """Return why OpenVINO cannot run here, with the cure; None if it can."""
    cure = "pip install openvino"
    if find_spec("openvino") is None:
        return f"openvino is not installed: {cure}"
    try:
        _openvino()
    except (ImportError, OSError, RuntimeError) as error:
        return f"openvino is installed but does not load ({_one_line(error)}): {cure} --force-reinstall"
    return None


def open_runner(file: DeployFile, size: FrameSize, threads: int | None) -> Runner:
    """Load a graph and warm it up; `threads` is one per core if None. Raises EngineError."""
    return warmed_up(OpenvinoRunner(file, size, threads or default_threads()), file)


class OpenvinoRunner:
    """A `streamtrack_engines.backends.runner.Runner` in OpenVINO. The same frames give the same bits each time.

    The graph is compiled twice, with and without the denoised frame, whose decoder takes a third of the time.
    """

    def __init__(self, file: DeployFile, size: FrameSize, threads: int) -> None:
        self.history = FrameHistory(file.metadata.n_frames, size)
        try:
            with _signal_stack_kept():
                compiled = {denoise: _compile(file, self.history, threads, denoise) for denoise in file.programs}
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"OpenVINO cannot load {file.name}: {_one_line(error)}") from error
        self._requests = {denoise: _request(model, self.history) for denoise, model in compiled.items()}
        self._info = {
            "openvino": _version(),
            "precision": file.metadata.precision,
            "threads": threads,
            "kernels": _kernels(compiled[False]),
        }

    @property
    def info(self) -> Mapping[str, Any]:
        """Version, precision, threads, and the kernel that does the most convolutions."""
        return self._info

    @property
    def current(self) -> NDArray[Any]:
        """Shape (H, W): the next frame is written here."""
        return self.history.current

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the graph on `current` and the frames before it, as in `Runner`; raises EngineError."""
        if not self._requests:
            raise EngineError("the runner is closed: open another")
        request = self._requests[denoise]
        try:
            request.infer()
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"OpenVINO failed: {_one_line(error)}") from error
        self.history.advance()
        return request.get_tensor(DETECTIONS).data, request.get_tensor(DENOISED).data if denoise else None

    def clear(self) -> None:
        """Forget the frames seen so far."""
        self.history.clear()

    def close(self) -> None:
        """Release the graphs' memory."""
        with _signal_stack_kept():
            self._requests = {}


def _compile(file: DeployFile, history: FrameHistory, threads: int, denoise: bool) -> Any:
    """Return an ``openvino.CompiledModel``."""
    core = _openvino().Core()
    model = core.read_model(file.content)
    model.reshape({FRAME: list(history.raw.shape)})
    if not denoise and file.metadata.image is not None:
        model.remove_result(model.output(DENOISED).get_node())
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # where the CPU has it, bfloat16 would be taken
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # source, linker and sinks need the cores, too
    }
    with _narrow_vectors(core.get_property("CPU", "FULL_DEVICE_NAME")):
        return core.compile_model(model, "CPU", settings)


def _request(compiled: Any, history: FrameHistory) -> Any:
    """Return an ``openvino.InferRequest`` that reads the frames where they are."""
    request = compiled.create_infer_request()
    request.set_input_tensor(_openvino().Tensor(history.raw, shared_memory=True))
    return request


@contextlib.contextmanager
def _narrow_vectors(cpu: str) -> Iterator[None]:
    """Let oneDNN, OpenVINO's library of kernels, use AVX2 on AMD's processors; it asks once in a process.

    Its AVX-512 kernels compute layers of 8 channels as 16. That costs nothing where the processor computes 16 numbers
    in the time of 8, but Zen 4 does not.
    """
    if not cpu.startswith("AMD") or _ISA in os.environ:
        yield
        return
    os.environ[_ISA] = "AVX2"
    try:
        yield
    finally:
        del os.environ[_ISA]


@contextlib.contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Give the thread its stack for signals back: OpenVINO 2026.4.1 replaces it by one that it frees with its graphs.

    Without this, Ctrl-C after an engine was closed ends the process with a segmentation fault.
    """
    if sys.platform == "win32":
        yield
        return
    set_stack = ctypes.CDLL(None).sigaltstack
    before = ctypes.create_string_buffer(64)  # more than a stack_t of any system
    set_stack(None, before)
    try:
        yield
    finally:
        set_stack(before, None)


def _kernels(compiled: Any) -> str:
    """Return the name of the kernel that does most of the convolutions, for example ``brgconv_avx2_f32``."""
    facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    names = [fact["primitiveType"].value for fact in facts if fact["layerType"].value == "Convolution"]
    return max(set(names), key=names.count, default="")


def _version() -> str:
    return str(_openvino().__version__)


def _openvino() -> Any:
    """Return the module, imported so that it tells nobody: by itself it sends Google Analytics a message each time.

    Without the package that does so OpenVINO works all the same, and is imported in half of the time.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]  # importing it is an ImportError now
    import openvino

    return openvino


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
