"""The engine ``deepspot`` on images of its paper's kind, of seeds that no training saw."""

import numpy as np
import pytest

from benchmarks.detection.papers_deepspot import FAMILIES, score
from streamtrack_engines.weights import read_weights


@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_spots_are_found_and_are_equally_bright_afterwards(kind):
    rows = [score("deepspot", FAMILIES[f"{kind} {n}"](71, 2)) for n in (20, 50, 80)]
    assert np.mean([row["f1"] for row in rows]) > 0.955  # the card has more images
    assert np.mean([row["ambiguous"] for row in rows]) <= 1.5
    assert min(row["enhanced"] for row in rows) > 235
    assert max(row["enhanced_cv"] for row in rows) < 0.08


def test_the_file_is_small():
    assert len(read_weights("deepspot")) < 2_000_000
