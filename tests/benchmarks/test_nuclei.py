import numpy as np
import pytest

from benchmarks.detection.nuclei import Annotated, count_error, otsu_peaks, otsu_threshold, read, score_otsu
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
    assert count_error([image], [image.nuclei[:0]]) == 1
    n = ((image.nuclei[:, :2] < 256).all(1)).sum()
    missing_one = np.delete(image.nuclei, np.flatnonzero((image.nuclei[:, :2] < 256).all(1))[0], axis=0)
    assert count_error([image], [missing_one]) == pytest.approx(1 / n)


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
