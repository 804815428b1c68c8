"""How right detectors are on movies as anyone's camera gives them, which are not the Particle Tracking Challenge's.

``python -m benchmarks.everyday [--quick] [--out FILE.json] [--methods a,b,...]``

`benchmarks.detection.everyday_scenes` has the scenes: three frames each, the last scored, at 5 px. Ours have the one
threshold of their weights, ``spot_size`` where spots are 7 px wide or more, and ``polarity`` where they are dark.
``log``, the Laplacian of a Gaussian of the spots' own width, and ``trackpy`` with the diameter that fits are told width
and polarity, too, and have an ORACLE threshold: the one with the highest F1 on the very scenes that are scored, and
where there is nothing, the one that is best for even light and SNR 4. What is found at a particle that does not count
is not false.
Families are shared out among all cores, one thread each: this is no timing.
"""

import argparse
from collections.abc import Callable, Sequence
from math import isnan
from typing import Any

import numpy as np
import trackpy
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_laplace

from benchmarks.detection.detectors import Candidates, peaks
from benchmarks.detection.everyday_scenes import FAMILIES, Family, Scene, plain
from benchmarks.detection.scoring import OURS, Ours, best_threshold, default_threshold, score_frames
from benchmarks.shared.pool import shared_out
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions

SEED = 771_000
SCENES, QUICK_SCENES = 20, 1
SIGMA_PX = 1.3
FWHM = 2.355
GATE_PX = 5.0

Row = dict[str, Any]
Find = Callable[[NDArray[np.uint16]], Candidates]


def main() -> None:
    """Run the benchmark, print its table and write its record."""
    arguments = _parse()
    rows = run(arguments.methods, QUICK_SCENES if arguments.quick else SCENES)
    record: Record = {"command": command_line("everyday"), "machine": machine(), "versions": versions()}
    record |= {"thresholds": "ours: the one of the weights; peers: an oracle per family", "gate_px": GATE_PX}
    record |= {"seed": SEED, "rows": rows}
    Console(width=120).print(table_of(rows))
    write(record, arguments.out)


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__, "one scene a family")
    known = [*METHODS, *PEERS]
    parser.add_argument(
        "--methods", type=lambda text: text.split(","), default=known, help=f"some of {','.join(known)}"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.methods) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(known)})")
    return arguments


def run(methods: Sequence[str], scenes: int) -> list[Row]:
    """Return the rows of families and methods, in order."""
    return shared_out("everyday", [(score, (each, family, scenes)) for family in FAMILIES for each in methods])


def score(method: str, family: str, n_scenes: int) -> Row:
    """Return precision, recall, F1 and RMSE of a method on scenes of a family, and how many are false in a frame."""
    kind, seed = FAMILIES[family], SEED + list(FAMILIES).index(family)
    scenes = [kind.make(np.random.default_rng((seed, k))) for k in range(min(n_scenes, kind.most_scenes))]
    find = _engine(METHODS[method], kind) if method in METHODS else PEERS[method](kind)
    candidates = [find(scene.frames) for scene in scenes]
    threshold = default_threshold(method) if method in METHODS else _oracle(find, scenes, candidates)
    found = [each.above(threshold) for each in candidates]
    wanted = score_frames([scene.truth for scene in scenes], found, GATE_PX)
    spurious = score_frames([scene.all for scene in scenes], found, GATE_PX).fp
    n_found = sum(map(len, found))
    precision = (n_found - spurious) / n_found if n_found else 1.0
    row: Row = {"method": method, "family": family, "scenes": len(scenes), "threshold": threshold}
    row |= {"false_per_frame": spurious / len(scenes), "precision": precision, "recall": wanted.recall}
    row |= {"f1": None, "rmse_px": wanted.rmse_px}
    if wanted.tp + wanted.fn:
        row["f1"] = 2 * precision * wanted.recall / max(precision + wanted.recall, 1e-9)
    return {name: None if isinstance(value, float) and isnan(value) else value for name, value in row.items()}


def _oracle(find: Find, scenes: Sequence[Scene], candidates: Sequence[Candidates]) -> float:
    if not any(len(scene.all) for scene in scenes):
        scenes = [plain(np.random.default_rng((SEED, k)), 4.0) for k in range(3)]
        candidates = [find(scene.frames) for scene in scenes]
    return best_threshold([scene.all for scene in scenes], candidates, GATE_PX)


def _engine(ours: Ours, kind: Family) -> Find:
    """Return what finds particles in the last of three frames with one of our engines, told what one would tell it."""
    settings: dict[str, Any] = {"kind": ours.kind, "weights": ours.weights, "threads": 1}
    if kind.sigma_px is not None and kind.sigma_px >= 3.5:
        settings["spot_size"] = kind.sigma_px * FWHM
    if kind.is_dark:
        settings["polarity"] = "dark"
    engine: Engine = build("engines", PluginConfig.model_validate(settings)).instance

    def find(frames: NDArray[np.uint16]) -> Candidates:
        engine.prepare(frames.shape[1:], frames.dtype.name)
        for pixels in frames[-1 - ours.n_before :]:
            found, _ = engine.detect(pixels, denoise=False)
        return Candidates.strongest(np.stack([found.y, found.x], axis=1), found.score)

    return find


def _log(kind: Family) -> Find:
    sigma, sign = kind.sigma_px or SIGMA_PX, 1.0 if kind.is_dark else -1.0

    def find(frames: NDArray[np.uint16]) -> Candidates:
        strength = sign * gaussian_laplace(frames[-1].astype(np.float32), sigma)
        return peaks(strength, max(1, round(sigma)))

    return find


def _trackpy(kind: Family) -> Find:
    sigma = kind.sigma_px or SIGMA_PX
    diameter = 2 * round((2.3 if sigma < 2 else 1.8) * sigma) + 1  # these settings did best on scenes of other seeds

    def find(frames: NDArray[np.uint16]) -> Candidates:
        image = frames[-1].max() - frames[-1] if kind.is_dark else frames[-1]
        found = trackpy.locate(image, diameter, separation=1.5 * sigma, noise_size=sigma / 1.3, engine="numba")
        return Candidates.strongest(found[["y", "x"]].to_numpy(), found["mass"].to_numpy())

    return find


METHODS = {name: ours for name, ours in OURS.items() if name != "denodet_first_frame"}
PEERS: dict[str, Callable[[Family], Find]] = {"log": _log, "trackpy": _trackpy}


def table_of(rows: Sequence[Row]) -> Table:
    """Return a table, methods across: F1 and RMSE, or false detections a frame where there is nothing."""
    cell = {(row["method"], row["family"]): row for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    table = Table("everyday: F1, RMSE px; or false a frame", *methods, box=SIMPLE_HEAD)
    for family in dict.fromkeys(row["family"] for row in rows):
        table.add_row(family, *(_in_short(cell[method, family]) for method in methods))
    return table


def _in_short(row: Row) -> str:
    if row["f1"] is None:
        return f"{row['false_per_frame']:.2f} false"
    return f"{row['f1']:.3f}" + ("" if row["rmse_px"] is None else f", {row['rmse_px']:.3f}")


if __name__ == "__main__":
    main()
