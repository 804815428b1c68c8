"""The rows of a run that is on, as far as they are on the disk."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from streamtrack.formats.tables import about_columns
from streamtrack.run_folder import UNFINISHED_NAME
from streamtrack.sinks.revisions import apply
from streamtrack.sinks.stream import Extent, read_batches
from streamtrack.sinks.table_rows import split
from streamtrack.types import CONFIRMED


class GrowingTable:
    """What a run has found so far, by what it has written down: whole frames only, at most a second old.

    What its linker said later of earlier frames is taken into account. Each look reads only what is new. A run that
    goes on with an earlier one writes what that had found into its tables at the end only.

    Parameters
    ----------
    folder
        The run's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / UNFINISHED_NAME
        self._extent = Extent()
        self._rows: list[pa.RecordBatch] = []
        self._particle, self._existence = np.empty(0, np.int64), np.empty(0, np.float32)

    def look(self) -> bool:
        """Read what is new; return whether there is anything. Raises SinkError where the stream is not there."""
        revisions = []
        for batch in read_batches(self._path, self._extent):
            rows, revision = split(batch)
            self._rows.append(rows)
            revisions.append(revision)
        if not revisions:
            return False
        new = self._rows[-len(revisions) :]
        self._particle, self._existence = (
            np.concatenate([known, *(rows.column(name).to_numpy() for rows in new)])
            for known, name in ((self._particle, "particle"), (self._existence, "existence"))
        )
        frame = np.concatenate([rows.column("frame").to_numpy() for rows in self._rows])
        for revision in revisions:
            apply(revision, frame, self._particle, self._existence)
        return True

    def detections(self) -> pd.DataFrame:
        """Return all detections, with their track (-1 for none) and, in ``attrs``, units and classes of columns."""
        rows = pa.Table.from_batches(self._rows)
        table: pd.DataFrame = rows.drop_columns("detection").to_pandas()
        table = table.assign(particle=self._particle, existence=self._existence)
        if "t" in table:  # of several streams numbers stand for the frames
            table["frame"] = table["t"]
        table.attrs.clear()
        table.attrs.update(about_columns(rows.schema))
        return table


def confirmed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of those tracks that are confirmed at some frame, as in the tables that are made at the end."""
    said = table.loc[(table["existence"] >= CONFIRMED) & (table["particle"] >= 0), "particle"]
    return table[table["particle"].isin(said.unique())]
