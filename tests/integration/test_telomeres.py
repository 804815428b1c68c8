"""A real movie: live-cell telomeres, 200 frames."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from streamtrack.cli.running import make_config
from streamtrack.session import Session


@pytest.fixture
def telomeres(shared_data):
    path = shared_data / "timelapse_telomeres_2d.tif"
    if not path.exists():
        pytest.skip("needs timelapse_telomeres_2d.tif in ../shared/data")
    return path


def test_telomeres_are_tracked_the_same_from_tiff_and_zarr(telomeres, tmp_path):
    movie = tifffile.imread(telomeres)
    zarr.create_array(tmp_path / "telomeres.zarr", data=movie, chunks=(1, *movie.shape[1:]))
    for name, source in (("tiff", telomeres), ("zarr", tmp_path / "telomeres.zarr")):
        report = Session(make_config(str(source)), tmp_path / name).run()
        assert report["status"] == "completed"
        assert report["frames"]["processed"] == len(movie) == 200
    # The plain array knows neither frame interval nor pixel size, and so no speed in px/s and no places in um.
    texts = [pd.read_csv(tmp_path / name / "tracks.csv", dtype=str) for name in ("tiff", "zarr")]
    assert {"y_um", "x_um", "time_s"} == set(texts[0]) - set(texts[1])
    unitless = ["vy", "vx", "diffusion", "y_um", "x_um", "time_s"]
    timeless = [text.drop(columns=unitless, errors="ignore") for text in texts]
    pd.testing.assert_frame_equal(*timeless)

    tracks = pd.read_csv(tmp_path / "tiff" / "tracks.csv")
    lengths = tracks.groupby("particle").size()
    assert (lengths >= 100).sum() >= 5, "the bright telomeres stay in view for most of the movie"
    on_spot = [
        brightness_rank(movie[row.frame], row.y, row.x) for row in tracks.sample(300, random_state=0).itertuples()
    ]
    assert np.median(on_spot) > 0.95, "tracks sit on bright spots"
    assert json.loads((tmp_path / "tiff" / "report.json").read_text())["detections"] >= len(tracks)


def brightness_rank(frame, y, x):
    """Return the share of the frame's pixels that are darker than the pixel at (y, x)."""
    return float((frame < frame[round(y), round(x)]).mean())
