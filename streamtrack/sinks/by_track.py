"""Rows of a table that is sorted by frame, track by track: sorted on the disk where they are too many for memory."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamtrack.files import remove_file
from streamtrack.sinks.row_groups import batches_of

Columns = dict[str, NDArray[Any]]

_PAGE_BITS = 8
"""Tracks are counted in pages of 256, whose rows stay together."""


def tracks_of(file: pq.ParquetFile, names: list[str], rows_at_once: int, spilled: Path) -> Iterator[Columns]:
    """Yield the rows of some tracks after the other, by number: all rows of each, about ``rows_at_once`` together.

    Parameters
    ----------
    file
        With a column ``particle`` of numbers from 0.
    names
        Columns, ``particle`` among them.
    spilled
        Where rows are kept meanwhile, 36 bytes each or more; deleted in the end. Not needed for a short table.

    Raises
    ------
    OSError
        There is no room for them.
    """
    remove_file(spilled)  # of one that was killed
    if not file.metadata.num_rows:
        return
    if file.metadata.num_rows <= rows_at_once:
        rows = file.read(names)
        yield {name: rows[name].to_numpy() for name in names}
        return
    firsts = _firsts(file, rows_at_once)
    try:
        with spilled.open("w+b") as written:
            places, dtype = _spill(file, names, firsts, written)
            for number in range(len(firsts)):
                yield _read(written, dtype, places[:, number], places[:, number + 1])
    finally:
        remove_file(spilled)


def _firsts(file: pq.ParquetFile, rows_at_once: int) -> NDArray[np.int64]:
    """Return the first track of each part."""
    counts: Counter[int] = Counter()
    for batch in batches_of(file, ["particle"]):
        pages, n_rows = np.unique(batch.column("particle").to_numpy() >> _PAGE_BITS, return_counts=True)
        counts.update(dict(zip(pages.tolist(), n_rows.tolist(), strict=True)))
    pages = np.array(sorted(counts), np.int64)
    part = np.cumsum([counts[page] for page in pages.tolist()]) // rows_at_once
    return pages[np.flatnonzero(np.diff(part, prepend=-1))] << _PAGE_BITS


def _spill(
    file: pq.ParquetFile, names: list[str], firsts: NDArray[np.int64], written: BinaryIO
) -> tuple[NDArray[np.int64], np.dtype[np.void]]:
    """Write all rows in runs that are sorted by track; return where the parts of each run begin and end, in rows."""
    dtype = np.dtype([(name, _kept_as(file.schema_arrow.field(name))) for name in names])
    places, n_rows = [], 0
    for batch in batches_of(file, names):
        order = np.argsort(batch.column("particle").to_numpy(), kind="stable")
        rows = np.empty(len(batch), dtype)
        for name in names:
            rows[name] = batch.column(name).to_numpy(zero_copy_only=False)[order]
        written.write(rows.data)
        ends = [*np.searchsorted(rows["particle"], firsts).tolist(), len(rows)]
        places.append(n_rows + np.array(ends, np.int64))
        n_rows += len(rows)
    return np.array(places), dtype


def _kept_as(field: pa.Field) -> type[np.generic]:
    """Return the type of numbers in the file; the places of streams may be null, for which NaN stands."""
    if field.name in ("particle", "frame"):
        return np.int64
    return np.float32 if field.type == pa.float32() else np.float64


def _read(written: BinaryIO, dtype: np.dtype[np.void], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Columns:
    runs = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if stop > start:
            written.seek(start * dtype.itemsize)
            runs.append(np.frombuffer(written.read((stop - start) * dtype.itemsize), dtype))
    rows = np.concatenate(runs)
    return {name: rows[name] for name in dtype.names or ()}
