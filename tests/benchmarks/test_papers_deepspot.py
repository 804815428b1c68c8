import numpy as np
import pytest

from benchmarks.detection.papers_deepspot import FAMILIES, brightest, intensity, means, score


def test_there_are_the_papers_twenty_sets_and_each_seed_gives_images_of_its_own():
    assert len(FAMILIES) == 20
    images = [list(FAMILIES["variable 30"](seed, 2)) for seed in (1, 1, 2)]
    for (one, spots), (same, _) in zip(*images[:2], strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one.shape, one.dtype, len(spots)) == ((256, 256), np.uint8, 30)
    assert not np.array_equal(images[0][0][0], images[0][1][0])
    assert not np.array_equal(images[0][0][0], images[2][0][0])


def test_denodet_finds_what_is_there_and_its_image_is_no_enhanced_one():
    row = score("denodet", FAMILIES["variable 20"](5, 2))
    assert row["images"] == 2
    assert row["f1"] > 0.9
    assert "enhanced" not in row


def test_a_spot_is_as_bright_as_the_brightest_pixel_around_it():
    image = np.zeros((20, 20), np.float32)
    image[4, 5], image[19, 19] = 250, 240
    values = brightest(image, np.array([[4.4, 4.0], [19.3, 18.2], [10.0, 10.0]]))
    assert values.tolist() == [250, 240, 0]
    assert intensity(values[:2])["enhanced"] == 245
    assert intensity(values[:2])["enhanced_cv"] == pytest.approx(5 / 245)
    assert intensity(np.empty(0)) == {}


def test_means_are_of_the_sets_of_each_kind_and_of_all():
    rows = [
        {"engine": "one", "set": name, "images": 4, "f1": f1}
        for name, f1 in (("fixed 10", 0.9), ("fixed 20", 0.8), ("variable 10", 1.0), ("dataset1", 0.5))
    ]
    by_set = {row["set"]: row for row in means(rows)}
    assert by_set["all fixed"]["f1"] == pytest.approx(0.85)
    assert by_set["all simulated"]["f1"] == pytest.approx(0.9)
    assert by_set["all simulated"]["images"] == 12
    assert by_set["all pairs"]["f1"] == 0.5


def test_its_simulator_is_as_hard_as_the_papers_was():
    """What DENODET scored on a port of the authors' own: .987 and .996."""
    for kind, wanted in (("fixed 50", 0.987), ("variable 50", 0.996)):
        found = score("denodet", FAMILIES[kind](3, 6))
        assert found["f1"] == pytest.approx(wanted, abs=0.05), kind
