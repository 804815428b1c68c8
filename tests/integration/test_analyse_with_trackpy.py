"""The example that hands our table to trackpy."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streamtrack.formats.tables import write_parquet

EXAMPLE = Path(__file__).parents[2] / "examples" / "analyse_with_trackpy.py"
STEP_PX, ERROR_PX, DRIFT_PX = 1.5, 0.4, 0.3


@pytest.fixture
def walkers(tmp_path):
    """Brownian tracks of 150 particles over 60 frames that drift, with localisation error, 5 % of the spots missing."""
    rng = np.random.default_rng(20)
    n_tracks, n_frames = 150, 60
    steps = rng.normal((0, DRIFT_PX), STEP_PX, (n_tracks, n_frames, 2))
    yx = rng.uniform(0, 512, (n_tracks, 1, 2)) + steps.cumsum(axis=1) + rng.normal(0, ERROR_PX, steps.shape)
    particle, frame = np.divmod(np.arange(n_tracks * n_frames), n_frames)
    table = pd.DataFrame({"frame": frame, "particle": particle, "y": yx[..., 0].ravel(), "x": yx[..., 1].ravel()})
    return table[rng.random(len(table)) > 0.05]


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    """Run the example with a table; returns what it printed."""

    def run(table, *options):
        write_parquet(table, tmp_path / "tracks.parquet")
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(tmp_path / "tracks.parquet"), *options])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        return capsys.readouterr().out

    return run


def printed(text, name):
    return float(re.search(rf"{name} (-?[\d.]+(?:e-?\d+)?)", text)[1])


@pytest.mark.parametrize("units", [{}, {"pixel_size_um": 0.1, "frame_interval_s": 0.05}])
def test_diffusion_and_drift_are_found(walkers, run_example, units):
    walkers.attrs = units
    said = run_example(walkers)
    true_d = STEP_PX**2 / 2 * units.get("pixel_size_um", 1) ** 2 / units.get("frame_interval_s", 1)
    assert printed(said, "D of all together:") == pytest.approx(true_d, rel=0.1)
    assert printed(said, "D of each: median") == pytest.approx(true_d, rel=0.15)
    assert ("um^2/s" if units else "px^2/frame") in said
    assert printed(said, "px, x") == pytest.approx(59 * DRIFT_PX, abs=4 * STEP_PX * (59 / 150) ** 0.5)
    assert printed(said, "exponent of the MSD:") == pytest.approx(1, abs=0.15)


def test_tracks_that_are_all_too_short_are_said_so(walkers, run_example):
    with pytest.raises(SystemExit) as end:
        run_example(walkers, "--least-frames", "100")
    assert str(end.value) == "no track has 100 frames; lower --least-frames"
