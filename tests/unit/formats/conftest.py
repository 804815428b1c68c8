import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def awkward():
    """Tracks 2, 7, 40 and 41, rows in no order: 2 and 40 skip frames, 7 and 41 have one spot each."""
    rows = [
        (5, 40, 60.0, 12.5, 0.5),
        (0, 2, 10.0, 20.0, 0.9),
        (4, 2, 14.0, 26.0, 0.7),
        (3, 41, 0.0, 511.0, 0.25),
        (1, 2, 11.0, 20.0, 0.8),
        (4, 7, 33.125, 44.25, 0.6),
        (2, 40, 30.0, 6.5, 1.0),
        (6, 40, 61.0, 13.5, 0.4),
    ]
    table = pd.DataFrame(rows, columns=["frame", "particle", "y", "x", "score"], index=range(100, 108))
    table.attrs = {"pixel_size_um": 0.16, "frame_interval_s": 0.05}
    return table


@pytest.fixture
def crowd():
    """Tracks of 200 particles over 30 frames, 10 % of the spots missing."""
    rng = np.random.default_rng(8)
    frame, particle = (axis.ravel() for axis in np.meshgrid(np.arange(30), 3 * np.arange(200)))
    seen = rng.random(len(frame)) > 0.1
    y, x = rng.uniform(0, 512, (2, len(frame)))
    return pd.DataFrame({"frame": frame, "particle": particle, "y": y, "x": x})[seen].sample(frac=1, random_state=1)
