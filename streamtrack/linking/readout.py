"""What the tracks say about the detections of a frame."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack.compiling import compiled
from streamtrack.linking.records import DIRECTED, N_MODELS, NONE, VELOCITY, Indices, States, X, Y


class Readout(NamedTuple):
    """Columns for each of the N detections of a frame: see `streamtrack.types.TrackUpdate` and ``TrackMotion``."""

    particle: Indices
    existence: NDArray[np.float32]
    age_frames: Indices
    displacement_px: NDArray[np.float32]
    velocity_px: NDArray[np.float32]
    modes: NDArray[np.float32]
    diffusion_px2: NDArray[np.float32]


def describe(
    states: States, slots: Indices, particle: Indices, now: int, index: int, places: Indices, labels: Indices, n: int
) -> Readout:
    """Return what is known of each of ``n`` detections; times are frames or frame intervals.

    Parameters
    ----------
    states, slots, particle, now
        All tracks; those that are alive; the ids by slot; place of the frame in the ring.
    index
        Of the frame.
    places
        Place of each detection that was measured among all.
    labels
        Gets the id of each measured detection's track.
    """
    columns = Readout(
        np.full(n, NONE),
        np.zeros(n, np.float32),
        np.zeros(n, np.int64),
        np.zeros(n, np.float32),
        np.zeros((n, 2), np.float32),
        np.full((n, N_MODELS), np.nan, np.float32),
        np.full(n, np.nan, np.float32),
    )
    # Plain tuples: for a named one numba looks its class up anew in each call.
    _fill(states, slots, particle, now, index, places, labels, tuple(columns))
    return columns


@compiled
def _fill(
    states: States,
    slots: Indices,
    particle: Indices,
    now: int,
    index: int,
    places: Indices,
    labels: Indices,
    columns: tuple[Any, ...],
) -> None:
    owner, existence, age_frames, displacement_px, velocity_px, modes, diffusion_px2 = columns
    for slot in slots:
        track = states[slot, now]
        if track["detection"] == NONE:
            continue
        labels[track["detection"]] = particle[slot]
        d = places[track["detection"]]
        owner[d] = particle[slot]
        existence[d] = track["existence"]
        age_frames[d] = index - track["born_index"]
        dy, dx = track["last"][Y] - track["origin"][Y], track["last"][X] - track["origin"][X]
        displacement_px[d] = np.hypot(dy, dx)
        for axis in range(2):
            velocity_px[d, axis] = track["probability"][DIRECTED] * track["mean"][DIRECTED, axis, VELOCITY]
        for j in range(N_MODELS):
            modes[d, j] = track["probability"][j]
        if track["squared_steps_time"] > 0.0:
            diffusion_px2[d] = max(track["squared_steps"] / (4.0 * track["squared_steps_time"]), 0.0)
