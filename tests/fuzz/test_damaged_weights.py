"""Weights, damaged: a deploy graph that gives finite numbers, or one line."""

import numpy as np
import pytest

from streamtrack.errors import StreamtrackError
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.weights import packaged_weights, read_weights


@pytest.mark.inputs(15)
def test_damaged_weights_are_of_use_or_are_refused(seed, damage, outcome, tmp_path):
    names = packaged_weights()
    path = tmp_path / "mine.onnx"
    path.write_bytes(read_weights(names[seed % len(names)]))
    damage(path)
    file = outcome(lambda: read_deploy_file(str(path)))
    assert isinstance(file, StreamtrackError) or np.isfinite(file.metadata.threshold)
