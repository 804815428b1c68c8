"""Tracks and graphs: which detection follows which, and which track came out of which."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]

NO_PARENT = -1


def edges_of(tracks: pd.DataFrame) -> Ints:
    """Return the edges of a graph whose nodes are the rows, shape (E, 2): from each to the next of its track.

    Where there is a column ``parent``, a track's first row follows the last one of its parent, too.

    Parameters
    ----------
    tracks
        Sorted by ``particle``, then ``frame``, with the index 0, 1, ...
    """
    particle = tracks["particle"].to_numpy()
    node = np.arange(len(tracks))
    same = np.diff(particle) == 0
    edges = np.stack([node[:-1][same], node[1:][same]], axis=1)
    if "parent" not in tracks:
        return edges
    first, last = np.flatnonzero(np.append(True, ~same)), np.flatnonzero(np.append(~same, True))
    last_of = dict(zip(particle[last].tolist(), last.tolist(), strict=True))
    parents = tracks["parent"].fillna(NO_PARENT).to_numpy()[first].tolist()
    born = [(last_of[parent], row) for parent, row in zip(parents, first.tolist(), strict=True) if parent in last_of]
    return np.concatenate([edges, np.array(born, np.int64).reshape(-1, 2)])


def lineage_of(n_nodes: int, edges: Ints) -> Ints:
    """Return the number of the connected part that each node is in, shape (N,)."""
    graph = coo_array((np.ones(len(edges), np.int8), edges.T), shape=(n_nodes, n_nodes))
    parts: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return parts


def tracks_of(frame: Ints, edges: Ints) -> tuple[Ints, Ints]:
    """Cut a graph where it divides or merges; return track and parent of each node, shape (N,) each.

    Parameters
    ----------
    frame
        Of each node, shape (N,).
    edges
        Pairs of nodes, shape (E, 2), in either order.

    Returns
    -------
    particle, parent
        Tracks are numbered from 0 as their first nodes stand; a track that begins with its graph has the parent -1, and
        of one that several merge into, one is kept.
    """
    later = frame[edges[:, 0]] > frame[edges[:, 1]]
    edges = np.where(later[:, None], edges[:, ::-1], edges)
    n_out, n_in = (np.bincount(edges[:, side], minlength=len(frame)) for side in (0, 1))
    goes_on = (n_out[edges[:, 0]] == 1) & (n_in[edges[:, 1]] == 1)
    particle = pd.factorize(lineage_of(len(frame), edges[goes_on]))[0].astype(np.int64)
    parent_of = np.full(particle.max(initial=-1) + 1, NO_PARENT)
    source, target = edges[~goes_on].T
    parent_of[particle[target]] = particle[source]
    return particle, parent_of[particle]
