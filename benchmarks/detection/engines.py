"""Every engine on the images of every paper: which one is for what.

``python -m benchmarks.engines [--quick] [--images 4] [--engines a,b,...] [--data FOLDER] [--out FILE.json]``

Five families: movies like the Particle Tracking Challenge's (SNR 2, 4, 7; 500 particles, 300 comets), simulated images
like DeepSpot's (10 to 100 spots, of fixed and of variable intensity) and like detectSpot's (types A, B1 and B2; SNR 10
to 1), DeepSpot's own 100 test pairs and the validation images of BBBC039 (nuclei), where the folder, by default
``../shared/data``, has them. A figure is the mean over the sets of a family, beside it the standard deviation from set
to set. Engines have one threshold, that of their weights; on nuclei all but ``cells`` are told a ``spot_size`` of 28
px, which bins the image. Seeds are those of no training.

``ambiguous`` is DeepSpot's number of ambiguous matches in an image: spots whose nearest detection is another's, too.
``cpu_ms`` is CPU time of one thread of ONNX Runtime for a frame of the family's size, the least of a set.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.detection.engines_figure import draw
from benchmarks.detection.nuclei_images import read
from benchmarks.detection.papers import GROUPS, spot_images
from benchmarks.detection.papers_deepspot import KINDS, SPOTS, simulated
from benchmarks.detection.scoring import read_pairs, score_frames
from benchmarks.shared.pool import shared_out
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.config import PluginConfig
from streamtrack.metrics.kdtree import match_kdtree
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.simulation import Movie, MovieSettings, ScenarioName
from streamtrack.types import Pixels

DATA = Path(__file__).parents[3] / "shared" / "data"
SEED = 985_000
IMAGES, QUICK_IMAGES = 4, 1
CHALLENGE: Mapping[ScenarioName, float] = {"vesicle": 500.0, "receptor": 500.0, "microtubule": 300.0}
CHALLENGE_SNR = (2.0, 4.0, 7.0)
N_BEFORE, APART = 2, 10
NUCLEI_PX = 28.0

ENGINES: Mapping[str, Mapping[str, Any]] = {
    "denodet": {"kind": "denodet"},
    "denodet, weights denodet": {"kind": "denodet", "weights": "denodet"},
    "unet": {"kind": "unet"},
    "deepspot": {"kind": "deepspot"},
    "detectspot": {"kind": "detectspot"},
    "cells": {"kind": "cells"},
}

Spots = NDArray[np.float64]
Example = tuple[Sequence[Pixels], Spots]
"""Frames in a row, and y, x of the particles (N, 2), px, in the last."""
Row = dict[str, Any]


class Family(NamedTuple):
    """Sets of images of one kind.

    Attributes
    ----------
    sets
        By name: from a number to so many examples.
    gate_px
        Within which a detection can be a particle's.
    settings
        Of the engines that find spots.
    """

    sets: Mapping[str, Callable[[int], Iterable[Example]]]
    gate_px: float
    settings: Mapping[str, Any] = {}


def families(data: Path) -> dict[str, Family]:
    """Return the families by name; without those whose images are not in the folder."""
    found = {
        "challenge": Family(
            {
                f"{name} SNR {snr:g}": partial(movie, name, snr, SEED + 10 * k + round(snr))
                for k, name in enumerate(CHALLENGE)
                for snr in CHALLENGE_SNR
            },
            5.0,
        ),
        "DeepSpot, simulated": Family(
            {
                f"{kind} {n_spots}": partial(still, partial(simulated, share, n_spots, SEED + 100 + n_spots))
                for kind, share in KINDS.items()
                for n_spots in SPOTS
            },
            3.0,
        ),
        "detectSpot A, B": Family(
            {
                f"{group[-2:].strip()} {name}": partial(still, partial(of_group, group, name))
                for group in GROUPS
                for name in GROUPS[group].families
            },
            5.0,
        ),
    }
    if pairs := sorted(data.glob("deepspot*/**/test")):
        found["DeepSpot's pairs"] = Family({each.parent.name: partial(of_pairs, each) for each in pairs}, 3.0)
    if (data / "bbbc039" / "nuclei.csv").is_file():
        nuclei = Family({"validation": partial(of_nuclei, data / "bbbc039")}, 10.0, {"spot_size": NUCLEI_PX})
        found["BBBC039"] = nuclei
    return found


def movie(name: ScenarioName, snr: float, seed: int, n: int) -> Iterator[Example]:
    """Yield frames of a movie, each with the two before it."""
    made = Movie(MovieSettings(name, snr, CHALLENGE[name], N_BEFORE + n * APART, seed=seed))
    for last in range(N_BEFORE, N_BEFORE + n * APART, APART):
        truth = made.tracks.loc[made.tracks["frame"] == last, ["y", "x"]].to_numpy(np.float64)
        yield [made.noisy(index) for index in range(last - N_BEFORE, last + 1)], truth


def still(make: Callable[[int], Iterable[tuple[Pixels, Spots]]], n: int) -> Iterator[Example]:
    """Yield images of which nothing came before."""
    for pixels, spots in make(n):
        yield [pixels], spots


def of_group(group: str, name: str, n: int) -> Iterable[tuple[Pixels, Spots]]:
    """Return images of a type of detectSpot's, with a seed that `benchmarks.papers` does not have."""
    ground: Any = group.split()[1]
    return spot_images(ground, float(name.split()[1]), SEED + 200 + list(GROUPS[group].families).index(name), n)


def of_pairs(folder: Path, n: int) -> Iterator[Example]:
    """Yield the first of DeepSpot's pairs in a folder: 13 for each image of a simulated set, all by default."""
    for pixels, spots in read_pairs(folder)[: 13 * n]:
        yield [pixels], spots


def of_nuclei(folder: Path, n: int) -> Iterator[Example]:
    """Yield images of nuclei: five for each image of a simulated set, all by default."""
    for image in list(read(folder, "validation"))[: 5 * n]:
        yield [image.pixels], image.nuclei[:, :2]


def main() -> None:
    """Run the benchmark, print its table and write its record."""
    parser = command_parser(__doc__, "one image of one set a family; 13 pairs, five images of nuclei")
    parser.add_argument("--images", type=int, default=IMAGES, help="in each set")
    parser.add_argument("--engines", type=lambda text: text.split(","), default=list(ENGINES), help=",".join(ENGINES))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of DeepSpot's pairs and of BBBC039")
    arguments = parser.parse_args()
    if unknown := set(arguments.engines) - set(ENGINES):
        parser.error(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(ENGINES)})")
    n = QUICK_IMAGES if arguments.quick else arguments.images
    names = list(families(arguments.data))
    n_sets = 1 if arguments.quick else None
    about = [(engine, name, arguments.data, n, n_sets) for engine in arguments.engines for name in names]
    calls = [(score_family, each) for each in about]
    rows: list[Row] = shared_out("engines", calls)
    record: Record = {"command": command_line("engines"), "machine": machine(), "versions": versions()}
    record |= {"seed": SEED, "images": n, "rows": rows}
    Console(width=140).print(table_of(rows))
    write(record, arguments.out, draw)


def score_family(engine: str, family: str, data: Path, n: int, n_sets: int | None = None) -> Row:
    """Return the means of an engine's figures over the sets of a family, or the first ones, and their deviations."""
    sets, gate_px, settings = families(data)[family]
    about = {**ENGINES[engine], **({} if engine == "cells" else settings), "threads": 1, "backend": "onnxruntime"}
    finder: Engine = build("engines", PluginConfig.model_validate(about)).instance
    scored = {name: score_set(finder, make(n), gate_px) for name, make in islice(sets.items(), n_sets)}
    finder.close()
    row: Row = {"engine": engine, "family": family, "gate_px": gate_px, "settings": dict(settings)}
    for figure in ("f1", "precision", "recall", "rmse_px", "ambiguous", "cpu_ms"):
        values = [each[figure] for each in scored.values() if not np.isnan(each[figure])]
        row |= {figure: float(np.mean(values)) if values else None, f"{figure}_sd": float(np.std(values or [0]))}
    return row | {"sets": {name: each["f1"] for name, each in scored.items()}}


def score_set(engine: Engine, examples: Iterable[Example], gate_px: float) -> Row:
    """Return the figures of an engine for a set; of the CPU times the least."""
    truth, found, ambiguous, cpu_ms = [], [], [], []
    for frames, spots in examples:
        height, width = frames[-1].shape
        engine.prepare((height, width), frames[-1].dtype.name)  # forgets the images before
        for pixels in frames:
            began = time.process_time()
            detections, _ = engine.detect(pixels, denoise=False)
            cpu_ms.append(1000 * (time.process_time() - began))
        truth.append(spots)
        found.append(np.stack([detections.y, detections.x], 1).astype(np.float64))
        ambiguous.append(match_kdtree(spots, found[-1], gate_px).ambiguous)
    scored = score_frames(truth, found, gate_px)
    row: Row = {name: float(getattr(scored, name)) for name in ("f1", "precision", "recall", "rmse_px")}
    return row | {"ambiguous": float(np.mean(ambiguous)), "cpu_ms": min(cpu_ms)}


def table_of(rows: Sequence[Row]) -> Table:
    """Return a table: engines down, families across."""
    names = list(dict.fromkeys(row["family"] for row in rows))
    table = Table("F1, RMSE px, ambiguous, ms of CPU", *names, box=SIMPLE_HEAD)
    for engine in dict.fromkeys(row["engine"] for row in rows):
        own = {row["family"]: row for row in rows if row["engine"] == engine}
        table.add_row(engine, *(_cell(own[name]) for name in names))
    return table


def _cell(row: Row) -> str:
    rmse = "-" if row["rmse_px"] is None else f"{row['rmse_px']:.2f}"
    return f"{row['f1']:.3f} ± {row['f1_sd']:.3f}, {rmse}, {row['ambiguous']:.2f}, {row['cpu_ms']:.0f}"


if __name__ == "__main__":
    main()
