"""Where particles are looked for, and what was never seen."""

import os
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import zarr

import streamtrack
from streamtrack.errors import ConfigError
from streamtrack.mask_file import read_mask
from streamtrack.search_area import SearchArea, area_of, mask_unseen
from streamtrack.types import Detections, SourceInfo

QUICK = {"kind": "denodet", "backend": "onnxruntime"}  # OpenVINO compiles the graphs for seconds in each run


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_pixels_become_the_mean_of_the_others(bad):
    pixels = np.full((32, 32), 5, np.float32)
    pixels[0, :4] = 9
    pixels[1, 1] = pixels[2, 2] = bad
    masked, count = mask_unseen(pixels)
    assert count == 2
    assert masked[1, 1] == masked[2, 2] == pytest.approx((5 * (1024 - 6) + 9 * 4) / 1022)
    assert masked.dtype == np.float32
    assert not np.isfinite(pixels[1, 1]), "the source's frame is never written into"


def test_opposite_infinities_are_both_found():
    pixels = np.zeros((32, 32), np.float32)
    pixels[0, 0], pixels[0, 1] = np.inf, -np.inf
    assert mask_unseen(pixels)[1] == 2


def test_a_frame_of_nothing_but_nan_becomes_zero():
    masked, count = mask_unseen(np.full((32, 32), np.nan, np.float32))
    assert count == 1024
    assert not masked.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_finite_frames_are_not_copied(dtype):
    pixels = np.full((32, 32), 200, dtype)
    masked, count = mask_unseen(pixels)
    assert masked is pixels
    assert count == 0


def camera_image(dtype):
    return np.random.default_rng(1).poisson(120, (96, 128)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("fill", [0, 7])
def test_a_constant_border_becomes_the_mean_of_the_others(dtype, fill):
    image = camera_image(dtype)
    image[:5] = image[:, -9:] = fill
    masked, count = mask_unseen(image)
    assert count == 5 * 128 + 91 * 9
    assert masked.dtype == dtype
    assert masked[0, 0] == masked[50, -1] == pytest.approx(image[5:, :-9].mean(), abs=0.5)
    np.testing.assert_array_equal(masked[5:, :-9], image[5:, :-9])


def test_the_corners_that_a_rotation_leaves_are_masked():
    image = camera_image(np.uint16)
    y, x = np.indices(image.shape)
    corners = (y + x < 30) | (y + x > 96 + 128 - 32)
    image[corners] = 0
    assert mask_unseen(image)[1] == corners.sum()


def test_constant_areas_within_the_frame_and_a_ground_without_noise_stay():
    image = camera_image(np.uint16)
    image[20:60, 20:60] = 0
    assert mask_unseen(image)[0] is image
    ground = np.zeros((96, 128), np.uint8)
    ground[40:50, 40:50] = 200
    assert mask_unseen(ground)[0] is ground


@pytest.fixture(scope="module")
def simulated():
    """A movie, and what is found where all of it is seen."""
    simulated = streamtrack.simulate("vesicle", snr=7.0, density=300.0, frames=8, size=128)
    return simulated, streamtrack.track(
        simulated.movie, sinks=[{"kind": "tables"}], engine=QUICK, progress=False
    ).detections


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_in_a_registered_movie_all_particles_and_nothing_else_are_found(dtype, simulated):
    simulated, plain = simulated
    bordered = simulated.movie.astype(dtype)
    truth = simulated.truth
    for index, image in enumerate(bordered):
        image[: 12 + 2 * index] = image[:, 128 - 10 :] = 0
    results = streamtrack.track(bordered, sinks=[{"kind": "tables"}], engine=QUICK, progress=False)
    found = results.detections
    inside = truth[(truth.y > 16 + 2 * truth.frame) & (truth.x < 114)]
    missed = sum(not is_near(found, row) for row in inside.itertuples())
    missed_plain = sum(not is_near(plain, row) for row in inside.itertuples())
    false = sum(not is_near(truth, row) for row in found.itertuples())
    false_plain = sum(not is_near(truth, row) for row in plain.itertuples())
    assert (missed, false) <= (missed_plain + 1, false_plain)
    assert results.report["frames"]["with_masked_pixels"] == 8


def is_near(table, row):
    there = table[table.frame == row.frame]
    return bool((np.hypot(there.y - row.y, there.x - row.x) < 5).any())


def detections(y, x):
    y, x = np.array(y, np.float32), np.array(x, np.float32)
    return Detections(y, x, y, y, y, {"width": x})


def test_a_particle_is_searched_where_its_pixel_is():
    kept = SearchArea((40, 60), "10:20,30:").of(detections([9.4, 9.6, 19.4, 19.6, 15], [35, 35, 59.9, 40, 29.4]))
    np.testing.assert_allclose(kept.y, [9.6, 19.4])
    np.testing.assert_allclose(kept.extra["width"], [35, 59.9])


def test_masks_are_read_from_tiff_npy_and_zarr(tmp_path):
    labels = np.zeros((40, 60), np.uint16)
    labels[5:9, 7:30], labels[20:30, 40:50] = 1, 2
    tifffile.imwrite(tmp_path / "m.tif", labels)
    np.save(tmp_path / "m.npy", labels)
    zarr.create_array(tmp_path / "m.zarr", data=labels)
    group = zarr.create_group(tmp_path / "m.ome.zarr")
    group.create_array("0", data=labels[np.newaxis])
    for name in ("m.tif", "m.npy", "m.zarr", "m.ome.zarr"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, (40, 60)), labels > 0)


@pytest.mark.parametrize(
    ("roi", "said"),
    [
        ("5:9", "is not a rectangle: give Y0:Y1,X0:X1"),
        ("0:50,0:60", "reaches beyond the frame of 40 x 60 px"),
        ("9:9,0:5", "no pixel is left to search"),
        (f"0:{'1' * 5000},:", "is not a rectangle"),
        ("\N{ARABIC-INDIC DIGIT THREE}:9,0:9", "is not a rectangle"),
    ],
)
def test_what_is_no_area_is_said_in_a_line(roi, said):
    with pytest.raises(ConfigError, match=said):
        SearchArea((40, 60), roi)


def test_nan_is_outside_and_what_holds_no_numbers_is_refused(tmp_path):
    half = np.full((40, 60), np.nan, np.float32)
    half[:, :30] = 1
    np.save(tmp_path / "half.npy", half)
    assert read_mask(tmp_path / "half.npy", (40, 60)).sum() == 40 * 30
    for name, dtype in (("struct", [("a", "i4")]), ("text", "U1"), ("date", "M8[s]"), ("complex", complex)):
        np.save(tmp_path / f"{name}.npy", np.zeros((40, 60), dtype))
        with pytest.raises(ConfigError, match="it must hold numbers"):
            read_mask(tmp_path / f"{name}.npy", (40, 60))


def test_a_huge_mask_is_refused_without_being_read(tmp_path):
    np.lib.format.open_memmap(tmp_path / "huge.npy", "w+", np.uint8, (300_000, 300_000))
    zarr.create_array(tmp_path / "huge.zarr", shape=(300_000, 300_000), chunks=(1000, 1000), dtype="u1")
    for name in ("huge.npy", "huge.zarr"):
        with pytest.raises(ConfigError, match="it has 300000 x 300000 px, the image 40 x 60 px"):
            read_mask(tmp_path / name, (40, 60))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_as_a_mask_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(ConfigError, match="it is no ordinary file"):
        read_mask(tmp_path / "pipe.npy", (40, 60))


def test_a_mask_of_another_size_is_said_in_a_line(tmp_path):
    np.save(tmp_path / "m.npy", np.ones((4, 4)))
    with pytest.raises(ConfigError, match="has 4 x 4 px, the image 40 x 60 px"):
        SearchArea((40, 60), None, tmp_path / "m.npy")
    zarr.create_group(tmp_path / "empty.zarr")
    with pytest.raises(ConfigError, match="it holds no array"):
        SearchArea((40, 60), None, tmp_path / "empty.zarr")
    with pytest.raises(ConfigError, match="No such file"):
        SearchArea((40, 60), None, tmp_path / "none.tif")


def test_what_is_searched_is_a_setting_and_is_said_in_the_report(tmp_path):
    movie = streamtrack.simulate("vesicle", snr=7.0, density=600.0, frames=4, size=96).movie
    mask = np.zeros((96, 96), np.uint8)
    mask[:, 48:] = 1
    np.save(tmp_path / "half.npy", mask)
    everywhere = streamtrack.track(movie, engine=QUICK, progress=False).detections
    results = streamtrack.track(movie, roi="20:70,:", mask=tmp_path / "half.npy", engine=QUICK, progress=False)
    wanted = everywhere[everywhere.y.round().between(20, 69) & (everywhere.x.round() >= 48)]
    assert len(wanted) > 0
    np.testing.assert_array_equal(results.detections[["y", "x"]], wanted[["y", "x"]])
    assert results.report["config"]["roi"] == "20:70,:"
    assert any("searched 26.0% of the frame only: roi 20:70,:; mask" in each for each in results.report["remarks"])


def test_the_part_of_the_chip_that_a_camera_reads_out_is_no_area_of_the_search():
    camera = SourceInfo("camera", (64, 64), "uint16", None, live=True, details={"roi": [8, 8, 64, 64]})
    assert area_of(camera) is None
    assert area_of(replace(camera, details={"roi": "0:32,0:64"})).inside.mean() == 0.5
