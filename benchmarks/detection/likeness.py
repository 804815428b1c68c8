"""Whether ``streamtrack train --like`` measures a movie's camera and particles rightly, when nobody tells it anything.

``python -m benchmarks.likeness [--quick] [--out FILE.json] [--seeds N] [--train STEPS]``

Movies of 120 frames of 192x192 px through simulated cameras whose gain, offset and read noise are known, with
diffusing Gaussian spots on a background that rises to one side; the odd one has wide spots, an EMCCD and stripes. With
``--train`` weights learn from the recipe that follows, for so many steps, and find the particles of movies of other
seeds, beside the packaged weights: F1 at 5 px, frames of three movies.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.metrics.detection import Score, match
from streamtrack.report import machine, versions
from streamtrack.simulation.camera import Camera
from streamtrack.simulation.motion import simulate_moments
from streamtrack.simulation.render import add_spots, amplitude_from_snr, round_spot
from streamtrack.simulation.scenarios import Scenario
from streamtrack_engines.engine import GraphEngine
from streamtrack_engines.export import ExportSettings, export
from streamtrack_engines.likeness.camera import Estimate
from streamtrack_engines.likeness.command import recipe_table
from streamtrack_engines.likeness.measure import MovieMeasures, measure_movie
from streamtrack_engines.training.loop import train
from streamtrack_engines.training.recipe import recipe_of

SEED, TEST_SEED = 871_000, 872_000
FRAMES, SIZE_PX = 120, 192
TESTED_MOVIES, TESTED_FRAMES = 3, 12
GATE_PX = 5.0

Row = dict[str, Any]
Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Setting:
    """A camera and what it sees; ``stripes`` are period and height of a wave."""

    gain: float = 2.2
    offset_counts: float = 100.0
    read_noise_e: float = 1.5
    electron_multiplying: bool = False
    sigma_px: float = 1.3
    background_e: float = 60.0
    slope: float = 0.3
    stripes: tuple[float, float] | None = None
    snr: float = 5.0
    density: float = 300.0
    step_px: float = 1.0


SETTINGS: Mapping[str, Setting] = {
    "plain": Setting(),
    "dim": Setting(background_e=20.0, snr=4.0),
    "wide, noisy": Setting(gain=0.8, read_noise_e=2.5, sigma_px=1.9, background_e=30.0),
    "crowded": Setting(density=700.0, snr=6.0, step_px=2.0),
    "odd": Setting(5.0, 100.0, 0.5, True, 3.2, 20.0, 0.3, (16.0, 0.33), 5.0, 80.0),
}


def movie(setting: Setting, seed: int, frames: int = FRAMES) -> tuple[NDArray[np.uint16], list[NDArray[np.float64]]]:
    """Return a movie (T, H, W) and the places of its particles (N, 2) in each frame."""
    rng = np.random.default_rng(seed)
    background = _background(rng, setting)
    camera = Camera(setting.gain, setting.offset_counts, setting.read_noise_e, setting.electron_multiplying)
    motion = Scenario(round_spot(setting.sigma_px), death=0.03, brownian_sigma_px=setting.step_px)
    moments = simulate_moments(rng, motion, setting.density, frames, (SIZE_PX, SIZE_PX))
    brightness = rng.lognormal(0, 0.25, 1 + max(int(each["particle"].max(initial=-1)) for each in moments))
    counts, truth = [], []
    for particles in moments:
        y, x, image = particles["y"], particles["x"], background.copy()
        row, column = (np.rint(each).astype(int).clip(0, SIZE_PX - 1) for each in (y, x))
        height = amplitude_from_snr(setting.snr, background[row, column]) * brightness[particles["particle"]]
        add_spots(image, y, x, height, np.zeros(len(y)), motion.profile)
        counts.append(camera.expose(rng, image))
        inside = (np.minimum(y, x) >= -0.5) & (np.maximum(y, x) < SIZE_PX - 0.5)
        truth.append(np.column_stack([y[inside], x[inside]]))
    return np.stack(counts).astype(np.uint16), truth


def _background(rng: np.random.Generator, setting: Setting) -> Image:
    across = np.arange(SIZE_PX) / SIZE_PX * 2 - 1
    heading, turned = rng.uniform(0, 2 * np.pi), rng.uniform(0, np.pi)
    light = setting.background_e * (1 + setting.slope * (np.sin(heading) * across[:, None] + np.cos(heading) * across))
    if setting.stripes is not None:
        period, height = setting.stripes
        along = (np.sin(turned) * across[:, None] + np.cos(turned) * across) * SIZE_PX / 2
        light = light * (1 + height * np.sin(2 * np.pi / period * along))
    return light.clip(0.5).astype(np.float32)


def measure(name: str, setting: Setting, seed: int) -> tuple[Row, MovieMeasures]:
    """Return what was measured of a movie, as shares of what is true; None what was said to be not known."""
    measures = measure_movie(movie(setting, seed)[0], name)
    camera, particles = measures.camera, measures.particles
    row: Row = {
        "setting": name,
        "seed": seed,
        "emccd_right": camera.electron_multiplying == setting.electron_multiplying,
    }
    truth = {"gain": setting.gain, "offset_counts": setting.offset_counts, "read_noise_e": setting.read_noise_e}
    row |= {key: _share(getattr(camera, key), true) for key, true in truth.items()}
    row["sigma_px"] = _share(particles.sigma_px, setting.sigma_px)
    row["density"] = particles.density / setting.density
    return row, measures


def _share(measured: Estimate | None, true: float) -> float | None:
    return None if measured is None else measured.value / true


def trained(setting: Setting, measures: MovieMeasures, steps: int) -> Row:
    """Return F1 of weights that learnt from the recipe for a movie, and of those that they learnt on from."""
    with tempfile.TemporaryDirectory() as scratch:
        began = _cpu_s()
        table = recipe_table(measures, None, None)
        del table["minutes"]
        outcome = train(recipe_of({**table, "steps": steps}, "the recipe"), Path(scratch) / "out", console=Console())
        weights = Path(scratch) / "weights.onnx"
        export(outcome.checkpoint, weights, ExportSettings())
        cpu_minutes = (_cpu_s() - began) / 60
        scores = {name: _f1(setting, name) for name in ("denodet", "denodet-local")}
        row: Row = {"steps": steps, "cpu_minutes": cpu_minutes, "from": table["weights"], "f1": scores}
        scores["trained"] = _f1(setting, str(weights))
        return row


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _f1(setting: Setting, weights: str) -> float:
    engine = GraphEngine(weights=weights, threads=1, backend="onnxruntime")
    n_right = n_found = n_true = 0
    for number in range(TESTED_MOVIES):
        counts, truth = movie(setting, TEST_SEED + number, TESTED_FRAMES)
        engine.prepare((SIZE_PX, SIZE_PX), "uint16")
        for frame, places in zip(counts, truth, strict=True):
            found, _ = engine.detect(frame, denoise=False)
            n_right += len(match(places, np.stack([found.y, found.x], 1), GATE_PX)[0])
            n_found, n_true = n_found + len(found), n_true + len(places)
    return Score(GATE_PX, n_right, n_found - n_right, n_true - n_right).f1


def main() -> None:
    """Run the benchmark, print its table and write its record."""
    arguments = _parse()
    rows = []
    for name in arguments.settings:
        for number in range(1 if arguments.quick else arguments.seeds):
            row, measures = measure(name, SETTINGS[name], SEED + number)
            if number == 0 and (arguments.train or arguments.quick):
                row |= trained(SETTINGS[name], measures, 2 if arguments.quick else arguments.train)
            rows.append(row)
    record: Record = {"command": command_line("likeness"), "machine": machine(), "versions": versions()}
    record |= {"gate_px": GATE_PX, "rows": rows}
    Console(width=140).print(table_of(rows))
    write(record, arguments.out)


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__, "one movie of one setting, two steps")
    parser.add_argument("--settings", type=lambda text: text.split(";"), help=f"some of {';'.join(SETTINGS)}")
    parser.add_argument("--seeds", type=int, default=3, help="movies of each setting")
    parser.add_argument("--train", type=int, default=0, help="steps of a training for the first movie of each setting")
    arguments = parser.parse_args()
    arguments.settings = arguments.settings or (list(SETTINGS)[:1] if arguments.quick else list(SETTINGS))
    if unknown := set(arguments.settings) - set(SETTINGS):
        parser.error(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(SETTINGS)})")
    return arguments


def table_of(rows: Sequence[Row]) -> Table:
    """Return a table: a row a movie; measured over true, or - where it is not known."""
    columns = ("gain", "offset_counts", "read_noise_e", "sigma_px", "density")
    table = Table("likeness: measured over true", "seed", *columns, "EMCCD told", "F1", box=SIMPLE_HEAD)
    for row in rows:
        shares = ("-" if row[name] is None else f"{row[name]:.3f}" for name in columns)
        f1 = ", ".join(f"{name} {value:.3f}" for name, value in row.get("f1", {}).items())
        table.add_row(row["setting"], str(row["seed"]), *shares, "yes" if row["emccd_right"] else "no", f1)
    return table


if __name__ == "__main__":
    main()
