import numpy as np

from benchmarks.detection.localise import characterised, crops_of, error, found_rings, places_of, spot_bound_px
from benchmarks.detection.radial_centre import radial_centres


def test_the_radial_centre_is_exact_without_noise_and_near_the_bound_with():
    row, column = np.mgrid[:16, :16] - 8.0
    spot = np.exp(-((row - 0.3) ** 2 + (column + 0.2) ** 2) / 4).astype(np.float32)
    np.testing.assert_allclose(radial_centres(spot[None], 11), [[0.3, -0.2]], atol=0.01)
    crops, truth = crops_of("spot", 10.0, 400, 16, 1)
    assert error(radial_centres(crops, 9), truth) < 1.15 * spot_bound_px(10.0)


def test_the_network_is_nearer_than_the_radial_centre():
    for kind, most in (("spot", 0.95), ("ring", 0.6)):
        (row,) = places_of(kind, (2.0,), 200)["rows"]
        assert row["network"] < most * row["radial"], kind


def test_spots_on_tracks_are_characterised():
    row = characterised(1.6, 24, 3)
    assert row["characterise"] < 0.1
    assert row["size"] < 0.1


def test_rings_that_cells_finds_are_placed_twice_as_near_by_a_second_look():
    row = found_rings(6.0)
    assert row["second_look_found"] == row["rings"]
    assert row["second_look"] < row["cells"] / 2
