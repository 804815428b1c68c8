"""What is doubtful in the rows of a table: some are twice, positions are hardly px, frames are hardly numbered."""

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from streamtrack.formats.tracks import check_twice

_NEAR_PX = 2.0
"""Particles whose nearest neighbours are mostly nearer than this cannot be told apart in an image."""
_SMALL = 4.0
_FEW_ROWS = 20
_IN_UM = "where they are in um, name the columns y_um and x_um"


def each_once(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return each detection once, and a line for people where rows were doubled.

    Parameters
    ----------
    table
        Columns ``frame, y, x`` (px) and, if they are linked, ``particle``, negative for none.

    Raises
    ------
    ConfigError
        If a particle is twice in a frame.
    """
    if "particle" in table:
        check_twice(table[table["particle"] >= 0])
    twice = table.duplicated(["frame", "y", "x"]).to_numpy()
    if not twice.any():
        return table, []
    frame, y, x = table[["frame", "y", "x"]].to_numpy()[twice.argmax()]
    at = f"the first is frame {frame:.0f}, y {y:g}, x {x:g}"
    return table[~twice], [f"{twice.sum()} rows have frame, y and x of a row before them ({at}): each is taken once"]


def doubts_of(table: pd.DataFrame) -> list[str]:
    """Return a line for each thing that speaks against positions in px, or against frames that are numbered by one."""
    return [line for line in (_of_positions(table), _of_frames(table)) if line]


def doubt_of_scale(truth: pd.DataFrame, found: pd.DataFrame) -> str:
    """Return a line where the truth lies in a small corner of what was found, as it does in micrometers; or nothing."""
    ends, found_ends = (table[["y", "x"]].max() for table in (truth, found))
    if min(len(truth), len(found)) < _FEW_ROWS or (_SMALL * ends > found_ends).any():
        return ""
    here, there = (f"y {end['y']:.3g}, x {end['x']:.3g}" for end in (ends, found_ends))
    return f"it ends at {here}, what was found at {there}: {_IN_UM}"


def _of_positions(table: pd.DataFrame) -> str:
    yx = [rows[["y", "x"]].to_numpy(np.float64) for _, rows in table.groupby("frame")]
    nearest = [np.asarray(cKDTree(each).query(each, 2)[0])[:, 1] for each in yx if len(each) > 1]
    near = float(np.median(np.concatenate(nearest))) if sum(map(len, nearest)) >= _FEW_ROWS else _NEAR_PX
    if near >= _NEAR_PX:
        return ""
    return f"particles of a frame are {near:.2g} px from their neighbours, by which they cannot be told apart: {_IN_UM}"


def _of_frames(table: pd.DataFrame) -> str:
    frames = np.unique(table["frame"].to_numpy())
    if len(frames) < 3 or (step := int(np.diff(frames).min())) == 1:
        return ""
    cure = "where the movie has none between them, number them 0, 1, 2, ..."
    return f"the frames with rows are at least {step} apart, and those between are taken for empty or lost: {cure}"
