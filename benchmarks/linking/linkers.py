"""The linkers that are compared: each takes the detections of a movie and yields, frame by frame, whose they are.

Ours (``imm_lag0``, ``imm_lag2``) is the linker ``imm`` with its defaults. Peers have two settings, search range and
memory, which the benchmark tunes for each kind of movie. Their rows of identities are in the detections' order.

- ``trackpy``: Crocker and Grier's linking, the fast interface ``link_iter``, default strategy.
- ``trackpy_velocity``: the same with ``NearestVelocityPredict``, and a search range that shrinks in crowds, without
  which it gives up.
- ``lapmod``: what can be put together from scipy's cKDTree and the sparse solver of ``lap``; minimises what trackpy
  does, so that it links the same, but fast.
- ``laptrack``: frame to frame and then gap closing, over the whole movie at once (Jaqaman et al. 2008).
- ``motile``: an integer linear program over the whole movie (`benchmarks.linking.motions` only).
- ``optimum``: the most probable tracks of the whole movie if all particles are Brownian
  (`benchmarks.linking.min_cost_flow`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.linking.min_cost_flow import link_offline
from benchmarks.shared.particles import SHAPE
from streamtrack.linking.imm import ImmLinker
from streamtrack.types import Detections, TrackUpdate

Frames = Sequence[Detections]
Ids = NDArray[np.int64]

LEAST_RANGE_PX = 2.0
"""To this the search range of trackpy with velocities may shrink in a crowd."""

MOTILE_LIMIT_S = 60.0
"""For its solver, a movie."""


class Ranges(NamedTuple):
    """Settings of the peers: px from one detection to the next, and frames that may be missed in between."""

    search_range: float
    memory: int


def imm(frames: Iterable[Detections], lag: int) -> Iterator[TrackUpdate]:
    """Link with streamtrack's own linker."""
    linker = ImmLinker(lag=lag)
    linker.prepare(SHAPE)
    for index, detections in enumerate(frames):
        yield linker.update(detections, index, float(index))


def link_trackpy(frames: Frames, ranges: Ranges) -> Iterator[list[int]]:
    """Link with trackpy."""
    import trackpy

    trackpy.quiet()
    # All at once: turning detections into trackpy's format is not its work.
    tables = [positions(each) for each in frames]
    for _, ids in trackpy.link_iter(tables, ranges.search_range, memory=ranges.memory):
        yield ids


def link_trackpy_velocity(frames: Frames, ranges: Ranges) -> Iterator[Ids]:
    """Link with trackpy, each particle expected where the velocity of its nearest neighbour takes it."""
    import trackpy

    trackpy.quiet()
    tables = [pd.DataFrame({"frame": k, "y": each.y, "x": each.x}, dtype=float) for k, each in enumerate(frames)]
    predictor = trackpy.predict.NearestVelocityPredict()
    linked = predictor.link_df_iter(tables, ranges.search_range, memory=ranges.memory, adaptive_stop=LEAST_RANGE_PX)
    for table in linked:
        yield table["particle"].to_numpy()


def link_lapmod(frames: Frames, ranges: Ranges) -> Iterator[Ids]:
    """Link by the least sum of squared distances, with cKDTree and lap.lapmod."""
    ids, misses, where = np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2))
    n_tracks = 0
    for detections in frames:
        here = positions(detections)
        track_of = _assign(where, here, ranges.search_range)
        new = track_of < 0
        found = np.empty(len(here), np.int64)
        found[~new] = ids[track_of[~new]]
        found[new] = np.arange(n_tracks, n_tracks + np.count_nonzero(new))
        n_tracks += np.count_nonzero(new)
        waiting = misses < ranges.memory
        waiting[track_of[~new]] = False
        where = np.concatenate((here, where[waiting]))
        ids = np.concatenate((found, ids[waiting]))
        misses = np.concatenate((np.zeros(len(here), np.int64), misses[waiting] + 1))
        yield found


def _assign(tracks: NDArray[np.float64], detections: NDArray[np.float64], search_range: float) -> Ids:
    """Return the track of each detection, -1 where it has none.

    The solver wants as many rows as columns and everybody served. So each track has a dummy detection at the cost of
    the search range, each detection a dummy track at no cost, and dummies pair up as their owners do.
    """
    import lap

    n_tracks, n_detections = len(tracks), len(detections)
    if not n_tracks or not n_detections:
        return np.full(n_detections, -1)
    near = cKDTree(tracks).sparse_distance_matrix(cKDTree(detections), search_range, output_type="ndarray")
    i, j, n = near["i"], near["j"], n_tracks + n_detections
    own_track, own_detection = np.arange(n_tracks), np.arange(n_detections)
    row = np.concatenate((i, own_track, n_tracks + own_detection, n_tracks + j))
    column = np.concatenate((j, n_detections + own_track, own_detection, n_detections + i))
    no_cost = np.zeros(n_detections + len(j))
    cost = np.concatenate((near["v"] ** 2, np.full(n_tracks, search_range**2), no_cost))
    order = np.lexsort((column, row))
    start = np.searchsorted(row[order], np.arange(n + 1))
    _, y = lap.lapmod(n, cost[order], start.astype(np.int32), column[order].astype(np.int32), return_cost=False)
    track_of = np.asarray(y[:n_detections], np.int64)
    return np.where(track_of < n_tracks, track_of, -1)


def link_laptrack(frames: Frames, ranges: Ranges) -> list[Ids]:
    """Link a whole movie with laptrack."""
    import laptrack
    import networkx

    cutoff = ranges.search_range**2
    tracker = laptrack.LapTrack(
        cutoff=cutoff,
        gap_closing_cutoff=cutoff if ranges.memory else False,
        gap_closing_max_frame_count=ranges.memory + 1,  # it counts from one detection to the next
        alternative_cost_percentile=100,  # with its default of 90 it leaves out long links, and scores less
    )
    graph = tracker.predict([positions(each) for each in frames])
    ids = [np.full(len(each), -1) for each in frames]
    for particle, spots in enumerate(networkx.connected_components(graph.to_undirected())):
        for frame, detection in spots:
            ids[frame][detection] = particle
    return ids


def link_motile(frames: Frames, ranges: Ranges, gap_cost: float = 0.0) -> list[Ids]:
    """Link a whole movie with motile: the links that cost least in all, at most one before and after each detection.

    A link costs the squared distance, one over a gap more by ``gap_cost`` times the squared search range for each frame
    missed, and spares the squared search range. To charge that for what appears and disappears comes to the same, as
    detections that have no links are tracks of one, which are not scored, but takes its solver three times as long.

    Raises
    ------
    TimeoutError
        Its solver did not come to the optimum within a minute.
    """
    import motile
    from motile.constraints import MaxChildren, MaxParents
    from motile.costs import EdgeSelectedCost, NodeSelectedCost
    from motile.variables import EdgeSelected

    graph = motile.TrackGraph()
    starts = np.cumsum([0, *map(len, frames)])
    trees = [cKDTree(positions(each)) for each in frames]
    for frame, detections in enumerate(frames):
        for k in range(len(detections)):
            graph.add_node(int(starts[frame]) + k, {"t": frame})
    spared = ranges.search_range**2
    for early, late in combinations(range(len(frames)), 2):
        missed = late - early - 1
        if missed <= ranges.memory:
            near = trees[early].sparse_distance_matrix(trees[late], ranges.search_range, output_type="ndarray")
            for i, j, distance in near.tolist():
                link = int(starts[early]) + i, int(starts[late]) + j
                graph.add_edge(link, {"cost": distance**2 + missed * gap_cost * spared})
    solver = motile.Solver(graph)
    solver.add_cost(NodeSelectedCost(constant=-1.0))
    solver.add_cost(EdgeSelectedCost(attribute="cost", constant=-spared))
    solver.add_constraint(MaxParents(1))
    solver.add_constraint(MaxChildren(1))
    solution = solver.solve(timeout=MOTILE_LIMIT_S)
    if solution.get_status() != "OPTIMAL":
        raise TimeoutError(f"motile: {solution.get_status()} after {MOTILE_LIMIT_S:g} s")
    ids = np.arange(starts[-1])
    for (before, after), index in sorted(solver.get_variables(EdgeSelected).items()):
        if solution[index] > 0.5:
            ids[after] = ids[before]
    return np.split(ids, starts[1:-1])


def link_optimum(frames: Frames, _: Ranges | None) -> list[Ids]:
    """Link a whole movie by min-cost flow."""
    ends = np.cumsum([len(each) for each in frames])
    frame = np.searchsorted(ends, np.arange(ends[-1]), "right")
    y, x, score, sigma = (
        np.concatenate([getattr(each, name) for each in frames]) for name in ("y", "x", "score", "sigma")
    )
    tracks = link_offline(frame, y, x, score=score, sigma=sigma, area_px=float(np.prod(SHAPE)))
    return np.split(tracks.particle, ends[:-1])


def positions(detections: Detections) -> NDArray[np.float64]:
    """Return y, x in px, shape (N, 2)."""
    return np.column_stack((detections.y, detections.x)).astype(np.float64)


ONLINE: dict[str, Callable[[Frames, Ranges], Iterator[Any]]] = {
    "imm_lag0": lambda frames, _: imm(frames, lag=0),
    "imm_lag2": lambda frames, _: imm(frames, lag=2),
    "trackpy": link_trackpy,
    "trackpy_velocity": link_trackpy_velocity,
    "lapmod": link_lapmod,
}
OURS = ("imm_lag0", "imm_lag2")
OFFLINE: dict[str, Callable[[Frames, Ranges], list[Ids]]] = {"laptrack": link_laptrack, "optimum": link_optimum}
TUNED = ("lapmod", "trackpy", "trackpy_velocity")
PEER_PACKAGES = ("scipy", "pandas", "lap", "laptrack", "motile", "ilpy", "pyscipopt", "ortools")
NEEDS = {"lapmod": "lap", "laptrack": "laptrack", "motile": "motile", "optimum": "ortools"}


def missing(method: str) -> str | None:
    """Return why a method cannot run here, or None if it can."""
    package = NEEDS.get(method)
    if package and find_spec(package) is None:
        return f"{method} is skipped: {package} is not installed (pip install {package})"
    return None


def peer_versions() -> dict[str, str]:
    """Return the versions of the packages of peers that are installed."""
    found = {}
    for name in PEER_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
