"""Two TensorRT plans that run frame after frame, each by the launch of one CUDA graph."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack_engines.backends.cuda_graph import CudaStream
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME
from streamtrack_engines.backends.runner import DeployFile, FrameSize
from streamtrack_engines.backends.tensorrt_api import CudaEngine, CudaRuntime, ExecutionContext, Runtime, Tensorrt
from streamtrack_engines.backends.tensorrt_build import Log, input_shape, output_names, which

Tensors = Mapping[str, tuple[tuple[int, ...], Any]]
"""Shape and type of the tensors of some names."""

_CURE = "take another engine back end"


class TensorrtRunner:
    """Runs frames of one size, each by one of two plans (see `streamtrack_engines.backends.runner.Runner`).

    Which plan depends on whether the denoised frame is asked for. The plans never run at once and share all memory.
    The frames before stay on the device. What is done for a frame: it is copied there, its plan runs, what that
    computed is copied back, and the frames on the device move up by one. All of that is captured once for each plan
    in a CUDA graph, so that a frame costs one launch and one wait.

    Parameters
    ----------
    trt, cuda
        The modules.
    plans
        Built for `size` by `build_plan`, with (True) and without (False) the denoised frame.
    file, size
        What they were built of, and for.

    Attributes
    ----------
    info
        Whether CUDA graphs run, or why not, and the memory taken on the device for frames, results and scratch.

    Raises
    ------
    EngineError
        A plan is for another GPU, version or graph; or the GPU's memory is full.
    """

    def __init__(
        self, trt: Tensorrt, cuda: CudaRuntime, plans: Mapping[bool, bytes], file: DeployFile, size: FrameSize
    ) -> None:
        self._log = Log(trt)
        self._stream: CudaStream | None = CudaStream(cuda)
        self._runtime: Runtime | None = None
        self._engines: dict[bool, CudaEngine] = {}
        self._contexts: dict[bool, ExecutionContext] = {}
        try:
            tensors = _tensors(file, size)
            self._load(trt, plans, tensors)
            self._allocate(self._stream, tensors, size)
            self._open_contexts(trt)
            graphs = self._capture(self._stream)
            self.clear()
        except BaseException:
            self.close()
            raise
        memory_bytes = self._scratch_bytes + sum(_size(*tensor) for tensor in tensors.values())
        self.info: dict[str, Any] = {"cuda_graph": graphs, "device_memory_bytes": memory_bytes}

    def _load(self, trt: Tensorrt, plans: Mapping[bool, bytes], tensors: Tensors) -> None:
        runtime = self._runtime = trt.Runtime(self._log.sink)
        for denoise, plan in plans.items():
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise self._log.error(f"TensorRT refuses the plan {which(denoise)}", _CURE)
            _check_tensors(trt, engine, {name: tensors[name] for name in (FRAME, *output_names(denoise))})
            self._engines[denoise] = engine

    def _allocate(self, stream: CudaStream, tensors: Tensors, size: FrameSize) -> None:
        """Reserve the memory that the plans share. The network's input is one block of frames, the oldest first."""
        self._scratch_bytes = max(256, *(engine.device_memory_size_v2 for engine in self._engines.values()))
        self._scratch = stream.allocate(self._scratch_bytes)
        self._device = {name: stream.allocate(_size(*tensor)) for name, tensor in tensors.items()}
        self._host = {name: stream.pinned(*tensors[name]) for name in output_names(max(self._engines))}
        self._staging = stream.pinned((size.height, size.width), f"u{size.itemsize}")
        self._ring = range(self._device[FRAME], self._device[FRAME] + _size(*tensors[FRAME]), self._staging.nbytes)

    def _open_contexts(self, trt: Tensorrt) -> None:
        """Let each engine run in the memory of ours: TensorRT-RTX can be captured no other way."""
        for denoise, engine in self._engines.items():
            context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            if context is None:
                raise self._log.error(f"TensorRT opens no execution context for the plan {which(denoise)}", _CURE)
            context.set_device_memory(self._scratch, self._scratch_bytes)
            for name in (FRAME, *output_names(denoise)):
                if not context.set_tensor_address(name, self._device[name]):
                    raise self._log.error(f"TensorRT refuses the memory of {name}", _CURE)
            self._contexts[denoise] = context

    def _capture(self, stream: CudaStream) -> str:
        """Set how frames are run: by a graph if their plan lets itself be captured. Return which are not, and why."""
        self._run: dict[bool, Callable[[], None]] = {
            denoise: partial(self._enqueue, denoise=denoise) for denoise in self._contexts
        }
        for work in [*self._run.values()] * 2:  # TensorRT and the driver load code at first, which no capture allows
            work()
            stream.wait()
        reasons = []
        for denoise, work in self._run.items():
            try:
                self._run[denoise] = partial(stream.launch, stream.capture(work))
            except EngineError as error:
                reasons.append(f"no, {which(denoise)}: {error}")
        return "; ".join(reasons) or "yes"

    def _enqueue(self, *, denoise: bool) -> None:
        stream = self._open_stream()
        stream.upload(self._ring[-1], self._staging)
        # A refused enqueue records nothing: a graph of it would give the results of the frame before for ever.
        if not self._contexts[denoise].execute_async_v3(stream.handle):
            raise self._log.error(f"TensorRT refuses to run the plan {which(denoise)}", _CURE)
        for name in output_names(denoise):
            stream.download(self._host[name], self._device[name])
        for older, newer in zip(self._ring, self._ring[1:], strict=False):
            stream.move(older, newer, self._staging.nbytes)

    def _open_stream(self) -> CudaStream:
        if self._stream is None:
            raise EngineError("the engine is closed: make a new one")
        return self._stream

    @property
    def current(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Shape (H, W), in page-locked memory: the next frame is written here."""
        return self._staging

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run a plan on `current` and the frames before it; see `Runner.run`."""
        stream = self._open_stream()
        self._run[denoise]()
        stream.wait()
        return self._host[DETECTIONS], self._host[DENOISED] if denoise else None

    def clear(self) -> None:
        """Forget the frames seen so far."""
        stream = self._open_stream()
        stream.zero(self._ring[0], len(self._ring) * self._staging.nbytes)
        stream.wait()

    def close(self) -> None:
        """Release the device. May be called twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.drop_graphs()
            self._contexts.clear()  # after the graphs that run them, before their memory
            self._engines.clear()
            self._runtime = None
            stream.close()


def _tensors(file: DeployFile, size: FrameSize) -> Tensors:
    """Return what a plan reads and computes."""
    tensors: dict[str, tuple[tuple[int, ...], Any]] = {
        FRAME: (input_shape(file, size), np.uint8),
        DETECTIONS: ((file.metadata.n_rows(size.height, size.width), len(file.metadata.columns)), np.float32),
    }
    if file.metadata.image is not None:
        tensors[DENOISED] = ((size.height, size.width), np.float32)
    return tensors


def _check_tensors(trt: Tensorrt, engine: CudaEngine, wanted: Tensors) -> None:
    """Raise EngineError unless a plan has just these inputs and outputs, with these shapes and types."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {name: (tuple(engine.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name))) for name in names}
    if found != wanted:
        raise EngineError(f"the plan is of another graph: it has {found}, not {wanted}")


def _size(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape)) * int(np.dtype(dtype).itemsize)
