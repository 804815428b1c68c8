"""Speed and accuracy side by side: the same frames, the same machine, one run.

``python -m benchmarks.peers [--quick] [--out FILE.json]``

A simulated movie (vesicles, 512x512, 500 particles, SNR 4, uint16, a seed that no training has seen), frame after
frame; each goes to all methods in turn, so that whatever else the machine does meets them alike. ms per frame are from
the frame in memory to the list of positions, first frames left out. F1 is at 5 px and 2 px over the same frames; ours
has the threshold of its weights, the others the best one on the very frames that are scored (an oracle). Linking is
timed apart, on what was found: ``trackpy.link_iter`` and ours.

*ours* is DENODET, *unet* the U-Net with the same head. *torch eager* is ours without a back end: the shipped weights,
batch norms folded, run by torch operation by operation; *as trained* the same network with batch norms, random weights:
its speed only.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import trackpy
from numpy.typing import NDArray

from benchmarks.detection.detectors import Candidates
from benchmarks.detection.peers_figure import draw
from benchmarks.detection.peers_methods import Method, opened
from benchmarks.detection.scoring import HISTORY_FRAMES, best_threshold, score_frames
from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.bench.computer import describe
from streamtrack.clock import monotonic_ns
from streamtrack.config import PluginConfig
from streamtrack.garbage import frozen_gc
from streamtrack.latency import percentiles
from streamtrack.registry import build
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.types import Detections, Pixels

SEED = 90_002
WARM_UP_FRAMES = HISTORY_FRAMES + 1
GATES_PX = (5.0, 2.0)
SEARCH_RANGE_PX = 5.0
PAUSE_S = 0.01
"""Between methods: threads of the one before may still spin."""


def main() -> None:
    """Run the benchmark, print its table and write its files."""
    arguments = command_parser(__doc__, "6 frames instead of 110").parse_args()
    settings = MovieSettings("vesicle", 4.0, 500.0, 6 if arguments.quick else 110, seed=SEED)
    movie = Movie(settings)
    frames = [movie.noisy(index).astype(np.uint16) for index in range(len(movie))]
    threads = usable_cores()
    with opened(settings, threads) as (methods, absent):
        for name, reason in absent.items():
            print(f"{name} is left out: {reason}", file=sys.stderr)
        took_ns, found = measure(methods, frames)
        rows = score(methods, took_ns, found, [_truth(movie, index) for index in range(len(movie))])
    record = {
        "command": command_line("peers"),
        "computer": describe(),
        "threads": threads,
        "movie": {"scenario": "vesicle", "snr": 4.0, "density": 500.0, "frames": len(frames), "seed": SEED},
        "warm_up_frames": WARM_UP_FRAMES,
        "methods": rows,
        "left_out": absent,
        "linking_ms": linking(rows, found),
        "times_faster": ratios(rows),
    }
    print_table(record)
    write(record, arguments.out, draw)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(
    methods: dict[str, Method], frames: Sequence[Pixels]
) -> tuple[dict[str, NDArray[np.int64]], dict[str, list[Candidates]]]:
    """Return ns per frame and what was found in each, by method; every frame goes to all methods in turn."""
    took_ns = {name: np.zeros(len(frames), np.int64) for name in methods}
    found: dict[str, list[Candidates]] = {name: [] for name in methods}
    with frozen_gc():
        for index, pixels in enumerate(frames):
            for name, method in methods.items():
                time.sleep(PAUSE_S)
                begin = monotonic_ns()
                candidates = method.find(pixels)
                took_ns[name][index] = monotonic_ns() - begin
                found[name].append(candidates)
    return took_ns, found


def score(
    methods: dict[str, Method],
    took_ns: dict[str, NDArray[np.int64]],
    found: dict[str, list[Candidates]],
    truth: Sequence[NDArray[np.float64]],
) -> list[dict[str, Any]]:
    """Return a row for each method: ms per frame and F1."""
    rows = []
    for name, method in methods.items():
        row = {"method": name, "ms": percentiles(took_ns[name][WARM_UP_FRAMES:] / 1e6), "details": method.details}
        rows.append(row | _accuracy(method, found[name][HISTORY_FRAMES:], truth[HISTORY_FRAMES:]))
    return rows


def _accuracy(method: Method, found: list[Candidates], truth: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    if not method.has_weights:
        return {"f1_5px": None, "f1_2px": None, "threshold": None, "oracle": False}
    oracle = method.threshold is None
    threshold = best_threshold(truth, found, GATES_PX[0]) if method.threshold is None else method.threshold
    above = [each.above(threshold) for each in found]
    f1 = {f"f1_{gate:g}px": round(score_frames(truth, above, gate).f1, 4) for gate in GATES_PX}
    return f1 | {"threshold": threshold, "oracle": oracle}


def linking(rows: Sequence[dict[str, Any]], found: dict[str, list[Candidates]]) -> dict[str, Any]:
    """Return ms per frame of trackpy's linker and ours, each on the detections of its own detector."""
    threshold = {row["method"]: row["threshold"] for row in rows}
    ours = next(reversed([name for name in threshold if name.startswith("ours_")]), None)
    figures = {"trackpy.link_iter": _trackpy_linking([each.above(threshold["trackpy"]) for each in found["trackpy"]])}
    if ours is not None:
        figures["ours"] = _our_linking(found[ours])
    return {name: percentiles(ns[WARM_UP_FRAMES:] / 1e6) for name, ns in figures.items()}


def _trackpy_linking(positions: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    trackpy.quiet()
    linked: Iterator[Any] = trackpy.linking.link_iter(positions, SEARCH_RANGE_PX)
    took = []
    for _ in positions:
        begin = monotonic_ns()
        next(linked)
        took.append(monotonic_ns() - begin)
    return np.array(took)


def _our_linking(found: Sequence[Candidates]) -> NDArray[np.int64]:
    linker = build("linkers", PluginConfig(kind="imm")).instance
    linker.prepare((512, 512))
    took = []
    for index, each in enumerate(found):
        y, x = each.yx.astype(np.float32).T
        score, ones = each.strength.astype(np.float32), np.ones(len(each.yx), np.float32)
        begin = monotonic_ns()
        linker.update(Detections(y, x, score, ones, 0.3 * ones), index, float(index))
        took.append(monotonic_ns() - begin)
    return np.array(took)


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return how many times faster the fastest of ours is than each other method, by the medians."""
    median = {row["method"]: row["ms"]["p50"] for row in rows}
    ours = [ms for name, ms in median.items() if name.startswith("ours_")]
    return {name: round(ms / min(ours), 2) for name, ms in median.items()} if ours else {}


def _truth(movie: Movie, index: int) -> NDArray[np.float64]:
    return movie.tracks.loc[movie.tracks["frame"] == index, ["y", "x"]].to_numpy(np.float64)


def print_table(record: dict[str, Any]) -> None:
    print(f"{'ms per frame':38}{'p50':>9}{'p99':>9}{'max':>9}{'F1 5 px':>9}{'F1 2 px':>9}{'slower':>8}")
    for row in record["methods"]:
        cells = [*(row["ms"][key] for key in ("p50", "p99", "max")), row["f1_5px"], row["f1_2px"]]
        texts = [f"{'-' if cell is None else f'{cell:.4g}':>9}" for cell in cells]
        ratio = record["times_faster"].get(row["method"])
        print(f"{row['method']:38}{''.join(texts)}{'-' if ratio is None else f'{ratio:.1f}x':>8}")
    for name, ms in record["linking_ms"].items():
        print(f"{'linking, ' + name:38}{ms['p50']:9.4g}{'-' if ms['p99'] is None else format(ms['p99'], '.4g'):>9}")


if __name__ == "__main__":
    main()
