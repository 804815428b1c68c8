"""A back end on a made-up GPU, and TensorRT for RTX without one.

`test_tensorrt_api` checks the stand-ins' names against NVIDIA's libraries, and their types against the protocols.
"""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamtrack_engines.backends import proof
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.plan_cache import PlanCache
from streamtrack_engines.backends.runner import DeployFile, FrameSize
from streamtrack_engines.backends.tensorrt import Libraries
from streamtrack_engines.backends.tensorrt_api import CudaRuntime, Tensorrt

from .fake_cuda import FakeCuda
from .fake_tensorrt import FakeTensorrt, session_of


def typed(trt: FakeTensorrt) -> Libraries:
    """Return the libraries as the back end takes them; here mypy compares the stand-ins with the protocols."""
    as_tensorrt: Tensorrt = trt
    as_cuda: CudaRuntime = trt.cuda
    return Libraries("tensorrt", as_tensorrt, as_cuda)


class Bench:
    """A back end on a made-up GPU: what it is given, and what it said."""

    def __init__(self, file: DeployFile, folder: Path) -> None:
        self.cuda = FakeCuda()
        self.trt = FakeTensorrt(self.cuda)
        self.file = file
        self.size = FrameSize(48, 64, 2)
        self.cache = PlanCache(folder)
        self.said: list[str] = []

    @property
    def libraries(self) -> Libraries:
        return typed(self.trt)

    def update_tensorrt(self, version: str) -> None:
        self.trt = FakeTensorrt(self.cuda, version)


@pytest.fixture(scope="module", autouse=True)
def _one_session() -> Iterator[None]:
    """Load what results are compared with once: that takes longer than the comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "_reference", lambda file, frames: proof._run(session_of(file.content), file, frames))
        yield


@pytest.fixture(scope="session")
def weights() -> DeployFile:
    return read_deploy_file("denodet")


@pytest.fixture
def bench(weights: DeployFile, tmp_path: Path) -> Bench:
    return Bench(weights, tmp_path / "plans")


def required(module: str) -> Any:
    """Return a module; where it is missing the test is skipped, or fails if STREAMTRACK_REQUIRE_BACKENDS is 1."""
    if os.environ.get("STREAMTRACK_REQUIRE_BACKENDS") == "1":
        return importlib.import_module(module)
    return pytest.importorskip(module)


@pytest.fixture(scope="session")
def rtx() -> Any:
    """TensorRT for RTX, whose parser and builder need no GPU."""
    return required("tensorrt_rtx_bindings")


@pytest.fixture(scope="session")
def cuda_python() -> Any:
    """cuda-python's runtime: imports without a GPU."""
    return required("cuda.bindings.runtime")
