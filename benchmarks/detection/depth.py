"""How high are particles behind a cylindrical lens? The engine's z beside the Cramer-Rao bound.

``python -m benchmarks.depth [--quick] [--frames 6] [--out FILE.json]``

Frames of 512x512 px, of particles at any height within 500 nm of the focus, as the standard curve shows them
(`streamtrack.psf.STANDARD`), with shot noise. SNR is A / sqrt(A + background) with the brightest pixel A at the
particle's own height. The engine's curve is not the one that draws them: it is measured by the code of ``streamtrack
calibrate psf`` in a simulated stack of beads. Isolated particles are at least 28 px from each other; rows of a density
(per 512x512 px) are anywhere. Columns: ``recall``, of what is there, matched one to one within 3 px; ``measured``, the
share of the matched that have a height; errors of these, root mean square, and over the bound, which is that of the
least errors that any estimator can have for a particle that lies alone, at the same heights; ``error_in_sigmas``, over
the error that was said: 1 where that is true; ``outliers``, more than 5 of these off.
"""

import argparse
import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.calibration.psf import measure_psf
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine
from streamtrack.psf import STANDARD, AstigmaticPsf
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.simulation.astigmatic import BACKGROUND_E, add_astigmatic_spots, bead_stack, depth_frame
from streamtrack.simulation.render import amplitude_from_snr

SEED = 390_117
SIZE_PX = 512
SNRS, QUICK_SNRS = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0), (4.0, 10.0)
DENSITIES, QUICK_DENSITIES = (100, 250, 500), (250,)
DENSE_SNR = 6.0
FARTHEST_UM = 0.5
APART_PX = 36
GATE_PX = 3.0
OUTLIER_SIGMAS = 5.0
POSES = 300
STEP = 0.02
"""Of y, x (px) and z (um), for slopes of the bound."""

Floats = NDArray[np.float64]
Row = dict[str, Any]


def main() -> None:
    """Run the benchmark, print its table and write its record."""
    arguments = _parse()
    frames = 1 if arguments.quick else arguments.frames
    psf = calibrated()
    cases = [(snr, None) for snr in (QUICK_SNRS if arguments.quick else SNRS)]
    cases += [(DENSE_SNR, density) for density in (QUICK_DENSITIES if arguments.quick else DENSITIES)]
    with tempfile.TemporaryDirectory() as folder, closing(_engine(psf, Path(folder))) as engine:
        engine.prepare((SIZE_PX, SIZE_PX), "uint16")
        rows = [score(engine, snr, density, frames) for snr, density in cases]
    record: Record = {"command": command_line("depth"), "machine": machine(), "versions": versions(), "seed": SEED}
    record |= {"psf": psf.model_dump(), "truth": STANDARD.model_dump(), "rows": rows}
    Console(width=140).print(table_of(rows))
    write(record, arguments.out)


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__, "one frame for each of some rows")
    parser.add_argument("--frames", type=int, default=6, help="of each row")
    return parser.parse_args()


def calibrated() -> AstigmaticPsf:
    """Return the standard curve as a stack of beads shows it."""
    planes_um = np.arange(-0.9, 0.901, 0.05)
    return measure_psf(bead_stack(np.random.default_rng(SEED), planes_um), 0.05).psf


def _engine(psf: AstigmaticPsf, folder: Path) -> Engine:
    path = folder / "psf.toml"
    path.write_text(psf.toml(), encoding="utf-8")
    settings = {"kind": "denodet", "psf": str(path), "threads": 1, "backend": "onnxruntime"}
    engine: Engine = build("engines", PluginConfig.model_validate(settings)).instance
    return engine


def particles(rng: np.random.Generator, density: int | None) -> Floats:
    """Return y, x, z of particles, shape (N, 3): on a loose lattice, or anywhere."""
    if density is None:
        middle = np.arange(APART_PX / 2, SIZE_PX - APART_PX / 2 + 1, APART_PX)
        places = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
        places = places + rng.uniform(-4, 4, places.shape)
    else:
        places = rng.uniform(0, SIZE_PX - 1, (density, 2))
    return np.column_stack((places, rng.uniform(-FARTHEST_UM, FARTHEST_UM, len(places))))


def score(engine: Engine, snr: float, density: int | None, frames: int) -> Row:
    """Return the figures of one SNR."""
    n, matched, n_found, took = 0, [], 0, 0.0
    for number in range(frames):
        rng = np.random.default_rng((SEED, int(10 * snr), density or 0, number))
        truth = particles(rng, density)
        pixels = depth_frame(rng, *truth.T, snr, (SIZE_PX, SIZE_PX))
        engine.reset()
        begun = time.process_time()
        found, _ = engine.detect(pixels, denoise=False)
        took += time.process_time() - begun
        places = np.stack([found.y, found.x, found.extra["z_um"], found.sigma, found.extra["sigma_z_um"]], 1)
        pairs = _pairs(truth, places)
        matched.append(np.hstack((truth[pairs[0]], places[pairs[1]])))
        n, n_found = n + len(truth), n_found + len(found)
    return {"snr": snr, "density": density, "particles": n, **_figures(np.concatenate(matched), snr, n, n_found)} | {
        "cpu_ms": 1e3 * took / frames
    }


def _pairs(truth: Floats, found: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which belong together, one to one."""
    away = np.hypot(truth[:, None, 0] - found[:, 0], truth[:, None, 1] - found[:, 1])
    rows, columns = linear_sum_assignment(np.minimum(away, GATE_PX))
    near = away[rows, columns] < GATE_PX
    return rows[near], columns[near]


def _figures(matched: Floats, snr: float, n: int, n_found: int) -> Row:
    """Return what pairs (M, 8) of truth y, x, z and detections y, x, z, sigma, sigma_z say."""
    measured = matched[np.isfinite(matched[:, 5])]
    place, height = measured[:, 3:5] - measured[:, :2], measured[:, 5] - measured[:, 2]
    bound_px, bound_um = bounds(snr)
    rmse_um, rmse_px = float(np.sqrt(np.mean(height**2))), float(np.sqrt(np.mean(place**2) * 2))
    in_sigmas = height / measured[:, 7]
    return {
        "recall": len(matched) / n,
        "precision": len(matched) / max(n_found, 1),
        "measured": len(measured) / max(len(matched), 1),
        "rmse_z_nm": 1e3 * rmse_um,
        "bound_z_nm": 1e3 * bound_um,
        "rmse_over_bound": rmse_um / bound_um,
        "median_over_bound": float(np.median(np.abs(height)) / 0.6745 / bound_um),
        "bias_z_nm": 1e3 * float(height.mean()),
        "rmse_px": rmse_px,
        "rmse_px_over_bound": rmse_px / bound_px,
        "error_in_sigmas": float(np.sqrt(np.mean(in_sigmas**2))),
        "outliers": float(np.mean(np.abs(in_sigmas) > OUTLIER_SIGMAS)),
    }


@cache
def bounds(snr: float) -> tuple[float, float]:
    """Return the least root mean squared error of place (px, y and x together) and height (um) of a particle alone.

    Light and ground are unknown to the estimator; place in the pixel and height are uniform.
    """
    rng = np.random.default_rng(0)
    limits = np.array([0.5, 0.5, FARTHEST_UM])
    variances = [_variances(pose, snr) for pose in rng.uniform(-limits, limits, (POSES, 3))]
    yx, z = np.mean(variances, axis=0)
    return float(np.sqrt(yx)), float(np.sqrt(z))


def _variances(pose: Floats, snr: float) -> tuple[float, float]:
    shape, amplitude = _spot(pose), float(amplitude_from_snr(snr, BACKGROUND_E))
    slopes = [amplitude * (_spot(pose + step) - _spot(pose - step)) / (2 * STEP) for step in STEP * np.eye(3)]
    gradient = np.stack([*slopes, shape, np.ones_like(shape)]).reshape(5, -1)
    # Poisson numbers: each pixel informs by the squared slope of its mean, divided by the mean.
    variance = np.diag(np.linalg.inv(gradient / (BACKGROUND_E + amplitude * shape).ravel() @ gradient.T))
    return float(variance[0] + variance[1]), float(variance[2])


def _spot(pose: Floats) -> Floats:
    """Return the image of a particle at y, x (px from the middle of a pixel) and z."""
    image = np.zeros((33, 33), np.float32)
    y, x, z_um = (np.array([each]) for each in (16.0 + pose[0], 16.0 + pose[1], pose[2]))
    add_astigmatic_spots(image, y, x, z_um, np.ones(1), STANDARD)
    return image.astype(np.float64)


def table_of(rows: list[Row]) -> Table:
    """Return the figures as a table."""
    names = {"SNR": "snr", "density": "density", "recall": "recall", "precision": "precision", "measured": "measured"}
    names |= {"z, nm": "rmse_z_nm", "bound": "bound_z_nm", "over": "rmse_over_bound", "bias": "bias_z_nm"}
    names |= {"y, x over": "rmse_px_over_bound", "in sigmas": "error_in_sigmas", "outliers": "outliers", "ms": "cpu_ms"}
    table = Table(*names, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*("isolated" if row[key] is None else f"{row[key]:.3g}" for key in names.values()))
    return table


if __name__ == "__main__":
    main()
