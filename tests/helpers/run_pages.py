"""Pages of runs: what a run says of itself, with names that are no good."""

from dataclasses import replace

import numpy as np

from streamtrack.sinks.page import ReportSink
from streamtrack.testing.sinks import example_results, example_source

HOSTILE = (
    "</style></pre><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">&amp;\"'"
)
"""A name as a file may have it, or nearly so."""


def report(**said):
    """What ``report.json`` says of a run, as far as the page needs it."""
    latency = {"n": 30, "p50": 7.5, "p95": 9.0, "p99": 9.5, "p99.9": 9.5, "max": 9.9}
    lost = {"lost": 2, "lost_by_cause": {HOSTILE: 2}, "lost_ranges_left_out": 0}
    lost["lost_frames"] = [{"first": 5, "last": 6, "cause": HOSTILE}]
    return {
        "status": "incomplete",
        "error": None,
        "remarks": [HOSTILE],
        "frames": {"processed": 28, **lost},
        "frames_per_second": 130.0,
        "latency_ms": {"detect": latency, "measure": {"n": 0}},
        "config": {"source": {"path": HOSTILE}, "engine": {"threshold": 0.5}},
        "outputs": {"sinks": {"tables": {"frames": 28, "dropped": 0, "error": None}}},
        "versions": {"streamtrack": "0.1.0"},
        "machine": {"cores": 2},
        "started": "2026-01-01T00:00:00+00:00",
        "duration_s": 12.0,
        **said,
    }


def write(folder, n_frames=60, shape=(64, 96), told=None, **source):
    """Write the page of a run; returns its path."""
    sink = ReportSink()
    sink.open(folder, replace(example_source(shape, n_frames=n_frames), **source))
    images = np.random.default_rng(0).normal(100, 5, shape).astype(np.float32)
    for result in example_results(n_frames, shape, n_particles=12):
        wanted = sink.wants_denoised(result.frame.index)
        sink.write(replace(result, denoised=images if wanted else None))
    sink.close()
    if told is not None:
        sink.tell(told)
    return folder / "report.html"
