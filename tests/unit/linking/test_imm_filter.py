"""The compiled filter against a plain one with full matrices, as the textbook writes it."""

import numpy as np
import pytest

from streamtrack.linking.calibration import MotionCalibration
from streamtrack.linking.imm_filter import (
    BROWNIAN,
    COVARIANCE,
    DIRECTED,
    N_MODELS,
    POSITION,
    POSITION_VAR,
    TETHERED,
    TRACK,
    VELOCITY,
    VELOCITY_VAR,
    Rates,
    correct,
    gains,
    gates,
    predict,
)

RATES = Rates(detection=0.9, survival=0.97, clutter=1e-4, birth=5e-5)
H = np.array([1.0, 0.0])


@pytest.fixture
def motion():
    return MotionCalibration(step_px=1.7, localisation_px=0.4).motion


@pytest.fixture
def tracks():
    """Tracks in any state, as long as the covariances are ones."""
    rng = np.random.default_rng(3)
    tracks = np.zeros(40, TRACK)
    tracks["existence"] = 1 - rng.uniform(0.1, 1, 40) ** 3
    tracks["hits"] = 10
    tracks["probability"] = rng.dirichlet(np.ones(N_MODELS), 40)
    centre = rng.uniform(0, 100, (40, 1, 2, 1))
    tracks["mean"] = np.concatenate(
        (centre + rng.normal(0, 1, (40, 3, 2, 1)), rng.normal(0, 3, (40, 3, 2, 1))), axis=-1
    )
    root = rng.normal(0, 1, (40, N_MODELS, 2, 2))
    full = root @ root.swapaxes(-1, -2)
    tracks["covariance"] = np.stack((full[..., 0, 0], full[..., 0, 1], full[..., 1, 1]), axis=-1)
    return tracks


def matrix(covariance):
    return np.array(
        [[covariance[POSITION_VAR], covariance[COVARIANCE]], [covariance[COVARIANCE], covariance[VELOCITY_VAR]]]
    )


def reference_mixture(track, transition):
    """Model probabilities, means and covariances after mixing; the spread is that of y and x, averaged."""
    probability = transition.T @ track["probability"]
    weight = transition * track["probability"][:, None] / probability
    means, covariances = [], []
    for j in range(N_MODELS):
        mean = np.einsum("i,iad->ad", weight[:, j], track["mean"])
        covariance = np.zeros((2, 2))
        for i in range(N_MODELS):
            spread = track["mean"][i] - mean
            covariance += weight[i, j] * (matrix(track["covariance"][i]) + spread.T @ spread / 2)
        means.append(mean)
        covariances.append(covariance)
    return probability, means, covariances


def reference_prediction(track, motion):
    probability, means, covariances = reference_mixture(track, motion.transition)
    for j in (BROWNIAN, TETHERED):
        means[j] = means[j] @ np.diag([1.0, 0.0])
        covariances[j] = np.diag([covariances[j][0, 0] + motion.step_var[j], motion.speed_var])
    carry = np.array([[1.0, 1.0], [0.0, 1.0]])
    means[DIRECTED] = means[DIRECTED] @ carry.T
    noise = np.diag([motion.step_var[DIRECTED], motion.velocity_change_var])
    covariances[DIRECTED] = carry @ covariances[DIRECTED] @ carry.T + noise
    return probability, means, covariances


def normal(offset, variance):
    return np.exp(-0.5 * offset @ offset / variance) / (2 * np.pi * variance)


def likelihoods(track, position, motion):
    return np.array(
        [
            track["probability"][j]
            * normal(
                position - track["mean"][j, :, POSITION],
                track["covariance"][j, POSITION_VAR] + motion.localisation_var,
            )
            for j in range(N_MODELS)
        ]
    )


def test_prediction(tracks, motion):
    before = tracks.copy()
    predict(tracks, motion, RATES.survival, 1)
    for track, old in zip(tracks, before, strict=True):
        probability, means, covariances = reference_prediction(old, motion)
        np.testing.assert_allclose(track["probability"], probability)
        np.testing.assert_allclose(track["mean"], means, atol=1e-12)
        np.testing.assert_allclose([matrix(covariance) for covariance in track["covariance"]], covariances, atol=1e-12)
    np.testing.assert_allclose(tracks["existence"], before["existence"] * RATES.survival)


def test_a_gap_of_three_frames_is_three_predictions(tracks, motion):
    stepwise = tracks.copy()
    for _ in range(3):
        predict(stepwise, motion, RATES.survival, 1)
    predict(tracks, motion, RATES.survival, 3)
    for name in TRACK.names:
        np.testing.assert_allclose(tracks[name], stepwise[name])


def test_correction(tracks, motion):
    before = tracks.copy()
    position = before["mean"][:, BROWNIAN, :, POSITION] + np.random.default_rng(4).normal(0, 1, (len(tracks), 2))
    correct(tracks, motion, RATES, np.arange(len(tracks)), position[:, 0].copy(), position[:, 1].copy())
    for track, old, seen in zip(tracks, before, position, strict=True):
        likelihood = likelihoods(old, seen, motion)
        np.testing.assert_allclose(track["probability"], likelihood / likelihood.sum())
        for j in range(N_MODELS):
            covariance = matrix(old["covariance"][j])
            gain = covariance @ H / (H @ covariance @ H + motion.localisation_var)
            surprise = seen - old["mean"][j, :, POSITION]
            np.testing.assert_allclose(track["mean"][j], old["mean"][j] + np.outer(surprise, gain))
            np.testing.assert_allclose(matrix(track["covariance"][j]), covariance - np.outer(gain, H) @ covariance)
        detected = old["existence"] * RATES.detection
        real, false = detected * likelihood.sum(), RATES.clutter * (1 - detected)
        assert track["existence"] == pytest.approx(real / (real + false))
        assert (track["hits"], track["misses"]) == (11, 0)


def test_evidence_is_that_of_settled_tracks(tracks, motion):
    tracks["misses"][::3] = 1
    tracks["hits"][::5] = 3
    settled = (tracks["existence"] > 0.9) & (tracks["misses"] == 0) & (tracks["hits"] > 3)
    assert 0 < settled.sum() < len(tracks)
    before = tracks.copy()
    y, x = before["mean"][:, BROWNIAN, :, POSITION].T + 1.5
    evidence = correct(tracks, motion, RATES, np.arange(len(tracks)), y.copy(), x.copy())
    brownian, directed = tracks["probability"][settled][:, [BROWNIAN, DIRECTED]].T
    other = before["covariance"][settled, BROWNIAN, POSITION_VAR] - motion.step_var[BROWNIAN] + motion.localisation_var
    velocity = tracks["mean"][settled, DIRECTED, :, VELOCITY]
    square = tracks["covariance"][settled, DIRECTED, VELOCITY_VAR] + (velocity**2).mean(axis=1)
    np.testing.assert_allclose(evidence.step_var, (brownian * (1.5**2 - other)).sum())
    np.testing.assert_allclose(evidence.speed_var, (directed * square).sum())
    np.testing.assert_allclose(evidence.probability, tracks["probability"][settled].sum(axis=0))
    assert (evidence.brownian, evidence.directed) == tuple(evidence.probability[[BROWNIAN, DIRECTED]])
    assert evidence.n_tracks == settled.sum()


def test_a_missed_particle_keeps_its_prediction_and_exists_less(tracks, motion):
    before = tracks.copy()
    correct(tracks, motion, RATES, np.full(len(tracks), -1), np.empty(0), np.empty(0))
    for name in ("probability", "mean", "covariance", "hits"):
        np.testing.assert_array_equal(tracks[name], before[name])
    old = before["existence"]
    np.testing.assert_allclose(tracks["existence"], old * 0.1 / (1 - 0.9 * old))
    assert (tracks["misses"] == 1).all()


def test_gain_is_the_log_ratio_of_linked_to_new(tracks, motion):
    position = np.array([50.0, 40.0])
    n = len(tracks)
    gain = gains(
        tracks, motion, RATES, np.arange(n + 1), np.zeros(n, np.int64), position[:1].copy(), position[1:].copy()
    )
    detected = tracks["existence"] * RATES.detection
    likelihood = np.array([likelihoods(track, position, motion).sum() for track in tracks])
    with np.errstate(divide="ignore"):
        expected = np.log(detected / (1 - detected) * likelihood / (RATES.clutter + RATES.birth))
    near = expected > -600
    assert near.any()
    np.testing.assert_allclose(gain[near], expected[near])
    assert (gain[~near] < -600).all()


def test_no_gain_outside_the_gate(tracks, motion):
    boxes = gates(tracks, motion, RATES)
    rng = np.random.default_rng(5)
    offset = rng.uniform(-25, 25, (400, 2))
    inside_gains = 0
    for track, (low_y, high_y, low_x, high_x) in zip(tracks, boxes, strict=True):
        y, x = (track["mean"][BROWNIAN, :, POSITION] + offset).T.copy()
        alone = np.array([track])
        gain = gains(alone, motion, RATES, np.array([0, 400]), np.arange(400), y, x)
        inside = (low_y <= y) & (y <= high_y) & (low_x <= x) & (x <= high_x)
        assert (gain[~inside] <= 0).all()
        inside_gains += (gain[inside] > 0).sum()
    assert inside_gains > 0


def test_an_improbable_track_has_no_gate(tracks, motion):
    tracks["existence"] = 1e-9
    low_y, high_y, low_x, high_x = gates(tracks, motion, RATES).T
    assert (low_y > high_y).all()
    assert (low_x > high_x).all()


def follow(positions, motion):
    """One track through positions of shape (T, 2); return it and the evidence of every frame."""
    track = np.zeros(1, TRACK)
    track["existence"], track["hits"] = 0.99, 1
    track["probability"] = motion.prior
    track["mean"][..., POSITION] = positions[0]
    track["covariance"][..., POSITION_VAR] = motion.localisation_var
    track["covariance"][..., VELOCITY_VAR] = motion.speed_var
    evidence = []
    for y, x in positions[1:]:
        predict(track, motion, RATES.survival, 1)
        evidence.append(correct(track, motion, RATES, np.zeros(1, np.int64), np.array([y]), np.array([x])))
    return track[0], evidence


def test_straight_motion_is_recognised_and_its_velocity_found(motion):
    frames = np.arange(30)[:, None]
    track, _ = follow([10.0, 20.0] + frames * [3.0, -2.0], motion)
    assert track["probability"].argmax() == DIRECTED
    np.testing.assert_allclose(track["mean"][DIRECTED, :, VELOCITY], [3.0, -2.0], atol=0.01)


def test_rest_is_recognised(motion):
    rng = np.random.default_rng(6)
    track, _ = follow(rng.normal(30, 0.3, (40, 2)), motion)
    assert track["probability"].argmax() == TETHERED


def test_brownian_motion_is_recognised_and_tells_its_step(motion):
    rng = np.random.default_rng(7)
    path = np.cumsum(rng.normal(0, 1.7, (800, 2)), axis=0) + rng.normal(0, 0.4, (800, 2))
    _, evidence = follow(path, motion)
    total = sum(e.probability for e in evidence)
    assert total.argmax() == BROWNIAN
    assert sum(e.n_tracks for e in evidence) == pytest.approx(800, abs=30)
    step_var = sum(e.step_var for e in evidence) / sum(e.brownian for e in evidence)
    assert np.sqrt(step_var) == pytest.approx(1.7, rel=0.1)


def test_brownian_variance_settles_where_theory_says(motion):
    """P = (P + q) r / (P + q + r) has the root P = (sqrt(q² + 4 q r) - q) / 2, with one model alone."""
    alone = motion._replace(prior=np.array([1.0, 0, 0]), transition=np.array([[1.0, 0, 0]] * 3) + 1e-12)
    track, _ = follow(np.zeros((50, 2)), alone)
    q, r = alone.step_var[BROWNIAN], alone.localisation_var
    assert track["covariance"][BROWNIAN, POSITION_VAR] == pytest.approx((np.sqrt(q * q + 4 * q * r) - q) / 2)
