"""The engine on NVIDIA GPUs: a deploy graph as two TensorRT plans, built once on each machine and proved on load.

One plan computes the denoised frame, too, the other one does without.

There are two back ends with the same code: `TENSORRT`, the full TensorRT (10.13 and later), and `TENSORRT_RTX`,
TensorRT for RTX cards, which comes with pip alone. NVIDIA's libraries are imported when one of them is asked.
"""

import importlib
import importlib.util
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from streamtrack.errors import EngineError
from streamtrack_engines.backends.cuda_graph import GpuMemoryError, check
from streamtrack_engines.backends.plan_cache import PlanCache, PlanKey
from streamtrack_engines.backends.proof import prove
from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner
from streamtrack_engines.backends.tensorrt_api import CudaRuntime, Tensorrt
from streamtrack_engines.backends.tensorrt_build import OPTIONS, Say, build_plan, input_shape, output_names
from streamtrack_engines.backends.tensorrt_runner import TensorrtRunner

_LEAST_TENSORRT = (10, 13)


def say_on_stderr(line: str) -> None:
    """Show a line to whoever waits."""
    print(f"streamtrack: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class TensorrtBackend:
    """A TensorRT library as a `Backend`.

    Attributes
    ----------
    NAME
        As the user calls it.
    modules
        The first of these that is there is the library.
    install
        How to get it, and cuda-python.
    cuda_module
        cuda-python's runtime.
    """

    NAME: str
    modules: tuple[str, ...]
    install: str
    cuda_module: str = "cuda.bindings.runtime"

    def reason_against(self) -> str | None:
        """Return why this back end cannot run on this machine, with the cure; None if it can."""
        try:
            self.load()
        except EngineError as error:
            return str(error)
        return None

    def open_runner(self, file: DeployFile, size: FrameSize, threads: int | None) -> Runner:
        """Load a graph, warm it up and prove it; raises EngineError. The first time on a machine it is built."""
        return open_proved(self.load(), file, size, PlanCache(), say_on_stderr)

    def load(self) -> "Libraries":
        """Import the libraries; raises EngineError, with the cure, if they or the driver will not do."""
        module = next(filter(_is_installed, self.modules), None)
        if module is None:
            raise EngineError(f"{self.modules[0]} is not installed: {self.install}")
        cuda: CudaRuntime = _import(self.cuda_module, self.install)
        if reason := reason_against_driver(cuda):  # before hundreds of megabytes are loaded for nothing
            raise EngineError(reason)
        trt: Tensorrt = _import(module, self.install)
        if self.NAME == "tensorrt" and tuple(map(int, trt.__version__.split(".")[:2])) < _LEAST_TENSORRT:
            raise EngineError(f"TensorRT {trt.__version__} is too old: {self.install}")
        return Libraries(self.NAME, trt, cuda)


TENSORRT = TensorrtBackend("tensorrt", ("tensorrt",), 'pip install ".[tensorrt]", for version 10.13 or later')
TENSORRT_RTX = TensorrtBackend(
    "tensorrt_rtx",
    ("tensorrt_rtx", "tensorrt_rtx_bindings"),  # the second alone if NVIDIA's two wheels were installed, and no more
    'pip install ".[tensorrt-rtx]"',
)


def _is_installed(module: str) -> bool:
    return module in sys.modules or importlib.util.find_spec(module) is not None


def _import(module: str, cure: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EngineError(f"{module} is not installed: {cure}") from error
    except (ImportError, OSError, RuntimeError) as error:  # a wheel without its libraries, or for another system
        reason = str(error).splitlines()[0]
        raise EngineError(f"{module} is installed but does not load ({reason}): {cure}") from error


def reason_against_driver(cuda: CudaRuntime) -> str | None:
    """Return why CUDA cannot run here, with the cure; None if it can."""
    driver, needed = (
        _version(check(cuda, cuda.cudaDriverGetVersion())),
        _version(check(cuda, cuda.cudaRuntimeGetVersion())),
    )
    status, count = cuda.cudaGetDeviceCount()
    if driver == "0.0":
        return "there is no NVIDIA driver: install it, or take another engine back end"
    if status == cuda.cudaError_t.cudaErrorInsufficientDriver:
        return f"NVIDIA's driver is too old: it knows CUDA {driver}, this needs {needed}; update the driver"
    if status != cuda.cudaError_t.cudaSuccess or not count:
        return f"there is no NVIDIA GPU that CUDA can use ({status.name}): take another engine back end"
    return None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


@dataclass(frozen=True, slots=True)
class Libraries:
    """What runs a plan: the name of a back end, its TensorRT, and CUDA."""

    name: str
    trt: Tensorrt
    cuda: CudaRuntime

    def describe(self) -> dict[str, str]:
        """Return GPU, driver and version of the library; raises EngineError."""
        gpu = check(self.cuda, self.cuda.cudaGetDeviceProperties(0))
        name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
        return {
            "library": f"{self.name} {self.trt.__version__}",
            "gpu": f"{name.rstrip(chr(0))}, compute capability {gpu.major}.{gpu.minor}",
            "driver": f"CUDA {_version(check(self.cuda, self.cuda.cudaDriverGetVersion()))}",
        }


def open_proved(libraries: Libraries, file: DeployFile, size: FrameSize, cache: PlanCache, say: Say) -> TensorrtRunner:
    """Return a runner that agrees with ONNX Runtime, from the plans kept for this machine or from new ones.

    Plans that were kept are trusted no more than new ones: whatever is wrong with either, both are built anew. They are
    kept only after they were proved. That they cannot be kept is said, and nothing else.

    Raises
    ------
    EngineError
        The graph cannot be built or run here, or its results are wrong.
    """
    keys = {denoise: _plan_key(libraries, file, size, denoise) for denoise in file.programs}
    runner = _open_kept(libraries, file, size, cache, keys, say)
    if runner is not None:
        return runner
    say(f"building the plans of {file.name} for {size.height} x {size.width} px: once on this machine, they are kept")
    started_s = time.monotonic()
    plans = {denoise: build_plan(libraries.trt, file, size, say, denoise=denoise) for denoise in keys}
    runner = _start(libraries, plans, file, size, f"built in {time.monotonic() - started_s:.1f} s")
    try:
        for denoise, key in keys.items():
            cache.store(key, plans[denoise])
    except EngineError as error:
        say(str(error))
    return runner


def _open_kept(
    libraries: Libraries, file: DeployFile, size: FrameSize, cache: PlanCache, keys: Mapping[bool, PlanKey], say: Say
) -> TensorrtRunner | None:
    try:
        plans = {denoise: plan for denoise, key in keys.items() if (plan := cache.load(key)) is not None}
        return _start(libraries, plans, file, size, f"kept in {cache.folder}") if len(plans) == len(keys) else None
    except GpuMemoryError:
        raise
    except EngineError as error:
        say(f"the kept plans are not used: {error}")
        return None


def _start(
    libraries: Libraries, plans: Mapping[bool, bytes], file: DeployFile, size: FrameSize, origin: str
) -> TensorrtRunner:
    """Return a runner that was proved, with all that the report says of it."""
    runner = TensorrtRunner(libraries.trt, libraries.cuda, plans, file, size)
    try:
        difference = prove(runner, file, size)
    except BaseException:
        runner.close()
        raise
    runner.info |= {
        **libraries.describe(),
        "precision": file.metadata.precision,
        "plans": origin,
        "plan_bytes": sum(map(len, plans.values())),
        "difference_from_onnxruntime": asdict(difference),
    }
    return runner


def _plan_key(libraries: Libraries, file: DeployFile, size: FrameSize, denoise: bool) -> PlanKey:
    return PlanKey(
        weights_sha256=file.sha256,
        input_shape=input_shape(file, size),
        outputs=output_names(denoise),
        options=OPTIONS,
        system=f"{platform.system()} {platform.machine()}",
        **libraries.describe(),
    )
