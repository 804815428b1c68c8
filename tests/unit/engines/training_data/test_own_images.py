import numpy as np
import pandas as pd
import pytest
import tifffile

from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, StreamtrackError
from streamtrack.formats.napari import write_napari_points
from streamtrack.formats.trackmate import write_trackmate
from streamtrack_engines.parts import make_data
from streamtrack_engines.training_data.marks import marks_of_labels, read_marks
from streamtrack_engines.training_data.own_crops import Window, cut
from streamtrack_engines.training_data.reading import left_out
from streamtrack_engines.training_data.truth import seeded

SHAPE = (80, 112)


def _image(rng, yx, shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    light = sum(300 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 4.5) for a, b in yx)
    return rng.poisson(20 + light).astype(np.uint16)


def _places(rng, n=12, shape=SHAPE):
    return rng.uniform(4, np.array(shape) - 5, (n, 2))


@pytest.fixture
def images(tmp_path):
    """A folder of four images with napari's points beside each."""
    rng, truth = np.random.default_rng(3), {}
    for number in range(4):
        yx = truth[f"cell_{number}.tif"] = _places(rng)
        tifffile.imwrite(tmp_path / f"cell_{number}.tif", _image(rng, yx))
        points = pd.DataFrame(yx, columns=["axis-0", "axis-1"]).rename_axis("index")
        points.to_csv(tmp_path / f"cell_{number}.csv")
    return tmp_path, truth


def _folder(path, **settings):
    return make_data(PluginConfig(kind="folder", path=path, **settings))


def test_each_image_has_its_points(images):
    path, truth = images
    read = _folder(path).read()
    assert [each.name for each in read] == sorted(truth)
    for each in read:
        np.testing.assert_allclose(each.marked[0].points, truth[each.name], atol=1e-3)


def test_whole_images_are_held_out_and_never_learnt_from(images):
    data = _folder(images[0], held_out_share=0.25, simulated_fraction=0.0)
    learnt, held_out = data.parts()
    assert (learnt.n_images, held_out.n_images) == (3, 1)
    assert {image.name for image, _ in learnt.frames}.isdisjoint(image.name for image, _ in held_out.frames)


@pytest.mark.parametrize("size_px", [48, 160])
def test_points_of_a_crop_are_where_its_spots_are(images, size_px):
    data = _folder(images[0], simulated_fraction=0.0, most_brightened=1.0)
    for seed in range(6):
        truth = seeded(data, (seed,), 2, size_px, 2)
        assert truth.noisy.shape == (2, 3, size_px, size_px)
        assert truth.known["radius_px"].shape == (len(truth.points),)
        crop, row, column = np.rint(truth.points).astype(int).T
        inside = (np.minimum(row, column) >= 1) & (np.maximum(row, column) < size_px - 1)
        assert inside.any()
        at = truth.noisy[crop[inside], -1, row[inside], column[inside]]
        assert np.median(at) > 150
        assert np.median(truth.noisy[:, -1]) < 60


def test_simulated_crops_come_between(images):
    data = _folder(images[0], simulated_fraction=0.5)
    kinds = [seeded(data, (seed,), 1, 48, 0).signal is not None for seed in range(30)]
    assert 5 < sum(kinds) < 25


def test_a_still_image_has_other_noise_in_the_frames_before(images):
    data = _folder(images[0])
    image, _ = data.parts()[0].frames[0]
    crop = cut(np.random.default_rng(1), image, Window(0, 4, 4, 48), 2, always_known=True)
    last, before = crop.noisy[0, -1], crop.noisy[0, 0]
    assert before.max() > 100
    assert not np.array_equal(last, before)


def test_an_example_shows_particles_and_fits_into_eight_bits(images):
    movie = _folder(images[0]).example(4, 128, 128)
    assert movie.shape == (4, 128, 128)
    assert movie.min() >= 0
    assert 200 < movie.max() <= 250


def test_a_movie_holds_out_its_last_frames(tmp_path):
    rng = np.random.default_rng(0)
    yx = [_places(rng) for _ in range(12)]
    tifffile.imwrite(tmp_path / "movie.tif", np.stack([_image(rng, each) for each in yx]), photometric="minisblack")
    marked = [3, 4, 5, 8, 11]
    rows = [(frame, *place) for frame in marked for place in yx[frame]]
    pd.DataFrame(rows, columns=["axis-0", "axis-1", "axis-2"]).rename_axis("index").to_csv(tmp_path / "points.csv")
    data = make_data(PluginConfig(kind="clicks", path=tmp_path / "movie.tif", points=tmp_path / "points.csv"))
    learnt, held_out = data.parts()
    assert [frame for _, frame in learnt.frames] == marked[:-1]
    assert [frame for _, frame in held_out.frames] == marked[-1:]
    assert not data.is_split_by_image
    image = learnt.frames[0][0]
    assert set(image.marked) == set(marked)  # where nobody clicked, nobody looked
    crop = cut(rng, image, Window(4, 0, 0, 64), 2)
    np.testing.assert_array_equal(crop.noisy[0, 0], image.frames[2][:64, :64])


def test_frames_without_marks_are_empty_if_that_is_said(tmp_path):
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([_image(rng, [(20, 30)])] * 8), photometric="minisblack")
    pd.DataFrame({"frame": [0, 7], "y": 20.0, "x": 30.0}).to_csv(tmp_path / "a.csv", index=False)
    (image,) = make_data(
        PluginConfig(kind="clicks", path=tmp_path / "a.tif", points=tmp_path / "a.csv", empty_frames=True)
    ).read()
    assert [len(image.marked[frame].points) for frame in range(8)] == [1, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("spot_size", [7.0, 14.0])
def test_images_are_binned_as_by_the_engine(tmp_path, spot_size):
    rng = np.random.default_rng(0)
    yx = _places(rng, 4, (160, 160))
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", _image(rng, yx, (160, 160)))
        pd.DataFrame(yx, columns=["y", "x"]).to_csv(tmp_path / f"{name}.csv", index=False)
    n = int(spot_size / 3.5)
    image = _folder(tmp_path, spot_size=spot_size).read()[0]
    assert image.frames[0].shape == (160 // n, 160 // n)
    np.testing.assert_allclose(image.marked[0].points * n + (n - 1) / 2, yx, atol=1e-3)


def test_masks_give_centroids_and_radii(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    labels = np.zeros((64, 64), np.int32)
    y, x = np.mgrid[:64, :64]
    for number, (row, column) in enumerate([(16, 20), (40, 44)], 1):
        labels[np.hypot(y - row, x - column) < 6] = number
    for name in "ab":
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", (100 * (labels > 0) + 20).astype(np.uint8))
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", labels)
    image = _folder(tmp_path).read()[0]
    np.testing.assert_allclose(image.marked[0].points, [(16, 20), (40, 44)])
    np.testing.assert_allclose(image.marked[0].radius_px, 6, rtol=0.05)


def test_parts_of_a_mask_without_numbers_count_each():
    mask = np.zeros((20, 20), bool)
    mask[2:5, 2:5] = mask[10:15, 10:15] = True
    marks = marks_of_labels(mask)
    np.testing.assert_allclose(marks[["y", "x"]], [(3, 3), (12, 12)])
    assert len(marks_of_labels(np.zeros((8, 8), int))) == 0


def test_points_of_other_programs(tmp_path):
    table = pd.DataFrame({"frame": [0, 1], "particle": [0, 0], "y": [5.0, 6.0], "x": [7.0, 8.5]})
    write_trackmate(table, tmp_path / "a.xml")
    write_napari_points(table, tmp_path / "b.csv")
    for name in ("a.xml", "b.csv"):
        pd.testing.assert_frame_equal(read_marks(tmp_path / name)[["frame", "y", "x"]], table[["frame", "y", "x"]])
    (tmp_path / "fiji.csv").write_text(" ,Area,Mean,X,Y,Slice\n1,12,50,8,5.5,1\n2,12,50,9,6.5,2\n", encoding="utf-8")
    fiji = read_marks(tmp_path / "fiji.csv")
    assert fiji[["frame", "y", "x"]].to_numpy().tolist() == [[0, 5.0, 7.5], [1, 6.0, 8.5]]
    (tmp_path / "um.csv").write_text(" ,X,Y\n1,0.8,0.55\n", encoding="utf-8")
    assert read_marks(tmp_path / "um.csv", 0.1)[["y", "x"]].to_numpy()[0].tolist() == pytest.approx([5.5, 8.0])


def test_one_table_may_name_the_images(images):
    path, truth = images
    for table in path.glob("*.csv"):
        table.unlink()
    rows = [(name, *place, 3.0) for name, places in truth.items() for place in places]
    pd.DataFrame(rows, columns=["image", "y", "x", "radius_px"]).to_csv(path / "all.csv", index=False)
    read = _folder(path).read()
    np.testing.assert_allclose(read[2].marked[0].points, truth[read[2].name], atol=1e-3)
    assert (read[2].marked[0].radius_px == 3.0).all()


def _swap(table):
    return table.rename(columns={"axis-0": "axis-1", "axis-1": "axis-0"})


def _in_um(table):
    return table.assign(**{name: table[name] * 0.1 for name in ("axis-0", "axis-1")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_in_um, "all 48 points lie in the upper left 10% of the images: if they are in µm, say how large a pixel is"),
        (_swap, "with y and x swapped all lie inside"),
        (lambda table: table[:0], "has no point in it: mark the particles"),
        (lambda table: table.assign(**{"axis-0": 500.0}), "12 of 12 points lie outside cell_0.tif, which has 80 rows"),
        (lambda table: table.assign(**{"axis-0": "left"}), "has no number for axis-0 in row 1"),
        (lambda table: table.rename(columns={"axis-0": "height"}), "lacks the column(s)"),
    ],
)
def test_a_mistake_in_a_table_is_said_in_one_line(images, change, message):
    for table in images[0].glob("*.csv"):
        change(pd.read_csv(table, index_col=0)).to_csv(table)
    with pytest.raises(ConfigError) as caught:
        _folder(images[0])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_y_for_x_shows_in_square_images_too(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        yx = _places(rng, 12, (128, 128))
        np.save(tmp_path / f"{name}.npy", _image(rng, yx, (128, 128)))
        pd.DataFrame(yx, columns=["x", "y"]).to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.raises(ConfigError, match="but with y and x swapped on what does: swap the names"):
        _folder(tmp_path)


def test_flat_middles_of_rings_are_right_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160]
    for name in "abc":
        yx = _places(rng, 10, (160, 160))
        depth = np.max([0.5 * np.exp(-((np.hypot(y - a, x - b) - 10) ** 2) / 4) for a, b in yx], axis=0)
        np.save(tmp_path / f"{name}.npy", rng.poisson(300 * (1 - depth)).astype(np.uint16))
        pd.DataFrame(yx, columns=["y", "x"]).to_csv(tmp_path / f"{name}.csv", index=False)
    assert _folder(tmp_path).parts()[0].n_points == 20


def test_what_a_folder_lacks_is_said(images):
    path, _ = images
    (path / "cell_2.csv").unlink()
    with pytest.raises(ConfigError, match=r"cell_2\.tif has no points beside it: add cell_2\.csv with columns y, x"):
        _folder(path)
    for number in (1, 2, 3):
        (path / f"cell_{number}.tif").unlink()
    with pytest.raises(ConfigError, match=r"cell_0\.tif alone has marks, in 1 frame: a part must be left to test on"):
        _folder(path)
    np.save(path / "cell_1.npy", np.zeros((64, 64), np.int64))
    with pytest.raises(StreamtrackError, match="int64"):
        _folder(path)
    (path / "none").mkdir()
    with pytest.raises(ConfigError, match="holds no image"):
        _folder(path / "none")


def test_what_belongs_to_no_image_is_left_out_and_said(images):
    path, _ = images
    assert left_out(path, None) == []
    (path / "notes.txt").write_text("that was on a Monday\n")
    (path / "cell_9.csv").write_text("y,x\n20,30\n")
    (path / "others.csv").write_text("image,y,x\ncell_0.tif,20,30\nwell.tif,20,30\n")
    for name in ("cell_8_masks.tif", "cell_1_masks.tif"):
        tifffile.imwrite(path / name, np.eye(*SHAPE, dtype=np.uint8))
    assert _folder(path).parts()[0].n_images == 3
    assert left_out(path, None) == [
        "left out, as there is no image of that name: cell_9.csv, notes.txt, cell_8_masks.tif",
        "left out of others.csv, as there are no such images: well",
        "left out, as a table counts before a mask: cell_1_masks.tif",
    ]
    (path / "others.csv").unlink()
    (path / "cell_2.csv").unlink()
    with pytest.raises(ConfigError, match=r"cell_2\.tif has no points beside it.*notes\.txt lacks the column"):
        _folder(path)


def test_what_would_be_learnt_wrongly_is_refused(images):
    path, truth = images
    for name, yx in truth.items():
        pd.DataFrame(yx, columns=["y", "x"]).to_csv(path / f"{name[:-4]}.csv", index=False)
    with pytest.raises(ConfigError, match=r"by that pixel size all 48 points lie in the upper left 1\.\d%"):
        _folder(path, pixel_size_um=65.0)
    twice = pd.concat([pd.read_csv(path / "cell_0.csv")] * 2)
    twice.to_csv(path / "cell_0.csv", index=False)
    assert len(_folder(path).read()[0].marked[0].points) == len(truth["cell_0.tif"])
    np.save(path / "cell_0.npy", np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(ConfigError, match=r"cell_0\.npy and cell_0\.tif have the same marks: leave one"):
        _folder(path)
    (path / "cell_0.tif").unlink()
    with pytest.raises(StreamtrackError, match=r"cell_0\.npy: the frame has NaN"):
        _folder(path)
    (path / "cell_0.csv").unlink()
    np.save(path / "cell_0_masks.npy", np.full(SHAPE, 0.5, np.float32))
    with pytest.raises(ConfigError, match="no whole numbers: a mask numbers its objects"):
        _folder(path)


def test_frames_are_numbered_from_0(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", np.stack([_image(rng, [(20, 30)])] * 8))
    pd.DataFrame({"frame": [1, 8], "y": 20.0, "x": 30.0}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ConfigError, match=r"marks in frame 8, a\.npy is frames 0 to 7: number the frames from 0"):
        make_data(PluginConfig(kind="clicks", path=tmp_path / "a.npy", points=tmp_path / "a.csv"))


def test_a_mask_of_another_size_is_refused(tmp_path):
    labels = np.zeros((64, 64), np.int32)
    labels[10:20, 10:20] = 1
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", (100 * (labels > 0) + 20).astype(np.uint8))
        tifffile.imwrite(tmp_path / f"{name}_masks.tif", labels[::2, ::2])
    with pytest.raises(ConfigError, match=r"mask a_masks\.tif is of 32x32 px, its image a\.tif of 64x64 px"):
        _folder(tmp_path).read()


def test_marks_beyond_a_crop_are_told_of_as_far_as_asked(images):
    path, truth = images
    data = _folder(path, simulated_fraction=0.0, most_scaled=1.0, most_brightened=1.0, beyond_px=20)
    name, yx = data.parts()[0].frames[0][0].name, truth
    image = data.parts()[0].frames[0][0]
    crop = cut(np.random.default_rng(1), image, Window(0, 16, 32, 48), 0, beyond_px=20)
    wanted = yx[name] - (16, 32)
    wanted = wanted[((wanted >= -20) & (wanted <= 67)).all(1)]
    np.testing.assert_allclose(crop.points[:, 1:], wanted, atol=1e-3)
    few, many = (seeded(_folder(path, simulated_fraction=0.0, beyond_px=beyond), (1,), 6, 48, 0) for beyond in (0, 20))
    np.testing.assert_array_equal(few.noisy, many.noisy)
    assert len(many.points) > len(few.points)


def test_simulated_crops_are_of_any_kind(images):
    data = _folder(images[0], simulated_fraction=0.5, simulated={"kind": "cells", "diameter_px": [8, 8]}, beyond_px=12)
    assert [name for name, _ in data.held_out(0, 1, 64, 0)] == ["own", "8px", "16px", "28px", "44px"]
    assert data.simulation.beyond_px == 12
    with pytest.raises(ConfigError, match="simulated 'crops' tell of no particle beyond them"):
        _folder(images[0], beyond_px=12)
