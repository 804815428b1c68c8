"""Every source that comes with streamtrack does what a source has to do."""

from pathlib import Path

import numpy as np
import pytest
import tiff_files
import tifffile
import zarr
from movie_server import served

from streamtrack.testing.sources import SourceTests
from streamtrack_drivers.numpy_movie import NumpySource
from streamtrack_drivers.simulator import SimulatorSource
from streamtrack_drivers.tiff_stack import TiffSource
from streamtrack_drivers.zarr_movie import ZarrSource

MOVIE = np.random.default_rng(0).integers(0, 1000, (20, 48, 64)).astype("uint16")


class TestZarr(SourceTests):
    @pytest.fixture(autouse=True, params=[1, 3], ids=["frame by frame", "three frames in a chunk"])
    def movie(self, request, tmp_path):
        zarr.create_array(tmp_path / "m.zarr", data=MOVIE, chunks=(request.param, 48, 64))

    def make_source(self, tmp_path):
        return ZarrSource(path=tmp_path / "m.zarr")


class TestZarrWithHoles(SourceTests):
    """A movie with missing and damaged chunks is still a movie."""

    @pytest.fixture(autouse=True)
    def movie(self, tmp_path):
        zarr.create_array(tmp_path / "m.zarr", data=MOVIE, chunks=(1, 48, 64))
        (tmp_path / "m.zarr" / "c" / "5" / "0" / "0").unlink()
        (tmp_path / "m.zarr" / "c" / "7" / "0" / "0").write_bytes(b"damaged")

    def make_source(self, tmp_path):
        return ZarrSource(path=tmp_path / "m.zarr", frames="2:-1")


class TestZarrOnAServer(TestZarrWithHoles):
    @pytest.fixture(autouse=True)
    def address(self, movie, tmp_path):
        pytest.importorskip("obstore", reason="needs the extra remote")
        with served(tmp_path) as server:
            self.address = f"{server.url}/m.zarr"
            yield

    def make_source(self, tmp_path):
        return ZarrSource(path=self.address, frames="2:-1")


class TestNumpy(SourceTests):
    @pytest.fixture(autouse=True)
    def movie(self, tmp_path):
        np.save(tmp_path / "m.npy", MOVIE)
        data = (tmp_path / "m.npy").read_bytes()
        (tmp_path / "m.npy").write_bytes(data[:-5000])

    def make_source(self, tmp_path):
        return NumpySource(path=tmp_path / "m.npy")


class TestNDTiff(SourceTests):
    @pytest.fixture(autouse=True)
    def movie(self, tmp_path):
        tiff_files.ndtiff(tmp_path / "m", [({"time": t}, image) for t, image in enumerate(MOVIE)])

    def make_source(self, tmp_path):
        return TiffSource(path=tmp_path / "m")


class TestTiff(SourceTests):
    @pytest.fixture(autouse=True, params=[None, "zlib"], ids=["contiguous", "zlib"])
    def movie(self, request, tmp_path):
        tifffile.imwrite(tmp_path / "m.tif", MOVIE, compression=request.param, metadata={"axes": "TYX"})

    def make_source(self, tmp_path):
        return TiffSource(path=tmp_path / "m.tif")


class TestTiffCutOff(SourceTests):
    @pytest.fixture(autouse=True)
    def movie(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "m.tif") as tif:
            for image in MOVIE:
                tif.write(image, contiguous=False, metadata=None)
        data = (tmp_path / "m.tif").read_bytes()
        (tmp_path / "m.tif").write_bytes(data[: len(data) // 2])

    def make_source(self, tmp_path):
        return TiffSource(path=tmp_path / "m.tif")


class TestSimulator(SourceTests):
    def make_source(self, tmp_path):
        return SimulatorSource(scenario="vesicle", snr=4.0, density=100.0, frames=20, size=64, seed=1)


class TestMicroManager(SourceTests):
    """On a real core with the demo camera."""

    @pytest.fixture(autouse=True, params=[None, 20], ids=["open-ended", "20 frames"])
    def microscope(self, request):
        pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
        pytest.importorskip("mm_test_adapters", reason="needs the demo camera of mm-test-adapters")
        from streamtrack_drivers.micromanager import MicroManager

        self.scope, self.frames = MicroManager(config=Path("MMConfig_demo.cfg")), request.param
        self.scope.set_property("Camera", "Mode", "Fluorescent Beads")
        yield
        self.scope.close()

    def make_source(self, tmp_path):
        from streamtrack_drivers.micromanager import MicroManagerSource

        return MicroManagerSource(microscope=self.scope, exposure_ms=2.0, roi=(0, 0, 96, 64), frames=self.frames)
