"""ONNX Runtime's own TensorRT providers as back ends, for ``benchmarks.gpu``: what ours have to be better than.

As fast as they are said to be: shapes fixed, inputs and outputs bound to the device, a CUDA graph, plans kept, and an
error in place of parts that would run on the CPU. See ``docs/decisions/0014-onnx-runtimes-tensorrt.md``.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streamtrack_engines.backends.cpu import FrameHistory
from streamtrack_engines.backends.deploy_file import read_deploy_file, without_denoised
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME
from streamtrack_engines.backends.runner import DeployFile, FrameSize
from streamtrack_engines.engine import DenodetEngine
from streamtrack_engines.weights import half_precision_of

BUILT_IN = "TensorrtExecutionProvider"
PLUG_IN = "onnxruntime_ep_nv_tensorrt_rtx"


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider: why it cannot run here, how it is put into a session's options, and where its tensors are."""

    reason_against: Callable[[], str | None]
    add_to: Callable[[ort.SessionOptions, str], None]
    device: str = "cuda"


def _built_in_reason() -> str | None:
    if BUILT_IN in ort.get_available_providers():
        return None
    return "this onnxruntime has no TensorRT: install onnxruntime-gpu in its place, and TensorRT 10"


def _add_built_in(options: ort.SessionOptions, folder: str) -> None:
    about = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder, "trt_timing_cache_enable": "1"}
    options.add_provider(BUILT_IN, {**about, "trt_fp16_enable": "1", "trt_cuda_graph_enable": "1"})


@cache
def _plug_in_reason() -> str | None:
    if find_spec(PLUG_IN) is None:
        return "onnxruntime-ep-nv-tensorrt-rtx is not installed"
    import onnxruntime_ep_nv_tensorrt_rtx as plug_in  # type: ignore[import-not-found]

    try:
        ort.register_execution_provider_library(plug_in.get_ep_name(), plug_in.get_library_path())
    except Exception as error:  # its exceptions have no public base class
        return str(error).splitlines()[0]
    return None if _plug_in_devices() else "it finds no GPU that it knows"


def _plug_in_devices() -> list[Any]:
    return [device for device in ort.get_ep_devices() if device.ep_name == "NvTensorRTRTXExecutionProvider"]


def _add_plug_in(options: ort.SessionOptions, folder: str) -> None:
    about = {"enable_cuda_graph": "1", "nv_runtime_cache_path": folder, "nv_persistent_context_memory": "1"}
    options.add_provider_for_devices(_plug_in_devices()[:1], about)


PROVIDERS = {
    "ort_tensorrt": Provider(_built_in_reason, _add_built_in),
    "ort_tensorrt_rtx": Provider(_plug_in_reason, _add_plug_in),
}


class ProviderRunner:
    """A `streamtrack_engines.backends.runner.Runner` in a provider; plans are kept as long as it lives."""

    def __init__(self, file: DeployFile, size: FrameSize, provider: Provider) -> None:
        self._history = FrameHistory(file.metadata.n_frames, size)
        self._kept = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.info = {"onnxruntime": ort.__version__, "precision": file.metadata.precision}
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(self._history.raw.shape, np.uint8, provider.device)
        table = (file.metadata.n_rows(size.height, size.width), len(file.metadata.columns))
        shapes = {DETECTIONS: table, DENOISED: (size.height, size.width)}
        self._outputs = {
            name: ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, provider.device)
            for name, shape in shapes.items()
        }
        self._bound = {
            False: self._bind(without_denoised(file.content), size, provider, [DETECTIONS]),
            True: self._bind(file.content, size, provider, [DETECTIONS, DENOISED]),
        }

    @property
    def current(self) -> NDArray[Any]:
        """Shape (H, W): the next frame is written here."""
        return self._history.current

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Copy the frames in, run, and copy the results out."""
        session, binding = self._bound[denoise]
        self._input.update_inplace(self._history.raw)
        binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        table = self._outputs[DETECTIONS].numpy()
        image = self._outputs[DENOISED].numpy() if denoise else None
        self._history.advance()
        return table, image

    def clear(self) -> None:
        """Forget the frames seen so far."""
        self._history.clear()

    def close(self) -> None:
        """Let go of sessions and plans."""
        self._bound = {}
        self._kept.cleanup()

    def _bind(
        self, content: bytes, size: FrameSize, provider: Provider, outputs: list[str]
    ) -> tuple[ort.InferenceSession, ort.IOBinding]:
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only
        if provider.device != "cpu":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        for name, value in (("height", size.height), ("width", size.width), ("bytes", size.itemsize)):
            options.add_free_dimension_override_by_name(name, value)
        provider.add_to(options, self._kept.name)
        session = ort.InferenceSession(content, options)
        binding = session.io_binding()
        binding.bind_ortvalue_input(FRAME, self._input)
        for name in outputs:
            binding.bind_ortvalue_output(name, self._outputs[name])
        return session, binding


class ProviderEngine(DenodetEngine):
    """DENODET in one of ONNX Runtime's providers: nothing but the back end differs."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(backend="onnxruntime")
        self._provider = provider

    def _open(self, size: FrameSize) -> None:
        self._release()
        half = half_precision_of(self._file.name) if self._provider.device != "cpu" else None
        file = self._file if half is None else read_deploy_file(half)
        self._runner, self._size = ProviderRunner(file, size, self._provider), size
        self._about_runner = {**self._runner.info, "weights": file.name, "weights_sha256": file.sha256}
