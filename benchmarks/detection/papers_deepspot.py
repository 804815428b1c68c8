"""DeepSpot on its paper's own ground (Bouilhol et al., Biological Imaging 2 (2022) e4), with others in the same table.

``python -m benchmarks.papers_deepspot [--quick] [--images 20] [--engines deepspot,denodet] [--deepspot DIR]
[--out FILE.json]``

Twenty sets of simulated images of 256x256 px: 10, 20, ... 100 spots, of fixed and of variable intensity; and the
authors' 100 test pairs, where their folder (dataset*/test/original and target) is given. Detections are matched as in
the paper: the nearest of each spot within 3 px, and how many are ambiguous. Means over images, as there. Of an engine
that enhances, also how bright the spots are afterwards that were found, 0 to 255, and their coefficient of variation.

The simulator is `streamtrack.simulation.smfish` with its own defaults; the seeds are those of no training.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.scoring import read_pairs
from benchmarks.shared.pool import shared_out
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.config import PluginConfig
from streamtrack.metrics.kdtree import match_kdtree
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.simulation.smfish import SET_PX, SmfishRanges, draw_smfish

SEED = 97_000
RADIUS_PX = 3.0
SPOTS = range(10, 101, 10)
KINDS = {"fixed": 0.0, "variable": 1.0}
FIGURES = ("f1", "precision", "recall", "ambiguous")

Example = tuple[NDArray[Any], NDArray[np.float64]]
"""Image (H, W) and y, x of its spots, (N, 2) px."""
Row = dict[str, Any]


def main() -> None:
    """Measure, print and record."""
    parser = command_parser(__doc__, "one image a set")
    parser.add_argument("--images", type=int, default=20, help="in each set")
    parser.add_argument("--engines", default="deepspot,denodet", help="weights of such names, or files; by commas")
    parser.add_argument("--deepspot", type=Path, help="folder of the authors' test pairs")
    arguments = parser.parse_args()
    rows = measured(arguments)
    for row in rows:
        print(
            "  ".join(f"{name} {value:.3f}" if isinstance(value, float) else str(value) for name, value in row.items())
        )
    record: Record = {"command": command_line("papers_deepspot"), "machine": machine(), "versions": versions()}
    write(record | {"radius_px": RADIUS_PX, "rows": rows}, arguments.out)


def measured(arguments: argparse.Namespace) -> list[Row]:
    """Return a row for each engine and set, and their means."""
    n = 1 if arguments.quick else arguments.images
    engines = arguments.engines.split(",")
    calls: list[tuple[Callable[..., Row], tuple[Any, ...]]] = [
        (score_set, (engine, name, n)) for engine in engines for name in FAMILIES
    ]
    if arguments.deepspot:
        folders = sorted(arguments.deepspot.glob("*/test"))
        calls += [(score_pairs, (engine, folder)) for engine in engines for folder in folders]
    rows = shared_out("papers_deepspot", calls)
    of_engines = [[row for row in rows if row["engine"] == Path(engine).name] for engine in engines]
    return rows + [mean for own in of_engines for mean in means(own)]


def simulated(share: float, n_spots: int, seed: int, n: int) -> Iterable[Example]:
    """Yield images of one of the paper's sets."""
    ranges = SmfishRanges(variable_fraction=share)
    for number in range(n):
        image, spots = draw_smfish(np.random.default_rng((seed, number)), SET_PX, ranges, n_spots=n_spots)
        yield image.astype(np.uint8), spots


FAMILIES: dict[str, Callable[[int, int], Iterable[Example]]] = {
    f"{kind} {n_spots}": partial(simulated, share, n_spots) for kind, share in KINDS.items() for n_spots in SPOTS
}
"""From a seed and a number to so many images, by name."""


def score_set(engine: str, name: str, n: int) -> Row:
    """Return the figures of an engine for images of one of the `FAMILIES`."""
    seed = SEED + list(FAMILIES).index(name)
    return {"engine": Path(engine).name, "set": name, **score(engine, FAMILIES[name](seed, n))}


def score_pairs(engine: str, folder: Path) -> Row:
    """Return the figures of an engine for the authors' test pairs in a folder."""
    return {"engine": Path(engine).name, "set": folder.parent.name, **score(engine, read_pairs(folder))}


def score(kind: str, examples: Iterable[Example]) -> Row:
    """Return the means over images of what `KdTreeMatch` says, and how bright spots are in the engine's image."""
    what = {"kind": "graph", "weights": kind} if kind.endswith(".onnx") else {"kind": kind, "weights": kind}
    engine: Engine = build("engines", PluginConfig.model_validate({**what, "threads": 1})).instance
    enhances = getattr(engine, "image", None) == "enhanced"
    figures, brightness = [], [np.empty(0)]
    for pixels, spots in examples:
        engine.prepare(pixels.shape, pixels.dtype.name)  # forgets the image before
        found, image = engine.detect(pixels, denoise=enhances)
        matched = match_kdtree(spots, np.stack([found.y, found.x], 1), RADIUS_PX)
        figures.append([getattr(matched, name) for name in FIGURES])
        if enhances and image is not None:
            brightness.append(brightest(image, spots[matched.nearest >= 0]))
    engine.close()
    row = {"images": len(figures), **dict(zip(FIGURES, np.mean(figures, axis=0).tolist(), strict=True))}
    return row | intensity(np.concatenate(brightness))


def brightest(image: NDArray[np.float32], spots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the brightest of the 3x3 pixels around each of some spots."""
    padded = np.pad(image, 1, mode="edge")
    row, column = np.rint(spots).astype(int).T + 1
    near = [padded[row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.max(near, axis=0).astype(np.float64)


def intensity(values: NDArray[np.float64]) -> Row:
    """Return mean and coefficient of variation of spots after enhancement; nothing where there are none."""
    return {"enhanced": float(values.mean()), "enhanced_cv": float(values.std() / values.mean())} if len(values) else {}


def means(rows: Sequence[Row]) -> list[Row]:
    """Return the means of an engine's figures over the sets of each kind, and over all simulated ones."""
    groups = {f"all {kind}": [row for row in rows if row["set"].startswith(kind)] for kind in KINDS}
    groups["all simulated"] = [row for group in groups.values() for row in group]
    groups["all pairs"] = [row for row in rows if row["set"] not in FAMILIES]
    figures = [name for name in rows[0] if name not in ("engine", "set", "images")]
    return [
        {"engine": rows[0]["engine"], "set": name, "images": sum(row["images"] for row in group)}
        | {figure: float(np.mean([row[figure] for row in group])) for figure in figures}
        for name, group in groups.items()
        if group
    ]


if __name__ == "__main__":
    main()
