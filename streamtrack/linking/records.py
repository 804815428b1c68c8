"""What the linker keeps of tracks and frames, as records: arrays of them are quick to compile for, copy and save."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import MOTION_MODES

BROWNIAN, DIRECTED, TETHERED = range(3)
N_MODELS = len(MOTION_MODES)

POSITION, VELOCITY = 0, 1
"""Last index of ``mean``."""

POSITION_VAR, COVARIANCE, VELOCITY_VAR = 0, 1, 2
"""Last index of ``covariance``: the three different entries of the 2x2 matrix."""

Y, X, VAR, CLUTTER, MASS = range(5)
"""Columns of what is measured of a detection: position (px), its variance per axis (px²), the density of false
detections like it (1/px²), and its mass."""
N_MEASURED = 5

Z, Z_VAR, Z_MIDDLE, Z_RANGE = range(N_MEASURED, N_MEASURED + 4)
"""Columns behind those where z is measured: it (px, NaN for none), its variance (px²), and between where and how far
around particles are found (px)."""
N_MEASURED_3D = N_MEASURED + 4

NONE = -1
"""No detection, no track."""

SETTLED_HITS = 4
"""Detections from which a track is evidence of its particle; younger ones say more about where they began."""

MASS_HITS = 8

N_GAPS = 3
"""A particle was missed in one frame, in two, or in more of them: the longer, the more probable that it is dark."""

Fields = list[tuple[Any, ...]]


def _state(axes: int) -> Fields:
    """Return the fields of a track's state in two dimensions or three."""
    return [
        ("existence", np.float64),
        ("probability", np.float64, (N_MODELS,)),
        ("mean", np.float64, (N_MODELS, axes, 2)),  # model; y, x, z; position (px), velocity (px/frame)
        ("covariance", np.float64, (N_MODELS, axes - 1, 3)),  # of y and x, of z
        ("detection", np.int64),  # of this frame, or NONE
        ("log_likelihood", np.float64),  # what this frame added to the log-likelihood of the track
        ("hits", np.int64),  # detections so far
        ("misses", np.int64),  # frames since the last one
        ("missed_detections", np.int64),  # those of them that were not lost
        ("born_index", np.int64),  # frame of the first detection
        ("last_index", np.int64),  # frame of the last one
        ("origin", np.float64, (2,)),  # place of the first detection: y, x
        ("last", np.float64, (3,)),  # last detection: y, x, variance
        ("mass", np.float64),  # mean over the last `MASS_HITS` detections, less of earlier ones
        ("since", np.float64),  # frame intervals since the last detection
        ("squared_steps", np.float64),  # sum of squared steps between detections, less their localisation errors, px²
        ("squared_steps_time", np.float64),  # frame intervals that they took
    ]


STATE, STATE_3D = np.dtype(_state(2)), np.dtype(_state(3))
"""A track at one frame, and where z is measured."""

FRAME = np.dtype(
    [
        ("index", np.int64),
        ("lost", np.int64),  # frames between the one before and this one
        ("substeps", np.int64),  # in which tracks are carried on from the frame before
        ("step", np.float64),  # length of each, in frame intervals
        ("shift", np.float64, (2,)),  # of the whole field from the frame before to this one: y, x (px)
        ("survival", np.float64),  # probability that a particle exists on, over all substeps
        ("detection", np.float64),  # probability that a particle is detected that was in the frame before
        ("reappearance", np.float64, (N_GAPS,)),  # the same of one missed in the last frame, the last two, more
        ("birth", np.float64),  # density of new particles, 1/px²
        ("switch", np.float64),  # probability that a particle draws its way of moving anew, per substep
        ("prior", np.float64, (N_MODELS,)),  # share of each motion model
        ("step_var", np.float64, (N_MODELS,)),  # noise of the position, px² per frame interval
        ("velocity_change_var", np.float64),  # noise of the directed model's velocity, (px/frame)² per frame interval
        ("speed_var", np.float64),  # spread of the velocity of a particle that begins directed motion, (px/frame)²
    ]
)
"""What holds while tracks are carried on to a frame and meet its detections."""

States = NDArray[np.void]
"""Shape (capacity, depth), of ``STATE`` or ``STATE_3D``: slot of the track, and place of the frame in the ring."""
Frames = NDArray[np.void]
"""Shape (depth,), of ``FRAME``."""
Measured = NDArray[np.float64]
"""Shape (depth, capacity, N_MEASURED): frame, detection, column."""
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Evidence(NamedTuple):
    """What the links of one frame say about the motion: sums over settled tracks.

    Attributes
    ----------
    step_var, brownian
        Estimates of the Brownian step variance (px² per frame interval) times the probability of that model; sum of
        the probabilities.
    speed_var, directed
        Squared velocities per axis ((px/frame)²) times the probability of directed motion; sum of the probabilities.
    probability, n_tracks
        Model probabilities, shape (N_MODELS,); number of tracks.
    n_seen
        Detections, those of them that follow on a miss, and the frames before them in which the particle was missed.
    """

    step_var: float
    brownian: float
    speed_var: float
    directed: float
    probability: Floats
    n_tracks: int
    n_seen: int
    n_found_again: Indices
    n_missed: Indices
