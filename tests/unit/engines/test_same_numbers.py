"""The shipped weights say today what they said before networks, heads and training data were taken apart."""

from pathlib import Path

import numpy as np
import pytest

from streamtrack.simulation import Movie, MovieSettings
from streamtrack_engines.engine import DenodetEngine

SAVED = Path(__file__).with_name("same_numbers.npz")
TOLERANCE = {"y": 1e-3, "x": 1e-3, "score": 1e-3, "mass": 1.0, "sigma": 1e-3}
"""On the machine of the record the bits are the same; others round otherwise."""


def frames_of(dtype):
    movie = Movie(MovieSettings("receptor", 4.0, 500.0, 20, 160, 200, seed=4242))
    for index in range(3):
        frame = movie.noisy(index)
        changed = {"uint8": frame, "uint16": frame.astype(np.uint16) * 37}
        yield changed.get(dtype, frame.astype(np.float32) * np.float32(1.7) - 12).astype(dtype)


@pytest.mark.parametrize("weights", ["denodet", "denodet.half"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_shipped_weights_say_what_they_said(dtype, weights):
    engine = DenodetEngine(weights=weights, backend="onnxruntime", threads=1)
    engine.prepare((160, 200), dtype)
    with np.load(SAVED) as saved:
        for index, frame in enumerate(frames_of(dtype)):
            found, _ = engine.detect(frame, denoise=False)
            for name, tolerance in TOLERANCE.items():
                wanted = saved[f"{dtype}/{weights}/{index}/{name}"]
                np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-3, atol=tolerance, err_msg=name)
    engine.close()
