"""TensorRT's calls on a made-up GPU: an "engine" computes what its ONNX file says, with ONNX Runtime.

So the numbers are right if, and only if, the calls are made in the right order with the right addresses.
"""

import ctypes
import enum
import json
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from streamtrack_engines.backends.metadata import FRAME

from .fake_cuda import OK, FakeCuda, holds


class FakeTensorrt:
    """``tensorrt`` on a `FakeCuda`.

    `version` is in its plans, and plans of another are refused; `refuse_run` says of each enqueue, counted from 0,
    whether it is refused; `fault` changes the outputs of a run, by their names; `workspace` is how many bytes are
    needed to run plans of one and of two outputs.
    """

    def __init__(self, cuda: FakeCuda, version: str = "11.4.0.106") -> None:
        self.cuda = cuda
        self.__version__ = version
        self.n_built = 0
        self.n_enqueued = 0
        self.refuse_run: Callable[[int], bool] = lambda n: False
        self.refuse_contexts = False
        self.build_error: str | None = None
        self.fault: Callable[[dict[str, Any]], dict[str, Any]] = lambda outputs: outputs
        self.workspace = {1: 1000, 2: 2000}

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    class IProgressMonitor:
        pass

    class BuilderFlag(enum.IntEnum):
        TF32 = 4

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1

    class ExecutionContextAllocationStrategy(enum.IntEnum):
        USER_MANAGED = 2

    def nptype(self, dtype: Any, /) -> Any:
        return dtype

    def Builder(self, logger: Any, /) -> "FakeBuilder":
        return FakeBuilder(self, logger)

    def OnnxParser(self, network: Any, logger: Any, /) -> "FakeParser":
        return FakeParser(network, logger)

    def Runtime(self, logger: Any, /) -> "FakeRuntime":
        return FakeRuntime(self, logger)


class FakeNetwork:
    num_inputs = 1

    def __init__(self) -> None:
        self.model = b""
        self.frame = SimpleNamespace(name=FRAME, shape=())
        self.outputs: list[Any] = []

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int, /) -> Any:
        return self.frame

    def get_output(self, index: int, /) -> Any:
        return self.outputs[index]

    def unmark_output(self, tensor: Any, /) -> None:
        self.outputs.remove(tensor)


class FakeConfig:
    def __init__(self) -> None:
        self.max_aux_streams = -1
        self.progress_monitor: Any = None
        self.flags = {FakeTensorrt.BuilderFlag.TF32}

    def set_flag(self, flag: Any, /) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any, /) -> None:
        self.flags.remove(flag)


@lru_cache(maxsize=4)
def session_of(model: bytes) -> onnxruntime.InferenceSession:
    """Return what runs a model in TensorRT's place: made once, as that takes a second."""
    return onnxruntime.InferenceSession(model)


class FakeParserError:
    def node_name(self) -> str:
        return ""

    def desc(self) -> str:
        return "no ONNX file"


class FakeParser:
    num_errors = 0

    def __init__(self, network: FakeNetwork, logger: Any) -> None:
        self.network = network

    def get_error(self, index: int, /) -> FakeParserError:
        return FakeParserError()

    def parse(self, model: bytes, /) -> bool:
        try:
            session = session_of(model)
        except Exception:
            self.num_errors = 1
            return False
        (frame,) = session.get_inputs()
        self.network.model = model
        self.network.frame.shape = tuple(size if isinstance(size, int) else -1 for size in frame.shape)
        self.network.outputs = [SimpleNamespace(name=output.name, shape=()) for output in session.get_outputs()]
        return True


class FakeBuilder:
    def __init__(self, trt: FakeTensorrt, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def create_network(self, flags: int, /) -> FakeNetwork:
        assert flags == 1 << FakeTensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return FakeNetwork()

    def create_builder_config(self) -> FakeConfig:
        return FakeConfig()

    def build_serialized_network(self, network: FakeNetwork, config: FakeConfig, /) -> Any | None:
        assert config.max_aux_streams == 0
        assert not config.flags
        assert -1 not in network.frame.shape
        if self.trt.build_error:
            self.logger.log(FakeTensorrt.ILogger.ERROR, self.trt.build_error)
            return None
        config.progress_monitor.phase_start("Building", None, 2)
        goes_on = config.progress_monitor.step_complete("Building", 0)
        config.progress_monitor.phase_finish("Building")
        self.trt.n_built += 1
        outputs = [tensor.name for tensor in network.outputs]
        head = json.dumps([self.trt.__version__, network.frame.shape, outputs])
        return memoryview(head.encode() + b"\n" + network.model) if goes_on else None


class FakeRuntime:
    def __init__(self, trt: FakeTensorrt, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, serialized_engine: bytes, /) -> "FakeEngine | None":
        head, model = serialized_engine.split(b"\n", 1)
        version, shape, outputs = json.loads(head)
        if version != self.trt.__version__:
            self.logger.log(FakeTensorrt.ILogger.ERROR, f"version {version} expected {self.trt.__version__}")
            return None
        return FakeEngine(self.trt, model, tuple(shape), outputs)


class FakeEngine:
    def __init__(self, trt: FakeTensorrt, model: bytes, shape: tuple[int, ...], outputs: list[str]) -> None:
        self.trt, self.outputs = trt, outputs
        self.session = session_of(model)
        example = self.session.run(outputs, {FRAME: np.zeros(shape, np.uint8)})
        self.tensors: dict[str, tuple[tuple[int, ...], Any]] = {FRAME: (shape, np.uint8)}
        self.tensors |= {name: (value.shape, np.float32) for name, value in zip(outputs, example, strict=True)}
        self.num_io_tensors = len(self.tensors)
        self.device_memory_size_v2 = trt.workspace[len(outputs)]

    def get_tensor_name(self, index: int, /) -> str:
        return list(self.tensors)[index]

    def get_tensor_shape(self, name: str, /) -> Sequence[int]:
        return self.tensors[name][0]

    def get_tensor_dtype(self, name: str, /) -> Any:
        return self.tensors[name][1]

    def create_execution_context(self, strategy: Any, /) -> "FakeContext | None":
        assert strategy == FakeTensorrt.ExecutionContextAllocationStrategy.USER_MANAGED
        return None if self.trt.refuse_contexts else FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.memory = (0, 0)

    def __del__(self) -> None:
        self.engine.trt.cuda.calls.append("~context")

    def set_device_memory(self, memory: int, size: int, /) -> None:
        self.memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int, /) -> bool:
        self.addresses[name] = memory
        return name in self.engine.tensors

    def execute_async_v3(self, stream_handle: int, /) -> bool:
        trt = self.engine.trt
        n, trt.n_enqueued = trt.n_enqueued, trt.n_enqueued + 1
        ready = holds(trt.cuda.device, *self.memory) and self.memory[1] >= self.engine.device_memory_size_v2
        if trt.refuse_run(n) or not ready or self.addresses.keys() != self.engine.tensors.keys():
            return False
        trt.cuda.calls.append(f"execute_async_v3: {' '.join(self.engine.outputs)}")
        context = weakref.proxy(self)  # a graph keeps nothing alive
        return trt.cuda.put(stream_handle, lambda: context._execute()) == OK

    def _execute(self) -> None:
        values = self.engine.session.run(self.engine.outputs, {FRAME: self._array(FRAME)})
        ctypes.memset(self.memory[0], 0xA5, self.engine.device_memory_size_v2)  # nothing else may lie there
        for name, value in self.engine.trt.fault(dict(zip(self.engine.outputs, values, strict=True))).items():
            self._array(name)[...] = value

    def _array(self, name: str) -> Any:
        shape, dtype = self.engine.tensors[name]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert holds(self.engine.trt.cuda.device, self.addresses[name], size)
        memory = (ctypes.c_ubyte * size).from_address(self.addresses[name])
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
