"""The shipped weights for density count cells, in simulated images of seeds of their own and in real ones."""

from contextlib import closing

import numpy as np
import pytest

import streamtrack
from benchmarks.detection.nuclei_counts import score_density, score_density_alone
from benchmarks.detection.nuclei_images import read
from streamtrack.errors import ConfigError
from streamtrack.protocols import HasThreshold
from streamtrack.simulation.cells import CellRanges, draw_cells
from streamtrack_engines.density_engine import DensityEngine
from streamtrack_engines.engine import CellEngine, DenodetEngine, GraphEngine
from streamtrack_engines.weights import read_weights

SEED = 88_003
RANGES = CellRanges(
    diameter_px=(24.0, 24.0),
    covered=(0.3, 0.3),
    contrast=(25.0, 25.0),
    empty_fraction=0.0,
    small_fraction=0.0,
    ring_fraction=0.0,
)


def scene(size_px=384):
    drawn = draw_cells(np.random.default_rng(SEED), size_px, RANGES)
    return drawn.expose(np.random.default_rng(SEED)).astype(np.uint16), drawn.cells


def counted(pixels, **settings):
    with closing(DensityEngine(threads=1, **settings)) as engine:
        assert not isinstance(engine, HasThreshold)
        engine.prepare(pixels.shape, pixels.dtype.name)
        found, density = engine.detect(pixels, denoise=True)
        assert len(found) == 0
        return found.frame_values, density


def test_the_file_is_small():
    assert len(read_weights("density")) < 1_000_000


def test_cells_are_counted_and_the_map_says_where():
    pixels, cells = scene()
    values, density = counted(pixels)
    assert values["count"] == pytest.approx(len(cells), rel=0.15)
    assert 0 < values["count_sigma"] < 0.3 * len(cells)
    assert density.shape == pixels.shape
    assert density.sum() == pytest.approx(values["count"], rel=1e-3)
    near = (np.hypot(*(np.indices(pixels.shape)[:, None] - cells[:, :2].T[..., None, None])) < 8).any(0)
    assert density[near].mean() > 2 * density[~near].mean()


def test_large_cells_count_once_they_are_binned():
    pixels, _ = scene()
    large = np.kron(pixels, np.ones((2, 2), np.uint16))
    values, density = counted(large, spot_size=48.0)
    assert values["count"] == pytest.approx(counted(pixels)[0]["count"], rel=0.02)
    assert density.shape == large.shape
    assert density.sum() == pytest.approx(values["count"], rel=1e-3)


def test_an_even_field_holds_next_to_nothing():
    pixels = np.random.default_rng(5).poisson(100, (384, 384)).astype(np.uint16)
    assert counted(pixels)[0]["count"] < 3


def test_a_run_writes_the_counts_and_says_that_nothing_is_tracked(tmp_path):
    movie = np.stack([scene(128)[0]] * 3)
    results = streamtrack.track(movie, engine="density", out=tmp_path / "run")
    assert len(results.tracks) == 0
    assert results.frames["count"].nunique() == 1
    assert (results.frames["count_sigma"] > 0).all()
    assert any("particles are counted and not found" in line for line in results.report["remarks"])
    assert results.report["source"]["image"] == "density"


@pytest.mark.parametrize(
    ("engine", "weights", "cure"),
    [
        (DensityEngine, "cells", "find particles and count none: take --engine cells"),
        (DensityEngine, "denodet", "--engine denodet"),
        (DenodetEngine, "cells", "take other weights, or --engine cells"),
        (DenodetEngine, "unet", "--engine unet"),
        (CellEngine, "density", "--engine density"),
        (GraphEngine, "density", "--engine density"),
    ],
)
def test_weights_that_count_and_weights_that_find_are_not_confused(engine, weights, cure):
    with pytest.raises(ConfigError, match=cure):
        engine(weights=weights)


def test_real_nuclei(shared_data):
    images = list(read(shared_data / "bbbc039", "validation"))
    assert score_density(images)["density_error"] < 0.045
    alone = score_density_alone(images)
    assert alone["density_error"] < 0.05
    assert 0.6 < alone["within_1_sigma"] < 0.85
