"""Rows in groups of one size, as Parquet files have them."""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS = 32_768
"""Of a Parquet file; some copies of a group are all that is in memory while tables are made."""


def row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Cut the rows into equal groups, so that the files do not depend on when batches were flushed."""
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in batches:
        start = 0
        while n_held + len(batch) - start >= GROUP_ROWS:
            stop = start + GROUP_ROWS - n_held
            held.append(batch.slice(start, stop - start))
            yield _whole(held)
            held, n_held, start = [], 0, stop
        if start < len(batch):
            held.append(batch.slice(start))
            n_held += len(batch) - start
    if n_held:
        yield _whole(held)


def _whole(rows: list[pa.RecordBatch]) -> pa.Table:
    """Return rows in one piece: pages of Parquet would end where pieces do."""
    return pa.Table.from_batches(rows).combine_chunks()


def batches_of(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table, a group in memory at a time; ``iter_batches`` keeps what it has read of all."""
    for group in range(file.num_row_groups):
        yield from file.read_row_group(group, columns).to_batches()
