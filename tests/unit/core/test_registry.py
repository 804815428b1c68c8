import sys
import zipfile

import pytest
import tifffile
import zarr

from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, PluginNotFoundError, SourceError
from streamtrack.registry import build, load, names, source_from_text


def test_shipped_plugins_are_listed():
    assert {"sim", "tiff", "zarr"} <= set(names("sources"))
    assert {"imm", "trackpy"} <= set(names("linkers"))
    assert {"tables", "overview"} <= set(names("sinks"))
    assert {"train", "export"} <= set(names("commands"))
    assert "denodet" in names("engines")


@pytest.mark.usefixtures("lab_plugins")
def test_a_plugin_is_built_from_checked_settings():
    plugin = build("sources", PluginConfig(kind="lab-camera", frames="12"))
    assert plugin.instance.info.n_frames == 12
    assert plugin.settings["live"] is False, "defaults are part of the record"


@pytest.mark.usefixtures("lab_plugins")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame": 3}, "source 'lab-camera': unknown key 'frame'; did you mean 'frames'?"),
        ({"frames": "many"}, "source 'lab-camera': frames = 'many' is not valid"),
    ],
)
def test_a_wrong_setting_names_the_plugin(settings, message):
    with pytest.raises(ConfigError) as error:
        build("sources", PluginConfig(kind="lab-camera", **settings))
    assert message in str(error.value)


@pytest.mark.usefixtures("lab_plugins")
def test_a_missing_dependency_names_the_extra():
    with pytest.raises(PluginNotFoundError, match=r'needs torch: pip install "\.\[train\]"'):
        load("sources", "needs-torch")


def test_an_unknown_plugin_lists_the_known_ones():
    with pytest.raises(PluginNotFoundError, match=r"unknown source 'zar'; did you mean 'zarr'\? \(known: .*tiff"):
        load("sources", "zar")


def test_a_setting_of_a_plugin_is_finite_also_as_text():
    with pytest.raises(ConfigError, match="snr = 'inf' is not valid: input should be a finite number"):
        build("sources", PluginConfig(kind="sim", scenario="vesicle", snr="inf"))


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("sim:vesicle", {"kind": "sim", "scenario": "vesicle"}),
        ("sim:receptor?snr=2&seed=7", {"kind": "sim", "scenario": "receptor", "snr": "2", "seed": "7"}),
        ("zarr:odd.folder?level=1", {"kind": "zarr", "path": "odd.folder", "level": "1"}),
        ("movie.ome.zarr", {"kind": "zarr", "path": "movie.ome.zarr"}),
        (r"C:\data\movie.zarr", {"kind": "zarr", "path": r"C:\data\movie.zarr"}),
        ("movies.zarr/cell_3", {"kind": "zarr", "path": "movies.zarr/cell_3"}),
        ("movie.OME.TIF", {"kind": "tiff", "path": "movie.OME.TIF"}),
        ("https://lab.example/movie", {"kind": "zarr", "path": "https://lab.example/movie"}),
        ("s3://lab/m.zarr/0", {"kind": "zarr", "path": "s3://lab/m.zarr/0"}),
        ("zarr:gs://lab/m?level=1", {"kind": "zarr", "path": "gs://lab/m", "level": "1"}),
    ],
)
def test_what_a_user_types_becomes_a_source(text, table):
    assert source_from_text(text) == table


def test_a_movie_of_any_name_is_known_by_what_is_in_it(tmp_path):
    zarr.create_array(tmp_path / "folder", shape=(2, 4, 4), dtype="u1")
    zarr.create_array(tmp_path / "old", shape=(2, 4, 4), dtype="u1", zarr_format=2)
    tifffile.imwrite(tmp_path / "image.dat", shape=(2, 4, 4), dtype="u1")
    tifffile.imwrite(tmp_path / "big", shape=(2, 4, 4), dtype="u2", bigtiff=True, byteorder=">")
    with zipfile.ZipFile(tmp_path / "movie.zip", "w") as file:
        file.writestr("zarr.json", "{}")
    kinds = {path.name: source_from_text(str(path))["kind"] for path in tmp_path.iterdir()}
    assert kinds == {"folder": "zarr", "old": "zarr", "image.dat": "tiff", "big": "tiff", "movie.zip": "zarr"}
    assert source_from_text(str(tmp_path / "movie.zip" / "inside"))["kind"] == "zarr"


def test_what_nobody_opens_is_one_line_that_says_who_was_asked(tmp_path):
    (tmp_path / "notes.dat").write_text("notes")
    asked = r"no installed source opens it \(asked: bioio, numpy, tiff, zarr\); to name one write"
    for path in (tmp_path, tmp_path / "notes.dat"):
        with pytest.raises(SourceError, match=asked):
            source_from_text(str(path))
    (tmp_path / "report.json").write_text("{}")
    others = {
        "a.csv": "a table, not a movie",
        "a.PNG": "a picture or a video",
        ".": "the folder of a run: name the movie",
    }
    for name, said in others.items():
        (tmp_path / name).exists() or (tmp_path / name).touch()
        with pytest.raises(SourceError, match=f" is {said}"):
            source_from_text(str(tmp_path / name))
    for url in ("ftp://me:hush@lab.example/movie?sig=hush", "https://lab.example/m.nd2", "s3://lab/m.tif"):
        with pytest.raises(SourceError, match=r"over the network only zarr .* are read: download it, .*$") as failure:
            source_from_text(url)
        assert "hush" not in str(failure.value)
    with pytest.raises(SourceError, match=r"no such file or folder: check the path$"):
        source_from_text(str(tmp_path / "movei"))
    with pytest.raises(SourceError, match=r"name too long: check the path$" if sys.platform == "linux" else "check"):
        source_from_text(str(tmp_path / ("x" * 300)))
    with pytest.raises(SourceError, match=r"no such file or folder"):
        source_from_text("nul\0inside")
    with pytest.raises(SourceError, match=r"check the path; did you mean 'sim'\?"):
        source_from_text("sym:vesicle")


@pytest.mark.usefixtures("lab_plugins")
def test_a_labs_source_is_asked_first_and_one_that_is_broken_keeps_no_other_from_reading(tmp_path):
    movie = str(tmp_path / "movie.abc")
    assert source_from_text(movie) == {"kind": "lab-abc", "path": movie}
    assert source_from_text("lab.tif")["kind"] == "lab-abc", "before those that come with streamtrack"
    assert source_from_text("other.tif")["kind"] == "tiff"
    with pytest.raises(
        SourceError, match=r"\(asked: bioio, lab-abc, needs-torch, numpy, tiff, zarr\); 'needs-torch' failed: No module"
    ):
        source_from_text(str(tmp_path))


def test_asking_imports_no_reader(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("streamtrack_drivers.") and "paths" not in name]:
        monkeypatch.delitem(sys.modules, module)
    source_from_text("movie.zarr")
    assert not {name for name in sys.modules if name.startswith("streamtrack_drivers.") and "paths" not in name}
