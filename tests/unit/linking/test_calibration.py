import numpy as np
import pytest

from streamtrack.linking.calibration import (
    FIRST_STEP_PX,
    GREATEST_STEP_PX,
    LEAST_PRIOR,
    LEAST_STEP_PX,
    MotionCalibration,
)
from streamtrack.linking.records import BROWNIAN, DIRECTED, Evidence
from streamtrack.linking.running_mean import RunningMean


def evidence(n, step_px=2.0, speed_px=3.0, share=(0.5, 0.5, 0.0), n_found_again=(0, 0, 0), n_missed=(0, 0, 0)):
    """What n settled tracks of such motion would say."""
    probability = n * np.array(share)
    return Evidence(
        probability[BROWNIAN] * step_px**2,
        probability[BROWNIAN],
        probability[DIRECTED] * speed_px**2,
        probability[DIRECTED],
        probability,
        n,
        n,
        np.array(n_found_again),
        np.array(n_missed),
    )


def test_running_mean_is_the_mean_while_memory_lasts():
    mean = RunningMean(0.0, 0.0, 1e9)
    for value in (1.0, 2.0, 6.0):
        mean.add(value, 1.0)
    assert mean.value == pytest.approx(3.0)


def test_running_mean_forgets():
    mean = RunningMean(100.0, 30.0, 50.0)
    for _ in range(500):
        mean.add(4.0, 2.0)
    assert mean.value == pytest.approx(2.0)


def test_more_evidence_than_memory_replaces_all():
    mean = RunningMean(100.0, 30.0, 50.0)
    mean.add(600.0, 200.0)
    assert mean.value == pytest.approx(3.0)


def test_no_evidence_changes_nothing():
    calibration = MotionCalibration()
    for _ in range(1000):
        calibration.learn(evidence(0), 0)
    assert calibration.step_px == pytest.approx(FIRST_STEP_PX)


def test_learns_step_speed_and_share():
    calibration = MotionCalibration()
    for _ in range(40):
        calibration.learn(evidence(500, step_px=0.6, speed_px=7.0, share=(0.2, 0.7, 0.1)), 0)
    assert calibration.step_px == pytest.approx(0.6, rel=0.01)
    assert calibration.speed_px == pytest.approx(7.0, rel=0.01)
    np.testing.assert_allclose(calibration.prior, [0.2, 0.7, 0.1], atol=0.01)


def test_a_known_step_is_kept():
    calibration = MotionCalibration(0.7)
    calibration.learn(evidence(1000, step_px=5.0), 0)
    assert calibration.step_px == 0.7
    _, _, step_var, _, _ = calibration.describe(1.0)
    assert step_var[BROWNIAN] == pytest.approx(0.49)


@pytest.mark.parametrize(("estimate", "learnt"), [(-4.0, LEAST_STEP_PX), (1e6, GREATEST_STEP_PX)])
def test_absurd_steps_are_bounded(estimate, learnt):
    calibration = MotionCalibration()
    calibration.learn(evidence(2000)._replace(step_var=1000 * estimate), 0)
    assert calibration.step_px == pytest.approx(learnt)


def test_every_model_can_come_back():
    calibration = MotionCalibration()
    calibration.learn(evidence(5000, share=(1.0, 0.0, 0.0)), 0)
    assert (calibration.prior > 0.9 * LEAST_PRIOR).all()


def test_switching_grows_with_the_length_of_a_step():
    calibration = MotionCalibration()
    switch = [calibration.describe(step)[0] for step in (0.0, 0.5, 1.0, 1000.0)]
    assert switch == pytest.approx([0.0, 1 - 0.96**0.5, 0.04, 1.0])


def test_learns_how_often_particles_are_detected_and_how_long_they_stay():
    calibration = MotionCalibration()
    for _ in range(100):
        calibration.learn(evidence(80, n_found_again=(13, 3, 0), n_missed=(16, 3, 1)), 3)
    assert calibration.dark.detection == pytest.approx(0.8, abs=0.01)
    assert calibration.dark.reappearance == pytest.approx([0.8] * 3, abs=0.01)
    assert calibration.death == pytest.approx(0.03, abs=0.002)


def test_a_known_detection_probability_is_kept():
    calibration = MotionCalibration(detection=0.6)
    calibration.learn(evidence(1000), 0)
    assert calibration.dark.detection == 0.6


@pytest.mark.parametrize(("n_missed", "n_died"), [(0, 0), (10**6, 10**6)])
def test_absurd_rates_are_bounded(n_missed, n_died):
    calibration = MotionCalibration()
    for _ in range(100):
        calibration.learn(evidence(1000, n_missed=(n_missed, 0, 0)), n_died)
    assert 0.5 <= calibration.dark.detection <= 0.995
    assert 0.002 <= calibration.death <= 0.05
