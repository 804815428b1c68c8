"""How many nuclei are found in real images of them, where, how large they are, and whether they are followed.

``python -m benchmarks.nuclei [--quick] [--out FILE.json] [--data FOLDER]``

The folder, by default ``../shared/data/bbbc039``, has images of the Broad Bioimage Benchmark Collection's set BBBC039v1
(Caicedo et al. 2019; CC0): 520 x 696 px, U2OS nuclei, named ``train_*`` and ``validation_*``, with ``nuclei.csv``
(image, y, x, radius_px) made of the annotated masks. Scored are the 20 validation images, which no weights learnt from,
at 10 px, one to one. ``cells`` has the one threshold of its weights. ``otsu``, Otsu's threshold with peaks of the
distance transform, has the settings, and ``denodet`` the threshold, that are best on the very images that are scored
(ORACLE). ``count_error`` is the mean of |found - true| / true over squares of 256 x 256 px with five nuclei or more,
``density_error`` that of the integrals of the density, Gaussians of 10 px standard deviation around what is found or
true. ``density`` finds nothing, and gives the density itself: in whole images, or counts in the squares alone. Both
count in the images made faint and blurred, too.

Simulated cells of one typical size fill a fifth of an image of 512 x 512 px, of which there are four a size: F1 within
a third of the diameter, 3 px at least.

The movies are made of five of them: each drifts by .5 px a frame, turns by .1 degrees, is bent to and fro by some px,
has fresh noise, and four nuclei in a thousand divide in a frame. Tracks are scored at 10 px as the Particle Tracking
Challenge does it; ``kept`` is the share of true links, from frame to frame, that are found.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.ndimage import center_of_mass, distance_transform_edt, gaussian_filter, label, maximum_filter

import streamtrack
from benchmarks.detection.detectors import Candidates
from benchmarks.detection.nuclei_counts import errors_of_places, score_density, score_density_alone
from benchmarks.detection.nuclei_figure import Shown, draw
from benchmarks.detection.nuclei_images import Annotated, read
from benchmarks.detection.nuclei_movie import nuclei_movie
from benchmarks.detection.nuclei_sizes import score_sizes
from benchmarks.detection.scoring import best_threshold, score_frames
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.config import PluginConfig
from streamtrack.metrics.detection import match, score_links
from streamtrack.metrics.ptc import score_ptc
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.types import Detections

DATA = Path(__file__).parents[3] / "shared" / "data" / "bbbc039"
GATE_PX = 10.0
QUICK_IMAGES, MOVIES, OF_EACH_SIZE = 3, 5, 4
FRAMES, QUICK_FRAMES = 40, 6
DIAMETER_PX = 28.0
LEAST_SCORE = 0.05

Row = dict[str, Any]
Floats = NDArray[np.float64]
Setting = tuple[float, float, int]


OURS: Mapping[str, Mapping[str, Any]] = {
    "cells": {"kind": "cells"},
    "cells, from simulation alone": {"kind": "cells", "weights": "cells-simulated"},
}
ORACLES: Mapping[str, Mapping[str, Any]] = {
    "denodet": {"kind": "denodet"},
    "denodet, told the size": {"kind": "denodet", "spot_size": DIAMETER_PX},
}
FAINT: Mapping[str, tuple[float, float]] = {
    "faint": (0.02, 0.0),
    "faint and blurred": (0.01, 5.0),
    "blurred": (0.1, 5.0),
}
"""Electrons for a count of the image, and standard deviation of the blur, px."""
SETTINGS: Sequence[Setting] = tuple(product((0.6, 0.75, 0.9, 1.0), (1.0, 1.5, 2.0, 3.0), (5, 7)))
"""Of the peer: times Otsu's threshold, smoothing of the distances, and how far peaks are apart at least, px."""


def main() -> None:
    """Run the benchmark, print its table and write its record."""
    arguments = _parse()
    if not (arguments.data / "nuclei.csv").is_file():
        print(f"skipped: there is no nuclei.csv in {arguments.data} (BBBC039v1 and a table of its nuclei, see --help)")
        return
    images = list(read(arguments.data, "validation"))[: QUICK_IMAGES if arguments.quick else None]
    rows = [score_engine(name, settings, images) for name, settings in OURS.items()]
    rows += [score_engine(name, settings, images, is_oracle=True) for name, settings in ORACLES.items()]
    rows.append(score_otsu(images, SETTINGS[8:16] if arguments.quick else SETTINGS))
    rows += [score_density(images), score_density_alone(images)]
    for name, (e_per_count, blur_px) in FAINT.items():
        faint = [image.faint(e_per_count, blur_px, seed) for seed, image in enumerate(images)]
        rows.append(score_engine(f"cells, {name}", OURS["cells"], faint))
        rows.append(score_density(faint) | {"method": f"density, {name}"})
    sizes = [score_sizes(name, settings, 1 if arguments.quick else OF_EACH_SIZE) for name, settings in OURS.items()]
    n_movies, n_frames = (1, QUICK_FRAMES) if arguments.quick else (MOVIES, FRAMES)
    followed = [follow(image, n_frames, seed) for seed, image in enumerate(images[:n_movies])]
    record: Record = {"command": command_line("nuclei"), "machine": machine(), "versions": versions()}
    record |= {"gate_px": GATE_PX, "images": [image.name for image in images], "rows": rows, "sizes": sizes}
    record["movies"] = followed
    console = Console(width=120)
    console.print(table_of("nuclei at 10 px", rows))
    console.print(table_of("F1 of simulated cells by diameter", sizes))
    console.print(table_of("movies, followed by cells", followed))
    write(record, arguments.out, lambda _, path: draw([shown(image) for image in images[:2]], GATE_PX, path))


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__, "three images, and a movie of six frames")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the images and their table")
    return parser.parse_args()


def found_in(images: Sequence[Annotated], settings: Mapping[str, Any]) -> tuple[float, list[Detections]]:
    """Return the threshold of an engine, and what it finds in each image."""
    engine: Engine = build("engines", PluginConfig.model_validate({**settings, "threads": 1})).instance
    found = []
    for image in images:
        engine.prepare((image.pixels.shape[0], image.pixels.shape[1]), image.pixels.dtype.name)
        found.append(engine.detect(image.pixels, denoise=False)[0])
    engine.close()
    return float(engine.info["threshold"]), found


def shown(image: Annotated) -> Shown:
    """Return an image with what ``cells`` finds in it."""
    _, (found,) = found_in([image], OURS["cells"])
    return image.name, image.pixels, image.nuclei, np.stack([found.y, found.x, found.extra["radius_px"]], 1)


def score_engine(
    name: str, settings: Mapping[str, Any], images: Sequence[Annotated], *, is_oracle: bool = False
) -> Row:
    """Return how well one of our engines finds the nuclei, and how well it tells their sizes, where it does."""
    threshold, found = found_in(images, {**settings, **({"threshold": LEAST_SCORE} if is_oracle else {})})
    candidates = [Candidates.strongest(np.stack([each.y, each.x], 1), each.score) for each in found]
    if is_oracle:
        threshold = best_threshold([image.nuclei[:, :2] for image in images], candidates, GATE_PX)
    row = _score(name, images, [each.above(threshold) for each in candidates])
    return row | {"setting": f"score {threshold:.2f}", "oracle": is_oracle, **_radii(images, found)}


def _score(name: str, images: Sequence[Annotated], found: Sequence[Floats]) -> Row:
    score = score_frames([image.nuclei[:, :2] for image in images], found, GATE_PX)
    row: Row = {"method": name, "f1": score.f1, "precision": score.precision, "recall": score.recall}
    return row | {"rmse_px": score.rmse_px, **errors_of_places(images, found)}


def _radii(images: Sequence[Annotated], found: Sequence[Detections]) -> Row:
    """Return the median of found over true radius, and how far half of them are from it, in logarithms."""
    if "radius_px" not in found[0].extra:
        return {}
    ratios = []
    for image, here in zip(images, found, strict=True):
        true, index, _ = match(image.nuclei[:, :2], np.stack([here.y, here.x], 1), GATE_PX)
        ratios.append(np.log(here.extra["radius_px"][index] / image.nuclei[true, 2]))
    ratio = np.concatenate(ratios)
    middle = float(np.median(ratio))
    return {"radius_ratio": float(np.exp(middle)), "radius_error": float(np.median(np.abs(ratio - middle)))}


def score_otsu(images: Sequence[Annotated], settings: Sequence[Setting]) -> Row:
    """Return the best of what Otsu's threshold with peaks of the distance transform finds at some settings."""
    rows = [
        _score("otsu", images, [otsu_peaks(image.pixels, *each) for image in images]) | {"setting": str(each)}
        for each in settings
    ]
    return max(rows, key=lambda row: float(row["f1"])) | {"oracle": True}


def otsu_peaks(pixels: NDArray[np.uint16], factor: float, smoothing_px: float, apart_px: int) -> Floats:
    """Return the middles (N, 2) of nuclei: peaks of the smoothed distance from the edge, in what is bright."""
    image = gaussian_filter(pixels.astype(np.float32), 1.0)
    is_bright = image > factor * otsu_threshold(image)
    distance = gaussian_filter(distance_transform_edt(is_bright), smoothing_px)
    is_peak = (distance == maximum_filter(distance, 2 * apart_px + 1)) & (distance > 2) & is_bright
    labels, n = label(is_peak, np.ones((3, 3)))
    return np.array(center_of_mass(is_peak, labels, range(1, n + 1))).reshape(-1, 2)


def otsu_threshold(image: NDArray[np.float32]) -> float:
    """Return the level between two classes of pixels whose means differ most (Otsu 1979), of 512."""
    counts, edges = np.histogram(image, 512)
    levels = (edges[1:] + edges[:-1]) / 2
    n, total = np.cumsum(counts)[:-1], np.cumsum(counts * levels)
    below, above = total[:-1] / n, (total[-1] - total[:-1]) / (counts.sum() - n)
    return float(levels[np.argmax(n * (counts.sum() - n) * (below - above) ** 2)])


def follow(image: Annotated, n_frames: int, seed: int) -> Row:
    """Return how well nuclei are followed in a movie made of an image, with all settings at their defaults."""
    movie = nuclei_movie(image.pixels, image.nuclei, n_frames, seed)
    tracks = streamtrack.track(movie.frames, engine="cells").tracks
    links = score_links(movie.truth, tracks, GATE_PX)
    row: Row = {"image": image.name, "frames": n_frames, "nuclei": movie.truth["particle"].nunique()}
    row |= {"divisions": movie.n_divisions, "kept": links.recall, "right": links.precision}
    return row | dict(score_ptc(movie.truth, tracks, gate_px=GATE_PX).as_dict())


def table_of(title: str, rows: Sequence[Row]) -> Table:
    """Return a table of rows, all with the keys of one of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*names, box=SIMPLE_HEAD, title=title)
    for row in rows:
        table.add_row(*(_in_short(row.get(name)) for name in names))
    return table


def _in_short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
