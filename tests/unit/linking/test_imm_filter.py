"""The compiled filter against a plain one with full matrices, as the textbook writes it."""

import numpy as np
import pytest

from streamtrack.linking.calibration import MotionCalibration
from streamtrack.linking.exchange import revise
from streamtrack.linking.imm_filter import begin, correct, gains, gates, predict
from streamtrack.linking.records import (
    BROWNIAN,
    CLUTTER,
    COVARIANCE,
    DIRECTED,
    FRAME,
    N_MEASURED,
    N_MEASURED_3D,
    N_MODELS,
    NONE,
    POSITION,
    POSITION_VAR,
    STATE,
    STATE_3D,
    TETHERED,
    VAR,
    VELOCITY,
    VELOCITY_VAR,
    Z_RANGE,
    Z_VAR,
    Evidence,
    X,
    Y,
    Z,
)

N = 40
SLOTS = np.arange(N)
BEFORE, NOW = 0, 1
H = np.array([1.0, 0.0])
FILTER = ("existence", "probability", "mean", "covariance")


def frames_of(depth, *, substeps=1, step=1.0, lost=0, step_px=1.7):
    frames = np.zeros(depth, FRAME)
    motion = MotionCalibration(step_px).describe(step)
    for k in range(depth):
        frames[k] = (k, lost, substeps, step, 0.0, 0.97, 0.9, 0.9, 5e-5, *motion)
    return frames


@pytest.fixture
def frames():
    return frames_of(2)


@pytest.fixture
def states():
    """Tracks in any state at the frame before, as long as the covariances are ones."""
    rng = np.random.default_rng(3)
    states = np.zeros((N, 2), STATE)
    tracks = states[:, BEFORE]
    tracks["existence"] = 1 - rng.uniform(0.1, 1, N) ** 3
    tracks["hits"] = 10
    tracks["probability"] = rng.dirichlet(np.ones(N_MODELS), N)
    centre = rng.uniform(0, 100, (N, 1, 2, 1))
    tracks["mean"] = np.concatenate((centre + rng.normal(0, 1, (N, 3, 2, 1)), rng.normal(0, 3, (N, 3, 2, 1))), axis=-1)
    root = rng.normal(0, 1, (N, N_MODELS, 2, 2))
    full = root @ root.swapaxes(-1, -2)
    tracks["covariance"][:, :, 0] = np.stack((full[..., 0, 0], full[..., 0, 1], full[..., 1, 1]), axis=-1)
    states[:, NOW] = tracks
    return states


def measured_at(y, x, var=0.16, clutter=1e-4):
    measured = np.zeros((2, len(y), N_MEASURED))
    measured[NOW, :, Y], measured[NOW, :, X] = y, x
    measured[NOW, :, VAR], measured[NOW, :, CLUTTER] = var, clutter
    return measured


def matrix(covariance):
    return np.array(
        [[covariance[POSITION_VAR], covariance[COVARIANCE]], [covariance[COVARIANCE], covariance[VELOCITY_VAR]]]
    )


def reference_mixture(track, frame):
    """Model probabilities, means and covariances after mixing; the spread is that of y and x, averaged."""
    transition = (1 - frame["switch"]) * np.eye(N_MODELS) + frame["switch"] * frame["prior"]
    probability = transition.T @ track["probability"]
    weight = transition * track["probability"][:, None] / probability
    means, covariances = [], []
    for j in range(N_MODELS):
        mean = np.einsum("i,iad->ad", weight[:, j], track["mean"])
        covariance = np.zeros((2, 2))
        for i in range(N_MODELS):
            spread = track["mean"][i] - mean
            covariance += weight[i, j] * (matrix(track["covariance"][i, 0]) + spread.T @ spread / 2)
        means.append(mean)
        covariances.append(covariance)
    return probability, means, covariances


def reference_prediction(track, frame):
    probability, means, covariances = reference_mixture(track, frame)
    step, step_var = frame["step"], frame["step"] * frame["step_var"]
    for j in (BROWNIAN, TETHERED):
        means[j] = means[j] @ np.diag([1.0, 0.0])
        covariances[j] = np.diag([covariances[j][0, 0] + step_var[j], frame["speed_var"]])
    carry = np.array([[1.0, step], [0.0, 1.0]])
    means[DIRECTED] = means[DIRECTED] @ carry.T
    noise = np.diag([step_var[DIRECTED], step * frame["velocity_change_var"]])
    covariances[DIRECTED] = carry @ covariances[DIRECTED] @ carry.T + noise
    return probability, means, covariances


def normal(offset, variance):
    return np.exp(-0.5 * offset @ offset / variance) / (2 * np.pi * variance)


def likelihoods(track, seen):
    return np.array(
        [
            track["probability"][j]
            * normal(seen[:2] - track["mean"][j, :, POSITION], track["covariance"][j, 0, POSITION_VAR] + seen[VAR])
            for j in range(N_MODELS)
        ]
    )


def test_z_is_an_axis_as_y_and_x_are():
    """Where the same is seen along all three, the same is known of all, and what was not seen is as predicted."""
    states, frames, one = np.zeros((1, 2), STATE_3D), frames_of(2), np.zeros(1, np.int64)
    places = np.cumsum(np.random.default_rng(5).normal(1, 1, 12))
    for t, place in enumerate(places):
        measured = np.zeros((2, 1, N_MEASURED_3D))
        measured[NOW, 0, [Y, X, Z]] = place
        measured[NOW, 0, [VAR, Z_VAR]] = 0.16
        measured[NOW, 0, [CLUTTER, Z_RANGE]] = 1e-4, 20.0
        if t == 0:
            begin(states, frames, measured, one, NOW, one)
        else:
            predict(states, frames, one, BEFORE, NOW)
            correct(states, frames, measured, one, NOW, one)
        track = states[0, NOW]
        np.testing.assert_allclose(track["mean"][:, 2], track["mean"][:, 0])
        np.testing.assert_allclose(track["covariance"][:, 1], track["covariance"][:, 0], atol=1e-12)
        states[:, BEFORE] = states[:, NOW]
    predict(states, frames, one, BEFORE, NOW)
    predicted, measured[NOW, 0, Z] = states[0, NOW].copy(), np.nan
    correct(states, frames, measured, one, NOW, one)
    np.testing.assert_array_equal(states[0, NOW]["mean"][:, 2], predicted["mean"][:, 2])
    assert (states[0, NOW]["mean"][:, 0, POSITION] != predicted["mean"][:, 0, POSITION]).all()


@pytest.mark.parametrize("step", [1.0, 0.4, 1.7])
def test_prediction(states, step):
    frames = frames_of(2, step=step)
    predict(states, frames, SLOTS, BEFORE, NOW)
    for old, track in states:
        probability, means, covariances = reference_prediction(old, frames[NOW])
        np.testing.assert_allclose(track["probability"], probability)
        np.testing.assert_allclose(track["mean"], means, atol=1e-12)
        np.testing.assert_allclose(
            [matrix(covariance) for covariance in track["covariance"][:, 0]], covariances, atol=1e-12
        )
        assert track["existence"] == pytest.approx(0.97 * old["existence"])
        assert (track["hits"], track["misses"]) == (10, 0)


def test_substeps_are_predictions_one_after_the_other(states):
    stepwise, at_once = states.copy(), states.copy()
    for _ in range(3):
        predict(stepwise, frames_of(2), SLOTS, BEFORE, NOW)
        stepwise[:, BEFORE] = stepwise[:, NOW]
    predict(at_once, frames_of(2, substeps=3, lost=2), SLOTS, BEFORE, NOW)
    for name in ("probability", "mean", "covariance", "since"):
        np.testing.assert_allclose(at_once[:, NOW][name], stepwise[:, NOW][name])
    assert (at_once[:, NOW]["misses"] == 2).all()


def test_correction(states, frames):
    before = states[:, NOW].copy()
    yx = before["mean"][:, BROWNIAN, :, POSITION] + np.random.default_rng(4).normal(0, 1, (N, 2))
    measured = measured_at(*yx.T, var=np.linspace(0.05, 2, N), clutter=np.geomspace(1e-6, 1e-2, N))
    correct(states, frames, measured, SLOTS, NOW, SLOTS)
    for track, old, seen in zip(states[:, NOW], before, measured[NOW], strict=True):
        likelihood = likelihoods(old, seen)
        np.testing.assert_allclose(track["probability"], likelihood / likelihood.sum())
        for j in range(N_MODELS):
            covariance = matrix(old["covariance"][j, 0])
            gain = covariance @ H / (H @ covariance @ H + seen[VAR])
            innovation = seen[:2] - old["mean"][j, :, POSITION]
            np.testing.assert_allclose(track["mean"][j], old["mean"][j] + np.outer(innovation, gain))
            np.testing.assert_allclose(matrix(track["covariance"][j, 0]), covariance - np.outer(gain, H) @ covariance)
        detected = old["existence"] * 0.9
        real, false = detected * likelihood.sum(), seen[CLUTTER] * (1 - detected)
        assert track["existence"] == pytest.approx(real / (real + false))
        assert track["log_likelihood"] == pytest.approx(np.log(real / (seen[CLUTTER] + 5e-5)))
        assert (track["hits"], track["misses"]) == (11, 0)


def test_evidence_is_that_of_settled_tracks(states, frames):
    tracks = states[:, NOW]
    tracks["misses"][::3] = 1
    tracks["hits"][::5] = 3
    tracks["missed_detections"] = 2
    settled = (tracks["existence"] > 0.9) & (tracks["misses"] == 0) & (tracks["hits"] > 3)
    assert 0 < settled.sum() < N
    before = tracks.copy()
    y, x = before["mean"][:, BROWNIAN, :, POSITION].T + 1.5
    evidence = Evidence(*correct(states, frames, measured_at(y, x), SLOTS, NOW, SLOTS))
    brownian, directed = tracks["probability"][settled][:, [BROWNIAN, DIRECTED]].T
    other = before["covariance"][settled, BROWNIAN, 0, POSITION_VAR] - frames[NOW]["step_var"][BROWNIAN] + 0.16
    velocity = tracks["mean"][settled, DIRECTED, :, VELOCITY]
    square = tracks["covariance"][settled, DIRECTED, 0, VELOCITY_VAR] + (velocity**2).mean(axis=1)
    np.testing.assert_allclose(evidence.step_var, (brownian * (1.5**2 - other)).sum())
    np.testing.assert_allclose(evidence.speed_var, (directed * square).sum())
    np.testing.assert_allclose(evidence.probability, tracks["probability"][settled].sum(axis=0))
    assert (evidence.brownian, evidence.directed) == tuple(evidence.probability[[BROWNIAN, DIRECTED]])
    assert evidence.n_tracks == settled.sum()
    n_settled = (before["hits"] > 3).sum()
    assert evidence.n_seen == n_settled
    assert evidence.n_missed.tolist() == [n_settled, n_settled, 0]
    assert evidence.n_found_again.tolist() == [0, n_settled, 0]


def test_a_missed_particle_keeps_its_prediction_and_exists_less(states, frames):
    before = states[:, NOW].copy()
    correct(states, frames, measured_at([], []), SLOTS, NOW, np.full(N, NONE))
    tracks, old = states[:, NOW], before["existence"]
    for name in ("probability", "mean", "covariance", "hits"):
        np.testing.assert_array_equal(tracks[name], before[name])
    np.testing.assert_allclose(tracks["existence"], old * 0.1 / (1 - 0.9 * old))
    np.testing.assert_allclose(tracks["log_likelihood"], np.log(1 - 0.9 * old))
    assert (tracks["misses"] == 1).all()
    assert (tracks["detection"] == NONE).all()


def test_a_detection_beyond_all_models_leaves_their_shares_and_ends_the_track(states, frames):
    before = states["probability"][:, NOW].copy()
    far = measured_at(np.full(N, 1e5), np.full(N, 1e5))
    correct(states, frames, far, SLOTS, NOW, np.arange(N))
    np.testing.assert_allclose(states["probability"][:, NOW], before, rtol=1e-6)
    assert (states["existence"][:, NOW] < 1e-100).all()
    predict(states, frames, SLOTS, NOW, BEFORE)
    assert np.isfinite(states["mean"][:, BEFORE]).all()


def test_gain_is_the_log_ratio_of_linked_to_new(states, frames):
    measured = measured_at([50.0], [40.0])
    gain = gains(states, frames, measured, SLOTS, NOW, np.arange(N + 1), np.zeros(N, np.int64))
    tracks = states[:, NOW]
    detected = tracks["existence"] * 0.9
    likelihood = np.array([likelihoods(track, measured[NOW, 0]).sum() for track in tracks])
    with np.errstate(divide="ignore"):
        expected = np.log(detected / (1 - detected) * likelihood / (1e-4 + 5e-5))
    near = expected > -600
    assert near.any()
    np.testing.assert_allclose(gain[near], expected[near])
    assert (gain[~near] < -600).all()


def test_no_gain_outside_the_gate(states, frames):
    """Whatever the variance and the clutter of each detection, within the bounds given."""
    rng = np.random.default_rng(5)
    var, clutter = rng.uniform(0.01, 9, 400), 10 ** rng.uniform(-5, -3, 400)
    boxes = gates(states, frames, SLOTS, NOW, clutter.min(), var.max())
    offset = rng.uniform(-25, 25, (400, 2))
    inside_gains = 0
    for slot, (low_y, high_y, low_x, high_x) in zip(SLOTS, boxes, strict=True):
        y, x = (states[slot, NOW]["mean"][BROWNIAN, :, POSITION] + offset).T
        measured = measured_at(y, x, var, clutter)
        gain = gains(states, frames, measured, SLOTS[slot : slot + 1], NOW, np.array([0, 400]), np.arange(400))
        inside = (low_y <= y) & (y <= high_y) & (low_x <= x) & (x <= high_x)
        assert (gain[~inside] <= 0).all()
        inside_gains += (gain[inside] > 0).sum()
    assert inside_gains > 0


def test_an_improbable_track_has_no_gate(states, frames):
    states[:, NOW]["existence"] = 1e-9
    low_y, high_y, low_x, high_x = gates(states, frames, SLOTS, NOW, 1e-4, 0.16).T
    assert (low_y > high_y).all()
    assert (low_x > high_x).all()


def follow(positions, frames):
    """Return one track through positions of shape (T, 2), and the evidence of every frame."""
    states, slot = np.zeros((1, 2), STATE), np.zeros(1, np.int64)
    begin(states, frames, measured_at(*np.atleast_2d(positions[0]).T), slot, NOW, slot)
    states["existence"] = 0.99
    evidence = []
    for yx in positions[1:]:
        states[:, BEFORE] = states[:, NOW]
        predict(states, frames, slot, BEFORE, NOW)
        evidence.append(Evidence(*correct(states, frames, measured_at(*np.atleast_2d(yx).T), slot, NOW, slot)))
    return states[0, NOW], evidence


def test_straight_motion_is_recognised_and_its_velocity_found(frames):
    times = np.arange(30)[:, None]
    track, _ = follow([10.0, 20.0] + times * [3.0, -2.0], frames)
    assert track["probability"].argmax() == DIRECTED
    np.testing.assert_allclose(track["mean"][DIRECTED, :, VELOCITY], [3.0, -2.0], atol=0.01)


def test_rest_is_recognised(frames):
    rng = np.random.default_rng(6)
    track, _ = follow(rng.normal(30, 0.3, (40, 2)), frames)
    assert track["probability"].argmax() == TETHERED


def test_brownian_motion_is_recognised_and_tells_its_step(frames):
    rng = np.random.default_rng(7)
    path = np.cumsum(rng.normal(0, 1.7, (800, 2)), axis=0) + rng.normal(0, 0.4, (800, 2))
    track, evidence = follow(path, frames)
    total = sum(e.probability for e in evidence)
    assert total.argmax() == BROWNIAN
    assert sum(e.n_tracks for e in evidence) == pytest.approx(800, abs=30)
    step_var = sum(e.step_var for e in evidence) / sum(e.brownian for e in evidence)
    assert np.sqrt(step_var) == pytest.approx(1.7, rel=0.1)
    # With 800 steps the diffusion coefficient, 1.7²/2, is known to about 5 %; localisation alone would add 11 %.
    assert track["squared_steps"] / (4 * track["squared_steps_time"]) == pytest.approx(1.7**2 / 2, rel=0.08)


def test_brownian_variance_settles_where_theory_says():
    """P = (P + q) r / (P + q + r) has the root P = (sqrt(q² + 4 q r) - q) / 2, with one model alone."""
    frames = frames_of(2)
    frames["switch"], frames["prior"] = 1.0 - 1e-12, [1.0, 1e-12, 1e-12]
    track, _ = follow(np.zeros((50, 2)), frames)
    q, r = frames[NOW]["step_var"][BROWNIAN], 0.16
    assert track["covariance"][BROWNIAN, 0, POSITION_VAR] == pytest.approx((np.sqrt(q * q + 4 * q * r) - q) / 2)


class Crossing:
    """Two particles at rest 6 px apart for five frames, and two tracks that changed over at the last frames.

    Frame 4 has place 0 again in a ring of four.
    """

    def __init__(self, detections):
        """``detections``: update -> which detection each of the two tracks got; 0 is the upper particle, -1 none."""
        self.frames = frames_of(4)
        self.states, self.slots = np.zeros((2, 4), STATE), np.arange(2)
        self.measured = np.zeros((4, 2, N_MEASURED))
        self.measured[:] = [[10.0, 10.0, 0.09, 1e-4, 100.0], [16.0, 10.0, 0.09, 1e-4, 100.0]]
        self.born = np.zeros(2, np.int64)
        begin(self.states, self.frames, self.measured, self.slots, 0, self.slots)
        for update, chosen in enumerate(detections, 1):
            predict(self.states, self.frames, self.slots, (update - 1) % 4, update % 4)
            correct(self.states, self.frames, self.measured, self.slots, update % 4, np.array(chosen))
        self.update = len(detections)

    def revise(self, tail):
        args = self.states, self.frames, self.measured, self.born
        return len(revise(*args, np.array([[0, 1, tail]]), self.update)) == 2

    def now(self):
        return self.states[:, self.update % 4]


def test_exchanged_tails_are_put_right():
    """The tracks end up as if they had been linked right from the start."""
    scene, right = Crossing([(0, 1), (0, 1), (1, 0), (1, 0)]), Crossing([(0, 1)] * 4)
    assert scene.revise(tail=3)
    for name in FILTER:
        np.testing.assert_allclose(scene.now()[name], right.now()[name])
    np.testing.assert_array_equal(scene.now()["detection"], [0, 1])
    assert not scene.revise(tail=3)


def test_what_is_right_is_left_alone():
    scene = Crossing([(0, 1)] * 4)
    before = scene.states.copy()
    assert not scene.revise(tail=3)
    np.testing.assert_array_equal(scene.states, before)


def test_a_new_track_gives_its_tail_to_the_old_one_and_is_no_more():
    """Track 1 began at update 3 with the detections of track 0's particle, which track 0 then misses."""
    scene, right = Crossing([(0, 1), (0, 1), (-1, 0), (-1, 0)]), Crossing([(0, 1)] * 4)
    scene.born[1] = 3
    begin(scene.states, scene.frames, scene.measured, np.array([1]), 3, np.array([0]))
    predict(scene.states, scene.frames, np.array([1]), 3, 0)
    correct(scene.states, scene.frames, scene.measured, np.array([1]), 0, np.array([0]))
    assert scene.revise(tail=3)
    for name in FILTER:
        np.testing.assert_allclose(scene.now()[name][0], right.now()[name][0])
    assert scene.born[0] == 0
    assert scene.born[1] > scene.update


def test_a_track_that_began_with_another_ones_detections_gets_its_own():
    """Born at update 3 with detection 0, while track 0 went to detection 1."""
    scene, right = Crossing([(0, 1), (0, 1), (1, 0), (1, 0)]), Crossing([(0, 1)] * 4)
    scene.born[1] = 3
    begin(scene.states, scene.frames, scene.measured, np.array([1]), 3, np.array([0]))
    predict(scene.states, scene.frames, np.array([1]), 3, 0)
    correct(scene.states, scene.frames, scene.measured, np.array([1]), 0, np.array([0]))
    assert scene.revise(tail=3)
    np.testing.assert_array_equal(scene.now()["detection"], [0, 1])
    np.testing.assert_allclose(scene.now()["mean"][0], right.now()["mean"][0])
    assert scene.now()[1]["hits"] == 2
    assert scene.now()[1]["born_index"] == 3
