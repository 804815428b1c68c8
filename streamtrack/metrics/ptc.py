"""Measures of tracks against ground truth, as the Particle Tracking Challenge defines them.

The distance between two tracks is the sum over all frames of their distance there, at most the gate; in a frame that
only one of them has, it is the gate. True tracks are paired with found ones, or with dummies that are never there, one
to one so that the sum of the distances of all pairs is smallest. Found tracks left over are spurious.

Source: Chenouard et al., Nature Methods 11 (2014) 281, Supplementary Note 3.
"""

from dataclasses import asdict, dataclass
from math import isnan, nan, sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamtrack.errors import ConfigError
from streamtrack.metrics.detection import cheapest, check_particles, yx_of

MIN_FILLED, MOST_TIMES = 10**6, 100
"""To so many rows the gaps of any table are filled, and to so many times its own rows."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PtcScore:
    """How well tracks follow the true particles; 1 is perfect, and a measure of nothing is NaN.

    Attributes
    ----------
    alpha
        1 - d / d0: d is the distance between truth and tracks, d0 that between truth and dummies. Spurious tracks cost
        nothing.
    beta
        (d0 - d) / (d0 + s): as alpha, with the distance s between spurious tracks and dummies as a penalty.
    jsc
        Jaccard coefficient of positions, TP / (TP + FN + FP): TP are nearer than the gate within a pair of tracks.
    jsc_theta
        Jaccard coefficient of tracks: those paired are TP.
    rmse_px
        Root of the mean squared Euclidean distance over the TP positions.
    """

    alpha: float
    beta: float
    jsc: float
    jsc_theta: float
    rmse_px: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the measures for JSON; None stands for NaN, which JSON does not have."""
        return {name: None if isnan(number) else number for name, number in asdict(self).items()}


def score_ptc(truth: pd.DataFrame, tracks: pd.DataFrame, *, gate_px: float = 5.0) -> PtcScore:
    """Score tracks against true ones.

    A frame that a track skips counts as one where it is not: fill the gaps first (:func:`fill_gaps`) if the particle is
    taken to be there. The challenge's own program gives the same numbers for tracks without gaps.

    Parameters
    ----------
    truth, tracks
        Columns ``frame, particle, y, x`` (px), in any order; others are ignored.
    gate_px
        The distance from which on positions have nothing to do with each other.

    Raises
    ------
    ConfigError
        If a column is missing, a particle is twice in one frame, a position is not finite or the gate not positive.
    """
    if not 0 < gate_px < np.inf:
        raise ConfigError(f"gate_px is {gate_px}; give a positive number of pixels")
    true, found = _Tracks.of(truth, "ground truth"), _Tracks.of(tracks, "tracks")
    pairs = _candidates(true, found, gate_px)
    alone = found.length[pairs["found"]] - _shared_frames(pairs, true, found)
    pairs["gain"] = pairs["nearness"] - gate_px * alone
    pairs = pairs[pairs["gain"] > 0]  # at 0 the dummy is as good, and a track paired in vain would count as found
    return _score(pairs[_best(pairs, len(found.length))], true, found, gate_px)


def fill_gaps(tracks: pd.DataFrame) -> pd.DataFrame:
    """Add the frames that tracks skip, at positions in a straight line between those around them.

    Parameters
    ----------
    tracks
        Columns ``frame, particle, y, x`` (px), in any order.

    Returns
    -------
    pandas.DataFrame
        These four columns only, sorted by particle, then frame.

    Raises
    ------
    ConfigError
        If a column is missing, a particle is twice in one frame, a position is not finite, or the gaps are too long.
    """
    check_particles(tracks, "tracks")
    table = tracks.sort_values(["particle", "frame"])
    frame, particle, yx = table["frame"].to_numpy(np.int64), table["particle"].to_numpy(), yx_of(table)
    steps = np.where(np.diff(particle, append=particle[-1:]) == 0, np.diff(frame, append=frame[-1:]), 1).clip(1)
    if (n_rows := steps.sum(dtype=np.float64)) > max(MIN_FILLED, MOST_TIMES * len(steps)):
        here = int(steps.argmax())
        gap = f"particle {particle[here]} skips from frame {frame[here]} to {frame[here] + steps[here]}"
        cure = "number the frames of the movie 0, 1, 2, ..."
        raise ConfigError(f"with gaps filled {len(steps)} rows of tracks would be {n_rows:.3g}, as {gap}: {cure}")
    row, nth = _spread(np.zeros_like(steps), steps)
    ahead = np.minimum(row + 1, len(table) - 1)
    filled = yx[row] + (nth / steps[row])[:, None] * (yx[ahead] - yx[row])
    return pd.DataFrame({"frame": frame[row] + nth, "particle": particle[row], "y": filled[:, 0], "x": filled[:, 1]})


class _Tracks(NamedTuple):
    """Positions sorted by track, then frame; tracks are numbered from 0.

    Attributes
    ----------
    track, frame, yx
        Shapes (N,), (N,) and (N, 2).
    length
        Shape (T,): positions of each track.
    """

    track: Ints
    frame: Ints
    yx: Floats
    length: Ints

    @classmethod
    def of(cls, table: pd.DataFrame, name: str) -> "_Tracks":
        check_particles(table, name)
        frame, yx = table["frame"].to_numpy(np.int64), yx_of(table)
        _, track, length = np.unique(table["particle"].to_numpy(), return_inverse=True, return_counts=True)
        order = np.lexsort((frame, track))
        return cls(track[order], frame[order], yx[order], length)


def _candidates(true: _Tracks, found: _Tracks, gate_px: float) -> pd.DataFrame:
    """Return the pairs of tracks that come nearer to each other than the gate at least once.

    Columns: ``true, found``, the tracks; ``nearness``, the sum of gate - distance over the frames where they are nearer
    than the gate, px; ``n_near``, the number of these frames; ``squares``, the sum of the squared distances there, px².
    """
    trees = [cKDTree(np.column_stack((2 * gate_px * tracks.frame, tracks.yx))) for tracks in (true, found)]
    near = trees[0].sparse_distance_matrix(trees[1], gate_px, output_type="ndarray")  # other frames are 2 gates away
    near = near[near["v"] < gate_px]
    columns = {"true": true.track[near["i"]], "found": found.track[near["j"]]}
    columns |= {"nearness": gate_px - near["v"], "n_near": np.ones(len(near), np.int64), "squares": near["v"] ** 2}
    return pd.DataFrame(columns).groupby(["true", "found"], as_index=False).sum()


def _best(pairs: pd.DataFrame, n_found: int) -> NDArray[np.bool_]:
    """Return which of the pairs to choose, one to one, so that the sum of their gains is largest."""
    true, found, gain = (pairs[name].to_numpy() for name in ("true", "found", "gain"))
    most = float(gain.max(initial=0.0))
    chosen_true, chosen_found = cheapest(true, found, most - gain, n_found, most)
    return np.isin(true * n_found + found, chosen_true * n_found + chosen_found)


def _shared_frames(pairs: pd.DataFrame, true: _Tracks, found: _Tracks) -> Ints:
    """Count the frames that both tracks of each pair have.

    A found track is a few runs of consecutive frames: the frames of the true one in each are counted by bisection, so
    that time and memory do not grow with the length of the tracks.
    """
    frames = np.concatenate((true.frame, found.frame))
    stride = 2 + int(frames.max(initial=0) - frames.min(initial=0))  # a track never runs on into the next
    true_key, found_key = (tracks.track * stride + tracks.frame for tracks in (true, found))
    begins = np.flatnonzero(np.diff(found_key, prepend=found_key[:1] - 2) > 1)
    first = found.frame[begins]
    last = first + np.diff(begins, append=len(found_key)) - 1
    pair, run = _spread(*(np.searchsorted(found.track[begins], pairs["found"], side) for side in ("left", "right")))
    key = pairs["true"].to_numpy()[pair] * stride
    n_before = np.searchsorted(true_key, key + first[run])
    n_shared = np.searchsorted(true_key, key + last[run], "right") - n_before
    return np.bincount(pair, n_shared, len(pairs)).astype(np.int64)


def _spread(begin: NDArray[np.intp], end: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return, range by range, the number of the range and the whole numbers in it."""
    length = end - begin
    which = np.repeat(np.arange(len(length)), length)
    return which, np.arange(len(which)) + (begin - np.cumsum(length) + length)[which]


def _score(chosen: pd.DataFrame, true: _Tracks, found: _Tracks, gate_px: float) -> PtcScore:
    """Put the measures together; the sum of the gains is d0 - d."""
    n_true, n_found = len(true.frame), len(found.frame)
    d0, spurious = gate_px * n_true, gate_px * (n_found - int(found.length[chosen["found"]].sum()))
    gain, tp, tp_tracks = float(chosen["gain"].sum()), int(chosen["n_near"].sum()), len(chosen)
    return PtcScore(
        alpha=_ratio(gain, d0),
        beta=_ratio(gain, d0 + spurious),
        jsc=_ratio(tp, n_true + n_found - tp),
        jsc_theta=_ratio(tp_tracks, len(true.length) + len(found.length) - tp_tracks),
        rmse_px=sqrt(chosen["squares"].sum() / tp) if tp else nan,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else nan
