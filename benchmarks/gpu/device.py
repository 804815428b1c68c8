"""Times on the device itself, by torch; None where torch has no CUDA."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack.bench.replay import LoadedMovie
from streamtrack.latency import percentiles
from streamtrack.protocols import Engine

UPLOAD, DOWNLOAD = "Memcpy HtoD", "Memcpy DtoH"


class Activity(NamedTuple):
    """Something that the device did: a kernel or a copy, from and to in us."""

    name: str
    start_us: float
    end_us: float


def has_cuda() -> bool:
    """Return whether torch is here and sees a GPU."""
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def graph_ms(engine: Engine, movie: LoadedMovie, n_frames: int) -> dict[str, Any] | None:
    """Return percentiles of the device's time per frame: from the start of its upload to the table on the host.

    The driver's own tracing, through torch's profiler; it sees every back end's work, also from inside a CUDA graph.
    """
    if not has_cuda():
        return None
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for k in range(n_frames):
            engine.detect(movie.at(k), denoise=False)
    done = [
        Activity(event.name, event.time_range.start, event.time_range.end)
        for event in trace.events() or []
        if event.device_type == DeviceType.CUDA
    ]
    return percentiles(frame_spans_us(done) / 1e3)


def frame_spans_us(activities: Iterable[Activity]) -> NDArray[np.float64]:
    """Return how long each frame took: from its upload to the end of the first download after it.

    What a back end does for the next frame meanwhile, after the download, does not count.
    """
    spans = []
    began: float | None = None
    for activity in sorted(activities, key=lambda each: each.start_us):
        if activity.name.startswith(UPLOAD) and began is None:
            began = activity.start_us
        elif activity.name.startswith(DOWNLOAD) and began is not None:
            spans.append(activity.end_us - began)
            began = None
    return np.array(spans, np.float64)


def copies_ms(n_bytes: int, n_times: int) -> dict[str, Any] | None:
    """Return percentiles of the time to copy so many bytes between page-locked host memory and the device."""
    if not has_cuda():
        return None
    import torch

    host = torch.zeros(n_bytes, dtype=torch.uint8, pin_memory=True)
    device = torch.zeros(n_bytes, dtype=torch.uint8, device="cuda")
    figures: dict[str, Any] = {"bytes": n_bytes}
    for name, to, source in (("in", device, host), ("out", host, device)):
        took = []
        for _ in range(n_times + 10):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            to.copy_(source, non_blocking=True)
            end.record()
            end.synchronize()
            took.append(begin.elapsed_time(end))
        figures[name] = percentiles(np.array(took[10:]))
    return figures
