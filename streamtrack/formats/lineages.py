"""Tracks and graphs: which detection follows which, and which tracks came out of which."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]

OTHERS, NO_TRACK = ("parent", "merged_into"), -1
"""Columns that lead from one track to another, and what they hold where there is none."""


def edges_of(tracks: pd.DataFrame) -> Ints:
    """Return the edges of a graph whose nodes are the rows, shape (E, 2): from each to the next of its track.

    A track's first row follows the last one of the track in its column ``parent``, and the last ones of all tracks that
    have it in their column ``merged_into``, where there are such columns.

    Parameters
    ----------
    tracks
        Sorted by ``particle``, then ``frame``, with the index 0, 1, ...
    """
    particle = tracks["particle"].to_numpy()
    node = np.arange(len(tracks))
    same = np.diff(particle) == 0
    first, last = np.flatnonzero(np.append(True, ~same)), np.flatnonzero(np.append(~same, True))
    parent, merged_into = (_others(tracks, name)[first] for name in OTHERS)
    rows = pd.DataFrame({"first": first, "last": last}, particle[first])
    born = np.stack([rows["last"].reindex(parent).to_numpy(), first], axis=1)
    merged = np.stack([last, rows["first"].reindex(merged_into).to_numpy()], axis=1)
    between = np.concatenate([born, merged])
    edges = np.stack([node[:-1][same], node[1:][same]], axis=1)
    return np.concatenate([edges, between[~np.isnan(between).any(axis=1)].astype(np.int64)])


def _others(tracks: pd.DataFrame, name: str) -> NDArray[Any]:
    """Return the track that each row's track leads to, shape (N,)."""
    others: NDArray[Any] = tracks.get(name, pd.Series(NO_TRACK, tracks.index)).fillna(NO_TRACK).to_numpy()
    return others


def graph_of(tracks: pd.DataFrame) -> dict[int, list[int]]:
    """Return the tracks that each one came out of, as napari's Tracks layer takes them; in any order of the rows."""
    firsts = tracks.drop_duplicates("particle").set_index("particle", drop=False)
    there = set(firsts.index.tolist())
    graph: dict[int, list[int]] = {}
    for source, target in (("parent", "particle"), ("particle", "merged_into")):
        pairs = zip(_others(firsts, source).tolist(), _others(firsts, target).tolist(), strict=True)
        for before, after in pairs:
            if before in there and after in there:
                graph.setdefault(int(after), []).append(int(before))
    return graph


def lineage_of(n_nodes: int, edges: Ints) -> Ints:
    """Return the number of the connected part that each node is in, shape (N,)."""
    graph = coo_array((np.ones(len(edges), np.int8), edges.T), shape=(n_nodes, n_nodes))
    parts: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return parts


class Branches(NamedTuple):
    """Of each node of a graph, shape (N,) each: its track, the one that came out of, and the one that merged into.

    Tracks are numbered from 0 as their first nodes stand; -1 for none.
    """

    particle: Ints
    parent: Ints
    merged_into: Ints

    def columns(self, names: Ints | None = None) -> dict[str, Ints]:
        """Return the columns ``parent`` and ``merged_into`` where there is any; tracks may have other names (N,)."""
        other = np.arange(self.particle.max(initial=-1) + 1)
        if names is not None:
            other[self.particle] = names
        other = np.append(other, NO_TRACK)
        return {name: other[each] for name in OTHERS if ((each := getattr(self, name)) >= 0).any()}


def branches_of(frame: Ints, edges: Ints) -> Branches:
    """Cut a graph where it divides or merges.

    A node that goes on to several is the end of a track that divides, the ``parent`` of what begins at those. One that
    goes on to a single node, and is not the only one to do so, is the end of a track that merges. Of several tracks
    that divide and have the same track among what they become, one is kept as its parent.

    Parameters
    ----------
    frame
        Of each node, shape (N,).
    edges
        Pairs of nodes, shape (E, 2), in either order.
    """
    later = frame[edges[:, 0]] > frame[edges[:, 1]]
    edges = np.where(later[:, None], edges[:, ::-1], edges)
    n_out, n_in = (np.bincount(edges[:, side], minlength=len(frame)) for side in (0, 1))
    is_only_one, is_from_one = n_out[edges[:, 0]] == 1, n_in[edges[:, 1]] == 1
    goes_on = is_only_one & is_from_one
    particle = pd.factorize(lineage_of(len(frame), edges[goes_on]))[0].astype(np.int64)
    parent, merged_into = np.full((2, particle.max(initial=-1) + 1), NO_TRACK)
    source, target = particle[edges[~is_only_one]].T
    parent[target] = source
    source, target = particle[edges[is_only_one & ~is_from_one]].T
    merged_into[source] = target
    return Branches(particle, parent[particle], merged_into[particle])
