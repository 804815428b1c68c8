"""Tracks of a finished run, linked anew with all that comes before and after each frame.

The online linker learns what it links by: how far particles step, how fast they run, how often they are missed and for
how long they go dark. Its first frames are linked by guesses. Here it goes through the movie, and then through it again
with what it learnt. What it linked is then reconsidered forwards and backwards, under the same likelihood
(`streamtrack.linking.sweeps`). A min-cost flow over all frames (``benchmarks.linking.min_cost_flow``) knows first-order
motion only and loses to that wherever particles run, blink or are moved.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.linking.depth import MEASURED, SMOOTHED
from streamtrack.linking.imm import ImmLinker
from streamtrack.linking.measurement import MARGIN_PX
from streamtrack.linking.merges import cut_merges
from streamtrack.linking.offspring import cut_divisions
from streamtrack.linking.records import NONE
from streamtrack.linking.sweeps import Scene, Swept, links_of, reversed_links, smoothed_depth, sweep, tracks_of
from streamtrack.types import Detections

SCORE, SIGMA_PX = 0.95, 0.3
"""Taken where the table does not say."""

ROUNDS = 2
"""Sweeps forwards and backwards; more of them change next to nothing."""

PROBABLE = 0.5
"""Tracks of which no detection makes them more probable than this are false."""

OF_OLD_TRACKS = ("existence", "vy", "vx", "diffusion", "directed")
"""Columns of the tables that `streamtrack track` writes that say something of the tracks as they were."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def relink(
    table: pd.DataFrame, shape: tuple[int, int] | None = None, *, divisions: bool = False, merges: bool = False
) -> pd.DataFrame:
    """Link the detections of a table anew.

    Parameters
    ----------
    table
        Columns ``frame, y, x`` (px) and, if known, ``score``, ``sigma`` and ``mass``, as in ``detections.parquet`` or
        ``tracks.parquet``. Frames of which it has no row are taken for lost. Columns ``z_um`` and ``sigma_z_um`` count
        where ``attrs`` has ``pixel_size_um``; NaN for what was not measured.
    shape
        Of the image, (H, W) px; by default that of the rectangle around all positions.
    divisions
        Whether particles divide, as cells do: one that is found as two ends, and the two are new tracks.
    merges
        Whether particles merge: two that become one, of the mass of both, end, and the one is a new track.

    Returns
    -------
    pandas.DataFrame
        The rows on tracks, sorted by frame, then ``particle``, with the other columns as they were, but for those that
        tell of the old tracks, which are left out. With ``divisions`` there is ``parent``, the track that a track came
        out of, with ``merges`` ``merged_into``, the one that it became with another; -1 for none. Where z counts,
        ``z_smoothed_um`` is that of the track by all that comes before and after. ``attrs`` has ``step_px``, the step
        per frame and axis (rms).

    Raises
    ------
    ConfigError
        If a column is missing, ``mass`` for merges, or a number is not finite.
    """
    missing = [name for name in ("frame", "y", "x", *(("mass",) if merges else ())) if name not in table.columns]
    if missing:
        raise ConfigError(f"the table lacks the column(s) {', '.join(missing)}; it has {', '.join(table.columns)}")
    columns = np.stack(
        np.broadcast_arrays(
            *(table[name] for name in ("frame", "y", "x")), table.get("score", SCORE), table.get("sigma", SIGMA_PX)
        )
    ).astype(np.float64)
    if not np.isfinite(columns).all():
        raise ConfigError("a frame, position, score or sigma is not finite; drop such rows before linking")
    linked = _Linked.of(columns, _others_of(table), shape, divisions=divisions, merges=merges)
    rows = table.drop(columns=["particle", "parent", "merged_into", SMOOTHED.name, *OF_OLD_TRACKS], errors="ignore")
    rows.insert(1, "particle", linked.particle)
    if divisions:
        rows["parent"] = linked.parent
    if merges:
        rows["merged_into"] = linked.merged_into
    if has_depth(table):
        rows[SMOOTHED.name] = linked.z_px * table.attrs["pixel_size_um"]
    rows = rows[rows["particle"] >= 0].sort_values(["frame", "particle"], ignore_index=True)
    rows.attrs = {**table.attrs, "step_px": _step_px(columns, linked.particle)}
    return rows


def _step_px(columns: Floats, particle: Ints) -> float:
    """Return the root mean square step per frame and axis, the errors of the positions taken off; 0 without links."""
    order = np.lexsort((columns[0], particle))
    frame, y, x, _, sigma = columns[:, order]
    linked = (np.diff(particle[order]) == 0) & (particle[order][1:] >= 0)
    squares = 0.5 * (np.diff(y) ** 2 + np.diff(x) ** 2) - sigma[1:] ** 2 - sigma[:-1] ** 2
    return float(np.sqrt(max((squares / np.diff(frame).clip(1))[linked].mean(), 0.0))) if linked.any() else 0.0


def has_depth(table: pd.DataFrame) -> bool:
    """Return whether z is known of the detections of a table, and in px."""
    return {*MEASURED} <= {*table.columns} and "pixel_size_um" in table.attrs


def _others_of(table: pd.DataFrame) -> Floats:
    """Return the mass of each row, 0 where it is not known, and z and its deviation, px, where they count: (K, N)."""
    masses = table["mass"].to_numpy(np.float64) if "mass" in table.columns else np.zeros(len(table))
    known = np.nan_to_num(masses, posinf=0.0, neginf=0.0)
    if not has_depth(table):
        return known[None]
    return np.vstack((known, table[[*MEASURED]].to_numpy(np.float64).T / table.attrs["pixel_size_um"]))


class _Linked(NamedTuple):
    """Of each row of a table the track, the one that it came out of, the one that it became, and z; shape (N,) each."""

    particle: Ints
    parent: Ints
    merged_into: Ints
    z_px: Floats

    @classmethod
    def of(
        cls, columns: Floats, others: Floats, shape: tuple[int, int] | None, *, divisions: bool, merges: bool
    ) -> "_Linked":
        """Link rows: columns frame, y, x, score, sigma, (5, N); mass and, where it counts, z and its error, (K, N)."""
        particle, parent, merged_into = np.full((3, columns.shape[1]), NONE)
        linked = cls(particle, parent, merged_into, np.full(columns.shape[1], np.nan))
        if not columns.size:
            return linked
        if shape is None:
            corner = np.floor(columns[1:3].min(axis=1, initial=0.0))
            columns[1:3] -= corner[:, None]
            shape = tuple((np.ceil(columns[1:3].max(axis=1, initial=0.0)) + 1).astype(int).tolist())
        measured = np.vstack((columns[1:], others)).astype(np.float32)
        middle = (np.array(shape)[:, None] - 1) / 2
        inside = (np.abs(measured[:2] - middle) <= middle + 0.5 + MARGIN_PX).all(axis=0)
        order = np.flatnonzero(inside)[np.argsort(columns[0, inside], kind="stable")]
        if not len(order):
            return linked
        movie = shape, columns[0, order].astype(np.int64), measured[:, order]
        linker = ImmLinker()
        if len(others) > 1:
            linker.see_depth(1.0)
        linker.prepare(shape)
        _run(linker, *movie)
        linker.begin_again()
        online, scene = _run(linker, *movie)
        swept = _swept(online, scene)
        links, parent, into = swept.following, *np.full((2, len(order)), NONE)
        if divisions:
            links, parent = cut_divisions(scene, links)
        if merges:
            links, into = cut_merges(scene, links, parent[parent != NONE])
        linked.particle[order] = found = _number(tracks_of(links), swept.existence)
        linked.parent[order] = _others(found, parent)
        linked.merged_into[order] = _others(found, into)
        if len(others) > 1:
            linked.z_px[order] = smoothed_depth(scene, links)
        return linked


def _others(particle: Ints, detection: Ints) -> Ints:
    """Return the track that each detection's track leads to, given one of its detections for the first or last one."""
    of_track = np.full(particle.max(initial=-1) + 2, NONE)  # the last is of no track
    said = np.flatnonzero(detection != NONE)
    of_track[particle[said]] = particle[detection[said]]
    of_track[-1] = NONE
    others: Ints = of_track[particle]
    return others


def _swept(online: Ints, scene: Scene) -> Swept:
    """Return links that are no less likely than those that were made online."""
    backwards = scene.backwards()
    links = online
    for _ in range(ROUNDS):
        links = sweep(scene, links).following
        swept = sweep(backwards, reversed_links(links))
        links = reversed_links(swept.following)
    before = sweep(backwards, reversed_links(online), decides=False)
    return max(swept, before, key=lambda each: each.log_likelihood).backwards()


def _run(linker: ImmLinker, shape: tuple[int, int], frame: Ints, measured: NDArray[np.float32]) -> tuple[Ints, Scene]:
    """Link all rows, sorted by frame; return which follows on each, -1 for none, after all revisions, and the scene."""
    particle = np.full(len(frame), -1)
    indices, starts = np.unique(frame, return_index=True)
    start_of = dict(zip(indices.tolist(), starts.tolist(), strict=True))
    frames, seen = [], []
    for index, rows in zip(indices.tolist(), np.split(measured, starts[1:], axis=1), strict=True):
        y, x, score, sigma, mass = rows[:5]
        found = Detections(y, x, score, mass, sigma, dict(zip(MEASURED, rows[5:], strict=False)))
        update = linker.update(found, index, float(index))
        particle[start_of[index] : start_of[index] + len(y)] = update.particle
        revised = update.revised
        places = [start_of[each] for each in revised.frame_index.tolist()] + revised.detection
        particle[places.astype(np.int64)] = revised.particle
        tracks = linker.tracks
        frames.append(tracks.frames[tracks.now].copy())
        seen.append(tracks.measured[tracks.now, : len(y)].copy())
    return links_of(particle), Scene(shape, np.array(frames), np.concatenate(seen), np.append(starts, len(frame)))


def _number(particle: Ints, existence: Floats) -> Ints:
    """Return tracks numbered in the order in which they begin; -1 for those that are more probably false."""
    best = np.zeros(particle.max(initial=-1) + 1)
    np.maximum.at(best, particle, existence)
    real = best[particle] > PROBABLE
    found = np.full(len(particle), -1, np.int64)
    found[real] = pd.factorize(particle[real])[0]
    return found
