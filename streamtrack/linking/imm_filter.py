"""Interacting-multiple-model (IMM) Kalman filter with a probability of existence, for many tracks at once.

A particle moves in one of three ways at a time and may change between them:

- *Brownian*: position <- position + N(0, step²)
- *directed*: position <- position + velocity + N(0, wobble²), velocity <- velocity + N(0, change²)
- *tethered*: Brownian with a step near zero

Noise is the same in y and x, so each model needs one mean per axis but only one 2x2 covariance (position, velocity).

Sources: Blom & Bar-Shalom, IEEE Trans. Automat. Contr. 33 (1988) 780 (IMM: mixing, model probabilities);
Musicki, Evans & Stankovic, IEEE Trans. Automat. Contr. 39 (1994) 1237 (IPDA: probability of existence).
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack.compiling import compiled

MODELS = ("brownian", "directed", "tethered")
BROWNIAN, DIRECTED, TETHERED = range(3)
N_MODELS = len(MODELS)

POSITION, VELOCITY = 0, 1
"""Last index of ``mean``."""

POSITION_VAR, COVARIANCE, VELOCITY_VAR = 0, 1, 2
"""Last index of ``covariance``: the three different entries of the 2x2 matrix."""

TRACK = np.dtype(
    [
        ("particle", np.int64),
        ("existence", np.float64),
        ("hits", np.int64),  # detections so far
        ("misses", np.int64),  # frames since the last one
        ("probability", np.float64, (N_MODELS,)),
        ("mean", np.float64, (N_MODELS, 2, 2)),  # model; y, x; position (px), velocity (px/frame)
        ("covariance", np.float64, (N_MODELS, 3)),
    ]
)
"""One track. A record and not a class, so that all tracks are one array: quick to compile for, to copy and to save."""

MIXTURE = np.dtype(
    [(name, TRACK[name]) for name in ("probability", "mean", "covariance")] + [("weight", np.float64, (N_MODELS,))]
)
"""A track between mixing and prediction."""

Tracks = NDArray[np.void]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SETTLED_EXISTENCE, SETTLED_HITS = 0.9, 4
"""Tracks from here on are evidence of how particles move; younger ones say more about where they began."""

TINY = 1e-300
"""Keeps logarithms of underflowed likelihoods finite."""


class Motion(NamedTuple):
    """How particles move, per frame and axis.

    Attributes
    ----------
    step_var
        Shape (N_MODELS,), px²: noise of the position.
    velocity_change_var
        (px/frame)²: noise of the directed model's velocity.
    speed_var
        (px/frame)²: spread of the velocity of a particle that begins directed motion.
    localisation_var
        px²: noise of a detection's position.
    prior
        Shape (N_MODELS,): model probabilities of a new particle.
    transition
        Shape (N_MODELS, N_MODELS): probability to change from a model (row) to another (column).
    """

    step_var: Floats
    velocity_change_var: float
    speed_var: float
    localisation_var: float
    prior: Floats
    transition: Floats


class Rates(NamedTuple):
    """How often things happen, per frame; densities are per px².

    Attributes
    ----------
    detection, survival
        Probability that an existing particle is detected; that it goes on existing.
    clutter, birth
        Density of false detections; of new particles.
    """

    detection: float
    survival: float
    clutter: float
    birth: float


class Evidence(NamedTuple):
    """What the links of one frame say about the motion: sums over settled tracks.

    Attributes
    ----------
    step_var, brownian
        Estimates of the Brownian step variance (px²) times the probability of that model; sum of the probabilities.
    speed_var, directed
        Squared velocities per axis ((px/frame)²) times the probability of directed motion; sum of the probabilities.
    probability, n_tracks
        Model probabilities, shape (N_MODELS,); number of tracks.
    """

    step_var: float
    brownian: float
    speed_var: float
    directed: float
    probability: Floats
    n_tracks: int


@compiled
def predict(tracks: Tracks, motion: Motion, survival: float, steps: int) -> None:
    """Carry tracks ``steps`` frames on, in place, without any detection."""
    mixed = np.empty(1, MIXTURE)
    for i in range(len(tracks)):
        for _ in range(steps):
            _mix(tracks[i], motion.transition, mixed[0])
            _advance(mixed[0], motion, tracks[i])
        tracks[i]["existence"] *= survival**steps


@compiled
def _mix(track: Any, transition: Floats, mixed: Any) -> None:
    """Let the models exchange their states: c_j = sum_i T_ij p_i, w_ij = T_ij p_i / c_j, then match the moments."""
    weight = mixed["weight"]
    for j in range(N_MODELS):
        total = 0.0
        for i in range(N_MODELS):
            weight[i] = transition[i, j] * track["probability"][i]
            total += weight[i]
        for i in range(N_MODELS):
            weight[i] /= total
        mixed["probability"][j] = total
        _match_moments(track, weight, mixed["mean"][j], mixed["covariance"][j])


@compiled
def _match_moments(track: Any, weight: Floats, mean: Floats, covariance: Floats) -> None:
    """Write mean and covariance of the mixture of a track's models; the spread is averaged over y and x."""
    position_var, covar, velocity_var = 0.0, 0.0, 0.0
    for axis in range(2):
        position, velocity = 0.0, 0.0
        for i in range(N_MODELS):
            position += weight[i] * track["mean"][i, axis, POSITION]
            velocity += weight[i] * track["mean"][i, axis, VELOCITY]
        for i in range(N_MODELS):
            dp = track["mean"][i, axis, POSITION] - position
            dv = track["mean"][i, axis, VELOCITY] - velocity
            position_var += 0.5 * weight[i] * (track["covariance"][i, POSITION_VAR] + dp * dp)
            covar += 0.5 * weight[i] * (track["covariance"][i, COVARIANCE] + dp * dv)
            velocity_var += 0.5 * weight[i] * (track["covariance"][i, VELOCITY_VAR] + dv * dv)
        mean[axis, POSITION], mean[axis, VELOCITY] = position, velocity
    covariance[POSITION_VAR], covariance[COVARIANCE], covariance[VELOCITY_VAR] = position_var, covar, velocity_var


@compiled
def _advance(mixed: Any, motion: Motion, track: Any) -> None:
    """Move every model on by one frame: x <- F x, P <- F P F' + Q, with F = [[1, 1], [0, 1]] in the directed model."""
    for j in range(N_MODELS):
        track["probability"][j] = mixed["probability"][j]
        mean, cov = mixed["mean"][j], mixed["covariance"][j]
        directed = j == DIRECTED
        for axis in range(2):
            velocity = mean[axis, VELOCITY] if directed else 0.0
            track["mean"][j, axis, POSITION] = mean[axis, POSITION] + velocity
            track["mean"][j, axis, VELOCITY] = velocity
        after = track["covariance"][j]
        after[POSITION_VAR] = cov[POSITION_VAR] + motion.step_var[j]
        after[COVARIANCE] = 0.0
        after[VELOCITY_VAR] = motion.speed_var
        if directed:
            after[POSITION_VAR] += 2.0 * cov[COVARIANCE] + cov[VELOCITY_VAR]
            after[COVARIANCE] = cov[COVARIANCE] + cov[VELOCITY_VAR]
            after[VELOCITY_VAR] = cov[VELOCITY_VAR] + motion.velocity_change_var


@compiled
def _likelihood(track: Any, j: int, y: float, x: float, localisation_var: float) -> float:
    """Return p_j N(z; position of model j, S_j), 1/px², with S_j = P_j + R."""
    mean = track["mean"][j]
    variance: float = track["covariance"][j, POSITION_VAR] + localisation_var
    dy, dx = y - mean[0, POSITION], x - mean[1, POSITION]
    density = math.exp(-0.5 * (dy * dy + dx * dx) / variance) / (2.0 * math.pi * variance)
    return density * float(track["probability"][j])


@compiled
def _odds(track: Any, rates: Rates) -> float:
    """Return the odds that the particle exists and is detected in this frame."""
    detected: float = track["existence"] * rates.detection
    return detected / (1.0 - detected)


@compiled
def gates(tracks: Tracks, motion: Motion, rates: Rates) -> Floats:
    """Return boxes outside which no detection can be linked with a gain; no search range has to be set.

    A gain needs ``odds * likelihood > new``, so at least one of the M models must offer a likelihood of
    ``new / odds / M``. That bounds the distance from its prediction: d² < 2 S ln(M p odds / (2 pi S new)).

    Returns
    -------
    Shape (N, 4): lowest y, highest y, lowest x, highest x (px). Lowest > highest where there can be no link.
    """
    boxes = np.empty((len(tracks), 4))
    for i in range(len(tracks)):
        ratio = N_MODELS * _odds(tracks[i], rates) / (rates.clutter + rates.birth)
        low_y, high_y, low_x, high_x = np.inf, -np.inf, np.inf, -np.inf
        for j in range(N_MODELS):
            variance = tracks[i]["covariance"][j, POSITION_VAR] + motion.localisation_var
            peak = ratio * tracks[i]["probability"][j] / (2.0 * math.pi * variance)
            if peak > 1.0:
                reach = math.sqrt(2.0 * variance * math.log(peak))
                y, x = tracks[i]["mean"][j, 0, POSITION], tracks[i]["mean"][j, 1, POSITION]
                low_y, high_y = min(low_y, y - reach), max(high_y, y + reach)
                low_x, high_x = min(low_x, x - reach), max(high_x, x + reach)
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = low_y, high_y, low_x, high_x
    return boxes


@compiled
def gains(
    tracks: Tracks, motion: Motion, rates: Rates, start: Indices, detection: Indices, y: Floats, x: Floats
) -> Floats:
    """Return what linking each candidate pair adds to the log-likelihood, against calling the detection new.

    gain = ln(odds * likelihood / (clutter + birth)); candidates of track i are ``detection[start[i]:start[i + 1]]``.
    """
    gain = np.empty(len(detection))
    for i in range(len(tracks)):
        scale = _odds(tracks[i], rates) / (rates.clutter + rates.birth)
        for k in range(start[i], start[i + 1]):
            likelihood = 0.0
            for j in range(N_MODELS):
                likelihood += _likelihood(tracks[i], j, y[detection[k]], x[detection[k]], motion.localisation_var)
            gain[k] = math.log(max(scale * likelihood, TINY))
    return gain


@compiled
def correct(tracks: Tracks, motion: Motion, rates: Rates, detection_of: Indices, y: Floats, x: Floats) -> Evidence:
    """Take in the detection of each track, or that it has none (-1), in place; return what that says of the motion."""
    step_var, speed_var, probability, n_tracks = 0.0, 0.0, np.zeros(N_MODELS), 0
    for i in range(len(tracks)):
        track, d = tracks[i], detection_of[i]
        if d < 0:
            _miss(track, rates)
            continue
        settled = track["existence"] > SETTLED_EXISTENCE and track["misses"] == 0 and track["hits"] >= SETTLED_HITS
        estimate = _step_var(track, motion, y[d], x[d])
        _hit(track, motion, rates, y[d], x[d])
        if settled:
            step_var += track["probability"][BROWNIAN] * estimate
            speed_var += track["probability"][DIRECTED] * _speed_var(track)
            probability += track["probability"]
            n_tracks += 1
    return Evidence(step_var, probability[BROWNIAN], speed_var, probability[DIRECTED], probability, n_tracks)


@compiled
def _miss(track: Any, rates: Rates) -> None:
    """Lower the existence: r <- r (1 - pD) / (1 - r pD). The predicted state stays."""
    detected = track["existence"] * rates.detection
    track["existence"] *= (1.0 - rates.detection) / (1.0 - detected)
    track["misses"] += 1


@compiled
def _hit(track: Any, motion: Motion, rates: Rates, y: float, x: float) -> None:
    """Update every model with the detection, the model probabilities, and the existence.

    r <- r pD L / (r pD L + clutter (1 - r pD)), with L the likelihood of the detection over all models.
    """
    likelihood = TINY
    for j in range(N_MODELS):
        track["probability"][j] = _likelihood(track, j, y, x, motion.localisation_var)
        likelihood += track["probability"][j]
        _kalman_update(track["mean"][j], track["covariance"][j], y, x, motion.localisation_var)
    for j in range(N_MODELS):
        track["probability"][j] /= likelihood
    real = _odds(track, rates) * likelihood
    track["existence"] = real / (real + rates.clutter)
    track["hits"] += 1
    track["misses"] = 0


@compiled
def _kalman_update(mean: Floats, covariance: Floats, y: float, x: float, localisation_var: float) -> None:
    """Update one model: K = P H' / S, x <- x + K (z - H x), P <- (I - K H) P, with H = [1, 0]."""
    variance = covariance[POSITION_VAR] + localisation_var
    position_gain = covariance[POSITION_VAR] / variance
    velocity_gain = covariance[COVARIANCE] / variance
    for axis in range(2):
        surprise = (y if axis == 0 else x) - mean[axis, POSITION]
        mean[axis, POSITION] += position_gain * surprise
        mean[axis, VELOCITY] += velocity_gain * surprise
    covariance[VELOCITY_VAR] -= velocity_gain * covariance[COVARIANCE]
    covariance[COVARIANCE] *= 1.0 - position_gain
    covariance[POSITION_VAR] *= 1.0 - position_gain


@compiled
def _step_var(track: Any, motion: Motion, y: float, x: float) -> float:
    """Return an estimate of the Brownian step variance: what the surprise leaves over the other parts of S, px²."""
    mean = track["mean"][BROWNIAN]
    dy, dx = y - mean[0, POSITION], x - mean[1, POSITION]
    before_step = track["covariance"][BROWNIAN, POSITION_VAR] - motion.step_var[BROWNIAN]
    left_over: float = 0.5 * (dy * dy + dx * dx) - before_step - motion.localisation_var
    return left_over


@compiled
def _speed_var(track: Any) -> float:
    """Return the expected square of the velocity per axis in the directed model, (px/frame)²."""
    vy, vx = track["mean"][DIRECTED, 0, VELOCITY], track["mean"][DIRECTED, 1, VELOCITY]
    expected: float = track["covariance"][DIRECTED, VELOCITY_VAR] + 0.5 * (vy * vy + vx * vx)
    return expected
