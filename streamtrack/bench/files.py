"""What ``streamtrack bench`` leaves in its folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtrack.bench.figure import draw
from streamtrack.bench.record import Measured
from streamtrack.sinks.files import replacing, sink_errors

NAMES = JSON_NAME, STAMPS_NAME, FIGURE_NAME = "bench.json", "bench.npz", "bench.png"


def write(measured: Measured, folder: Path) -> None:
    """Write the record, the stamps of every frame and the picture; raises SinkError.

    ``bench.npz`` has, for each measurement ``LEVEL, MODE``, the arrays ``LEVEL, MODE, index`` and ``..., stamps_ns`` of
    `streamtrack.bench.summary.Timeline`.
    """
    arrays: dict[str, NDArray[np.int64]] = {}
    for name, line in measured.timelines.items():
        arrays |= {f"{name}, index": line.index, f"{name}, stamps_ns": line.stamps_ns}
    text = json.dumps(measured.record, indent=1, default=str, allow_nan=False) + "\n"
    with _complete(folder / JSON_NAME) as path:
        path.write_text(text, encoding="utf-8", newline="\n")
    with _complete(folder / STAMPS_NAME) as path:
        np.savez_compressed(path, allow_pickle=False, **arrays)
    with _complete(folder / FIGURE_NAME) as path:
        draw(measured, path)


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """Give a temporary path, moved to ``path`` when all is written; raises SinkError."""
    with sink_errors(path), replacing(path) as partial:
        yield partial
