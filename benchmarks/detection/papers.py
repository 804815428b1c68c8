"""Detectors on the images of the papers: detectSpot (Mabaso et al.) on its types A and B, DENODET in the same table.

``python -m benchmarks.papers [--quick] [--images 10] [--engines a,b,...] [--out FILE.json]``

Sets are images of one kind and SNR, drawn from seeds of no training (`streamtrack.simulation.spot_images`: 256x256 px,
50 spots); scored at 5 px, one to one, all images of a set together. Figures of a group are means over its sets, as in
the paper's Tables 2 to 4, whose figures stand beside them (``printed``). Engines have one threshold: that of their
weights. The emulations count as long as ``denodet`` scores on them what it did when they were set: see ``EMULATED``.

The last rows are CPU time, of one thread: a frame of 512x512 px in ONNX Runtime; and detectSpot in torch as its paper
runs it, window after window at every pixel, over what it takes as one convolution.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.detection.scoring import score_frames
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.simulation.spot_images import IMAGE_PX, Ground, spot_image
from streamtrack_engines.networks.detectspot import PATCH_PX, DetectSpot, patch_form

SEED = 771_036
IMAGES, QUICK_IMAGES = 10, 1
SNR = (10.0, 8.0, 6.0, 4.0, 2.0, 1.0)
FRAME_PX = 512
PATCHES = 256

Example = tuple[NDArray[Any], NDArray[np.float64]]
"""Image (H, W) and y, x of its spots, (N, 2) px."""
Family = Callable[[int, int], Iterable[Example]]
"""From a seed and a number to so many images."""
Row = dict[str, Any]


class Group(NamedTuple):
    """Sets of images that a paper has one figure for.

    Attributes
    ----------
    families
        The sets, by name.
    gate_px
        Within which a detection can be a spot's.
    printed
        The paper's own figures.
    """

    families: Mapping[str, Family]
    gate_px: float
    printed: Mapping[str, float]


def spot_images(ground: Ground, snr: float, seed: int, n: int) -> Iterable[Example]:
    """Yield images of detectSpot's types."""
    for number in range(n):
        yield spot_image(np.random.default_rng((seed, number)), ground, snr)


def _type(ground: Ground, f1: float, precision: float, recall: float) -> Group:
    families = {f"SNR {snr:g}": partial(spot_images, ground, snr) for snr in SNR}
    return Group(families, 5.0, {"f1": f1, "precision": precision, "recall": recall})


GROUPS: Mapping[str, Group] = {
    "detectSpot A": _type("A", 0.782, 0.836, 0.740),
    "detectSpot B1": _type("B1", 0.675, 0.803, 0.614),
    "detectSpot B2": _type("B2", 0.721, 0.780, 0.675),
}
EMULATED = {"detectSpot A": 0.913, "detectSpot B1": 0.792, "detectSpot B2": 0.792}
"""F1 of DENODET at threshold .4 that sets which are as hard as those first looked at have, within .02."""
ENGINES: Mapping[str, Mapping[str, Any]] = {
    "detectspot": {"kind": "detectspot"},
    "denodet": {"kind": "denodet", "weights": "denodet", "threshold": 0.4},
}


def main() -> None:
    """Run the benchmark, print its tables and write its record."""
    arguments = _parse()
    rows = [
        score(engine, group, QUICK_IMAGES if arguments.quick else arguments.images)
        for group in GROUPS
        for engine in arguments.engines
    ]
    repeats = 1 if arguments.quick else 3
    times = [cpu_time(engine, repeats) for engine in arguments.engines]
    record: Record = {"command": command_line("papers"), "machine": machine(), "versions": versions(), "seed": SEED}
    record |= {"emulated": EMULATED, "rows": rows, "cpu_ms_512": times, "window": window_over_dense(repeats)}
    console = Console(width=120)
    console.print(table_of(rows))
    for each in times:
        console.print(f"{each['engine']}: {each['cpu_ms']:.0f} ms CPU time for {FRAME_PX}x{FRAME_PX} px")
    console.print(
        "every window by itself: {times:.0f} times the CPU time of one convolution".format(**record["window"])
    )
    write(record, arguments.out)


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__, "one image a set")
    parser.add_argument("--images", type=int, default=IMAGES, help="in each set")
    parser.add_argument("--engines", type=lambda text: text.split(","), default=list(ENGINES), help=",".join(ENGINES))
    arguments = parser.parse_args()
    if unknown := set(arguments.engines) - set(ENGINES):
        parser.error(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(ENGINES)})")
    return arguments


def score(engine: str, group: str, n: int) -> Row:
    """Return the figures of an engine for a group, and for each of its sets."""
    families, gate_px, printed = GROUPS[group]
    with closing(_engine(engine)) as finder:
        sets = [_score_set(finder, make(SEED + number, n), gate_px) for number, make in enumerate(families.values())]
    figures = {name: float(np.mean([each[name] for each in sets])) for name in ("f1", "precision", "recall")}
    row: Row = {"group": group, "engine": engine, "images": n, "gate_px": gate_px, **figures}
    return row | {"printed": dict(printed), "sets": dict(zip(families, sets, strict=True))}


def _score_set(engine: Engine, examples: Iterable[Example], gate_px: float) -> Row:
    found, truth = [], []
    for pixels, spots in examples:
        engine.prepare((pixels.shape[0], pixels.shape[1]), pixels.dtype.name)  # forgets the image before
        detections, _ = engine.detect(pixels, denoise=False)
        found.append(np.stack([detections.y, detections.x], 1).astype(np.float64))
        truth.append(spots)
    scored = score_frames(truth, found, gate_px)
    return {name: float(getattr(scored, name)) for name in ("f1", "precision", "recall", "rmse_px")}


def _engine(name: str) -> Engine:
    settings = {**ENGINES[name], "threads": 1, "backend": "onnxruntime"}
    engine: Engine = build("engines", PluginConfig.model_validate(settings)).instance
    return engine


def cpu_time(name: str, repeats: int) -> Row:
    """Return the least CPU time that an engine takes for a frame with as many spots as those of the papers."""
    pixels, _ = spot_image(np.random.default_rng(SEED), "A", 6.0, size_px=FRAME_PX)
    engine = _engine(name)
    engine.prepare((FRAME_PX, FRAME_PX), pixels.dtype.name)
    least = min(_cpu_s(lambda: engine.detect(pixels, denoise=False)) for _ in range(repeats))
    engine.close()
    return {"engine": name, "cpu_ms": 1000 * least}


@torch.inference_mode()
def window_over_dense(repeats: int) -> Row:
    """Return how many times the CPU time detectSpot takes window by window, at every pixel of a 256x256 px image.

    Of the windows some hundreds are timed. The weights do not matter.
    """
    torch.set_num_threads(1)
    network = DetectSpot(head_bias=(0.0, 0.0)).eval()
    alone = patch_form(network)
    image, patches = torch.randn(1, 1, IMAGE_PX, IMAGE_PX), torch.randn(PATCHES, 1, PATCH_PX, PATCH_PX)
    pairs = [(_cpu_s(lambda: alone(patches)), _cpu_s(lambda: network.find(image))) for _ in range(repeats)]
    windows_s, dense_s = (min(each) for each in zip(*pairs, strict=True))
    windows_s *= IMAGE_PX**2 / PATCHES
    return {"windows_s": windows_s, "dense_s": dense_s, "times": windows_s / dense_s}


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def table_of(rows: Sequence[Row]) -> Table:
    """Return a table: F1 of each set, then means beside what the paper prints."""
    sets = list(dict.fromkeys(name for row in rows for name in row["sets"]))
    table = Table("F1", "engine", *sets, "mean", "printed", "precision", "recall", box=SIMPLE_HEAD)
    for row in rows:
        cells = [f"{row['sets'][name]['f1']:.3f}" if name in row["sets"] else "" for name in sets]
        means = (row["f1"], row["printed"]["f1"], row["precision"], row["recall"])
        table.add_row(row["group"], row["engine"], *cells, *(f"{mean:.3f}" for mean in means))
    return table


if __name__ == "__main__":
    main()
