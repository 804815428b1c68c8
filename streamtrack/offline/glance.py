"""What a run's tables say at a glance, beside those of other movies."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from streamtrack.errors import SinkError, foreign_errors
from streamtrack.sinks.frame_table import FRAMES
from streamtrack.sinks.page.pictures import COLOURS
from streamtrack.sinks.row_groups import batches_of
from streamtrack.sinks.summary import SUMMARIES, TRACKS, summaries

BINS = 60
"""Of a curve against time."""
PICTURE_PX = 112
"""Longer side of the picture of tracks."""
_DRAWN_ROWS = 6_000
_NAMES = ("detections", "mean_speed_um_s", "mean_speed", "diffusion_um2_s", "diffusion")


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """What the tables of a movie say.

    Attributes
    ----------
    n_tracks, length
        Confirmed tracks, and the median of their detections.
    speed, diffusion
        Medians over the tracks; NaN where nobody knows.
    length_unit, time_unit
        Of these: ``µm`` and ``s``, or ``px`` and ``frame``.
    found, followed
        Means of detections and followed tracks over equal stretches of the frames, (B,).
    picture
        The tracks in the field of view, as the address of an image.
    """

    n_tracks: int
    length: float
    speed: float
    diffusion: float
    length_unit: str
    time_unit: str
    found: NDArray[np.float64]
    followed: NDArray[np.float64]
    picture: str


def glance(folder: Path, shape: tuple[int, int]) -> Glance:
    """Return what the tables of a run of frames of that shape show; raises SinkError where they cannot be read."""
    with foreign_errors(SinkError, f"the tables in {folder} cannot be read"):
        found, followed = _curves(folder / FRAMES)
        return Glance(*_medians(folder), found, followed, _picture(folder / TRACKS, shape))


def _curves(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    names = ("detections", "tracks")
    with pq.ParquetFile(path) as file:
        n_rows, row = file.metadata.num_rows, 0
        n_bins = min(BINS, n_rows)
        sums, counts = np.zeros((2, n_bins)), np.zeros(n_bins)
        for batch in batches_of(file, names):
            at = (row + np.arange(len(batch))) * n_bins // n_rows
            for name, of in zip(names, sums, strict=True):
                of += np.bincount(at, batch.column(name).to_numpy(), n_bins)
            counts += np.bincount(at, minlength=n_bins)
            row += len(batch)
    found, followed = sums / counts
    return found, followed


def _medians(folder: Path) -> tuple[int, float, float, float, str, str]:
    """Return how many tracks there are, and the medians with their units; 4 bytes of memory a number."""
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in _NAMES}
    about: Mapping[bytes, bytes] = {}
    for table in _summaries(folder):
        about = table.schema.metadata or {}
        for name in [name for name in _NAMES if name in table.column_names]:
            parts[name].append(table[name].to_numpy().astype(np.float32))
    known = {name: np.concatenate(part) for name, part in parts.items() if part}
    in_um = "mean_speed_um_s" in known
    names = ("mean_speed_um_s", "diffusion_um2_s") if in_um else ("mean_speed", "diffusion")
    speed, diffusion = (_median(known[name]) for name in names)
    units = "µm" if in_um else "px", about.get(b"time_unit", b"frame").decode()
    return len(known["detections"]), _median(known["detections"]), speed, diffusion, *units


def _summaries(folder: Path) -> Iterator[pa.Table]:
    if not (folder / SUMMARIES[0]).is_file():
        yield from summaries(folder / TRACKS)
        return
    with pq.ParquetFile(folder / SUMMARIES[0]) as file:
        yield file.schema_arrow.empty_table()
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def _median(values: NDArray[np.float32]) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _picture(path: Path, shape: tuple[int, int]) -> str:
    """Draw the first tracks."""
    with pq.ParquetFile(path) as file:
        rows = next(file.iter_batches(_DRAWN_ROWS, columns=["particle", "y", "x"]), None)
    scale = PICTURE_PX / max(shape)
    image = Image.new("RGB", (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))), "#14171a")
    if rows is not None:
        particle, y, x = (rows.column(name).to_numpy() for name in ("particle", "y", "x"))
        _draw(ImageDraw.Draw(image), particle, y, x, scale)
    data = BytesIO()
    image.save(data, "WEBP", quality=70, method=2)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def _draw(
    drawing: ImageDraw.ImageDraw,
    particle: NDArray[np.int64],
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    scale: float,
) -> None:
    order = np.argsort(particle, kind="stable")
    places = (np.column_stack([x, y])[order] + 0.5) * scale
    particle = particle[order]
    starts = np.flatnonzero(np.diff(particle, prepend=-1))
    for number, track in zip(particle[starts].tolist(), np.split(places, starts[1:]), strict=True):
        flat = track.ravel().tolist()
        colour = COLOURS[number % len(COLOURS)]
        if len(track) > 1:
            drawing.line(flat, fill=colour)
        else:
            drawing.point(flat, fill=colour)
