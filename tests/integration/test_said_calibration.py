"""What is said of pixels and frames reaches all that a run writes, and all that decides."""

import json

import numpy as np
import pytest
import zarr

import streamtrack
from streamtrack.formats.tables import read_tracks

pytestmark = pytest.mark.usefixtures("lab_plugins")

SIZE_UM, INTERVAL_S, N_FRAMES = 0.2, 0.5, 24
SAID = {"pixel_size_um": SIZE_UM, "frame_interval_s": INTERVAL_S}
QUICK = {"engine": "brightest", "linker": "nearest", "progress": False}


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A spot that goes 2 px a frame, in an OME-Zarr that says 0.1 um per pixel and 1 s per frame."""
    images = np.zeros((N_FRAMES, 32, 64), np.uint16)
    for index, image in enumerate(images):
        image[16, 8 + 2 * index] = 1000
    path = tmp_path_factory.mktemp("movie") / "movie.zarr"
    group = zarr.create_group(path)
    group.create_array("0", data=images, chunks=(1, 32, 64))
    axes = [{"name": "t", "type": "time", "unit": "second"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.1, 0.1]}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A run that writes what has units, and a rule in um a second that only the said calibration fulfils."""
    path = tmp_path_factory.mktemp("config") / "run.toml"
    path.write_text(
        'engine = "brightest"\nlinker = "imm"\nsinks = ["tables", "summary", "raw", "report", "position_list"]\n'
        'pixel_size_um = 0.3\n[[triggers]]\nkind = "speed"\nabove_um_s = 0.6\ndo = "position_list"\n',
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def folder(movie, settings, tmp_path_factory):
    """The run of the command line; its options go before the file's settings, and these before the movie."""
    import sys

    from streamtrack.cli import main

    out = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ending:
        patch.setattr(sys, "argv", ["streamtrack", "track", str(movie), "--config", str(settings), "--out", str(out)])
        sys.argv += ["--pixel-size", str(SIZE_UM), "--interval", str(INTERVAL_S)]
        main()
    assert not ending.value.code
    return out
