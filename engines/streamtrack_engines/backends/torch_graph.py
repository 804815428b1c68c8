"""Runs a deploy graph in torch, frame after frame in the same memory; on a GPU as one CUDA graph per frame."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamtrack.errors import EngineError
from streamtrack_engines.backends.proof import prove
from streamtrack_engines.backends.runner import DeployFile, FrameSize
from streamtrack_engines.deploy import DeployGraph, from_onnx

EAGER = "eager"
"""Operation by operation, as torch has them."""

MAX_AUTOTUNE = "max-autotune-no-cudagraphs"
"""Fused by torch's compiler, which tries several kernels for each operation; the CUDA graph is ours."""

_WARM_UPS = 3  # compiling, choice of cuDNN's algorithms, and a run of what came of it

Work = Callable[[], None]


def open_proved(file: DeployFile, size: FrameSize, device: torch.device, modes: Sequence[str]) -> "TorchRunner":
    """Return a runner in the first of some modes in which it works and agrees with ONNX Runtime; raises EngineError.

    Parameters
    ----------
    file
        Deploy file; the runner computes in its precision.
    size
        Of the frames.
    device
        Where to run.
    modes
        `EAGER`, or a mode of ``torch.compile``, the preferred one first.
    """
    failures: dict[str, str] = {}
    for mode in modes:
        try:
            runner = _proved(TorchRunner(file, size, device, mode), file, size)
        except EngineError as error:
            failures[mode] = str(error)
            continue
        runner.note(modes_passed_over=failures)
        return runner
    raise EngineError("; ".join(f"{mode}: {reason}" for mode, reason in failures.items()))


def _proved(runner: "TorchRunner", file: DeployFile, size: FrameSize) -> "TorchRunner":
    try:
        runner.note(proof=asdict(prove(runner, file, size)))
    except EngineError:
        runner.close()  # the next mode needs the memory
        raise
    return runner


class TorchRunner:
    """A `streamtrack_engines.backends.runner.Runner` in torch.

    Parameters
    ----------
    file, size, device
        As in `open_proved`.
    mode
        `EAGER` or a mode of ``torch.compile``.

    Raises
    ------
    EngineError
        The file cannot be read, or torch fails, for want of memory above all.
    """

    def __init__(self, file: DeployFile, size: FrameSize, device: torch.device, mode: str) -> None:
        self._info: dict[str, Any] = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "precision": file.metadata.precision,
            "mode": mode,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
        graph = from_onnx(file.content, file.name)
        self._programs: dict[bool, Work] = {}
        try:
            self._device: _Device = _Cuda(device) if device.type == "cuda" else _Cpu()
            self._memory = FrameMemory(size, graph, device)
            self._prepare(graph.to(device), mode)
        except Exception as error:  # the compiler's own, CUDA's, and those of whatever they call
            raise _engine_error(error) from error

    def _prepare(self, graph: DeployGraph, mode: str) -> None:
        """Make the programs with and without the denoised frame."""
        if graph.dtype == torch.float16:  # as tensor cores take them; torch is slower so in float32
            graph.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        both: Callable[[Tensor], tuple[Tensor, ...]] = graph
        detect: Callable[[Tensor], Tensor] = graph.detect
        if mode != EAGER:
            options = torch._inductor.list_mode_options(mode)
            options |= {"autotune_num_choices_displayed": 0}  # or it prints a table for each operation
            both = torch.compile(both, options=options, fullgraph=True, dynamic=False)
            detect = torch.compile(detect, options=options, fullgraph=True, dynamic=False)
        memory = self._memory

        def with_denoised() -> None:
            table, denoised = both(memory.upload())
            memory.table.copy_(table, non_blocking=True)
            memory.denoised.copy_(denoised, non_blocking=True)

        def table_only() -> None:
            memory.table.copy_(detect(memory.upload()), non_blocking=True)

        if graph.image is not None:
            self._programs[True] = self._device.program(with_denoised)
        self._programs[False] = self._device.program(table_only)

    @property
    def info(self) -> Mapping[str, Any]:
        """Device, precision, mode and versions, for the report."""
        return self._info

    def note(self, **facts: Any) -> None:
        """Add something to `info`."""
        self._info |= facts

    @property
    def current(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Shape (H, W): the next frame is written here."""
        return self._memory.current

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the graph on `current` and the frames before it, as in `Runner`; raises EngineError."""
        if not self._programs:
            raise EngineError("the runner is closed: open another")
        memory = self._memory
        self._run(self._programs[denoise], memory.advance)
        return memory.table_view, memory.denoised_view if denoise else None

    def clear(self) -> None:
        """Forget the frames seen so far."""
        self._run(self._memory.clear, _nothing)

    def _run(self, work: Work, afterwards: Work) -> None:
        try:
            self._device.run(work, afterwards)
        except RuntimeError as error:
            raise _engine_error(error) from error

    def close(self) -> None:
        """Release the device's memory."""
        self._programs = {}
        self._device.close()


class FrameMemory:
    """Where frames and results lie, always in the same places, as a CUDA graph requires.

    The frame before is moved to its place on the device: only one frame a time comes from the host.

    Attributes
    ----------
    current
        (H, W), in host memory, page-locked if the device is a GPU.
    frames
        (1, T, H, W, B) uint8 on the device, the current one last.
    table, denoised
        On the host, page-locked as well; `table_view` and `denoised_view` are the same as numpy arrays.
    """

    def __init__(self, size: FrameSize, graph: DeployGraph, device: torch.device) -> None:
        shape = (size.height, size.width)
        pinned = device.type == "cuda"
        self._staging = torch.zeros(*shape, size.itemsize, dtype=torch.uint8, pin_memory=pinned)
        self.current = self._staging.numpy().view(np.dtype(f"<u{size.itemsize}"))[..., 0]
        self.frames = torch.zeros(1, graph.network.n_frames, *self._staging.shape, dtype=torch.uint8, device=device)
        self.table = torch.zeros(graph.n_rows(*shape), len(graph.head.columns), pin_memory=pinned)
        self.denoised = torch.zeros(shape, pin_memory=pinned)
        self.table_view, self.denoised_view = self.table.numpy(), self.denoised.numpy()

    def upload(self) -> Tensor:
        """Bring the current frame to the device and return `frames`."""
        self.frames[0, -1].copy_(self._staging, non_blocking=True)
        return self.frames

    def advance(self) -> None:
        """Make the current frame the one before."""
        frames = self.frames[0]
        for older in range(len(frames) - 1):
            frames[older].copy_(frames[older + 1], non_blocking=True)

    def clear(self) -> None:
        """Forget all frames."""
        self.frames.zero_()


class _Device(Protocol):
    """How work is done on a device."""

    def program(self, work: Work) -> Work:
        """Return work made ready for being repeated quickly, by `run`; what it does must be the same each time."""
        ...

    def run(self, work: Work, afterwards: Work) -> None:
        """Do some work and wait for it; what is to be done afterwards nobody waits for but the next work."""
        ...

    def close(self) -> None:
        """Give back the memory of what is no longer referred to."""
        ...


class _Cpu:
    """Does it at once."""

    def program(self, work: Work) -> Work:
        return work

    def run(self, work: Work, afterwards: Work) -> None:
        with torch.inference_mode():
            work()
            afterwards()

    def close(self) -> None:
        pass


class _Cuda:
    """Does it on a stream of its own, before the streams of others; programs are CUDA graphs."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device, priority=-1)
        self._done = torch.cuda.Event()
        self._pool = torch.cuda.graph_pool_handle()  # one for all graphs, as no two ever run at the same time

    def program(self, work: Work) -> Work:
        torch.cuda.synchronize(self._stream.device)  # weights and zeros came by another stream
        # Kernels are chosen now and not when they are replayed, so that these settings change nothing for others.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=True, allow_tf32=False):
            for _ in range(_WARM_UPS):
                self.run(work, _nothing)
            graph = torch.cuda.CUDAGraph()
            # Another thread's allocations shall not break the capture: hence thread_local.
            with (
                torch.inference_mode(),
                torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                work()
        return graph.replay

    def run(self, work: Work, afterwards: Work) -> None:
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            work()
            self._done.record(self._stream)
            afterwards()  # while the GPU is busy with the work
        self._done.synchronize()

    def close(self) -> None:
        self._stream.synchronize()
        torch.cuda.empty_cache()


def _nothing() -> None:
    """Do nothing."""


def _engine_error(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return EngineError("the memory of the GPU is full: close other programs that use it, or take smaller frames")
    first = (str(error).splitlines() or [""])[0]
    return EngineError(f"torch {torch.__version__} fails ({type(error).__name__}: {first}): take another back end")
