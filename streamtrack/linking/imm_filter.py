"""Interacting-multiple-model (IMM) Kalman filter with a probability of existence, for many tracks at once.

A particle moves in one of three ways at a time and may change between them:

- *Brownian*: position <- position + N(0, step²)
- *directed*: position <- position + velocity + N(0, wobble²), velocity <- velocity + N(0, change²)
- *tethered*: Brownian with a step near zero

Noise is the same in y and x, so each model needs one mean per axis but only one 2x2 covariance (position, velocity).
Where z is measured it is a third axis, with a covariance of its own. Particles move along it as in y and x; of new
particles and false detections it is known only in which range they are. A detection without z says nothing of it.
Tracks without that axis are compiled as if there were none.

A particle that exists is lit or dark, and goes on so or changes; one that is lit may be missed all the same. Which it
is tells the number of frames in which it was missed: whether it is detected depends on that, up to `N_GAPS` of them.

Decisions are taken back by `streamtrack.linking.exchange`.

Sources: Blom & Bar-Shalom, IEEE Trans. Automat. Contr. 33 (1988) 780 (IMM: mixing, model probabilities);
Musicki, Evans & Stankovic, IEEE Trans. Automat. Contr. 39 (1994) 1237 (IPDA: probability of existence; "Markov chain
two": tracks that exist and are not seen).
"""

import math
from typing import Any

import numpy as np

from streamtrack.compiling import compiled
from streamtrack.linking.records import (
    BROWNIAN,
    CLUTTER,
    COVARIANCE,
    DIRECTED,
    MASS,
    MASS_HITS,
    N_GAPS,
    N_MODELS,
    NONE,
    POSITION,
    POSITION_VAR,
    SETTLED_HITS,
    VAR,
    VELOCITY,
    VELOCITY_VAR,
    Z_MIDDLE,
    Z_RANGE,
    Z_VAR,
    Floats,
    Frames,
    Indices,
    Measured,
    States,
    X,
    Y,
    Z,
)

SETTLED_EXISTENCE = 0.9
"""Tracks from here on, and from `SETTLED_HITS`, are evidence of how particles move."""

TINY = 1e-300
"""Keeps logarithms of underflowed likelihoods finite."""


@compiled
def predict(states: States, frames: Frames, slots: Indices, before: int, now: int) -> None:
    """Carry tracks on from the frame at place ``before`` of the ring to the one at ``now``."""
    mixed = np.empty(1, states.dtype)
    for slot in slots:
        predict_one(states[slot, before], frames[now], mixed[0], states[slot, now])


@compiled
def predict_one(before: Any, frame: Any, mixed: Any, now: Any) -> None:
    """Carry one track on from its state ``before`` to ``now``; ``mixed``, a state too, is scratch."""
    _mix(before, frame, mixed)
    _advance(mixed, frame, now)
    for _ in range(1, frame["substeps"]):
        _mix(now, frame, mixed)
        _advance(mixed, frame, now)
    now["existence"] = before["existence"] * frame["survival"]
    now["hits"], now["misses"] = before["hits"], before["misses"] + frame["lost"]
    now["missed_detections"] = before["missed_detections"]
    now["last_index"], now["mass"] = before["last_index"], before["mass"]
    now["born_index"], now["since"] = before["born_index"], before["since"] + frame["substeps"] * frame["step"]
    now["squared_steps"], now["squared_steps_time"] = before["squared_steps"], before["squared_steps_time"]
    for axis in range(2):
        now["origin"][axis] = before["origin"][axis]
    for k in range(3):
        now["last"][k] = before["last"][k]
    if frame["shift"][Y] != 0.0 or frame["shift"][X] != 0.0:
        shift_track(now, frame["shift"])


@compiled
def shift_track(track: Any, shift: Floats) -> None:
    """Let a track go with the field (y, x), px: its past, too, so that it moves no further than its particle does."""
    for axis in range(2):
        track["origin"][axis] += shift[axis]
        track["last"][axis] += shift[axis]
        for j in range(N_MODELS):
            track["mean"][j, axis, POSITION] += shift[axis]


@compiled
def _mix(track: Any, frame: Any, mixed: Any) -> None:
    """Let the models exchange their states: c_j = sum_i T_ij p_i, w_ij = T_ij p_i / c_j, then match the moments.

    A particle keeps its model or, with the probability ``switch``, draws one from the prior.
    """
    weight, switch = mixed["last"], frame["switch"]  # of no use else in a mixture, and as long as there are models
    for j in range(N_MODELS):
        total = 0.0
        for i in range(N_MODELS):
            weight[i] = switch * frame["prior"][j] * track["probability"][i]
            if i == j:
                weight[i] += (1.0 - switch) * track["probability"][i]
            total += weight[i]
        for i in range(N_MODELS):
            weight[i] /= total
        mixed["probability"][j] = total
        _match_moments(track, weight, mixed["mean"][j], mixed["covariance"][j, 0])
        if track["mean"].shape[1] > 2:
            _match_depth(track, weight, mixed["mean"][j, 2], mixed["covariance"][j, 1])


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
            position_var += 0.5 * weight[i] * (track["covariance"][i, 0, POSITION_VAR] + dp * dp)
            covar += 0.5 * weight[i] * (track["covariance"][i, 0, COVARIANCE] + dp * dv)
            velocity_var += 0.5 * weight[i] * (track["covariance"][i, 0, VELOCITY_VAR] + dv * dv)
        mean[axis, POSITION], mean[axis, VELOCITY] = position, velocity
    covariance[POSITION_VAR], covariance[COVARIANCE], covariance[VELOCITY_VAR] = position_var, covar, velocity_var


@compiled
def _match_depth(track: Any, weight: Floats, mean: Floats, covariance: Floats) -> None:
    """Write those of z."""
    mean[:], covariance[:] = 0.0, 0.0
    for i in range(N_MODELS):
        mean[POSITION] += weight[i] * track["mean"][i, 2, POSITION]
        mean[VELOCITY] += weight[i] * track["mean"][i, 2, VELOCITY]
    for i in range(N_MODELS):
        dp = track["mean"][i, 2, POSITION] - mean[POSITION]
        dv = track["mean"][i, 2, VELOCITY] - mean[VELOCITY]
        covariance[POSITION_VAR] += weight[i] * (track["covariance"][i, 1, POSITION_VAR] + dp * dp)
        covariance[COVARIANCE] += weight[i] * (track["covariance"][i, 1, COVARIANCE] + dp * dv)
        covariance[VELOCITY_VAR] += weight[i] * (track["covariance"][i, 1, VELOCITY_VAR] + dv * dv)


@compiled
def _advance(mixed: Any, frame: Any, track: Any) -> None:
    """Move every model on by one substep: x <- F x, P <- F P F' + Q, with F = [[1, step], [0, 1]] if directed."""
    for j in range(N_MODELS):
        track["probability"][j] = mixed["probability"][j]
        for axis in range(2):
            _advance_mean(mixed["mean"][j, axis], frame["step"], j, track["mean"][j, axis])
        _advance_covariance(mixed["covariance"][j, 0], frame, j, track["covariance"][j, 0])
        if track["mean"].shape[1] > 2:
            _advance_mean(mixed["mean"][j, 2], frame["step"], j, track["mean"][j, 2])
            _advance_covariance(mixed["covariance"][j, 1], frame, j, track["covariance"][j, 1])


@compiled
def _advance_mean(before: Floats, step: float, j: int, after: Floats) -> None:
    velocity = before[VELOCITY] if j == DIRECTED else 0.0
    after[POSITION] = before[POSITION] + step * velocity
    after[VELOCITY] = velocity


@compiled
def _advance_covariance(before: Floats, frame: Any, j: int, after: Floats) -> None:
    step = frame["step"]
    after[POSITION_VAR] = before[POSITION_VAR] + step * frame["step_var"][j]
    after[COVARIANCE] = 0.0
    after[VELOCITY_VAR] = frame["speed_var"]
    if j == DIRECTED:
        after[POSITION_VAR] += step * (2.0 * before[COVARIANCE] + step * before[VELOCITY_VAR])
        after[COVARIANCE] = before[COVARIANCE] + step * before[VELOCITY_VAR]
        after[VELOCITY_VAR] = before[VELOCITY_VAR] + step * frame["velocity_change_var"]


@compiled
def _likelihood(track: Any, j: int, seen: Floats) -> float:
    """Return p_j N(z; position of model j, S_j), 1/px², with S_j = P_j + R.

    Where there is z, times the ratio of its density to that of what may be anywhere in the range.
    """
    mean = track["mean"][j]
    variance: float = track["covariance"][j, 0, POSITION_VAR] + seen[VAR]
    dy, dx = seen[Y] - mean[0, POSITION], seen[X] - mean[1, POSITION]
    density = math.exp(-0.5 * (dy * dy + dx * dx) / variance) / (2.0 * math.pi * variance)
    if track["mean"].shape[1] > 2 and math.isfinite(seen[Z]):
        variance = track["covariance"][j, 1, POSITION_VAR] + seen[Z_VAR]
        dz = seen[Z] - mean[2, POSITION]
        density *= seen[Z_RANGE] * math.exp(-0.5 * dz * dz / variance) / math.sqrt(2.0 * math.pi * variance)
    return density * float(track["probability"][j])


@compiled
def gates(
    states: States,
    frames: Frames,
    slots: Indices,
    now: int,
    least_clutter: float,
    most_var: float,
    most_by_depth: float = 1.0,
) -> Floats:
    """Return boxes outside which no detection can be linked with a gain; no search range has to be set.

    A gain needs ``odds * likelihood > new``, so at least one of the M models must offer a likelihood of
    ``new / odds / M``. That bounds the distance from its prediction: d² < 2 S ln(K / S), K = M p odds / (2 pi new),
    which is greatest at S = K / e.

    Parameters
    ----------
    least_clutter, most_var
        The least ``CLUTTER`` and the greatest ``VAR`` among this frame's detections.
    most_by_depth
        How much more probable a link can be by its z.

    Returns
    -------
    Shape (N, 4): lowest y, highest y, lowest x, highest x (px). Lowest > highest where there can be no link.
    """
    boxes = np.empty((len(slots), 4))
    frame = frames[now]
    for n in range(len(slots)):
        track = states[slots[n], now]
        detected = track["existence"] * _visible(track, frame)
        ratio = N_MODELS * detected / (1.0 - detected) / (2.0 * math.pi * (least_clutter + frame["birth"]))
        ratio *= most_by_depth
        low_y, high_y, low_x, high_x = np.inf, -np.inf, np.inf, -np.inf
        for j in range(N_MODELS):
            peak = ratio * track["probability"][j]
            own_var = track["covariance"][j, 0, POSITION_VAR]
            variance = max(own_var, min(own_var + most_var, peak / math.e))
            if peak > variance:
                reach = math.sqrt(2.0 * variance * math.log(peak / variance))
                y, x = track["mean"][j, 0, POSITION], track["mean"][j, 1, POSITION]
                low_y, high_y = min(low_y, y - reach), max(high_y, y + reach)
                low_x, high_x = min(low_x, x - reach), max(high_x, x + reach)
        boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = low_y, high_y, low_x, high_x
    return boxes


@compiled
def gains(
    states: States, frames: Frames, measured: Measured, slots: Indices, now: int, start: Indices, detection: Indices
) -> Floats:
    """Return what linking each candidate pair adds to the log-likelihood, against missing it and calling it new.

    gain = ln(odds * likelihood / (clutter + birth)), odds = r pD / (1 - r pD); candidates of the n-th track are
    ``detection[start[n]:start[n + 1]]``.
    """
    gain = np.empty(len(detection))
    frame = frames[now]
    for n in range(len(slots)):
        track = states[slots[n], now]
        detected = track["existence"] * _visible(track, frame)
        for k in range(start[n], start[n + 1]):
            seen = measured[now, detection[k]]
            likelihood = 0.0
            for j in range(N_MODELS):
                likelihood += _likelihood(track, j, seen)
            odds = detected / (1.0 - detected) / (seen[CLUTTER] + frame["birth"])
            gain[k] = math.log(max(odds * likelihood, TINY))
    return gain


@compiled
def correct(
    states: States, frames: Frames, measured: Measured, slots: Indices, now: int, detection_of: Indices
) -> tuple[float, float, float, float, Floats, int, int, Indices, Indices]:
    """Take in the detection of each track, or that it has none (-1); return the fields of `Evidence`.

    They come as a plain tuple: for a named one numba looks its class up anew in each call.
    """
    step_var, speed_var, probability, n_tracks = 0.0, 0.0, np.zeros(N_MODELS), 0
    n_seen, n_found_again, n_missed = 0, np.zeros(N_GAPS, np.int64), np.zeros(N_GAPS, np.int64)
    frame = frames[now]
    for n in range(len(slots)):
        track, d = states[slots[n], now], detection_of[n]
        if d < 0:
            miss(track, frame)
            continue
        if track["hits"] >= SETTLED_HITS:
            n_seen += 1
            if track["missed_detections"] > 0:
                _count_gap(track["missed_detections"], n_found_again, n_missed)
        settled = track["existence"] > SETTLED_EXISTENCE and track["misses"] == 0 and track["hits"] >= SETTLED_HITS
        estimate = _step_var(track, frame, measured[now, d])
        hit(track, frame, measured[now, d], d)
        if settled:
            step_var += track["probability"][BROWNIAN] * estimate
            speed_var += track["probability"][DIRECTED] * _speed_var(track)
            probability += track["probability"]
            n_tracks += 1
    brownian, directed = probability[BROWNIAN], probability[DIRECTED]
    return step_var, brownian, speed_var, directed, probability, n_tracks, n_seen, n_found_again, n_missed


@compiled
def _count_gap(missed: int, n_found_again: Indices, n_missed: Indices) -> None:
    """Count a gap of so many missed frames: how often the particle could have come back, and when it did."""
    for k in range(1, missed + 1):
        n_missed[min(k, N_GAPS) - 1] += 1
    n_found_again[min(missed, N_GAPS) - 1] += 1


@compiled
def _visible(track: Any, frame: Any) -> float:
    """Return pD, the probability that the particle is detected if it exists: one that was missed may be dark."""
    missed = track["missed_detections"]
    visible: float = frame["reappearance"][min(missed, N_GAPS) - 1] if missed > 0 else frame["detection"]
    return visible


@compiled
def miss(track: Any, frame: Any) -> None:
    """Lower the existence: r <- r (1 - pD) / (1 - r pD). The predicted state stays."""
    visible = _visible(track, frame)
    missed = 1.0 - track["existence"] * visible
    track["log_likelihood"] = math.log(missed)
    track["existence"] *= (1.0 - visible) / missed
    track["misses"] += 1
    track["missed_detections"] += 1
    track["detection"] = NONE


@compiled
def hit(track: Any, frame: Any, seen: Floats, detection: int) -> None:
    """Update every model with the detection, the model probabilities, and the existence.

    r <- r pD L / (r pD L + clutter (1 - r pD)), with L the likelihood of the detection over all models.
    """
    likelihood = 0.0
    for j in range(N_MODELS):
        # Where all underflow, which happens where tails are exchanged far away, the models stay as they were.
        track["probability"][j] = _likelihood(track, j, seen) + TINY * track["probability"][j]
        likelihood += track["probability"][j]
        _kalman_update(track["mean"][j], track["covariance"][j], seen)
        if track["mean"].shape[1] > 2 and math.isfinite(seen[Z]):
            _update_depth(track["mean"][j], track["covariance"][j], seen)
    for j in range(N_MODELS):
        track["probability"][j] /= likelihood
    detected = track["existence"] * _visible(track, frame)
    real = detected * likelihood
    track["log_likelihood"] = math.log(max(real / (seen[CLUTTER] + frame["birth"]), TINY))
    track["existence"] = real / (real + seen[CLUTTER] * (1.0 - detected))
    track["hits"] += 1
    track["misses"], track["missed_detections"] = 0, 0
    track["detection"], track["last_index"] = detection, frame["index"]
    track["mass"] += (seen[MASS] - track["mass"]) / min(track["hits"], MASS_HITS)
    _add_squared_step(track, seen)


@compiled
def _add_squared_step(track: Any, seen: Floats) -> None:
    """Add the step since the last detection to the sums behind the diffusion coefficient."""
    dy, dx = seen[Y] - track["last"][Y], seen[X] - track["last"][X]
    track["squared_steps"] += dy * dy + dx * dx - 2.0 * (seen[VAR] + track["last"][VAR])
    track["squared_steps_time"] += track["since"]
    track["since"] = 0.0
    for k in range(3):
        track["last"][k] = seen[k]


@compiled
def _kalman_update(mean: Floats, covariance: Floats, seen: Floats) -> None:
    """Update one model: K = P H' / S, x <- x + K (z - H x), P <- (I - K H) P, with H = [1, 0]."""
    variance = covariance[0, POSITION_VAR] + seen[VAR]
    position_gain = covariance[0, POSITION_VAR] / variance
    velocity_gain = covariance[0, COVARIANCE] / variance
    for axis in range(2):
        innovation = seen[axis] - mean[axis, POSITION]
        mean[axis, POSITION] += position_gain * innovation
        mean[axis, VELOCITY] += velocity_gain * innovation
    _shrink(covariance[0], position_gain, velocity_gain)


@compiled
def _update_depth(mean: Floats, covariance: Floats, seen: Floats) -> None:
    """Update one model along z."""
    variance, innovation = covariance[1, POSITION_VAR] + seen[Z_VAR], seen[Z] - mean[2, POSITION]
    position_gain, velocity_gain = covariance[1, POSITION_VAR] / variance, covariance[1, COVARIANCE] / variance
    mean[2, POSITION] += position_gain * innovation
    mean[2, VELOCITY] += velocity_gain * innovation
    _shrink(covariance[1], position_gain, velocity_gain)


@compiled
def _shrink(covariance: Floats, position_gain: float, velocity_gain: float) -> None:
    covariance[VELOCITY_VAR] -= velocity_gain * covariance[COVARIANCE]
    covariance[COVARIANCE] *= 1.0 - position_gain
    covariance[POSITION_VAR] *= 1.0 - position_gain


@compiled
def _step_var(track: Any, frame: Any, seen: Floats) -> float:
    """Return an estimate of the Brownian step variance: what the innovation leaves over the other parts of S."""
    mean = track["mean"][BROWNIAN]
    dy, dx = seen[Y] - mean[0, POSITION], seen[X] - mean[1, POSITION]
    intervals = frame["substeps"] * frame["step"]
    before_step = track["covariance"][BROWNIAN, 0, POSITION_VAR] - intervals * frame["step_var"][BROWNIAN]
    left_over: float = (0.5 * (dy * dy + dx * dx) - before_step - seen[VAR]) / intervals
    return left_over


@compiled
def _speed_var(track: Any) -> float:
    """Return the expected square of the velocity per axis in the directed model, (px/frame)²."""
    vy, vx = track["mean"][DIRECTED, 0, VELOCITY], track["mean"][DIRECTED, 1, VELOCITY]
    expected: float = track["covariance"][DIRECTED, 0, VELOCITY_VAR] + 0.5 * (vy * vy + vx * vx)
    return expected


@compiled
def begin(states: States, frames: Frames, measured: Measured, slots: Indices, now: int, detections: Indices) -> None:
    """Start a track in each slot at one of the frame's detections."""
    for n in range(len(slots)):
        begin_one(states[slots[n], now], frames[now], measured[now, detections[n]], detections[n])


@compiled
def begin_one(track: Any, frame: Any, seen: Floats, detection: int) -> None:
    """Start a track at a detection."""
    track["existence"] = frame["birth"] / (frame["birth"] + seen[CLUTTER])
    for j in range(N_MODELS):
        track["probability"][j] = frame["prior"][j]
        for axis in range(2):
            _begin_axis(track["mean"][j, axis], seen[axis])
        _begin_covariance(track["covariance"][j, 0], seen[VAR], frame)
        if track["mean"].shape[1] > 2:
            is_seen = math.isfinite(seen[Z])  # otherwise it may be anywhere in the range
            _begin_axis(track["mean"][j, 2], seen[Z] if is_seen else seen[Z_MIDDLE])
            _begin_covariance(track["covariance"][j, 1], seen[Z_VAR] if is_seen else seen[Z_RANGE] ** 2 / 12.0, frame)
    track["detection"], track["log_likelihood"] = detection, 0.0
    track["hits"], track["misses"], track["missed_detections"], track["born_index"] = 1, 0, 0, frame["index"]
    track["last_index"], track["mass"] = frame["index"], seen[MASS]
    track["since"], track["squared_steps"], track["squared_steps_time"] = 0.0, 0.0, 0.0
    for axis in range(2):
        track["origin"][axis] = seen[axis]
    for k in range(3):
        track["last"][k] = seen[k]


@compiled
def _begin_axis(mean: Floats, place: float) -> None:
    mean[POSITION], mean[VELOCITY] = place, 0.0


@compiled
def _begin_covariance(covariance: Floats, var: float, frame: Any) -> None:
    covariance[POSITION_VAR], covariance[COVARIANCE], covariance[VELOCITY_VAR] = var, 0.0, frame["speed_var"]
