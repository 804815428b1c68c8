"""A TensorRT plan that runs frame after frame, each by the launch of one CUDA graph."""

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
from streamtrack_engines.backends.tensorrt_build import Log, input_shape


class TensorrtRunner:
    """Runs one plan on frames of one size (see `streamtrack_engines.backends.runner.Runner`).

    The frames before stay on the device. What is done for a frame: it is copied there, the plan runs, the table is
    copied back, the denoised frame only if asked for, and the frames on the device move up by one. All of that is
    captured once in a CUDA graph, with and without the denoised frame, so that a frame costs one launch and one wait.

    Parameters
    ----------
    trt, cuda
        The modules.
    plan
        Built for `size` by `build_plan`.
    file, size
        What it was built of, and for.

    Attributes
    ----------
    info
        Whether a CUDA graph runs, or why not, and the memory taken on the device.

    Raises
    ------
    EngineError
        The plan is for another GPU, version or graph; or the GPU's memory is full.
    """

    def __init__(self, trt: Tensorrt, cuda: CudaRuntime, plan: bytes, file: DeployFile, size: FrameSize) -> None:
        self._log = Log(trt)
        self._stream: CudaStream | None = CudaStream(cuda)
        self._runtime: Runtime | None = None
        self._engine: CudaEngine | None = None
        self._context: ExecutionContext | None = None
        try:
            self._load(trt, plan, file, size)
            graph = self._capture(self._stream)
            self.clear()
        except BaseException:
            self.close()
            raise
        self.info: dict[str, Any] = {"cuda_graph": graph, "device_memory_bytes": self._memory_bytes}

    def _load(self, trt: Tensorrt, plan: bytes, file: DeployFile, size: FrameSize) -> None:
        stream = self._open_stream()
        shapes = {
            FRAME: (input_shape(file, size), np.uint8),
            DETECTIONS: ((file.metadata.max_detections, len(file.metadata.columns)), np.float32),
            DENOISED: ((size.height, size.width), np.float32),
        }
        runtime = trt.Runtime(self._log.sink)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._log.error("TensorRT refuses the plan", "take another engine back end")
        _check_shapes(trt, engine, shapes)
        self._runtime, self._engine = runtime, engine
        self._context = self._new_context(trt, engine, stream)
        device = {name: stream.allocate(_size(*shape)) for name, shape in shapes.items()}
        for name, address in device.items():
            if not self._context.set_tensor_address(name, address):
                raise self._log.error(f"TensorRT refuses the memory of {name}", "take another engine back end")
        self._frame_bytes = size.height * size.width * size.itemsize
        self._ring = [device[FRAME] + i * self._frame_bytes for i in range(file.metadata.n_frames)]
        self._staging = stream.pinned((size.height, size.width), f"u{size.itemsize}")
        self._table, self._table_at = stream.pinned(*shapes[DETECTIONS]), device[DETECTIONS]
        self._denoised, self._denoised_at = stream.pinned(*shapes[DENOISED]), device[DENOISED]
        self._memory_bytes = engine.device_memory_size_v2 + sum(_size(*shape) for shape in shapes.values())

    def _new_context(self, trt: Tensorrt, engine: CudaEngine, stream: CudaStream) -> ExecutionContext:
        """Return a context that works in memory of ours: TensorRT-RTX can be captured no other way."""
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise self._log.error("TensorRT opens no execution context", "take another engine back end")
        size = max(engine.device_memory_size_v2, 256)
        context.set_device_memory(stream.allocate(size), size)
        return context

    def _capture(self, stream: CudaStream) -> str:
        """Set how frames are run, by a graph if the plan lets itself be captured; return which, and why."""
        for _ in range(2):  # TensorRT and the driver load code at the first run, which no capture allows
            self._enqueue(denoise=True)
            stream.wait()
        self._run: dict[bool, Callable[[], None]] = {
            denoise: partial(self._enqueue, denoise=denoise) for denoise in (False, True)
        }
        try:
            graphs = {denoise: stream.capture(work) for denoise, work in self._run.items()}
        except EngineError as error:
            return f"no: {error}"
        self._run = {denoise: partial(stream.launch, graph) for denoise, graph in graphs.items()}
        return "yes"

    def _enqueue(self, *, denoise: bool) -> None:
        stream = self._open_stream()
        assert self._context is not None  # as long as there is a stream
        stream.upload(self._ring[-1], self._staging)
        # A refused enqueue records nothing: a graph of it would give the results of the frame before for ever.
        if not self._context.execute_async_v3(stream.handle):
            raise self._log.error("TensorRT refuses to run the plan", "take another engine back end")
        stream.download(self._table, self._table_at)
        if denoise:
            stream.download(self._denoised, self._denoised_at)
        for older, newer in zip(self._ring, self._ring[1:], strict=False):
            stream.move(older, newer, self._frame_bytes)

    def _open_stream(self) -> CudaStream:
        if self._stream is None:
            raise EngineError("the engine is closed: make a new one")
        return self._stream

    @property
    def current(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Shape (H, W), in page-locked memory: the next frame is written here."""
        return self._staging

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the plan on `current` and the frames before it; see `Runner.run`."""
        stream = self._open_stream()
        self._run[denoise]()
        stream.wait()
        return self._table, self._denoised if denoise else None

    def clear(self) -> None:
        """Forget the frames seen so far."""
        stream = self._open_stream()
        stream.zero(self._ring[0], len(self._ring) * self._frame_bytes)
        stream.wait()

    def close(self) -> None:
        """Release the device. May be called twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.drop_graphs()
            self._context = self._engine = self._runtime = None  # after the graphs that run them, before their memory
            stream.close()


def _check_shapes(trt: Tensorrt, engine: CudaEngine, wanted: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
    """Raise EngineError unless a plan has just these inputs and outputs, with these shapes and types."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {name: (tuple(engine.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name))) for name in names}
    if found != dict(wanted):
        raise EngineError(f"the plan is of another graph: it has {found}, not {dict(wanted)}")


def _size(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
