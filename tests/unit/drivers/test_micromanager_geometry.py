"""From pixels to stage moves: Micro-Manager's conventions, and the beads of DemoCamera that follow the stage."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from streamtrack.errors import MicroscopeError
from streamtrack_drivers.micromanager.geometry import mounting, um_per_px

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def camera(**settings):
    return mounting(lambda name: settings.get(name))


def test_a_measured_affine_transform_is_taken_without_its_shift():
    np.testing.assert_array_equal(um_per_px((0.0, 0.11, 5.0, -0.11, 0.0, 7.0), 0.11), [[0.0, 0.11], [-0.11, 0.0]])


@pytest.mark.parametrize(("pixel_size_um", "taken"), [(0.105, True), (0.1, True), (0.09, False), (0.25, False)])
def test_an_affine_transform_that_does_not_fit_the_pixel_size_was_never_measured(pixel_size_um, taken):
    matrix = um_per_px((0.1, 0.0, 0.0, 0.0, -0.1, 0.0), pixel_size_um)
    expected = np.diag([0.1, -0.1]) if taken else pixel_size_um * np.eye(2)
    np.testing.assert_allclose(matrix, expected)


def test_how_the_camera_is_mounted_counts_where_only_the_pixel_size_is_known():
    matrix = um_per_px(IDENTITY, 0.25, camera(TransposeXY="1", TransposeMirrorX="1"))
    np.testing.assert_array_equal(matrix, [[0.0, -0.25], [0.25, 0.0]])


def test_an_image_that_the_driver_has_turned_already():
    settings = {"TransposeCorrection": "1", "TransposeXY": "1", "TransposeMirrorX": "1"}
    np.testing.assert_array_equal(camera(**settings), np.eye(2))


def test_a_camera_without_such_settings():
    np.testing.assert_array_equal(camera(), np.eye(2))


@pytest.mark.parametrize("pixel_size_um", [0.0, -1.0, float("nan")])
def test_without_a_pixel_size(pixel_size_um):
    with pytest.raises(MicroscopeError, match="no pixel size is known"):
        um_per_px(IDENTITY, pixel_size_um)


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
    start = lone_bead(snap(scope))
    dx_um, dy_um = scope.stage_um_per_px() @ offset_px
    x_um, y_um = scope.stage_um()
    scope.move_stage_um(x_um + dx_um, y_um + dy_um)
    expected = start - np.array(offset_px)
    nearest = min(beads(snap(scope)), key=lambda bead: np.hypot(*(bead - expected)))
    np.testing.assert_allclose(nearest, expected, atol=0.5)


def test_objective_binning_and_calibration_are_taken_into_account(scope):
    np.testing.assert_allclose(scope.stage_um_per_px(), np.eye(2))
    scope.set_property("Objective", "Label", "Nikon 40X Plan Fluor ELWD")
    np.testing.assert_allclose(scope.stage_um_per_px(), 0.25 * np.eye(2))
    scope.set_property("Camera", "Binning", "2")
    np.testing.assert_allclose(scope.stage_um_per_px(), 0.5 * np.eye(2))
    scope.set_property("Camera", "TransposeMirrorY", "1")
    np.testing.assert_allclose(scope.stage_um_per_px(), np.diag([0.5, -0.5]))
    scope.core.setPixelSizeAffine("Res40x", [0.0, 0.25, 0.0, -0.25, 0.0, 0.0])
    np.testing.assert_allclose(scope.stage_um_per_px(), [[0.0, 0.5], [-0.5, 0.0]])


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
