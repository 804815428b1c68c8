"""Detection quality of the shipped weights beside that of other detectors, the published figures and what is possible.

``python -m benchmarks.accuracy [--quick] [--out FILE.json] [--methods a,b,...] [--deepspot DIR]``

Movies of the Particle Tracking Challenge's model, 512x512, seeds that no training and no choice of threshold has seen.
Ours (``denodet``) has one threshold for everything, that of the weights, and sees the two frames before the one that is
scored; ``denodet_first_frame`` is the same without them, ``denodet_challenge`` has the weights ``denodet``, ``unet`` is
the U-Net, ``denodet_paper`` is DENODET as printed. Each peer has an ORACLE threshold: the one with the highest F1 at 5
px on the very frames of the cell that are scored, which no user could choose. So the peers have an advantage.

Per cell: F1 at 5 px and 2 px, precision, recall and RMSE at 5 px, all frames pooled; means over the densities, with the
standard deviations between them. Beside that: how often a detection of a score is right, the mean error by sub-pixel
phase, detections where there is nothing, and the test pairs of DeepSpot (its folder holds dataset*/test/original and
target). ``--out`` writes JSON, and a picture beside it; ``--methods`` computes these only and keeps the figures of the
others that FILE has. Cells are shared out among all cores, one thread each: this is no timing.
"""

import argparse
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.detection.accuracy_figure import draw
from benchmarks.detection.bounds import PUBLISHED, PUBLISHED_SNRS, PUBLISHED_SOURCE, cramer_rao_px
from benchmarks.detection.detectors import PEERS, missing
from benchmarks.detection.empty_frames import EMPTY
from benchmarks.detection.scoring import (
    HISTORY_FRAMES,
    OURS,
    SCORE_BINS,
    SPACING_FRAMES,
    Row,
    count_false,
    engine_info,
    score_cell,
    score_pairs,
    score_phases,
)
from benchmarks.shared.pool import shared_out
from benchmarks.shared.record import command_line, command_parser, some_of, write
from streamtrack.report import machine, versions
from streamtrack.simulation import Movie, MovieSettings, ScenarioName

DENSITIES: dict[ScenarioName, tuple[float, ...]] = {
    "vesicle": (100.0, 500.0, 1000.0),
    "receptor": (100.0, 500.0, 1000.0),
    "microtubule": (60.0, 400.0, 700.0),
}
SNRS = (1.0, 2.0, 4.0, 7.0)
METHODS = (*OURS, *PEERS)
PHASE_METHODS = ("denodet", "trackpy")
PHASE_SCENARIOS: tuple[ScenarioName, ...] = ("vesicle", "receptor")
PAIR_METHODS = ("denodet", "dog", "ufish")
SEED = 770_000
PHASE_SEED = SEED + 100
EMPTY_SEED = SEED + 200
SECTIONS = ("cells", "phases", "empty", "deepspot")


class Extent(NamedTuple):
    """How much is computed; figures of different extents are not mixed in one file."""

    snrs: tuple[float, ...]
    densities: tuple[int, ...]
    frames_per_cell: int
    phase_frames: int
    empty_frames: int


FULL = Extent(SNRS, (0, 1, 2), frames_per_cell=20, phase_frames=60, empty_frames=100)
QUICK = Extent((2.0, 4.0), (1,), frames_per_cell=2, phase_frames=4, empty_frames=3)


class Task(NamedTuple):
    """One call for a worker, and the section of the record that its row or rows belong to."""

    section: str
    function: Callable[..., Row | list[Row]]
    arguments: tuple[Any, ...]


def main() -> None:
    """Run the benchmark, print its table and write its files."""
    arguments = parse_arguments()
    extent = QUICK if arguments.quick else FULL
    methods = [name for name in METHODS if name in arguments.methods]
    for reason in filter(None, map(missing, methods)):
        print(reason, file=sys.stderr)
    methods = [name for name in methods if not missing(name)]
    old = kept(arguments.out, extent, arguments.methods)
    rows = run([*cell_tasks(methods, extent), *other_tasks(methods, extent, arguments.deepspot)])
    record = assemble(rows, methods, extent, old)
    print_tables(record)
    write(record, arguments.out, draw)


def parse_arguments() -> argparse.Namespace:
    parser = command_parser(__doc__, "2 frames a cell, SNR 2 and 4, middle density only")
    parser.add_argument("--methods", type=some_of(METHODS), default=list(METHODS), help=f"some of {','.join(METHODS)}")
    parser.add_argument("--deepspot", type=_folder, help="folder of DeepSpot's test pairs")
    return parser.parse_args()


def _folder(text: str) -> Path:
    folder = Path(text)
    if not list(folder.glob("*/test/original/*.png")):
        raise argparse.ArgumentTypeError(f"{text} holds no dataset*/test/original/*.png")
    return folder


def grid() -> list[tuple[ScenarioName, float, int, int]]:
    """Return scenario, SNR, which density, and seed of every cell; a quick run takes some of the same."""
    cells = [(scenario, snr, k) for scenario, all_ in DENSITIES.items() for snr in SNRS for k in range(len(all_))]
    return [(*cell, SEED + n) for n, cell in enumerate(cells)]


def cell_tasks(methods: Iterable[str], extent: Extent) -> list[Task]:
    frames = HISTORY_FRAMES + extent.frames_per_cell * SPACING_FRAMES
    movies = [
        MovieSettings(scenario, snr, DENSITIES[scenario][k], frames, seed=seed)
        for scenario, snr, k, seed in grid()
        if snr in extent.snrs and k in extent.densities
    ]
    return [Task("cells", score_cell, (method, movie)) for movie in movies for method in methods]


def other_tasks(methods: Sequence[str], extent: Extent, deepspot: Path | None) -> list[Task]:
    movies = [
        MovieSettings(scenario, 7.0, 300.0, HISTORY_FRAMES + extent.phase_frames, seed=PHASE_SEED + k)
        for k, scenario in enumerate(PHASE_SCENARIOS)
    ]
    tasks = [
        Task("phases", score_phases, (each, movie)) for each in methods if each in PHASE_METHODS for movie in movies
    ]
    if "denodet" in methods:
        tasks += [
            Task("empty", count_false, (kind, extent.empty_frames, EMPTY_SEED + k)) for k, kind in enumerate(EMPTY)
        ]
    if deepspot:
        tasks += [Task("deepspot", score_pairs, (each, deepspot)) for each in methods if each in PAIR_METHODS]
    return tasks


def run(tasks: Sequence[Task]) -> dict[str, list[Row]]:
    """Share the tasks out among the cores, and return the rows of each section in the order of the tasks."""
    results = shared_out("accuracy", [(task.function, task.arguments) for task in tasks])
    rows: dict[str, list[Row]] = {section: [] for section in SECTIONS}
    for task, result in zip(tasks, results, strict=True):
        rows[task.section] += result if isinstance(result, list) else [result]
    return rows


def kept(path: Path | None, extent: Extent, methods: Sequence[str]) -> dict[str, Any]:
    """Return what the file holds if it is of the same frames; refuse to replace others by those of some methods."""
    if path is None or not path.exists():
        return {}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if record.get("frames") == frames_of(extent):
        return record
    if set(methods) != set(METHODS):
        raise SystemExit(f"{path} holds figures of other frames: choose another --out, or run all methods")
    return {}


def frames_of(extent: Extent) -> dict[str, Any]:
    """Return what the frames are made from, as JSON gives it back; check sums tell if the simulator has changed."""
    checks = [zlib.crc32(Movie(MovieSettings(name, frames=4, seed=SEED)).noisy(0).tobytes()) for name in DENSITIES]
    content = {"seed": SEED, "checksums": checks, "densities": DENSITIES, **extent._asdict()}
    made: dict[str, Any] = json.loads(json.dumps(content))
    return made


def assemble(rows: dict[str, list[Row]], methods: Sequence[str], extent: Extent, old: dict[str, Any]) -> dict[str, Any]:
    """Return the record: new rows, kept ones of other methods, and what follows from them."""
    binned = [(row["scenario"], row.pop("score_bins")) for row in rows["cells"] if "score_bins" in row]
    merged = {
        section: merge(rows[section], old.get(section, []), methods) for section in ("cells", "phases", "deepspot")
    }
    merged["empty"] = rows["empty"] or old.get("empty", [])
    return {
        "command": command_line("accuracy"),
        "machine": machine(),
        "versions": versions(),
        "thresholds": "ours: the one of the weights; peers: an oracle per cell (highest F1 at 5 px)",
        "frames": frames_of(extent),
        "engine": engine_info("denodet") if "denodet" in methods else old.get("engine", {}),
        "reliability": reliability(binned) if binned else old.get("reliability", {}),
        "means": means(merged["cells"]),
        "cramer_rao_px": {
            scenario: {f"{snr:g}": cramer_rao_px(scenario, snr) for snr in SNRS} for scenario in DENSITIES
        },
        "published": {"source": PUBLISHED_SOURCE, "snrs": PUBLISHED_SNRS, **PUBLISHED},
        **merged,
    }


def merge(new: Sequence[Row], old: Iterable[Row], methods: Iterable[str]) -> list[Row]:
    """Return new rows and those old ones whose method was not run, in the order of METHODS."""
    rows = [*new, *(row for row in old if row["method"] not in methods)]
    return sorted(rows, key=lambda row: METHODS.index(row["method"]))


def means(cells: Iterable[Row]) -> list[Row]:
    """Return means and standard deviations over the densities, per method, scenario and SNR."""
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in cells:
        groups.setdefault((row["method"], row["scenario"], row["snr"]), []).append(row)
    return [
        {"method": method, "scenario": scenario, "snr": snr}
        | {name: _mean([row[name] for row in group]) for name in ("f1_5px", "f1_2px", "rmse_px")}
        | {f"sd_{name}": _deviation([row[name] for row in group]) for name in ("f1_5px", "rmse_px")}
        for (method, scenario, snr), group in groups.items()
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _deviation(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def reliability(binned: Iterable[tuple[str, Any]]) -> dict[str, list[Row]]:
    """Return, per scenario and for all, how often detections of a score are right at 5 px."""
    total = {name: np.zeros((3, len(SCORE_BINS) - 1)) for name in (*DENSITIES, "pooled")}
    for scenario, bins in binned:
        total[scenario] += bins
        total["pooled"] += bins
    return {
        name: [
            {"from": float(low), "to": float(high), "count": int(n), "mean_score": score / n, "right": right / n}
            for low, high, (n, score, right) in zip(SCORE_BINS, SCORE_BINS[1:], bins.T.tolist(), strict=False)
            if n
        ]
        for name, bins in total.items()
    }


def print_tables(record: dict[str, Any]) -> None:
    """Print means over the densities, false detections, phases and pairs."""
    console = Console(width=max(Console().width, 120))
    for name, title in (("f1_5px", "F1 at 5 px"), ("f1_2px", "F1 at 2 px"), ("rmse_px", "RMSE in px")):
        console.print(mean_table(record, name, f"{title}, mean of the densities; thresholds of peers are oracles"))
    for row in record["empty"]:
        console.print(f"empty, {row['kind']}: {row['detections_per_frame']:.3f} detections a frame")
    for row in record["phases"]:
        error = f"at most {row['largest_px']:.4f} ± {row['largest_se_px']:.4f} px, rms {row['rms_px']:.4f} px"
        console.print(f"mean error by sub-pixel phase, {row['method']}, {row['scenario']}: {error}")
    for row in record["deepspot"]:
        console.print(f"DeepSpot {row['set']}, {row['method']}: F1 at 3 px {row['f1_3px']:.4f}")


def mean_table(record: dict[str, Any], name: str, title: str) -> Table:
    """Return a table of one measure: methods down, scenarios and SNRs across."""
    snrs = record["frames"]["snrs"]
    table = Table(
        "", *(f"{scenario[:3]} {snr:g}" for scenario in DENSITIES for snr in snrs), title=title, box=SIMPLE_HEAD
    )
    cell = {(row["method"], row["scenario"], row["snr"]): row[name] for row in record["means"]}
    for method in METHODS:
        values = [cell.get((method, scenario, snr)) for scenario in DENSITIES for snr in snrs]
        if any(value is not None for value in values):
            table.add_row(method, *("-" if value is None else f"{value:.3f}" for value in values))
    if name != "f1_2px":
        published = {"f1_5px": "best_f1", "rmse_px": "best_rmse_px"}[name]
        at = [(scenario, PUBLISHED_SNRS.index(snr)) for scenario in DENSITIES for snr in snrs]
        table.add_row("best published", *(f"{PUBLISHED[scenario][published][k]:.3f}" for scenario, k in at))
    if name == "rmse_px":
        bounds = record["cramer_rao_px"]
        table.add_row("Cramer-Rao bound", *(f"{bounds[s][f'{snr:g}']:.3f}" for s in DENSITIES for snr in snrs))
    return table


if __name__ == "__main__":
    main()
