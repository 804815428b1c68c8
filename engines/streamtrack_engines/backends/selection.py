"""Which back end runs a graph: the first of `ORDER` that works, or the one that the user named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from streamtrack.errors import EngineError
from streamtrack_engines.backends.runner import Backend, DeployFile, FrameSize, Runner

BackendName = Literal["tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime"]
Choice = Literal["auto", BackendName]


def _tensorrt() -> Backend:
    from streamtrack_engines.backends import tensorrt

    return tensorrt.TENSORRT


def _tensorrt_rtx() -> Backend:
    from streamtrack_engines.backends import tensorrt

    return tensorrt.TENSORRT_RTX


def _torch() -> Backend:
    from streamtrack_engines.backends import torch_cuda

    return torch_cuda


def _openvino() -> Backend:
    from streamtrack_engines.backends import openvino

    return openvino


def _onnxruntime() -> Backend:
    from streamtrack_engines.backends import onnxruntime

    return onnxruntime


_BACKENDS: dict[BackendName, Callable[[], Backend]] = {
    "tensorrt": _tensorrt,
    "tensorrt_rtx": _tensorrt_rtx,
    "torch": _torch,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}

ORDER: tuple[BackendName, ...] = tuple(_BACKENDS)
"""The fastest first; the last one runs everywhere."""

HALF_PRECISION: frozenset[BackendName] = frozenset({"tensorrt", "tensorrt_rtx", "torch"})
"""Those that run the half-precision file of the same weights, if there is one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A runner, its back end and deploy file, and why back ends before it in `ORDER` were passed over."""

    runner: Runner
    name: BackendName
    file: DeployFile
    passed_over: Mapping[str, str]


def get_backend(name: BackendName) -> Backend:
    """Import a back end; the libraries that it needs are imported when it is asked for more."""
    return _BACKENDS[name]()


def reasons_against() -> dict[BackendName, str | None]:
    """Return for each back end why it cannot run on this machine, with the cure; None if it can."""
    return {name: get_backend(name).reason_against() for name in ORDER}


def open_first(
    choice: Choice, file_for: Callable[[BackendName], DeployFile], size: FrameSize, threads: int | None
) -> Opened:
    """Open a runner in the first back end that can.

    Parameters
    ----------
    choice
        Only this back end; all of `ORDER` if ``"auto"``.
    file_for
        Returns the graph that a back end shall run.
    size
        Of the frames.
    threads
        CPU threads; None for as many as are good.

    Raises
    ------
    EngineError
        None can, or the one that was chosen cannot: with the reason and the cure.
    """
    passed_over: dict[str, str] = {}
    for name in ORDER if choice == "auto" else (choice,):
        try:
            backend = get_backend(name)
            if reason := backend.reason_against():
                raise EngineError(reason)
            file = file_for(name)
            return Opened(backend.open_runner(file, size, threads), name, file, passed_over)
        except EngineError as error:
            passed_over[name] = str(error)
    raise EngineError("; ".join(f"engine back end {name}: {reason}" for name, reason in passed_over.items()))
