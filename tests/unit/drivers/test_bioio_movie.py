"""Formats of microscopes' makers through bioio: by a reader for these tests, and by those that are installed."""

import sys
from importlib.metadata import entry_points

import numpy as np
import pytest

from streamtrack import registry
from streamtrack.errors import PluginNotFoundError, SourceError
from streamtrack.registry import source_from_text

bioio = pytest.importorskip("bioio", reason="the extra formats is not installed")
MOVIE = np.random.default_rng(0).integers(1, 200, (2, 6, 2, 3, 40, 48)).astype("uint16")  # scene, T, C, Z

READER = """
import numpy as np, dask.array, xarray
from datetime import timedelta
from bioio_base.reader import Reader as Base
from bioio_base.reader_metadata import ReaderMetadata as BaseMetadata
from bioio_base.types import PhysicalPixelSizes

class Reader(Base):
    def __init__(self, image, fs_kwargs={}):
        self._fs, self._path = None, image
        if not self._is_supported_image(None, image):
            raise OSError("this file is\\nnone of mine")
    @staticmethod
    def _is_supported_image(fs, path, **kwargs):
        with open(path, "rb") as file:
            return file.read(6) == b"\\x93NUMPY"
    @property
    def scenes(self):
        return ("left", "right")
    def _read_delayed(self):
        data = np.load(self._path, mmap_mode="r")[self.current_scene_index]
        def block(block_info=None):
            start = block_info[None]["array-location"][0][0]
            if start == 4:
                raise OSError("a damaged\\nblock")
            return np.asarray(data[start : start + 1])
        chunks = ((1,) * len(data), *((size,) for size in data.shape[1:]))
        lazy = dask.array.map_blocks(block, chunks=chunks, dtype=data.dtype)
        names = {"C": ["DAPI", "GFP"]} if data.ndim == 5 else {}
        return xarray.DataArray(lazy, dims=list("TCZYX") if names else list("TYXS"), coords=names)
    _read_immediate = _read_delayed
    @property
    def physical_pixel_sizes(self):
        return PhysicalPixelSizes(0.3, 0.11, 0.11)
    @property
    def time_interval(self):
        return timedelta(seconds=0.05)

class ReaderMetadata(BaseMetadata):
    @staticmethod
    def get_supported_extensions():
        return ["r3d"]
    @staticmethod
    def get_reader():
        return Reader
"""
METADATA = "Metadata-Version: 2.1\nName: bioio-for-tests\nVersion: 1.0\nRequires-Dist: bioio-base>=1\n"


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader of bioio's that is found as those are that people install."""
    installed = tmp_path / "site" / "bioio_for_tests-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed.parent / "bioio_for_tests.py").write_text(READER)
    (installed / "METADATA").write_text(METADATA)
    (installed / "entry_points.txt").write_text("[bioio.readers]\nbioio-for-tests = bioio_for_tests\n")
    monkeypatch.syspath_prepend(installed.parent)
    yield
    sys.modules.pop("bioio_for_tests", None)


def open_movie(path, **settings):
    return registry.load("sources", source_from_text(str(path))["kind"])(path=path, **settings)


@pytest.fixture
def movie(reader, tmp_path):
    path = tmp_path / "m.R3D"
    with path.open("wb") as file:
        np.save(file, MOVIE)
    return path


def test_scenes_channels_and_planes_are_chosen_by_name_or_index(movie):
    for position, c, z in (("left", "GFP", 0), (1, 0, 2)):
        source = open_movie(movie, position=position, channel=c, z=z)
        items = list(source.frames())
        shown = [item.index for item in items if hasattr(item, "pixels")]
        assert shown == [0, 1, 2, 3, 5]
        expected = MOVIE[int(position == 1), shown, int(c == "GFP"), z]
        np.testing.assert_array_equal([items[index].pixels for index in shown], expected)
        assert items[4].cause == "unreadable plane: a damaged block"
        source.close()


def test_names_and_scale_are_those_of_the_reader(movie):
    source = open_movie(movie, position=0, channel=0, z="max")
    source.close()
    assert source.choices() == {"position": ["left", "right"], "channel": ["DAPI", "GFP"], "z": [""] * 3}
    assert (source.info.pixel_size_um, source.info.frame_interval_s) == (0.11, 0.05)
    with pytest.raises(SourceError, match=r"2 positions: choose one with --position, of 0 \(left\), 1 \(right\)"):
        open_movie(movie)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.r3d", b"nothing", r"bioio's reader of \.r3d cannot open it: it is damaged"),
        ("m.sldyz", b"nothing", r"no reader for it is installed: pip install \"\.\[formats\]\" for"),
        ("gone.r3d", None, "no such file: check the path"),
    ],
)
def test_what_no_reader_opens_is_one_line(reader, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as refused:
        registry.load("sources", "bioio")(path=tmp_path / name)
    assert len(str(refused.value).splitlines()) == 1


def test_colour_is_refused(reader, tmp_path):
    with (tmp_path / "m.r3d").open("wb") as file:
        np.save(file, np.zeros((2, 6, 40, 48, 3), "uint8"))
    with pytest.raises(SourceError, match="is a colour image"):
        open_movie(tmp_path / "m.r3d", position=0)


@pytest.mark.parametrize("ending", ["nd2", "czi", "lif"])
def test_without_the_extra_the_line_names_it(tmp_path, monkeypatch, ending):
    path = tmp_path / f"m.{ending}"
    path.write_bytes(b"something")
    monkeypatch.setitem(sys.modules, "bioio", None)
    monkeypatch.delitem(sys.modules, "streamtrack_drivers.bioio_movie", raising=False)
    with pytest.raises(PluginNotFoundError, match=r"needs bioio: pip install \"\.\[formats\]\""):
        open_movie(path)


def test_zeiss_files_by_zeiss_own_writer(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi", reason="the extra formats is not installed")
    if not entry_points(group="bioio.readers", name="bioio-czi"):
        pytest.skip("bioio-czi is not installed")
    path = tmp_path / "m.czi"
    with czi.create_czi(str(path)) as document:
        for t, c, z in np.ndindex(6, 2, 3):
            document.write(MOVIE[0, t, c, z][..., None], plane={"T": t, "C": c, "Z": z})
        document.write_metadata("m", channel_names={0: "DAPI", 1: "GFP"}, scale_x=1.1e-7, scale_y=1.1e-7)
    source = open_movie(path, channel="GFP", z=1)
    np.testing.assert_array_equal([frame.pixels for frame in source.frames()], MOVIE[0, :, 1, 1])
    assert source.info.pixel_size_um == pytest.approx(0.11)
    source.close()
