"""Measures of detection and of frame-to-frame linking against ground truth.

Positions are paired per frame by the Hungarian method within a gate, as in the evaluations of DENODET, Detnet and the
Particle Tracking Challenge (Chenouard et al., Nature Methods 2014, Supplementary Note 3): each pair costs its distance,
each position left alone costs the gate, and the total is the smallest possible. Hence a far pair is never bought by
breaking a close one, as it would be if the number of pairs came first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from streamtrack.errors import ConfigError

Pairs = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Score:
    """True positives, false positives and false negatives at one gate, and the ratios made of them.

    A ratio with nothing in its denominator is NaN: an empty table has no precision.
    """

    gate_px: float
    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float:
        """Part of what was found that is true."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Part of the truth that was found."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def as_dict(self) -> dict[str, float | None]:
        """Return counts and ratios for JSON; None stands for NaN, which JSON does not have."""
        numbers = asdict(self) | {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: None if isnan(number) else number for name, number in numbers.items()}


@dataclass(frozen=True, slots=True)
class DetectionScore(Score):
    """Score of the detections of a movie, all frames counted together.

    Attributes
    ----------
    rmse_px
        Root of the mean squared Euclidean distance between paired positions; NaN without a pair.
    """

    rmse_px: float


@dataclass(frozen=True, slots=True)
class LinkScore(Score):
    """Score of the links of a movie; see :func:`score_links`."""


def match(truth_yx: ArrayLike, found_yx: ArrayLike, gate_px: float) -> Pairs:
    """Pair the positions of one frame one to one so that the sum of min(distance, gate) is smallest.

    Parameters
    ----------
    truth_yx, found_yx
        Shapes (N, 2) and (M, 2), px; either may be empty.
    gate_px
        Only positions nearer than this (strictly) can form a pair.

    Returns
    -------
    truth_index, found_index, distance_px
        Shape (P,) each, sorted by ``truth_index``: the pairs and how far they lie apart.

    Raises
    ------
    ConfigError
        If the gate is not positive, or positions are not finite or not of shape (N, 2).
    """
    truth, found = positions(truth_yx), positions(found_yx)
    if not 0 < gate_px < np.inf:
        raise ConfigError(f"gate_px is {gate_px}; give a positive number of pixels")
    near = cKDTree(truth).sparse_distance_matrix(cKDTree(found), gate_px, output_type="ndarray")
    near = near[near["v"] < gate_px]
    truth_index, found_index = cheapest(near["i"], near["j"], near["v"], len(found), gate_px)
    return truth_index, found_index, np.linalg.norm(truth[truth_index] - found[found_index], axis=1)


def score_detections(
    truth: pd.DataFrame,
    found: pd.DataFrame,
    gates_px: Sequence[float] = (5.0, 2.0),
    frames: Iterable[int] | None = None,
) -> list[DetectionScore]:
    """Score detections against ground truth, once per gate.

    Parameters
    ----------
    truth, found
        Columns ``frame, y, x`` (px); others are ignored. A frame that only one of them has counts in full as missed or
        as false.
    gates_px
        Gates in px. On crowded frames 5 px, the gate of the papers, also lets chance pairs pass; 2 px hardly does.
    frames
        Score these frames only, for example those that were processed; all by default.

    Returns
    -------
    list of DetectionScore
        In the order of ``gates_px``.

    Raises
    ------
    ConfigError
        If a column is missing, a position is not finite or a gate is not positive.
    """
    truth_yx, found_yx = _by_frame(truth, "ground truth"), _by_frame(found, "detections")
    chosen = sorted(truth_yx.keys() | found_yx.keys() if frames is None else set(frames))
    nothing = np.empty((0, 2))
    pairs = [(truth_yx.get(frame, nothing), found_yx.get(frame, nothing)) for frame in chosen]
    return [_score_frames(pairs, gate_px) for gate_px in gates_px]


def score_links(truth: pd.DataFrame, tracks: pd.DataFrame, gate_px: float = 5.0) -> LinkScore:
    """Score how well tracks join positions of consecutive frames.

    A link is a pair of positions of one particle in frames t and t + 1; a gap has no link on either side of it. The
    positions of each frame are paired by :func:`match`, whatever their tracks. A found link is right (TP) if both its
    ends are paired with positions of one and the same true particle; other found links are FP, other true links FN.
    Thus ``recall`` is the part of the true links that was recovered, ``precision`` the part of the found links that is
    right.

    Parameters
    ----------
    truth, tracks
        Columns ``frame, particle, y, x`` (px); others are ignored.
    gate_px
        Gate of the pairing in px.

    Raises
    ------
    ConfigError
        If a column is missing, a particle is twice in one frame, a position is not finite or the gate not positive.
    """
    check_particles(truth, "ground truth")
    check_particles(tracks, "tracks")
    truth_rows, found_rows = _match_rows(truth, tracks, gate_px)
    frame = truth["frame"].to_numpy()[truth_rows]
    true_particle = truth["particle"].to_numpy()[truth_rows]
    found_particle = tracks["particle"].to_numpy()[found_rows]
    tp = _count_links(frame, true_particle, found_particle)
    n_found = _count_links(tracks["frame"].to_numpy(), tracks["particle"].to_numpy())
    n_true = _count_links(truth["frame"].to_numpy(), truth["particle"].to_numpy())
    return LinkScore(gate_px, tp, n_found - tp, n_true - tp)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else nan


def positions(yx: ArrayLike) -> NDArray[np.float64]:
    """Return positions (N, 2), also where there are none; raises ConfigError where they are something else."""
    positions = np.asarray(yx, np.float64)
    if positions.size == 0:
        return np.empty((0, 2))
    if positions.ndim != 2 or positions.shape[1] != 2:
        raise ConfigError(f"positions have shape {positions.shape}; give (N, 2): y, x")
    if not np.isfinite(positions).all():
        raise ConfigError("a position is NaN or infinite; drop such rows before scoring")
    return positions


def cheapest(
    truth: NDArray[np.intp], found: NDArray[np.intp], distance: NDArray[np.float64], n_found: int, gate_px: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Solve the assignment over the candidate pairs, each truth having a place of its own to stay alone at gate_px."""
    rows, row = np.unique(truth, return_inverse=True)
    alone = np.arange(len(rows))
    columns = np.concatenate([found, n_found + alone])
    # The solver takes a cost of 0 for "no edge": 1 px more on every edge leaves the best assignment the same.
    cost = np.concatenate([distance, np.full(len(rows), gate_px)]) + 1.0
    graph = coo_array((cost, (np.concatenate([row, alone]), columns)), shape=(len(rows), n_found + len(rows)))
    chosen_row, chosen_column = min_weight_full_bipartite_matching(graph.tocsr())
    paired = chosen_column < n_found
    return rows[chosen_row[paired]], chosen_column[paired].astype(np.intp)


def _score_frames(pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]], gate_px: float) -> DetectionScore:
    distances = [match(truth, found, gate_px)[2] for truth, found in pairs]
    distance = np.concatenate([np.empty(0), *distances])
    n_truth = sum(len(truth) for truth, _ in pairs)
    n_found = sum(len(found) for _, found in pairs)
    rmse_px = float(np.sqrt(np.mean(distance**2))) if len(distance) else nan
    return DetectionScore(gate_px, len(distance), n_found - len(distance), n_truth - len(distance), rmse_px)


def _require(table: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ConfigError(
            f"the table of {name} lacks the column(s) {', '.join(missing)}; it has {', '.join(map(str, table.columns))}"
        )


def check_particles(table: pd.DataFrame, name: str) -> None:
    """Raise ConfigError unless a table has the columns of tracks, and no particle twice in a frame."""
    _require(table, name, ("frame", "particle", "y", "x"))
    twice = table.duplicated(["frame", "particle"]).to_numpy()
    if twice.any():
        row = table.iloc[int(twice.argmax())]
        raise ConfigError(
            f"the table of {name} has particle {row['particle']:g} twice in frame {row['frame']:g}; keep one row each"
        )


def _rows_by_frame(table: pd.DataFrame) -> dict[int, NDArray[np.intp]]:
    frame = table["frame"].to_numpy()
    order = np.argsort(frame, kind="stable")
    values, starts = np.unique(frame[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=False))


def yx_of(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return the positions (N, 2), px; raises ConfigError where one is not finite."""
    return positions(table[["y", "x"]].to_numpy(np.float64))


def _by_frame(table: pd.DataFrame, name: str) -> dict[int, NDArray[np.float64]]:
    _require(table, name, ("frame", "y", "x"))
    yx = yx_of(table)
    return {frame: yx[rows] for frame, rows in _rows_by_frame(table).items()}


def _match_rows(truth: pd.DataFrame, found: pd.DataFrame, gate_px: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair the rows of two tables frame by frame."""
    truth_rows, found_rows = _rows_by_frame(truth), _rows_by_frame(found)
    truth_yx, found_yx = yx_of(truth), yx_of(found)
    left, right = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for frame in sorted(truth_rows.keys() & found_rows.keys()):
        here, there = truth_rows[frame], found_rows[frame]
        i, j, _ = match(truth_yx[here], found_yx[there], gate_px)
        left.append(here[i])
        right.append(there[j])
    return np.concatenate(left), np.concatenate(right)


def _count_links(frame: NDArray[np.int64], *particles: NDArray[np.int64]) -> int:
    """Count the rows that have a successor: the same particle(s), one frame later."""
    order = np.lexsort((frame, *particles))
    linked = np.diff(frame[order]) == 1
    for particle in particles:
        linked &= np.diff(particle[order]) == 0
    return int(linked.sum())
