"""Pages of runs: what a run says of itself, with names that are no good."""

import json
from dataclasses import replace

import numpy as np

from streamtrack.offline.page import write_page
from streamtrack.offline.rows import MovieRow
from streamtrack.sinks.page import ReportSink
from streamtrack.sinks.tables import TableSink
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


def write_batch(folder, n=4):
    """Write the page of a batch of movies of hostile names, of which the last one failed; returns its path."""
    rows = []
    for number in range(n):
        row = MovieRow(f"{number} {HOSTILE}", folder / f"movie {number}#?", 12, "completed", 12, 0, 8 * (12 + number))
        row.seconds = 10.0 - number
        rows.append(row)
        row.folder.mkdir(parents=True)
        sink = TableSink()
        sink.open(row.folder, example_source())
        for result in example_results(12 + number):
            sink.write(result)
        sink.close()
        said = report(source={"name": HOSTILE, "shape": [64, 96]}, status="completed")
        (row.folder / "report.json").write_text(json.dumps(said), encoding="utf-8")
    rows[-1].status, rows[-1].error = "failed", HOSTILE
    write_page(folder, rows, {"engine": {"kind": HOSTILE}, "source": {"path": "s3://me:secret@host/a?key=secret"}})
    return folder / "report.html"
