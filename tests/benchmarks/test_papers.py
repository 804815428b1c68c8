import numpy as np
import pytest

from benchmarks.detection.papers import EMULATED, GROUPS, score, table_of, window_over_dense


@pytest.mark.parametrize("group", EMULATED)
def test_images_are_as_hard_for_denodet_as_when_they_were_set(group):
    row = score("denodet", group, 4)
    assert row["f1"] == pytest.approx(EMULATED[group], abs=0.03)  # .02 in the record, of more images
    assert row["f1"] == pytest.approx(np.mean([each["f1"] for each in row["sets"].values()]))
    assert table_of([row]).row_count == 1


def test_sets_have_seeds_of_their_own():
    make = GROUPS["detectSpot A"].families["SNR 4"]
    (first, places), (second, _) = make(5, 2)
    assert len(places) == 50
    assert (first != second).mean() > 0.5
    np.testing.assert_array_equal(first, next(iter(make(5, 1)))[0])


@pytest.mark.timing
def test_one_convolution_takes_a_twentieth_of_the_time_of_a_window_at_each_pixel():
    assert window_over_dense(3)["times"] > 20
