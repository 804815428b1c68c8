"""CUDA's calls on host memory: what a stream is given runs at once, or when its graph is launched."""

import ctypes
import enum
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any


class Status(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class Kind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class Mode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


OK = Status.cudaSuccess
Work = Callable[[], object]


class FakeCuda:
    """``cuda.bindings.runtime`` on a GPU with `free_bytes` of memory.

    `calls` are the names of the calls so far; `failing` maps names to the status that they give; `driver` is the
    driver's CUDA version.
    """

    cudaError_t = Status
    cudaMemcpyKind = Kind
    cudaStreamCaptureMode = Mode
    cudaHostAllocDefault = 0
    cudaStreamNonBlocking = 1

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing: dict[str, Status] = {}
        self.free_bytes = 1 << 30
        self.driver = 13000
        self.n_gpus = 1
        self.device: dict[int, Any] = {}
        self.host: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: set[int] = set()
        self._captured: list[Work] | None = None
        self._spoilt = False
        self._works: dict[int, list[Work]] = {}

    def _called(self, name: str, *, breaks_capture: bool = False) -> Status:
        self.calls.append(name)
        if breaks_capture and self._captured is not None:
            self._spoilt = True
            return Status.cudaErrorStreamCaptureUnsupported
        return self.failing.get(name, OK)

    def put(self, stream: int, work: Work) -> Status:
        """Give work to a stream."""
        if int(stream) not in self.streams:
            return Status.cudaErrorInvalidValue
        if self._captured is None:
            work()
        else:
            self._captured.append(work)
        return OK

    def cudaDriverGetVersion(self) -> tuple[Status, int]:
        return self._called("cudaDriverGetVersion"), self.driver

    def cudaRuntimeGetVersion(self) -> tuple[Status, int]:
        return self._called("cudaRuntimeGetVersion"), 13050

    def cudaGetDeviceCount(self) -> tuple[Status, int | None]:
        status = self._called("cudaGetDeviceCount")
        return status, self.n_gpus if status == OK else None

    def cudaGetDeviceProperties(self, device: int) -> tuple[Status, Any]:
        properties = SimpleNamespace(name=b"Made-up GPU\0\0", major=8, minor=9)
        return self._called("cudaGetDeviceProperties"), properties

    def cudaSetDevice(self, device: int) -> tuple[Status]:
        return (self._called("cudaSetDevice"),)

    def cudaGetErrorString(self, error: Status) -> tuple[Status, bytes]:
        return OK, f"as {error.name} says".encode()

    def cudaGetLastError(self) -> tuple[Status]:
        return (self._called("cudaGetLastError"),)

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        status = self._called("cudaMalloc", breaks_capture=True)
        if status == OK and size > self.free_bytes:
            status = Status.cudaErrorMemoryAllocation
        if status != OK:
            return status, None
        self.free_bytes -= size
        return OK, _allocate(self.device, size)

    def cudaFree(self, devPtr: int) -> tuple[Status]:
        status = self._called("cudaFree", breaks_capture=True)
        self.free_bytes += len(self.device.pop(devPtr))
        return (status,)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Status, int | None]:
        status = self._called("cudaHostAlloc", breaks_capture=True)
        return status, _allocate(self.host, size) if status == OK else None

    def cudaFreeHost(self, ptr: int) -> tuple[Status]:
        del self.host[ptr]
        return (self._called("cudaFreeHost"),)

    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: Any) -> tuple[Status]:
        status = self._called("cudaMemsetAsync")
        if not holds(self.device, devPtr, count):
            return (Status.cudaErrorIllegalAddress,)
        return (status or self.put(stream, partial(ctypes.memset, devPtr, value, count)),)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Any) -> tuple[Status]:
        status = self._called(Kind(kind).name)
        to = self.host if kind == Kind.cudaMemcpyDeviceToHost else self.device
        of = self.host if kind == Kind.cudaMemcpyHostToDevice else self.device
        if not (holds(to, dst, count) and holds(of, src, count)) or abs(dst - src) < count:
            return (Status.cudaErrorIllegalAddress,)
        return (status or self.put(stream, partial(ctypes.memmove, dst, src, count)),)

    def cudaDeviceGetStreamPriorityRange(self) -> tuple[Status, int, int]:
        return self._called("cudaDeviceGetStreamPriorityRange"), 0, -5

    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[Status, Any]:
        assert (flags, priority) == (self.cudaStreamNonBlocking, -5)
        stream = len(self.calls) + 1
        self.streams.add(stream)
        return self._called("cudaStreamCreateWithPriority"), stream

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Status]:
        return (self._called("cudaStreamSynchronize", breaks_capture=True),)

    def cudaStreamDestroy(self, stream: Any) -> tuple[Status]:
        self.streams.remove(stream)
        return (self._called("cudaStreamDestroy"),)

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[Status]:
        status = self._called("cudaStreamBeginCapture", breaks_capture=True)
        if status == OK:
            self._captured, self._spoilt = [], False
        return (status,)

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Status, Any]:
        status = self._called("cudaStreamEndCapture")
        assert self._captured is not None
        works, self._captured = self._captured, None
        if self._spoilt or status != OK:
            return status or Status.cudaErrorStreamCaptureInvalidated, None
        graph = len(self.calls)
        self._works[graph] = works
        self.graphs.add(graph)
        return OK, graph

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Status, Any]:
        status = self._called("cudaGraphInstantiate")
        replay = len(self.calls)
        self._works[replay] = self._works[graph]
        self.graphs.add(replay)
        return status, replay

    def cudaGraphUpload(self, graphExec: Any, stream: Any) -> tuple[Status]:
        return (self._called("cudaGraphUpload"),)

    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> tuple[Status]:
        status = self._called("cudaGraphLaunch")
        if graphExec not in self.graphs:
            return (Status.cudaErrorInvalidValue,)
        for work in [] if status else self._works[graphExec]:
            self.put(stream, work)
        return (status,)

    def cudaGraphDestroy(self, graph: Any) -> tuple[Status]:
        self.graphs.remove(graph)
        del self._works[graph]
        return (self._called("cudaGraphDestroy"),)

    def cudaGraphExecDestroy(self, graphExec: Any) -> tuple[Status]:
        self.graphs.remove(graphExec)
        del self._works[graphExec]
        return (self._called("cudaGraphExecDestroy"),)


def _allocate(memory: dict[int, Any], size: int) -> int:
    block = (ctypes.c_ubyte * size)()
    block[:] = (bytes(range(1, 252)) * (size // 251 + 1))[:size]  # nobody may count on zeros
    memory[ctypes.addressof(block)] = block
    return ctypes.addressof(block)


def holds(memory: dict[int, Any], address: int, size: int) -> bool:
    return any(start <= address and address + size <= start + len(block) for start, block in memory.items())
