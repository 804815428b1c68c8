"""Does half precision find the same particles? The shipped weights in float32 and in half precision, side by side.

``python -m benchmarks.half_precision [--quick] [--out benchmarks/results/half_precision.json]``

Simulated frames of three scenes, four SNR and three densities, of seeds that no training has seen. Half precision is
computed on the CPU as a GPU does it: each operation's result rounded to half precision, sums in float32.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, product
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.report import machine, versions
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.simulation.scenarios import MIN_TRACK_FRAMES
from streamtrack_engines.agreement import Frames, Rows, agreement, as_on_a_gpu, in_torch
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.deploy import from_onnx
from streamtrack_engines.weights import half_precision_of, read_weights

WEIGHTS = "denodet"
SEED = 771_000
SCENARIOS = ("vesicle", "receptor", "microtubule")
SNRS = (1.0, 2.0, 4.0, 7.0)
DENSITIES = (100.0, 500.0, 1000.0)
FRAMES = 6
SIZE_PX = 512
GOAL_F1, GOAL_PX = 0.999, 0.01


def main() -> None:
    """Run the benchmark."""
    args = command_parser(__doc__, "one frame a cell, 128x128 px").parse_args()
    record = run(*((1, 128) if args.quick else (FRAMES, SIZE_PX)))
    print_table(record)
    write(record, args.out)


def run(n_frames: int, size_px: int) -> dict[str, Any]:
    """Return the record: agreement at each SNR, and of all frames together."""
    half = half_precision_of(WEIGHTS)
    assert half is not None
    shipped = read_deploy_file(WEIGHTS)
    threshold = shipped.metadata.threshold
    finders = in_torch(from_onnx(shipped.content)), in_torch(as_on_a_gpu(from_onnx(read_weights(half))))
    tables: dict[float, list[tuple[Rows, Rows]]] = {snr: [] for snr in SNRS}
    for snr, frames in track(list(movies(n_frames, size_px)), description="Frames"):
        exact, rounded = (find(frames) for find in finders)
        tables[snr].append((exact, rounded))
    rows = {f"SNR {snr:g}": agreement(pairs, threshold) for snr, pairs in tables.items()}
    rows["all"] = agreement(chain(*tables.values()), threshold)
    return {
        "command": command_line("half_precision"),
        "machine": machine(),
        "versions": versions(),
        "size_px": size_px,
        "threshold": threshold,
        "rows": {name: asdict(row) for name, row in rows.items()},
    }


def movies(n_frames: int, size_px: int) -> Iterator[tuple[float, Frames]]:
    """Yield SNR and frames (3, H, W), of every cell as many as asked for."""
    for seed, (scenario, snr, density) in enumerate(product(SCENARIOS, SNRS, DENSITIES), SEED):
        n_needed = max(n_frames + 2, MIN_TRACK_FRAMES)
        movie = Movie(MovieSettings(scenario, snr, density, n_needed, size_px, size_px, seed=seed))
        frames = np.stack([movie.noisy(i) for i in range(n_frames + 2)])
        for first in range(n_frames):
            yield snr, frames[first : first + 3]


def print_table(record: dict[str, Any]) -> None:
    """Print the record, and whether the goals are met."""
    table = Table("", "frames", "found", "F1", "median px", "max px", "max score", title="half precision and float32")
    for name, row in record["rows"].items():
        table.add_row(name, *(str(value) if isinstance(value, int) else f"{value:.5f}" for value in row.values()))
    Console().print(table)
    total = record["rows"]["all"]
    met = total["f1"] >= GOAL_F1 and total["position_median_px"] <= GOAL_PX
    print(f"F1 >= {GOAL_F1} and median distance <= {GOAL_PX} px: {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
