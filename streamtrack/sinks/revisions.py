"""What a linker says later of earlier frames, put in its place."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import Revision


def joined(revisions: Iterable[Revision]) -> Revision:
    """Return all of them as one, in their order."""
    parts = [Revision.none(), *revisions]
    return Revision(*(np.concatenate([getattr(part, name) for part in parts]) for name in Revision.__slots__))


def taken(revision: Revision, rows: slice | NDArray[np.int64]) -> Revision:
    """Return some of its rows."""
    return Revision(*(getattr(revision, name)[rows] for name in Revision.__slots__))


def apply(
    revision: Revision, frame: NDArray[np.int64], particle: NDArray[np.int64], existence: NDArray[np.float32]
) -> None:
    """Correct the tracks of detections in place; of two corrections of a detection the later one counts.

    Parameters
    ----------
    revision
        What it says of other frames is passed over: a sink may not have got their results.
    frame, particle, existence
        Shape (N,): all detections of some frames, the frames in order, the detections in theirs.
    """
    row = np.searchsorted(frame, revision.frame_index) + revision.detection
    here = np.append(frame, -1)[np.minimum(row, len(frame))] == revision.frame_index
    particle[row[here]] = revision.particle[here]  # numpy assigns in order: where a row comes twice, the last one stays
    existence[row[here]] = revision.existence[here]
