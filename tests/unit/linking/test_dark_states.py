import numpy as np
import pytest

from streamtrack.linking.dark_states import SPARSE, UNDECIDED_FRAMES, DarkStates
from streamtrack.linking.records import N_GAPS, Evidence

CROWD = {"density": 2e-3, "spread": 4.0}
SPARSE_AND_SLOW = {"density": 2e-4, "spread": 0.1}


def evidence(n_seen, n_found_again=(0, 0, 0), n_missed=(0, 0, 0)):
    return Evidence(0.0, 0.0, 0.0, 0.0, np.zeros(3), 0, n_seen, np.array(n_found_again), np.array(n_missed))


def learnt(blinking, *each_frame, frames=100, crowd=CROWD, found_again=(0.0, 0.0)):
    dark = DarkStates(None, blinking)
    for n in range(frames):
        dark.learn(evidence(*each_frame), found_again)
        dark.look(**crowd, n_frames=n + 1)
    return dark


def test_gaps_that_last_are_told_from_misses_that_come_one_by_one():
    """One gap in 20 frames, of 1 to 9: who is there stays there, and the longer one is dark the longer that goes on."""
    dark = learnt("auto", 100, (2, 0, 3), (5, 3, 17))
    assert dark.blinking == 1.0
    assert dark.detection == pytest.approx(0.95, abs=0.01)
    assert dark.reappearance == pytest.approx([0.4, 0.0, 3 / 17], abs=0.06)
    now, later = dark.visible(1), dark.visible(1000)
    assert now[0] == dark.detection
    np.testing.assert_array_equal(now[1], dark.reappearance)
    assert later[0] == pytest.approx(0.4 / 0.45, abs=0.02)


@pytest.mark.parametrize("crowd", [CROWD, SPARSE_AND_SLOW])
def test_misses_without_memory_are_no_blinking(crowd):
    dark = learnt("auto", 95, (4, 1, 0), (5, 1, 0), crowd=crowd)
    assert dark.blinking == 0.0
    assert dark.reappearance == pytest.approx([dark.detection] * N_GAPS)
    assert dark.gap_frames == pytest.approx(1 / dark.detection)


@pytest.mark.parametrize(("blinking", "crowd", "expected"), [(True, CROWD, 1.0), (False, SPARSE_AND_SLOW, 0.0)])
def test_what_is_known_of_blinking_is_believed(blinking, crowd, expected):
    for each_frame in ((100,), (100, (2, 0, 3), (5, 3, 17))):
        assert learnt(blinking, *each_frame, crowd=crowd).blinking == expected


def test_a_sparse_movie_may_be_one_of_blinkers_for_a_while():
    """In a crowd others would be taken for those that come back."""
    assert learnt("auto", 100, frames=UNDECIDED_FRAMES - 1, crowd=SPARSE_AND_SLOW).blinking == 1.0
    assert learnt("auto", 100, frames=UNDECIDED_FRAMES, crowd=SPARSE_AND_SLOW).blinking == 0.0
    assert learnt("auto", 100, frames=1).blinking == 0.0
    assert 0.0 < SPARSE < 1.0


def test_ends_that_turn_out_to_be_gaps_count_as_such():
    dark = learnt("auto", 100, frames=1, found_again=(10.0, 80.0))
    assert dark.blinking == 1.0
    assert dark.reappearance[-1] == pytest.approx(10 / 60, abs=0.02)
