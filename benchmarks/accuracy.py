"""Detection quality of the shipped weights on simulated movies, and what they see where nothing is.

``python -m benchmarks.accuracy [--quick] [--out FILE.json]``

Movies of the Particle Tracking Challenge's model, 512x512, one fixed threshold (that of the weights), seeds that no
training and no choice of threshold has seen. Per cell: F1 at 5 px and 2 px and RMSE at 5 px, all frames pooled. Frames
are taken far apart, so that they hardly share particles.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from streamtrack.config import PluginConfig
from streamtrack.metrics.detection import score_detections
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.simulation import Movie, MovieSettings

DENSITIES = {"vesicle": 500.0, "receptor": 500.0, "microtubule": 400.0}
SNRS = (1.0, 2.0, 4.0, 7.0)
EMPTY_BACKGROUNDS = (4.0, 16.0, 64.0, 256.0)
EMPTY_PER_FRAME = 5
"""False detections are few: so many times as many empty frames are needed to count them."""
SEED = 770_000
SPACING_FRAMES = 10


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="2 frames a cell instead of 20 (10 empty ones instead of 100), SNR 2 and 4 only",
    )
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    n_frames, snrs = (2, (2.0, 4.0)) if arguments.quick else (20, SNRS)
    engine: Engine = build("engines", PluginConfig(kind="denodet")).instance
    cells = [cell(engine, scenario, snr, n_frames) for scenario in DENSITIES for snr in snrs]
    empty = {f"{each:g}": false_per_empty_frame(engine, each, EMPTY_PER_FRAME * n_frames) for each in EMPTY_BACKGROUNDS}
    print(f"detections per empty frame, by background in electrons: {empty}")
    if arguments.out:
        record = {
            "command": " ".join(["python -m benchmarks.accuracy", *sys.argv[1:]]),
            "machine": machine(),
            "versions": versions(),
        }
        record |= {"engine": dict(engine.info), "cells": cells, "false_per_empty_frame": empty}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def cell(engine: Engine, scenario: str, snr: float, n_frames: int) -> dict[str, Any]:
    """Score one scenario at one SNR, and print the line."""
    settings = MovieSettings(
        scenario=scenario,  # type: ignore[arg-type]
        snr=snr,
        density=DENSITIES[scenario],
        frames=max(n_frames * SPACING_FRAMES, 4),
        seed=SEED + int(10 * snr),
    )
    movie = Movie(settings)
    indices = range(0, n_frames * SPACING_FRAMES, SPACING_FRAMES)
    engine.prepare((settings.height_px, settings.width_px), movie.dtype.name)
    tables = []
    for index in indices:
        found, _ = engine.detect(movie.noisy(index), denoise=False)
        tables.append(pd.DataFrame({"frame": index, "y": found.y, "x": found.x}))
    truth = movie.tracks[movie.tracks["frame"].isin(indices)]
    wide, narrow = score_detections(truth, pd.concat(tables), gates_px=(5.0, 2.0))
    row = {"scenario": scenario, "snr": snr, "density": settings.density, "frames": n_frames}
    row |= {"f1_5px": wide.f1, "f1_2px": narrow.f1, "rmse_px": wide.rmse_px}
    row |= {"precision_5px": wide.precision, "recall_5px": wide.recall}
    print("  ".join(f"{name} {value:.3f}" if isinstance(value, float) else str(value) for name, value in row.items()))
    return row


def false_per_empty_frame(engine: Engine, background_e: float, n_frames: int) -> float:
    """Return the mean number of detections in 512x512 frames of nothing but Poisson noise."""
    rng = np.random.default_rng([SEED, int(background_e)])
    engine.prepare((512, 512), "uint16")
    counts = [
        len(engine.detect(rng.poisson(background_e, (512, 512)).astype(np.uint16), denoise=False)[0])
        for _ in range(n_frames)
    ]
    return float(np.mean(counts))


if __name__ == "__main__":
    main()
