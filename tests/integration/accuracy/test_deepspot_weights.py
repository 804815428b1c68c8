"""The engine ``deepspot`` on images of its paper's kind, of seeds that no training saw."""

import numpy as np
import pytest

from benchmarks.detection.papers_deepspot import FAMILIES, score
from streamtrack_engines.weights import read_weights


@pytest.mark.parametrize(
    ("kind", "f1", "brightness", "cv"), [("fixed", 0.92, 220, 0.13), ("variable", 0.975, 240, 0.06)]
)
def test_spots_are_found_and_are_equally_bright_afterwards(kind, f1, brightness, cv):
    rows = [score("deepspot", FAMILIES[f"{kind} {n}"](71, 2)) for n in (20, 50, 80)]
    assert np.mean([row["f1"] for row in rows]) > f1  # the card has more images
    assert np.mean([row["ambiguous"] for row in rows]) <= 2.5
    assert min(row["enhanced"] for row in rows) > brightness
    assert max(row["enhanced_cv"] for row in rows) < cv


def test_the_file_is_small():
    assert len(read_weights("deepspot")) < 2_000_000
