"""From pixels to stage moves: Micro-Manager's conventions, and the beads of DemoCamera that follow the stage."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from streamtrack.errors import ConfigError, MicroscopeError
from streamtrack_drivers.micromanager.geometry import binning_of, stage_matrix, um_per_px

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def test_a_measured_affine_transform_is_taken_without_its_shift():
    np.testing.assert_array_equal(um_per_px((0.0, 0.11, 5.0, -0.11, 0.0, 7.0), 0.11), [[0.0, 0.11], [-0.11, 0.0]])


@pytest.mark.parametrize("pixel_size_um", [0.105, 0.1])
def test_an_affine_transform_may_be_a_little_off_the_pixel_size(pixel_size_um):
    matrix = um_per_px((0.1, 0.0, 0.0, 0.0, -0.1, 0.0), pixel_size_um)
    np.testing.assert_allclose(matrix, np.diag([0.1, -0.1]))


@pytest.mark.parametrize(
    ("affine", "pixel_size_um"),
    [
        ((0.1, 0.0, 0.0, 0.0, -0.1, 0.0), 0.09),
        ((0.1, 0.0, 0.0, 0.0, -0.1, 0.0), 0.25),
        (IDENTITY, 0.25),  # what the core says where nobody has set any
        (IDENTITY, 1.0),
        ((0.25, 0.0, 0.0, 0.0, 0.25, 0.0), 0.25),
        ((np.nan, 0.0, 0.0, 0.0, 0.25, 0.0), 0.25),
    ],
)
def test_a_transform_that_was_never_measured_says_nothing_of_directions(affine, pixel_size_um):
    with pytest.raises(MicroscopeError, match="never measured: run 'streamtrack calibrate stage"):
        um_per_px(affine, pixel_size_um)


@pytest.mark.parametrize("pixel_size_um", [0.0, -1.0, float("nan")])
def test_without_a_pixel_size(pixel_size_um):
    with pytest.raises(MicroscopeError, match="no pixel size is known"):
        um_per_px(IDENTITY, pixel_size_um)


def test_the_setting_is_a_matrix_or_its_diagonal():
    np.testing.assert_array_equal(stage_matrix([0.1, -0.2]), [[0.1, 0.0], [0.0, -0.2]])
    np.testing.assert_array_equal(stage_matrix(((0.0, 1.0), (-1.0, 0.0))), [[0.0, 1.0], [-1.0, 0.0]])


@pytest.mark.parametrize(
    "setting",
    [[], [0.1], 0.1, [0.1, 0.0], ["a", "b"], [[1.0, 2.0], [3.0]], [np.inf, 1.0], [np.nan, 1.0], [[1, 2], [2, 4]]],
)
def test_a_setting_that_is_no_such_matrix_is_one_line(setting):
    with pytest.raises(ConfigError, match="is not understood: give x and y, with signs") as caught:
        stage_matrix(setting)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "binning"), [("2", (2, 2)), ("4x4", (4, 4)), ("1x2", (1, 2)), ("", (1, 1)), ("0", (1, 1))]
)
def test_what_cameras_say_of_their_binning(value, binning):
    assert binning_of(value) == binning


@pytest.fixture
def scope():
    pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
    pytest.importorskip("mm_test_adapters", reason="needs the demo camera of mm-test-adapters")
    from streamtrack_drivers.micromanager.core import MicroManager

    microscope = MicroManager(config=Path("MMConfig_demo.cfg"))
    microscope.set_property("Camera", "Mode", "Fluorescent Beads")
    microscope.set_property("Camera", "BeadDensity", "10")
    yield microscope
    microscope.close()


@pytest.mark.parametrize("offset_px", [(40.0, 0.0), (0.0, -28.0), (-20.0, 30.0)])
def test_a_bead_comes_to_the_place_where_it_is_wanted(scope, offset_px):
    scope.core.setPixelSizeAffine("Res10x", [1.0, 1e-4, 0.0, 0.0, 1.0, 0.0])  # as measured
    start = lone_bead(snap(scope))
    dx_um, dy_um = scope.stage_um_per_px() @ offset_px
    x_um, y_um = scope.stage_um()
    scope.move_stage_um(x_um + dx_um, y_um + dy_um)
    expected = start - np.array(offset_px)
    nearest = min(beads(snap(scope)), key=lambda bead: np.hypot(*(bead - expected)))
    np.testing.assert_allclose(nearest, expected, atol=0.5)


def test_objective_binning_and_calibration_are_taken_into_account(scope):
    with pytest.raises(MicroscopeError, match="never measured"):
        scope.stage_um_per_px()
    scope.set_property("Objective", "Label", "Nikon 40X Plan Fluor ELWD")
    scope.core.setPixelSizeAffine("Res40x", [0.0, 0.25, 0.0, -0.25, 0.0, 0.0])
    np.testing.assert_allclose(scope.stage_um_per_px(), [[0.0, 0.25], [-0.25, 0.0]])
    scope.set_property("Camera", "Binning", "2")
    np.testing.assert_allclose(scope.stage_um_per_px(), [[0.0, 0.5], [-0.5, 0.0]])


def test_the_setting_follows_the_binning(scope):
    from streamtrack_drivers.micromanager.core import MicroManager

    mine = MicroManager.around(scope.core, stage_um_per_px=[0.5, -0.5])
    np.testing.assert_allclose(mine.stage_um_per_px(), np.diag([0.5, -0.5]))
    scope.set_property("Camera", "Binning", "4")
    np.testing.assert_allclose(mine.stage_um_per_px(), np.diag([2.0, -2.0]))
    assert mine.pixel_size_um() == pytest.approx(2.0)
    mine.close()


def test_an_objective_without_pixel_size_is_named(scope):
    scope.set_property("Objective", "Label", "Objective-2")
    assert scope.pixel_size_um() is None
    with pytest.raises(MicroscopeError, match="no pixel size is known"):
        scope.stage_um_per_px()


def snap(scope):
    scope.core.snapImage()
    return scope.core.getImage().astype(float)


def beads(image):
    """Return the centroids (x, y) of the beads, px."""
    bright = image > image.mean() + 3 * image.std()
    labels, n = ndimage.label(bright)
    weights = image - np.median(image)
    return [np.array(yx[::-1]) for yx in ndimage.center_of_mass(weights, labels, range(1, n + 1))]


def lone_bead(image):
    """Return the bead far from the edges and with the most room around it."""
    found = beads(image)
    height, width = image.shape
    inside = [b for b in found if 0.25 * width < b[0] < 0.75 * width and 0.25 * height < b[1] < 0.75 * height]

    def room(bead):
        return min(np.hypot(*(bead - other)) for other in found if other is not bead)

    return max(inside, key=room)
