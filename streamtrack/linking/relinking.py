"""Tracks of a finished run, linked anew by the online filter that knows the whole movie from the start.

The online linker learns what it links by: how far particles step, how fast they run, how often they are missed and for
how long they go dark. Its first frames are linked by guesses. Here it goes through the movie, and then through it again
with what it learnt, revisions included: the same filter, the same likelihood, and no guess. A min-cost flow over all
frames (``benchmarks.linking.min_cost_flow``) knows first-order motion only and loses to that wherever particles run,
blink or are moved.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.linking.imm import ImmLinker
from streamtrack.types import Detections

SCORE, SIGMA_PX = 0.95, 0.3
"""Taken where the table does not say."""

PASSES = 2
"""A third learns nothing that the second did not know."""

PROBABLE = 0.5
"""Tracks of which no detection makes them more probable than this are false."""

OF_OLD_TRACKS = ("existence", "vy", "vx", "diffusion", "directed")
"""Columns of the tables that `streamtrack track` writes that say something of the tracks as they were."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def relink(table: pd.DataFrame, shape: tuple[int, int] | None = None) -> pd.DataFrame:
    """Link the detections of a table anew.

    Parameters
    ----------
    table
        Columns ``frame, y, x`` (px) and, if known, ``score`` and ``sigma``, as in ``detections.parquet`` or
        ``tracks.parquet``. Frames of which it has no row are taken for lost.
    shape
        Of the image, (H, W) px; by default that of the rectangle around all positions.

    Returns
    -------
    pandas.DataFrame
        The rows on tracks, sorted by frame, then ``particle``, with the other columns as they were, but for those that
        tell of the old tracks, which are left out. ``attrs`` has ``step_px``, the step per frame and axis (rms).

    Raises
    ------
    ConfigError
        If a column is missing, or a number is not finite.
    """
    missing = [name for name in ("frame", "y", "x") if name not in table.columns]
    if missing:
        raise ConfigError(f"the table lacks the column(s) {', '.join(missing)}; it has {', '.join(table.columns)}")
    columns = np.stack(
        np.broadcast_arrays(
            *(table[name] for name in ("frame", "y", "x")), table.get("score", SCORE), table.get("sigma", SIGMA_PX)
        )
    ).astype(np.float64)
    if not np.isfinite(columns).all():
        raise ConfigError("a frame, position, score or sigma is not finite; drop such rows before linking")
    particle = _link(columns, shape) if len(table) else np.empty(0, np.int64)
    rows = table.drop(columns=["particle", *OF_OLD_TRACKS], errors="ignore")
    rows.insert(1, "particle", particle)
    rows = rows[rows["particle"] >= 0].sort_values(["frame", "particle"], ignore_index=True)
    rows.attrs = {**table.attrs, "step_px": _step_px(columns, particle)}
    return rows


def _step_px(columns: Floats, particle: Ints) -> float:
    """Return the root mean square step per frame and axis, the errors of the positions taken off; 0 without links."""
    order = np.lexsort((columns[0], particle))
    frame, y, x, _, sigma = columns[:, order]
    linked = (np.diff(particle[order]) == 0) & (particle[order][1:] >= 0)
    squares = 0.5 * (np.diff(y) ** 2 + np.diff(x) ** 2) - sigma[1:] ** 2 - sigma[:-1] ** 2
    return float(np.sqrt(max((squares / np.diff(frame).clip(1))[linked].mean(), 0.0))) if linked.any() else 0.0


def _link(columns: Floats, shape: tuple[int, int] | None) -> Ints:
    """Return the track of each row of the columns frame, y, x, score, sigma, of shape (5, N)."""
    order = np.argsort(columns[0], kind="stable")
    frame, sorted_columns = columns[0, order].astype(np.int64), columns[1:, order]
    if shape is None:
        corner = np.floor(sorted_columns[:2].min(axis=1, initial=0.0))
        height, width = (np.ceil(sorted_columns[:2].max(axis=1, initial=0.0)) - corner + 1).astype(int).tolist()
        sorted_columns[:2] -= corner[:, None]
        shape = height, width
    linker = ImmLinker()
    linker.prepare(shape)
    for _ in range(PASSES - 1):
        _run(linker, frame, sorted_columns)
        linker.begin_again()
    particle, existence = _run(linker, frame, sorted_columns)
    found = np.empty(len(order), np.int64)
    found[order] = _number(particle, existence)
    return found


def _run(linker: ImmLinker, frame: Ints, columns: Floats) -> tuple[Ints, Floats]:
    """Link all rows, sorted by frame; return the track of each and its existence, after all revisions."""
    particle, existence = np.full(len(frame), -1), np.zeros(len(frame))
    indices, starts = np.unique(frame, return_index=True)
    start_of = dict(zip(indices.tolist(), starts.tolist(), strict=True))
    for index, rows in zip(indices.tolist(), np.split(columns.astype(np.float32), starts[1:], axis=1), strict=True):
        y, x, score, sigma = rows
        update = linker.update(Detections(y, x, score, np.ones_like(y), sigma), index, float(index))
        now = slice(start_of[index], start_of[index] + len(y))
        particle[now], existence[now] = update.particle, update.existence
        revised = update.revised
        places = [start_of[each] for each in revised.frame_index.tolist()] + revised.detection
        places = places.astype(np.int64)
        particle[places], existence[places] = revised.particle, revised.existence
    return particle, existence


def _number(particle: Ints, existence: Floats) -> Ints:
    """Return tracks numbered in the order in which they begin; -1 for those that are more probably false."""
    best = np.zeros(particle.max(initial=-1) + 1)
    np.maximum.at(best, particle[particle >= 0], existence[particle >= 0])
    real = (particle >= 0) & (best[particle] > PROBABLE if len(best) else False)
    found = np.full(len(particle), -1, np.int64)
    found[real] = pd.factorize(particle[real])[0]
    return found
