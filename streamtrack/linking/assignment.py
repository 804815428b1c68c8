"""Sparse assignment: which track takes which detection so that the total gain is greatest.

Shortest augmenting paths (Jonker & Volgenant, Computing 38 (1987) 325), on candidate pairs only. Every row also has a
private dummy column of gain 0, so it may always stay alone; a search then ends near where it began, and the time
grows with the number of rows and not with its cube.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack.compiling import compiled

NONE = -1

UNSEEN, OPEN, CLOSED = 0, 1, 2
"""A column is open once a path to it is known, and closed once that path is known to be the shortest."""

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


class _Graph(NamedTuple):
    """Candidate pairs in compressed rows: pair k of row i joins it to ``column[k]``, start[i] <= k < start[i + 1]."""

    start: Indices
    column: Indices
    gain: Floats


class _Matching(NamedTuple):
    """The assignment so far, and the price of each column (its dual variable, <= 0)."""

    pair_of: Indices
    row_of: Indices
    price: Floats


class _Tree(NamedTuple):
    """Shortest paths from one row to columns; ``reached`` lists the columns that are not unseen."""

    distance: Floats
    parent_row: Indices
    parent_pair: Indices
    state: Indices
    reached: Indices


@compiled
def assign(start: Indices, column: Indices, gain: Floats, n_columns: int) -> Indices:
    """Assign rows to columns, one to one, with the greatest sum of gains; rows may stay alone at gain 0.

    Parameters
    ----------
    start, column, gain
        Shapes (N + 1,), (P,), (P,): row i may take ``column[k]`` at ``gain[k]``, for start[i] <= k < start[i + 1].
        Gains are finite; a pair of negative gain is never used.
    n_columns
        Number of columns.

    Returns
    -------
    Shape (N,): the column of each row, -1 where it stays alone.
    """
    n_rows = len(start) - 1
    graph = _Graph(start, column, gain)
    matching = _Matching(np.full(n_rows, NONE), np.full(n_columns, NONE), np.zeros(n_columns))
    tree = _Tree(
        np.empty(n_columns),
        np.empty(n_columns, np.int64),
        np.empty(n_columns, np.int64),
        np.zeros(n_columns, np.int64),
        np.empty(n_columns, np.int64),
    )
    for row in range(n_rows):
        if not _take_free(row, graph, matching):
            end_row, end_column = _search(row, graph, matching, tree)
            _augment(row, end_row, end_column, graph, matching, tree)
    column_of = np.full(n_rows, NONE)
    for row in range(n_rows):
        if matching.pair_of[row] != NONE:
            column_of[row] = column[matching.pair_of[row]]
    return column_of


@compiled
def _take_free(row: int, graph: _Graph, matching: _Matching) -> bool:
    """Give a row its best column if that is free, or none if none is worth it; return False where it is taken.

    That is the first step of a search, and mostly all of it.
    """
    best, pair = 0.0, NONE
    for k in range(graph.start[row], graph.start[row + 1]):
        distance = -graph.gain[k] - matching.price[graph.column[k]]
        if distance < best:
            best, pair = distance, k
    if pair == NONE:
        return True
    if matching.row_of[graph.column[pair]] != NONE:
        return False
    matching.pair_of[row] = pair
    matching.row_of[graph.column[pair]] = row
    return True


@compiled
def _search(row: int, graph: _Graph, matching: _Matching, tree: _Tree) -> tuple[int, int]:
    """Find the shortest path from an unassigned row to a free column or to the dummy of a row, and adjust prices.

    Distances are sums of reduced costs, cost = -gain: ``cost - price(column) - price(row)``, where a row's own price
    makes the reduced cost of its assigned pair zero.

    Returns
    -------
    The row whose dummy ends the path and -1, or -1 and the free column that ends it.
    """
    length, end_row, end_column = 0.0, row, NONE
    here, base, n_reached = row, 0.0, 0
    while True:
        n_reached = _relax(here, base, n_reached, graph, matching, tree)
        j = _nearest_open(n_reached, tree)
        if j == NONE or tree.distance[j] >= length:
            break
        here = matching.row_of[j]
        if here == NONE:
            length, end_row, end_column = tree.distance[j], NONE, j
            break
        tree.state[j] = CLOSED
        base = tree.distance[j] + graph.gain[matching.pair_of[here]] + matching.price[j]
        if base < length:
            length, end_row = base, here
    for n in range(n_reached):
        j = tree.reached[n]
        if tree.state[j] == CLOSED:
            matching.price[j] += tree.distance[j] - length
        tree.state[j] = UNSEEN
    return end_row, end_column


@compiled
def _relax(row: int, base: float, n_reached: int, graph: _Graph, matching: _Matching, tree: _Tree) -> int:
    """Shorten the paths to the columns of a row that is ``base`` away; return the number of columns reached so far."""
    for k in range(graph.start[row], graph.start[row + 1]):
        j = graph.column[k]
        distance = base - graph.gain[k] - matching.price[j]
        if tree.state[j] == UNSEEN:
            tree.state[j] = OPEN
            tree.reached[n_reached] = j
            n_reached += 1
        elif tree.state[j] == CLOSED or distance >= tree.distance[j]:
            continue
        tree.distance[j], tree.parent_row[j], tree.parent_pair[j] = distance, row, k
    return n_reached


@compiled
def _nearest_open(n_reached: int, tree: _Tree) -> int:
    # A plain scan: paths reach a handful of columns, where a heap would only cost.
    nearest, least = NONE, np.inf
    for n in range(n_reached):
        j = tree.reached[n]
        if tree.state[j] == OPEN and tree.distance[j] < least:
            nearest, least = j, tree.distance[j]
    return nearest


@compiled
def _augment(row: int, end_row: int, end_column: int, graph: _Graph, matching: _Matching, tree: _Tree) -> None:
    """Move every row along the path to its next column; the row at the end goes to its dummy or to a free column."""
    if end_row == row:
        return
    j = end_column
    if end_row != NONE:
        j = graph.column[matching.pair_of[end_row]]
        matching.pair_of[end_row] = NONE
    while True:
        mover = tree.parent_row[j]
        left = matching.pair_of[mover]
        matching.pair_of[mover] = tree.parent_pair[j]
        matching.row_of[j] = mover
        if mover == row:
            return
        j = graph.column[left]
