"""Which movies are meant, and what they are called."""

import numpy as np
import pytest
import tifffile
import zarr

from streamtrack.errors import ConfigError, SourceError
from streamtrack.offline.movies import find


def write(path, shape=(5, 32, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    zarr.create_array(path, data=np.ones(shape, np.uint16), chunks=(1,) * (len(shape) - 2) + shape[-2:])
    return path


def names(movies):
    return [movie.name for movie in movies]


def test_patterns_folders_and_paths(tmp_path):
    write(tmp_path / "plate" / "b.ome.zarr")
    write(tmp_path / "plate" / "a.zarr")
    write(tmp_path / "plate" / "other" / "c.zarr")
    (tmp_path / "plate" / "notes.txt").write_text("x")
    assert names(find([tmp_path / "plate" / "*.zarr"], {})) == ["a", "b"]
    assert names(find([tmp_path / "plate"], {})) == ["a", "b"]
    assert names(find([str(tmp_path / "plate" / "other" / "c.zarr")], {})) == ["c"]
    (simulated,) = find(["sim:vesicle?frames=8&size=64"], {})
    assert (simulated.name, simulated.error, simulated.info.n_frames) == ("sim_vesicle_8_64", "", 8)


def test_a_folder_of_movies_is_not_taken_for_one(tmp_path):
    """Of several kinds, or a stack a file: none is left out."""
    write(tmp_path / "mixed" / "c1.ome.zarr")
    write(tmp_path / "mixed" / "c2.ome.zarr")
    stack = np.ones((4, 32, 32), np.uint16)
    tifffile.imwrite(tmp_path / "mixed" / "nuclei.tif", stack, photometric="minisblack")
    assert names(find([tmp_path / "mixed"], {})) == ["c1", "c2", "nuclei"]
    (tmp_path / "stacks").mkdir()
    for name in ("m1", "m2"):
        tifffile.imwrite(tmp_path / "stacks" / f"{name}.tif", stack, photometric="minisblack")
    assert names(find([tmp_path / "stacks"], {})) == ["m1", "m2"]
    (tmp_path / "frames").mkdir()
    for index in range(3):
        tifffile.imwrite(tmp_path / "frames" / f"t{index:03}.tif", stack[0])
    assert [(movie.name, movie.info.n_frames) for movie in find([tmp_path / "frames"], {})] == [("frames", 3)]


def test_files_of_one_name_take_their_folders_names(tmp_path):
    for day in ("monday", "tuesday"):
        write(tmp_path / day / "cell.zarr")
    write(tmp_path / "monday" / "other.zarr")
    assert names(find([tmp_path / "*"], {})) == ["monday_cell", "other", "tuesday_cell"]


def test_a_movie_that_is_followed_is_no_batch(tmp_path):
    (movie,) = find([write(tmp_path / "a.zarr")], {"follow": 5.0})
    assert "track --follow" in movie.error


def test_names_that_mean_something_else_are_not_taken(tmp_path):
    for name in ("stop", "stop.motion", "batch.json", "run.lock", "CON", "com1.b", "stopped"):
        write(tmp_path / f"{name}.zarr")
    taken = ["CON", "batch.json", "com1.b", "run.lock", "stop", "stop.motion"]
    assert sorted(names(find([tmp_path], {}))) == [*(f"movie_{name}" for name in taken), "stopped"]


def test_names_that_differ_in_case_only_take_their_folders_names(tmp_path):
    write(tmp_path / "monday" / "cell.zarr")
    write(tmp_path / "tuesday" / "Cell.zarr")
    assert names(find([tmp_path / "*"], {})) == ["monday_cell", "tuesday_Cell"]


def test_the_same_file_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.zarr")
    with pytest.raises(ConfigError, match="two movies would be called"):
        find([path, path], {})


def test_each_position_and_each_channel_that_is_asked_for_is_a_movie(tmp_path):
    for well in ("A/1/0", "B/2/0"):
        write(tmp_path / "plate.zarr" / well, (5, 2, 32, 32))
    for each in ("", "A", "A/1", "B", "B/2"):
        zarr.open_group(tmp_path / "plate.zarr" / each, mode="a")
    assert names(find([tmp_path / "plate.zarr"], {"channel": 0, "axes": "TCYX"})) == ["plate/A_1_0", "plate/B_2_0"]
    both = find([tmp_path / "plate.zarr"], {"channel": "all", "axes": "TCYX"})
    assert names(both)[:2] == ["plate/A_1_0_channel_0", "plate/A_1_0_channel_1"]
    assert len(both) == 4
    assert names(find([tmp_path / "plate.zarr"], {"position": "B/2/0", "channel": 1, "axes": "TCYX"})) == ["plate"]


def test_frames_are_those_that_the_source_would_give(tmp_path):
    path = write(tmp_path / "a.zarr", (20, 32, 32))
    for wanted, frames, open_end in [
        (None, range(20), True),
        ("3:7", range(3, 7), False),
        ("-4:", range(16, 20), True),
    ]:
        (movie,) = find([path], {"frames": wanted})
        assert (movie.frames, movie.open_end, movie.info.n_frames) == (frames, open_end, len(frames))


def test_tiff(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.ones((5, 32, 32), np.uint16), photometric="minisblack", metadata={"axes": "TYX"}
    )
    (movie,) = find([tmp_path / "a.tif"], {})
    assert (movie.name, movie.frames) == ("a", range(5))


def test_a_movie_that_cannot_be_opened_keeps_no_other_from_being_found(tmp_path):
    write(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    good, bad = find([tmp_path], {})
    assert (good.error, bad.info) == ("", None)
    assert "no zarr array or group here" in bad.error


def test_nothing_there(tmp_path):
    with pytest.raises(ConfigError, match="nothing there matches"):
        find([tmp_path / "*.zarr"], {})
    with pytest.raises(ConfigError, match="no movie that an installed source opens lies in"):
        find([tmp_path], {})
    with pytest.raises(SourceError, match="no such file or folder"):
        find([tmp_path / "missing"], {})
    assert "no such file or folder" in find([tmp_path / "missing.zarr"], {})[0].error
    with pytest.raises(ConfigError, match="nothing to track"):
        find([], {})
