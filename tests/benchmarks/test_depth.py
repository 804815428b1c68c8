"""The benchmark of heights: its bound, and that the engine is near it."""

import pytest

from benchmarks.detection.depth import _engine, bounds, calibrated, score, table_of


def test_the_bound_falls_with_the_light():
    assert bounds(4.0)[1] == pytest.approx(0.073, abs=0.004)
    assert bounds(10.0)[1] < bounds(4.0)[1] / 2.5


@pytest.mark.parametrize("snr", [4.0, 10.0])
def test_every_isolated_particle_is_found_and_its_height_is_near_the_bound(snr, tmp_path):
    engine = _engine(calibrated(), tmp_path)
    engine.prepare((512, 512), "uint16")
    row = score(engine, snr, None, 1)
    assert row["recall"] > 0.98
    assert row["measured"] > 0.97
    assert row["rmse_over_bound"] < 1.3
    assert table_of([row]).row_count == 1
