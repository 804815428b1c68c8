"""Whether what was read of a movie is what was written."""

import numpy as np

from streamtrack.types import Frame


def assert_shows(items, movie, indices=None):
    """Every frame has the movie's pixels under its own index."""
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == list(range(len(movie)) if indices is None else indices)
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, movie[frame.index])
