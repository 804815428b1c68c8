"""How far two ways of computing a deploy graph agree, above all half precision with float32."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from streamtrack.metrics.detection import match
from streamtrack_engines.backends.metadata import DETECTIONS, FRAME
from streamtrack_engines.deploy import DeployGraph
from streamtrack_engines.heads.head import COLUMNS

GATE_PX = 1.0
"""Detections closer than this can be the same particle."""

Frames = NDArray[np.uint8] | NDArray[np.uint16]
Rows = NDArray[np.float32]
Detector = Callable[[Frames], Rows]
"""From some frames (T, H, W) to the table of the particles of the last, (K, columns)."""

_Y, _X, _SCORE = ([column.name for column in COLUMNS].index(name) for name in ("y", "x", "score"))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two tables of the same frames agree, all frames together.

    Attributes
    ----------
    n_frames, n_detections
        Frames, and detections of the first table.
    f1
        Of the second table's detections, as if the first's were the truth.
    position_median_px, position_max_px
        Distance of the pairs.
    score_max
        Greatest difference of the scores of pairs.
    """

    n_frames: int
    n_detections: int
    f1: float
    position_median_px: float
    position_max_px: float
    score_max: float


def agreement(tables: Iterable[tuple[Rows, Rows]], threshold: float) -> Agreement:
    """Compare what two finders say of the same frames.

    Parameters
    ----------
    tables
        Of each frame the two tables, (K, columns).
    threshold
        Score from which a row is a detection, the same for both.
    """
    counts, distances, differences = [], [np.empty(0)], [np.empty(0)]
    for pair in tables:
        first, second = (table[table[:, _SCORE] >= threshold] for table in pair)
        of_first, of_second, distance_px = match(first[:, [_Y, _X]], second[:, [_Y, _X]], GATE_PX)
        counts.append((len(of_first), len(first), len(second)))
        distances.append(distance_px)
        differences.append(np.abs(first[of_first, _SCORE] - second[of_second, _SCORE]))
    n_pairs, n_first, n_second = np.sum(counts, axis=0)
    distance_px, difference = np.concatenate(distances), np.concatenate(differences)
    return Agreement(
        n_frames=len(counts),
        n_detections=int(n_first),
        f1=float(2 * n_pairs / max(n_first + n_second, 1)),
        position_median_px=float(np.median(distance_px)) if n_pairs else float("nan"),
        position_max_px=float(distance_px.max(initial=0.0)),
        score_max=float(difference.max(initial=0.0)),
    )


def as_bytes(frames: Frames) -> NDArray[np.uint8]:
    """Return frames (T, H, W) as a deploy graph takes them, (1, T, H, W, B)."""
    return frames.view(np.uint8).reshape(1, *frames.shape, frames.itemsize)


def in_torch(graph: DeployGraph) -> Detector:
    """Return a callable that runs the deploy graph in torch, on the CPU."""

    def find(frames: Frames) -> Rows:
        with torch.inference_mode():
            table: Rows = graph.detect(torch.tensor(as_bytes(frames))).numpy()
            return table

    return find


def in_onnxruntime(content: bytes) -> Detector:
    """Return a callable that runs a deploy file in ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda frames: session.run([DETECTIONS], {FRAME: as_bytes(frames)})[0]


def as_on_a_gpu(graph: DeployGraph) -> DeployGraph:
    """Return what a CPU computes as a GPU does a graph in half precision.

    The result of each operation is rounded to half precision, and sums within one are float32: so do tensor cores.
    torch's own half precision is much slower on most CPUs, and no nearer to a GPU's.
    """
    rounded = DeployGraph(graph.network, graph.head, calibration=graph.calibration, max_detections=graph.max_detections)
    for name in ("forward", "find"):
        setattr(rounded.network, name, _rounding(getattr(rounded.network, name)))
    return rounded


def _rounding(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a method of a network, rounded."""

    def in_half(seen: Any) -> Any:
        with _RoundToHalf():
            return compute(_rounded(seen))

    return in_half


def _rounded(seen: Any) -> Any:
    """Return what a network sees, a tensor or a tuple of some, rounded."""
    return seen.half().float() if isinstance(seen, Tensor) else type(seen)(*(each.half().float() for each in seen))


class _RoundToHalf(TorchDispatchMode):
    """Rounds the float32 results of all operations to what half precision can hold."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_float = isinstance(result, Tensor) and result.dtype == torch.float32
        return result.half().float() if is_float else result
