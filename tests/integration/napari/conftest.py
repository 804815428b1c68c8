"""Runs to look at, and a viewer without a window."""

import os
import warnings

import numpy as np
import pytest

import streamtrack

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="session")
def movie():
    return streamtrack.simulate("receptor", snr=7, density=300, frames=12, size=64, seed=5).movie


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, movie):
    """A run of a movie with pixels of 0.1 um, 0.05 s a frame, that recorded raw and denoised frames."""
    folder = tmp_path_factory.mktemp("napari") / "results"
    streamtrack.track(
        movie,
        folder,
        progress=False,
        source={"pixel_size_um": 0.1, "frame_interval_s": 0.05},
        measures=["intensity"],
        sinks=["tables", "raw", "denoised"],
    )
    return folder


@pytest.fixture(scope="session")
def napari():
    """It uses what pydantic 3 and others will not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        napari = pytest.importorskip("napari", reason="needs the extra napari")
        pytest.importorskip("napari.components", reason="napari cannot be used here")
    return napari


@pytest.fixture
def viewer_model(napari):
    """A viewer without a window."""
    return napari.components.ViewerModel()


@pytest.fixture
def stored(tmp_path, movie):
    """The movie in a file."""
    path = tmp_path / "movie.npy"
    np.save(path, movie)
    return path
