"""The protocols say what NVIDIA's libraries have, and the stand-ins have what the protocols say."""

import inspect

import pytest

from streamtrack_engines.backends import tensorrt_api

from .fake_cuda import FakeCuda
from .fake_tensorrt import FakeTensorrt

CLASSES = {
    "ITensor": tensorrt_api.Tensor,
    "INetworkDefinition": tensorrt_api.NetworkDefinition,
    "ParserError": tensorrt_api.ParserError,
    "OnnxParser": tensorrt_api.Parser,
    "IBuilderConfig": tensorrt_api.BuilderConfig,
    "Builder": tensorrt_api.Builder,
    "IExecutionContext": tensorrt_api.ExecutionContext,
    "ICudaEngine": tensorrt_api.CudaEngine,
    "Runtime": tensorrt_api.Runtime,
}


def names_of(protocol):
    declared = {*vars(protocol), *inspect.get_annotations(protocol)}
    return sorted(name for name in declared if not name.startswith("_")) or pytest.fail("no names")


@pytest.mark.parametrize("name", CLASSES)
def test_tensorrt_rtx_has_what_is_used(rtx, name):
    lacking = [member for member in names_of(CLASSES[name]) if not hasattr(getattr(rtx, name), member)]
    assert lacking == []


def test_tensorrt_rtx_has_the_names_of_the_module(rtx):
    assert [name for name in names_of(tensorrt_api.Tensorrt) if not hasattr(rtx, name)] == []
    assert rtx.__version__
    assert hasattr(rtx.BuilderFlag, "TF32")
    assert hasattr(rtx.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    assert hasattr(rtx.ExecutionContextAllocationStrategy, "USER_MANAGED")
    assert {rtx.ILogger.INTERNAL_ERROR, rtx.ILogger.ERROR}


def test_every_protocol_was_compared():
    protocols = {value for value in vars(tensorrt_api).values() if getattr(value, "_is_protocol", False)}
    others = {tensorrt_api.Tensorrt, tensorrt_api.CudaRuntime, tensorrt_api.Protocol}
    assert protocols - others == set(CLASSES.values())


def test_cuda_python_has_what_is_used(cuda_python):
    runtime = cuda_python
    assert [name for name in names_of(tensorrt_api.CudaRuntime) if not hasattr(runtime, name)] == []
    members = {"cudaError_t": ["cudaSuccess", "cudaErrorMemoryAllocation", "cudaErrorInsufficientDriver"]}
    members["cudaMemcpyKind"] = ["cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice"]
    members["cudaStreamCaptureMode"] = ["cudaStreamCaptureModeThreadLocal"]
    for enum, names in members.items():
        assert [name for name in names if not hasattr(getattr(runtime, enum), name)] == []
    assert len(runtime.cudaGetDeviceCount()) == 2  # status and value, on any machine


def test_stand_ins_have_no_less():
    cuda = FakeCuda()
    assert [name for name in names_of(tensorrt_api.CudaRuntime) if not hasattr(cuda, name)] == []
    assert [name for name in names_of(tensorrt_api.Tensorrt) if not hasattr(FakeTensorrt(cuda), name)] == []
