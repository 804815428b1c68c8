import numpy as np
import pytest

from benchmarks.detection.nuclei import otsu_peaks, otsu_threshold, score_otsu
from benchmarks.detection.nuclei_counts import density_inside, mean_error, n_inside, squares
from benchmarks.detection.nuclei_images import Annotated, read
from benchmarks.detection.nuclei_movie import MARGIN_PX, nuclei_movie
from streamtrack.metrics.detection import match


def drawn(n=24, shape=(360, 400), seed=0):
    """Return an image of bright discs far from each other, and where they are."""
    rng = np.random.default_rng(seed)
    places = np.array([(y, x) for y in range(30, shape[0] - 20, 60) for x in range(30, shape[1] - 20, 60)], float)
    places = places[rng.permutation(len(places))[:n]] + rng.uniform(-4, 4, (n, 2))
    y, x = np.indices(shape)
    image = np.full(shape, 150.0)
    for row, column in places:
        image[np.hypot(y - row, x - column) < 12] = 600
    pixels = rng.normal(image, 5).astype(np.uint16)
    return Annotated("drawn.tif", pixels, np.column_stack((places, np.full(n, 12.0))))


def test_otsu_separates_two_levels():
    assert 165 < otsu_threshold(drawn().pixels.astype(np.float32)) < 560


def test_the_peer_finds_discs_and_its_best_setting_is_taken():
    image = drawn()
    assert len(match(image.nuclei[:, :2], otsu_peaks(image.pixels, 1.0, 2.0, 7), 2.0)[0]) == len(image.nuclei)
    row = score_otsu([image], [(1.0, 2.0, 7), (1e9, 2.0, 7)])
    assert row["f1"] == 1
    assert row["count_error"] == 0
    assert row["oracle"]


def test_counts_are_of_whole_squares_with_enough_nuclei():
    image = drawn()
    assert squares(image) == [(0, 0)]
    inside = np.flatnonzero((image.nuclei[:, :2] < 256).all(1))
    assert n_inside(image.nuclei, 0, 0) == len(inside)
    missing_one = n_inside(np.delete(image.nuclei, inside[0], axis=0), 0, 0)
    assert mean_error([image], n_inside, [np.array([missing_one])]) == pytest.approx(1 / len(inside))
    assert squares(image._replace(nuclei=image.nuclei[inside[:4]])) == []


def test_the_integral_of_a_density_is_what_lies_in_the_square():
    places = np.array([[128.0, 128.0], [-0.5, 100.0], [255.5, 255.5], [400.0, 300.0]])
    assert density_inside(places, 0, 0) == pytest.approx(1.75, abs=1e-6)


def test_the_truth_of_a_movie_is_where_its_nuclei_are():
    image = drawn()
    movie = nuclei_movie(image.pixels, image.nuclei, 30, 3)
    assert movie.frames.shape == (30, *(size - 2 * MARGIN_PX for size in image.pixels.shape))
    assert movie.n_divisions > 0
    whole = movie.truth[(movie.truth["particle"] < len(image.nuclei))]
    for frame in (0, 15, 29):
        true = whole[whole["frame"] == frame][["y", "x"]].to_numpy()
        inside = ((true > 14) & (true < np.array(movie.frames.shape[1:]) - 15)).all(1)
        found = otsu_peaks(movie.frames[frame], 1.0, 2.0, 7)
        paired, _, distance = match(true[inside], found, 5.0)
        assert len(paired) >= 0.9 * inside.sum()
        assert np.median(distance) < 1.5
    halves = movie.truth[movie.truth["particle"] >= len(image.nuclei)]
    assert len(set(halves["particle"])) > 0
    assert halves.groupby("particle")["frame"].min().min() > 0


def test_the_same_seed_gives_the_same_movie():
    image = drawn()
    one, other = (nuclei_movie(image.pixels, image.nuclei, 3, 1) for _ in range(2))
    np.testing.assert_array_equal(one.frames, other.frames)


def test_images_are_read_with_their_nuclei(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "validation_1.tif", np.zeros((8, 9), np.uint16))
    tifffile.imwrite(tmp_path / "train_1.tif", np.zeros((8, 9), np.uint16))
    (tmp_path / "nuclei.csv").write_text("image,y,x,radius_px\nvalidation_1.tif,1,2,3\n", encoding="utf-8")
    (only,) = read(tmp_path, "validation")
    np.testing.assert_array_equal(only.nuclei, [[1, 2, 3]])


def test_a_faint_image_has_the_electrons_that_were_asked_for():
    image = drawn()
    faint = image.faint(0.1, 0.0, 0).pixels.astype(float)
    is_nucleus = image.pixels > 400
    assert faint[is_nucleus].mean() - faint[~is_nucleus].mean() == pytest.approx(45, rel=0.05)
    assert faint[is_nucleus].std() > 1.5 * faint[~is_nucleus].std()
