import matplotlib.image
import numpy as np
import pytest
import tifffile

from streamtrack.errors import ConfigError
from streamtrack.triggers.area import Area

SHAPE = (40, 60)
Y, X = np.indices(SHAPE)


def area(y_px=None, x_px=None, polygon_px=None, mask=None, shape=SHAPE):
    made = Area(y_px, x_px, polygon_px, mask)
    made.prepare(shape)
    return made


def inside(made):
    """Return the pixels whose centres are in the area."""
    return made.distance_px(Y.ravel(), X.ravel()).reshape(SHAPE) == 0


def test_a_rectangle_has_its_borders():
    np.testing.assert_array_equal(inside(area((10, 20), (5, 8))), (Y >= 10) & (Y <= 20) & (X >= 5) & (X <= 8))


@pytest.mark.parametrize(
    ("settings", "wanted"), [({"y_px": (10, 20)}, (Y >= 10) & (Y <= 20)), ({"x_px": (-9, 7)}, X <= 7)]
)
def test_a_rectangle_may_reach_across_the_image(settings, wanted):
    np.testing.assert_array_equal(inside(area(**settings)), wanted)


def test_a_polygon_is_given_by_its_corners():
    triangle = inside(area(polygon_px=[(4.5, 4.5), (4.5, 50.5), (30.5, 4.5)]))
    below_the_slope = (X - 4.5) / 46 + (Y - 4.5) / 26 < 1
    np.testing.assert_array_equal(triangle, (Y > 4.5) & (X > 4.5) & below_the_slope)


def test_a_particle_is_where_its_pixel_is():
    made = area((10, 20), (5, 8))
    y, x = np.array([[9.4, 9.6, 15, 20.4, 20.6, 15, 15], [6, 6, 6, 6, 6, 4.4, 8.6]])
    assert (made.distance_px(y, x) == 0).tolist() == [False, True, True, True, False, False, False]


def test_distance_is_to_the_nearest_pixel_of_the_area():
    made = area((10, 20), (5, 8))
    y, x = np.array([[5, 15, 23, 15], [6, 2, 12, 7]])
    np.testing.assert_allclose(made.distance_px(y, x), [5, 3, 5, 0])


def test_positions_up_to_a_pixel_beyond_the_image_are_on_its_border():
    made = area((0, 39), (0, 3))
    np.testing.assert_array_equal(made.distance_px(np.array([-0.9, 39.9]), np.array([-0.9, 60.0])), [0, 56])


def circle():
    return np.hypot(Y - 20, X - 30) < 9


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
def test_a_mask_from_a_tiff(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "cell.tif", circle().astype(dtype) * np.array(1, dtype))
    np.testing.assert_array_equal(inside(area(mask=tmp_path / "cell.tif")), circle())


def test_a_mask_from_a_stack_of_one(tmp_path):
    tifffile.imwrite(tmp_path / "cell.TIFF", circle()[np.newaxis, np.newaxis].astype("uint8"))
    np.testing.assert_array_equal(inside(area(mask=tmp_path / "cell.TIFF")), circle())


@pytest.mark.parametrize("channels", ["grey", "rgb", "rgba", "cut out"])
def test_a_mask_from_a_png(tmp_path, channels):
    """Black or transparent pixels do not belong to it."""
    image = np.zeros((*SHAPE, 4), np.uint8)
    image[..., 1] = image[..., 3] = 255 * circle()
    if channels == "rgba":
        image[..., 3] = 255
    if channels == "cut out":
        image[..., :3] = 200
    image = {"grey": image[..., 1], "rgb": image[..., :3]}.get(channels, image)
    if channels == "grey":
        matplotlib.image.imsave(tmp_path / "cell.png", image, cmap="gray")
    else:
        matplotlib.image.imsave(tmp_path / "cell.png", image)
    np.testing.assert_array_equal(inside(area(mask=tmp_path / "cell.png")), circle())


def test_a_mask_of_another_size_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "cell.tif", circle().astype("uint8"))
    with pytest.raises(ConfigError, match=r"cell\.tif has 40 x 60 px, the image 64 x 64 px"):
        area(mask=tmp_path / "cell.tif", shape=(64, 64))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cell.tif", None, "No such file"),
        ("cell.tif", b"II*\0 and so on", "cannot read the mask"),
        ("cell.png", b"\x89PNG\r\n\x1a\n and so on", "cannot read the mask"),
        ("cell.png", b"", "cannot read the mask"),
        ("cell.jpg", b"", r"must be a \.png"),
    ],
)
def test_a_mask_that_cannot_be_read_is_refused(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}.*{said}|{said}.*{name}") as error:
        area(mask=tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_mask_with_several_images_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "cells.tif", np.ones((5, *SHAPE), "uint8"))
    with pytest.raises(ConfigError, match=r"shape \(5, 40, 60\)"):
        area(mask=tmp_path / "cells.tif")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "exactly one of .*none"),
        ({"y_px": (0, 5), "polygon_px": [(0, 0), (0, 5), (5, 5)]}, "y_px and x_px and polygon_px"),
        ({"y_px": (9, 5)}, r"y_px is \(9, 5\).*low to high"),
        ({"x_px": (float("nan"), 5)}, "x_px is"),
        ({"y_px": (100, 200)}, "no pixel of an image of 40 x 60 px"),
        ({"polygon_px": [(-9, -9), (-9, -5), (-5, -5)]}, "no pixel"),
    ],
)
def test_an_area_that_is_none_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        area(**settings)


def test_a_mask_without_a_pixel_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "empty.tif", np.zeros(SHAPE, "uint8"))
    with pytest.raises(ConfigError, match="no pixel"):
        area(mask=tmp_path / "empty.tif")
