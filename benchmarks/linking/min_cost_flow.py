"""The most probable tracks of a whole movie at once, by min-cost flow.

All detections of all frames are explained together, each by a particle or as false. Of the particles we assume no more
than a first-order model: Brownian steps, a probability S to stay in view and p to be detected in each frame, so that a
detection is followed by the particle's next one g frames later with the probability

    P(g) = S^g (1 - p)^(g-1) p,  g = 1 ... G,  and by none with  e(n) = 1 - sum of P(g) over g <= min(G, n),

where n is the number of frames left in the movie. In equilibrium the same holds backwards in time: e(n) is also the
probability that a detection is its particle's first, with n frames before it. The next detection lies at a distance d
with the density N(d) of an isotropic normal distribution, its variance along each axis g step² + sigma_i² + sigma_j².
Real detections have the density r (per px² and frame). Of detections with the score s the share s is real, hence
false ones like it have the density r (1 - s) / s. Against "all are false" a track has the log-likelihood ratio

    L = sum over detections i  of  log(s_i / (1 - s_i))
      + log e(frames before the first) + log e(frames after the last)
      + sum over links i -> j  of  log(P(g) N(d) / r).

The tracks whose sum of L is largest are a flow of least cost -L from a source to a sink, each unit a track: through the
detections, from where it comes in to where it goes out, along the links, at most one unit through each. A link that is
worth no more than an end and a start, log(P(g) N(d) / r) <= log e + log e, is never needed; this alone bounds the
distance, there is no search range.

The most probable tracks need not score best: in a crowd too dense to tell, alpha prefers more and shorter ones.

Source: Zhang, Li & Nevatia, CVPR 2008 (tracking as min-cost flow), with a density of false detections in place of their
false-alarm rate, and links across missed frames.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from streamtrack.errors import ConfigError, LinkerError
from streamtrack.linking.measurement import LEAST_SCORE, LEAST_SIGMA_PX, MOST_SCORE, MOST_SIGMA_PX

SURVIVAL = 1.0 - 1.0 / 50.0
DETECTION = 0.95
MOST_STEPS = 4
"""Frames from a detection to the next of the same particle: up to 3 missed ones."""

FIRST_STEP_PX = 2.0
LEAST_STEP_PX = 0.1
STEP_TOLERANCE, MOST_ROUNDS = 0.02, 6
"""Tracks and step are estimated from each other until the step changes by no more than this share."""

COSTS_PER_NAT = 10_000
"""The solver counts in whole numbers."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class OfflineTracks(NamedTuple):
    """The most probable tracks.

    Attributes
    ----------
    particle
        Shape (N,): the track of each detection, numbered from 0 in the order in which they begin; -1 where it is more
        probably false.
    step_px
        Standard deviation of the step per frame and axis, as estimated.
    """

    particle: Ints
    step_px: float


class _Scene(NamedTuple):
    """Detections: shape (N,) each but yx, (N, 2); their density per px² and frame."""

    frame: Ints
    yx: Floats
    log_odds: Floats
    var: Floats
    density: float


class _Links(NamedTuple):
    """Possible links: places of the earlier and the later detection, frames between them, squared distance, value."""

    earlier: Ints
    later: Ints
    steps: Ints
    squared_px: Floats
    nats: Floats

    def at(self, places: Any) -> "_Links":
        return _Links(*(column[places] for column in self))


def link_offline(
    frame: ArrayLike, y: ArrayLike, x: ArrayLike, *, score: ArrayLike, sigma: ArrayLike, area_px: float
) -> OfflineTracks:
    """Find the most probable tracks; the step of the particles is estimated along with them.

    Parameters
    ----------
    frame, y, x
        Shape (N,): frame indices and positions, px; in any order.
    score, sigma
        Shape (N,), or one number for all: probability that a detection is real, taken as 0.05 to 0.98; standard
        deviation of its position along each axis, taken as 0.05 to 3 px.
    area_px
        Size of the image, px².

    Raises
    ------
    ConfigError
        If a number is not finite, or the area not positive.
    """
    scene = _scene(np.stack(np.broadcast_arrays(frame, y, x, score, sigma)).astype(np.float64), area_px)
    if len(scene.frame) == 0:
        return OfflineTracks(scene.frame, FIRST_STEP_PX)
    step_px = FIRST_STEP_PX
    for _ in range(MOST_ROUNDS):
        real, links = _link(scene, step_px)
        before_px, step_px = step_px, _step(scene, links) if len(links.steps) else step_px
        if abs(step_px - before_px) <= STEP_TOLERANCE * before_px:
            break
    return OfflineTracks(_number(scene.frame, real, links), step_px)


def _scene(columns: Floats, area_px: float) -> _Scene:
    """Check and prepare the columns frame, y, x, score, sigma, of shape (5, N)."""
    if not np.isfinite(columns).all():
        raise ConfigError("a frame, position, score or sigma is not finite; drop such rows before linking")
    if not 0 < area_px < np.inf:
        raise ConfigError(f"area_px is {area_px}: it must be finite and above 0 (px²)")
    frame, yx = columns[0].astype(np.int64), columns[1:3].T
    score, sigma = columns[3].clip(LEAST_SCORE, MOST_SCORE), columns[4].clip(LEAST_SIGMA_PX, MOST_SIGMA_PX)
    n_frames = 1 + int(np.ptp(frame)) if len(frame) else 1
    return _Scene(frame, yx, np.log(score / (1 - score)), sigma**2, score.sum() / (n_frames * area_px))


def _link(scene: _Scene, step_px: float) -> tuple[NDArray[np.bool_], _Links]:
    """Return which detections are real, and the links between them, for a given step."""
    log_next = _log_next()
    log_none = np.log1p(-np.concatenate(([0.0], np.cumsum(np.exp(log_next)))))
    first = log_none[(scene.frame - scene.frame.min()).clip(max=MOST_STEPS)]
    last = log_none[(scene.frame.max() - scene.frame).clip(max=MOST_STEPS)]
    parts = [_candidates(scene, step_px, g, log_next[g - 1], 2 * log_none[-1]) for g in range(1, MOST_STEPS + 1)]
    links = _Links(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    worth = links.nats > last[links.earlier] + first[links.later]
    return _solve(scene.log_odds, first, last, links.at(worth))


def _log_next() -> Floats:
    """Return log P(g) for g = 1 ... G."""
    g = np.arange(1, MOST_STEPS + 1)
    return np.asarray(g * np.log(SURVIVAL) + (g - 1) * np.log(1 - DETECTION) + np.log(DETECTION))


def _candidates(scene: _Scene, step_px: float, steps: int, log_next: float, least: float) -> _Links:
    """Return the links over a number of frames that are worth at least ``least`` nats, and a few that are not."""
    log_scale = log_next - np.log(scene.density)
    widest = steps * step_px**2 + 2 * scene.var.max()
    narrowest = steps * step_px**2 + 2 * scene.var.min()
    reach_px = np.sqrt(2 * widest * max(0.0, log_scale - np.log(2 * np.pi * narrowest) - least))
    # In a third dimension, frames lie so far apart that only those that come together by the shift are within reach.
    apart_px = 2 * reach_px + 1
    shifted, later = (
        cKDTree(np.column_stack((apart_px * frame, scene.yx))) for frame in (scene.frame + steps, scene.frame)
    )
    near = shifted.sparse_distance_matrix(later, reach_px, output_type="ndarray")
    squared_px = near["v"] ** 2
    var = steps * step_px**2 + scene.var[near["i"]] + scene.var[near["j"]]
    nats = log_scale - np.log(2 * np.pi * var) - squared_px / (2 * var)
    return _Links(near["i"], near["j"], np.full(len(near), steps), squared_px, nats)


def _solve(log_odds: Floats, first: Floats, last: Floats, links: _Links) -> tuple[NDArray[np.bool_], _Links]:
    """Return which detections are on tracks, and the chosen links."""
    n = len(log_odds)
    come_in, go_out = np.arange(n), np.arange(n, 2 * n)
    source, sink = np.full(n, 2 * n), np.full(n, 2 * n + 1)
    tail = np.concatenate((come_in, n + links.earlier, source, go_out, source[:1]))
    head = np.concatenate((go_out, links.later, come_in, sink, sink[:1]))  # the last: for units that are no track
    nats = np.concatenate((log_odds, links.nats, first, last, [0.0]))
    flow = _cheapest_flow(tail, head, -nats, n)
    return flow[:n], links.at(flow[n : n + len(links.nats)])


def _cheapest_flow(tail: Ints, head: Ints, cost: Floats, n_units: int) -> NDArray[np.bool_]:
    """Send units from the last but one node to the last; at most one takes an arc, any number the last arc."""
    from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

    flow = SimpleMinCostFlow()
    capacity = np.ones(len(tail), np.int64)
    capacity[-1] = n_units
    costs = np.rint(COSTS_PER_NAT * cost).astype(np.int64)
    arcs = flow.add_arcs_with_capacity_and_unit_cost(tail.astype(np.int32), head.astype(np.int32), capacity, costs)
    flow.set_nodes_supplies(np.arange(2 * n_units, 2 * n_units + 2, dtype=np.int32), np.array([n_units, -n_units]))
    status = flow.solve()
    if status != flow.OPTIMAL:
        raise LinkerError(f"the min-cost flow of {n_units} detections was not solved: {status.name}; link fewer frames")
    return np.asarray(flow.flows(arcs)) > 0


def _step(scene: _Scene, links: _Links) -> float:
    """Estimate the step from the lengths of links, the errors of the positions taken off."""
    error_var = scene.var[links.earlier] + scene.var[links.later]
    var = float(np.mean((links.squared_px / 2 - error_var) / links.steps))
    return math.sqrt(max(var, LEAST_STEP_PX**2))


def _number(frame: Ints, real: NDArray[np.bool_], links: _Links) -> Ints:
    """Return the track of each detection, numbered in the order in which they begin; -1 for a false one."""
    n = len(frame)
    chains = coo_array((np.ones(len(links.earlier)), (links.earlier, links.later)), shape=(n, n))
    chain = connected_components(chains, directed=False)[1]
    in_order = np.argsort(frame, kind="stable")
    in_order = in_order[real[in_order]]
    particle = np.full(n, -1, np.int64)
    particle[in_order] = pd.factorize(chain[in_order])[0]
    return particle
