"""The shipped weights for cells find cells, in simulated images of seeds of their own and in real ones."""

from contextlib import closing

import numpy as np
import pytest

from benchmarks.detection.nuclei import GATE_PX, OURS, found_in
from benchmarks.detection.nuclei_images import read
from benchmarks.detection.scoring import score_frames
from streamtrack.metrics.detection import match
from streamtrack.simulation.cells import CellRanges, draw_cells
from streamtrack_engines.engine import CellEngine
from streamtrack_engines.weights import read_weights

SEED = 88_001


def scene(diameter_px):
    ranges = CellRanges(
        diameter_px=(diameter_px, diameter_px),
        covered=(0.15, 0.15),
        contrast=(25.0, 25.0),
        empty_fraction=0.0,
        small_fraction=0.0,
        ring_fraction=0.0,
    )
    drawn = draw_cells(np.random.default_rng((SEED, int(diameter_px))), 384, ranges)
    return drawn.expose(np.random.default_rng(SEED)).astype(np.uint16), drawn.cells


def found_by(pixels, **settings):
    with closing(CellEngine(threads=1, **settings)) as engine:
        engine.prepare(pixels.shape, pixels.dtype.name)
        return engine.detect(pixels, denoise=False)[0]


@pytest.mark.parametrize("weights", ["cells", "cells-simulated"])
def test_files_are_small(weights):
    assert len(read_weights(weights)) < 1_000_000


@pytest.mark.parametrize(("diameter_px", "settings"), [(10.0, {}), (16.0, {}), (28.0, {}), (56.0, {"spot_size": 56.0})])
def test_cells_are_found_and_their_size_told(diameter_px, settings):
    pixels, cells = scene(diameter_px)
    found = found_by(pixels, **settings)
    true, right, _ = match(cells[:, :2], np.stack([found.y, found.x], 1), max(3.0, diameter_px / 3))
    assert 2 * len(right) / (len(cells) + len(found)) > 0.8
    assert np.median(found.extra["radius_px"][right] / cells[true, 2]) == pytest.approx(1, abs=0.15)


def test_the_mass_is_the_light_of_the_cell():
    y, x = np.indices((128, 128))
    image = np.random.default_rng(3).poisson(100 + 200.0 * (np.hypot(y - 60, x - 66) < 11)).astype(np.uint16)
    (mass,) = found_by(image).mass
    assert mass == pytest.approx(200 * np.pi * 121, rel=0.25)


def test_an_even_field_holds_next_to_nothing():
    frames = np.random.default_rng(5).poisson(100, (4, 384, 384)).astype(np.uint16)
    assert sum(len(found_by(frame)) for frame in frames) <= 4


def test_real_nuclei(shared_data):
    images = list(read(shared_data / "bbbc039", "validation"))[::3]
    _, found = found_in(images, OURS["cells"])
    places = [np.stack([each.y, each.x], 1) for each in found]
    assert score_frames([image.nuclei[:, :2] for image in images], places, GATE_PX).f1 > 0.955
