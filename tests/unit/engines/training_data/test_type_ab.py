import numpy as np
import pytest

from streamtrack.errors import ConfigError
from streamtrack_engines.training_data.truth import seeded
from streamtrack_engines.training_data.type_ab import TypeAB

CLEAR = TypeAB(grounds=("A",), snr=(20.0,), spots=(100, 100))


def test_a_batch_belongs_to_its_seed_and_stands_still():
    one, other = (seeded(TypeAB(), (1, 2), 3, 64, 2) for _ in range(2))
    assert one.noisy.shape == (3, 3, 64, 64)
    np.testing.assert_array_equal(one.noisy, other.noisy)
    np.testing.assert_array_equal(one.points, other.points)
    crop = seeded(CLEAR, (1, 2), 1, 64, 1).noisy[0]
    assert 0 < np.abs(crop[0] - crop[1]).mean() < 3


def test_points_are_where_it_is_bright_and_around_the_crop():
    truth = seeded(CLEAR, (4,), 6, 96, 0)
    crop, y, x = truth.points.T
    assert y.min() < -5 < 100 < x.max() < 95 + 14
    inside = (np.stack([y, x]).round() >= 0).all(0) & (np.stack([y, x]).round() <= 95).all(0)
    index, row, column = np.rint(truth.points[inside]).astype(int).T
    assert (truth.noisy[index, 0, row, column] > 113).mean() > 0.97
    assert np.bincount(crop.astype(int), minlength=6).min() > 5


def test_what_is_held_out_is_the_same_each_time_and_of_one_kind():
    data = TypeAB(held_out_snr=(4.0,))
    lots = dict(data.held_out(9, 2, 64, 0))
    assert list(lots) == ["A_snr4", "B1_snr4", "B2_snr4"]
    np.testing.assert_array_equal(lots["B1_snr4"].noisy, dict(data.held_out(9, 2, 64, 0))["B1_snr4"].noisy)
    assert TypeAB().example(2, 48, 64).shape == (2, 48, 64)


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"snr": ()}, "snr"), ({"snr": (0.0,)}, "snr"), ({"spots": (5, 2)}, "spots"), ({"beyond_px": -1.0}, "beyond_px")],
)
def test_what_cannot_be_drawn_is_refused(settings, word):
    with pytest.raises(ConfigError, match=f"type_ab': {word} = "):
        TypeAB(**settings)
