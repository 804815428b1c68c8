import numpy as np

from streamtrack.testing.sinks import example_results
from streamtrack.view.recent import MOST_POINTS, TAIL_FRAMES, Recent, measured


def test_places_are_handed_over_once_and_for_the_tails():
    recent, results = Recent(), list(example_results())
    for result in results:
        recent.add(result)
    assert recent.newest() is results[-1]
    first, last = results[0].frame.index, results[-1].frame.index
    frames, places, particles = recent.since(first, last)
    assert [index for index, _ in frames] == [result.frame.index for result in results[1:]]
    assert [n for _, n in frames] == [len(result.detections) for result in results[1:]]
    assert np.array_equal(places[0], np.concatenate([result.detections.y for result in results[1:]]))
    assert np.array_equal(particles, np.concatenate([result.tracks.particle for result in results[1:]]))
    assert recent.since(last, last)[0] == []


def test_memory_is_bounded():
    recent = Recent()
    many = np.zeros(MOST_POINTS // 4, np.float32)
    for index in range(TAIL_FRAMES + 10):
        recent._found.append((index, many, many, many.astype(np.int64)))
    frames, places, _ = recent.since(-1, TAIL_FRAMES + 10)
    assert len(frames) <= 4
    assert places.shape[1] <= MOST_POINTS
    assert frames[-1][0] == TAIL_FRAMES + 9


def test_all_that_is_measured_can_colour():
    result = list(example_results())[-1]
    columns = measured(result)
    assert {"score", "mass", "sigma", "existence", *result.detections.extra} <= set(columns)
    assert {len(column) for column in columns.values()} == {len(result.detections)}
