"""The example of the wound index."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

EXAMPLE = Path(__file__).parents[2] / "examples" / "polarity.py"
SIDE_PX, RADIUS_PX, NUCLEUS_PX = 80, 34, 12
N_CELLS = 12


@pytest.fixture
def discs(tmp_path):
    """Write twelve round cells with round nuclei in a row, the wound to their right; returns what is in each pixel."""
    y, x = np.indices((SIDE_PX, SIDE_PX * N_CELLS))
    away = np.hypot(y - SIDE_PX / 2, x % SIDE_PX - SIDE_PX / 2)
    cells = np.where(away < RADIUS_PX, 1 + x // SIDE_PX, 0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "cells.tif", cells)
    tifffile.imwrite(tmp_path / "nuclei.tif", (away < NUCLEUS_PX).astype(np.uint8))
    return cells


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    def run(spots, *options):
        pd.DataFrame({"frame": 0, "y": spots[:, 0], "x": spots[:, 1]}).to_parquet(tmp_path / "spots.parquet")
        arguments = [str(tmp_path / "spots.parquet"), str(tmp_path / "cells.tif"), *map(str, options)]
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        return capsys.readouterr().out

    return run


def spots_at(rng, angle, width, n=40):
    """Return spots of each cell at angles around one (0 is to the right, the wound), between nucleus and border."""
    angles = rng.uniform(angle - width, angle + width, (N_CELLS, n))
    radius = rng.uniform(NUCLEUS_PX + 2, RADIUS_PX - 2, angles.shape)
    y = SIDE_PX / 2 + radius * np.sin(angles)
    x = SIDE_PX * np.arange(N_CELLS)[:, None] + SIDE_PX / 2 + radius * np.cos(angles)
    return np.stack([y.ravel(), x.ravel()], 1)


def printed(text, name):
    return float(re.search(rf"{name} (-?[\d.]+)", text)[1])


@pytest.mark.parametrize(("angle", "index"), [(0.0, 1.0), (np.pi, -1.0)])
def test_rna_to_the_wound_gives_1_and_away_from_it_less_than_0(discs, run_example, tmp_path, angle, index):
    spots = spots_at(np.random.default_rng(0), angle, np.pi / 4)
    said = run_example(spots, "--wound", SIDE_PX / 2, 10_000, "--nuclei", tmp_path / "nuclei.tif")
    assert printed(said, "cells:") == index
    assert printed(said, "median") == index
    assert printed(said, "deviation") == 0


def test_rna_everywhere_gives_next_to_nothing(discs, run_example):
    spots = spots_at(np.random.default_rng(3), 0.0, np.pi, n=200)
    said = run_example(spots, "--wound", SIDE_PX / 2, 10_000)
    assert abs(printed(said, "cells:")) < 0.7
    assert 0.1 < printed(said, "deviation") < 0.5


def test_spots_in_nuclei_do_not_count(discs, run_example, tmp_path):
    rng = np.random.default_rng(1)
    in_nuclei = spots_at(rng, 0.0, 0.3)
    in_nuclei[:, 1] -= (NUCLEUS_PX + RADIUS_PX) / 2 - 4
    in_nuclei = in_nuclei[tifffile.imread(tmp_path / "nuclei.tif")[tuple(in_nuclei.round().astype(int).T)] > 0]
    assert len(in_nuclei) > 100
    spots = np.concatenate([in_nuclei, spots_at(rng, np.pi, 0.5, n=5)])
    said = run_example(spots, "--wound", SIDE_PX / 2, 10_000, "--nuclei", tmp_path / "nuclei.tif")
    assert printed(said, "cells:") == -1


def test_an_image_without_cells_is_said_so(discs, run_example, tmp_path):
    tifffile.imwrite(tmp_path / "cells.tif", np.zeros_like(discs))
    with pytest.raises(SystemExit, match="holds no cell"):
        run_example(np.ones((3, 2)), "--wound", 1, 2)
