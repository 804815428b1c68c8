"""Deploy graphs on NVIDIA GPUs without TensorRT: the same graph as a torch module, replayed as one CUDA graph."""

import ctypes
import sys
from importlib.util import find_spec

from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner

NAME = "torch"


def reason_against() -> str | None:
    """Return why torch cannot run on a GPU of this machine, with the cure, in one line; None if it can."""
    if missing := [name for name in ("torch", "onnx") if find_spec(name) is None]:
        return f'{" and ".join(missing)} not installed: pip install ".[train]"'
    if not _has_driver():  # so that machines without a GPU need not import torch, which takes seconds
        return "there is no NVIDIA driver on this machine"
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: install one with CUDA as https://pytorch.org says"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU for its CUDA {torch.version.cuda}: update NVIDIA's driver"
    return None


def open_runner(file: DeployFile, size: FrameSize, threads: int | None) -> Runner:
    """Load a graph onto the first GPU and warm it up; `threads` is for the CPU and changes nothing here.

    Compiled by torch where triton is installed, which takes a minute the first time on a machine; as it stands
    otherwise, or if what was compiled gives other results than ONNX Runtime.

    Raises
    ------
    EngineError
        The file holds no weights for this version, the GPU's memory is full, or the results are not ONNX Runtime's.
    """
    import torch

    from streamtrack_engines.backends.torch_graph import EAGER, MAX_AUTOTUNE, open_proved

    modes = (MAX_AUTOTUNE, EAGER) if find_spec("triton") else (EAGER,)
    return open_proved(file, size, torch.device("cuda", 0), modes)


def _has_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
