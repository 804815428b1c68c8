import numpy as np
from linked_movies import DIVIDING_FRAMES, DIVISION, dividing

from benchmarks.linking.divisions import Halves, Movie, afterwards, online, row_of


def movie():
    """Sixteen particles of which four divide, and their true ways."""
    found = list(dividing(apart_px=14.0))
    yx = np.array([np.column_stack((each.y, each.x)) for each in found[DIVISION:]], float)
    ways = np.full((8, DIVIDING_FRAMES, 2), np.nan)
    ways[:, DIVISION:] = yx[:, :8].transpose(1, 0, 2)
    return Movie((300, 300), found, [Halves(ways[k], ways[k + 4], DIVISION) for k in range(4)])


def test_divisions_are_counted_online_and_afterwards():
    simulated = movie()
    for found in (online(simulated), afterwards(simulated)):
        row = row_of("", [simulated], [found])
        assert [row[name] for name in ("divisions", "visible", "found", "right", "late")] == [4, 4, 4, 4, 0.0]
        assert row["recall"] == row["precision"] == 1.0


def test_what_begins_elsewhere_or_too_early_is_not_right():
    simulated = movie()
    found = [
        ((frame + 5 * (k == 1) - 9 * (k == 2), y + 30 * (k == 3), x), other)
        for k, ((frame, y, x), other) in enumerate(online(simulated))
    ]
    assert row_of("", [simulated], [found])["right"] == 2
