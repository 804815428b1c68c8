"""Whether ten annotated images and some minutes make the shipped weights see what they do badly, and what they forget.

``python -m benchmarks.fine_tuning [--quick] [--out FILE.json] [--kinds a,b] [--steps N]``

Of each kind of `benchmarks.detection.fine_tuning_scenes` ten images with points lie in a folder, as of somebody who
types ``streamtrack train my_images --out my_weights``; the recipe is the one that this writes, but for its length. That
is in steps, as minutes of a machine that others use say nothing: CPU time of all processes is recorded. Scored are
images that no training saw, at 5 px (nuclei, as of BBBC039's validation images, at 10 px), by the engine with the
threshold of the weights; and, for what is forgotten, movies of the Particle Tracking Challenge's model at SNR 2, 4, 7.
BBBC039 is read from ``../shared/data/bbbc039``; without it nuclei are left out.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.detection.fine_tuning_scenes import MADE, Annotated, nuclei, write_folder
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.metrics.detection import Score, match
from streamtrack.report import machine, versions
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.simulation.scenarios import SCENARIO_NAMES
from streamtrack_engines.engine import GraphEngine
from streamtrack_engines.training.fine_tuning import DEFAULT_WEIGHTS, WEIGHTS, finish, recipe_for
from streamtrack_engines.training.loop import train
from streamtrack_engines.training.recipe import recipe_of

BBBC039 = Path(__file__).parents[2].parent / "shared" / "data" / "bbbc039"
NUCLEI = "nuclei of BBBC039"
SEED, TEST_SEED, MOVIE_SEED = 881_000, 882_000, 883_000
N_IMAGES, N_TESTED = 10, 10
STEPS, QUICK_STEPS = 500, 2
MOVIE_PX, MOVIE_FRAMES = 256, 12
DENSITY = {"vesicle": 500.0, "receptor": 500.0, "microtubule": 300.0}
SNR = (2.0, 4.0, 7.0)
GATE_PX = {NUCLEI: 10.0}
SETTINGS: dict[str, dict[str, Any]] = {NUCLEI: {"spot_size": 15.0}}
"""What is typed besides: ``--spot-size``."""

Row = dict[str, Any]


def main() -> None:
    """Run the benchmark, print its table and write its record."""
    arguments = _parse()
    steps = QUICK_STEPS if arguments.quick else arguments.steps
    rows = [measure(kind, steps, quick=arguments.quick) for kind in arguments.kinds]
    record: Record = {"command": command_line("fine_tuning"), "machine": machine(), "versions": versions()}
    record |= {"images": N_IMAGES, "steps": steps, "gate_px": 5.0, "gate_px_nuclei": GATE_PX[NUCLEI]}
    record |= {"seeds": [SEED, TEST_SEED, MOVIE_SEED], "rows": rows}
    Console(width=140).print(table_of(rows))
    write(record, arguments.out)


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__, "a few steps, of one kind")
    known = [*MADE, *([NUCLEI] if BBBC039.is_dir() else [])]
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=None, help=f"some of {','.join(known)}")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    arguments = parser.parse_args()
    arguments.kinds = arguments.kinds or (known[:1] if arguments.quick else known)
    if unknown := set(arguments.kinds) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(known)})")
    return arguments


def learnt_images(kind: str) -> list[Annotated]:
    """Return the images of a kind that are learnt from."""
    if kind == NUCLEI:
        return [each for each, _ in nuclei(BBBC039, slice(0, 60, 6), "train")]
    return [MADE[kind](np.random.default_rng((SEED, number))) for number in range(N_IMAGES)]


def tested_images(kind: str) -> list[Annotated]:
    """Return images of a kind that no training saw."""
    if kind == NUCLEI:
        return [each for each, _ in nuclei(BBBC039, slice(0, None), "validation")]
    return [MADE[kind](np.random.default_rng((TEST_SEED, number))) for number in range(N_TESTED)]


def measure(kind: str, steps: int, *, quick: bool) -> Row:
    """Return a row: F1 before and after, here and on what the shipped weights know, and what it took."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_folder(folder / "images", learnt_images(kind))
        began = _cpu_s()
        data = {"kind": "folder", "path": folder / "images", **SETTINGS.get(kind, {})}
        table = recipe_for(data, DEFAULT_WEIGHTS, None)
        del table["minutes"]
        table |= {"calibration": {"n_frames": 1, "frame_px": 64}} if quick else {}
        recipe = recipe_of({**table, "steps": steps}, "the recipe")
        outcome = train(recipe, folder / "out", console=Console(width=140))
        finish(recipe, outcome.checkpoint, Console(width=140))
        cpu_s = _cpu_s() - began
        tested = tested_images(kind)[: 1 if quick else None]
        weights = {"before": DEFAULT_WEIGHTS, "after": str(folder / "out" / WEIGHTS)}
        row: Row = {"kind": kind, "steps": steps, "cpu_minutes": cpu_s / 60, "n_tested": len(tested)}
        for when, name in weights.items():
            row[when] = _scored(name, kind, tested).as_dict()
            row[f"known_{when}"] = dict(_known(name, MOVIE_FRAMES if not quick else 4))
    return row


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _scored(weights: str, kind: str, images: Sequence[Annotated]) -> Score:
    gate_px = GATE_PX.get(kind, 5.0)
    engine = GraphEngine(weights=weights, threads=1, backend="onnxruntime", **SETTINGS.get(kind, {}))
    return _score([(_found(engine, image[None]), yx) for image, yx in images], gate_px)


def _known(weights: str, n_frames: int) -> Iterator[tuple[str, float]]:
    """Yield F1 on movies of the challenge's model, by scenario and SNR."""
    for number, scenario in enumerate(SCENARIO_NAMES):
        for snr in SNR:
            size = {"height_px": MOVIE_PX, "width_px": MOVIE_PX}
            movie = Movie(MovieSettings(scenario, snr, DENSITY[scenario], n_frames, **size, seed=MOVIE_SEED + number))
            engine = GraphEngine(weights=weights, threads=1, backend="onnxruntime", spot_size=3.0)
            engine.prepare((MOVIE_PX, MOVIE_PX), movie.dtype.name)
            truth = [movie.tracks.loc[movie.tracks["frame"] == t, ["y", "x"]].to_numpy() for t in range(n_frames)]
            pairs = [(_detect(engine, movie.noisy(t)), truth[t]) for t in range(n_frames)]
            yield f"{scenario}, SNR {snr:g}", _score(pairs).f1


def _found(engine: GraphEngine, frames: NDArray[np.uint16]) -> NDArray[np.float64]:
    engine.prepare(frames.shape[1:], frames.dtype.name)
    return [_detect(engine, frame) for frame in frames][-1]


def _detect(engine: GraphEngine, frame: NDArray[Any]) -> NDArray[np.float64]:
    found, _ = engine.detect(frame, denoise=False)
    return np.stack([found.y, found.x], 1).astype(np.float64)


def _score(pairs: Any, gate_px: float = 5.0) -> Score:
    """Return the score of what was found and what is there, (N, 2) and (M, 2), frame by frame."""
    n_right = n_found = n_true = 0
    for found, truth in pairs:
        n_right += len(match(truth, found, gate_px)[0])
        n_found, n_true = n_found + len(found), n_true + len(truth)
    return Score(gate_px, n_right, n_found - n_right, n_true - n_right)


def table_of(rows: Sequence[Row]) -> Table:
    """Return a table: a row a kind."""
    table = Table(
        "fine-tuning", "steps", "CPU min", "F1 before", "F1 after", "known: mean lost", "most lost", box=SIMPLE_HEAD
    )
    for row in rows:
        lost = {name: row["known_before"][name] - row["known_after"][name] for name in row["known_before"]}
        worst = max(lost, key=lambda name: lost[name])
        figures = [f"{row['cpu_minutes']:.1f}", f"{row['before']['f1'] or 0:.3f}", f"{row['after']['f1'] or 0:.3f}"]
        table.add_row(
            row["kind"],
            str(row["steps"]),
            *figures,
            f"{np.mean(list(lost.values())):.4f}",
            f"{lost[worst]:.4f} ({worst})",
        )
    return table


if __name__ == "__main__":
    main()
