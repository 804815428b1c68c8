"""One CUDA stream with the memory and the graphs that it uses, every status checked."""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack_engines.backends.tensorrt_api import CudaRuntime

Graph = Any
"""A ``cudaGraphExec_t``."""


class GpuMemoryError(EngineError):
    """The GPU's memory is full."""


def check(cuda: CudaRuntime, result: tuple[Any, ...]) -> Any:
    """Return what a call of ``cuda.bindings.runtime`` gave, without its status; raises EngineError if that is bad."""
    status, *values = result
    if status != cuda.cudaError_t.cudaSuccess:
        cuda.cudaGetLastError()  # or the next call would report this error again
        raise _error(cuda, status)
    return values[0] if len(values) == 1 else tuple(values)


def _error(cuda: CudaRuntime, status: Any) -> EngineError:
    if status == cuda.cudaError_t.cudaErrorMemoryAllocation:
        return GpuMemoryError("the memory of the GPU is full: close other programs that use it, or take smaller frames")
    text = cuda.cudaGetErrorString(status)[1].decode()
    return EngineError(
        f"the GPU reports {status.name} ({text}): start again, and update NVIDIA's driver if it comes back"
    )


class CudaStream:
    """A stream of the first GPU, at the greatest priority, that waits for no other stream.

    Raises EngineError where a call fails, here and in the methods; GpuMemoryError if that is for want of memory.
    """

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        self._memory: list[int] = []
        self._graphs: list[Graph] = []
        self._check(cuda.cudaSetDevice(0))
        _, greatest = self._check(cuda.cudaDeviceGetStreamPriorityRange())
        # TensorRT synchronises the whole device where it is given the default stream.
        self._stream: Any = self._check(cuda.cudaStreamCreateWithPriority(cuda.cudaStreamNonBlocking, greatest))
        self.handle = int(self._stream)

    def _check(self, result: tuple[Any, ...]) -> Any:
        return check(self._cuda, result)

    def allocate(self, size: int) -> int:
        """Return the address of some bytes on the device, never set; they live as long as the stream."""
        address = int(self._check(self._cuda.cudaMalloc(size)))
        self._memory.append(address)
        return address

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return an array in page-locked host memory, never set; it lives as long as a view of it does."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        address = int(self._check(self._cuda.cudaHostAlloc(size, self._cuda.cudaHostAllocDefault)))
        memory = (ctypes.c_ubyte * size).from_address(address)
        # Freed with the last view and not on close: someone may still look at the frame or the table.
        weakref.finalize(memory, self._cuda.cudaFreeHost, address).atexit = False
        return np.frombuffer(memory, dtype).reshape(shape)

    def zero(self, address: int, size: int) -> None:
        """Set bytes on the device to 0."""
        self._check(self._cuda.cudaMemsetAsync(address, 0, size, self._stream))

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a pinned array to the device."""
        self._copy(address, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")

    def download(self, array: NDArray[Any], address: int) -> None:
        """Copy from the device to a pinned array."""
        self._copy(array.ctypes.data, address, array.nbytes, "cudaMemcpyDeviceToHost")

    def move(self, to: int, address: int, size: int) -> None:
        """Copy from the device to the device; the two must not overlap."""
        self._copy(to, address, size, "cudaMemcpyDeviceToDevice")

    def _copy(self, to: int, address: int, size: int, kind: str) -> None:
        kinds = self._cuda.cudaMemcpyKind
        self._check(self._cuda.cudaMemcpyAsync(to, address, size, getattr(kinds, kind), self._stream))

    def wait(self) -> None:
        """Wait until all is done."""
        self._check(self._cuda.cudaStreamSynchronize(self._stream))

    def capture(self, work: Callable[[], None]) -> Graph:
        """Return a graph of what some work puts on this stream; raises EngineError, and the stream is usable again."""
        cuda = self._cuda
        # Another thread's cudaMalloc shall not break the capture: hence ThreadLocal.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._check(cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        except BaseException:
            self._discard(cuda.cudaStreamEndCapture(self._stream))
            raise
        graph = self._check(cuda.cudaStreamEndCapture(self._stream))
        try:
            replay = self._check(cuda.cudaGraphInstantiate(graph, 0))
        finally:
            cuda.cudaGraphDestroy(graph)
        self._graphs.append(replay)
        self._check(cuda.cudaGraphUpload(replay, self._stream))
        return replay

    def _discard(self, captured: tuple[Any, Any]) -> None:
        status, graph = captured
        if status == self._cuda.cudaError_t.cudaSuccess:
            self._cuda.cudaGraphDestroy(graph)
        self._cuda.cudaGetLastError()

    def launch(self, graph: Graph) -> None:
        """Replay a graph."""
        self._check(self._cuda.cudaGraphLaunch(graph, self._stream))

    def drop_graphs(self) -> None:
        """Wait until all is done, and release the graphs."""
        self._cuda.cudaStreamSynchronize(self._stream)  # what fails here has failed before: the rest goes anyway
        while self._graphs:
            self._cuda.cudaGraphExecDestroy(self._graphs.pop())

    def close(self) -> None:
        """Release the stream, its graphs and its memory on the device. May be called twice."""
        if self._stream is None:
            return
        self.drop_graphs()
        while self._memory:
            self._cuda.cudaFree(self._memory.pop())
        self._cuda.cudaStreamDestroy(self._stream)
        self._stream = None
