import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrack.track_memory import TrackMemory


def ids(*values):
    return np.array(values, np.int64)


def test_values_stay_with_their_tracks():
    memory = TrackMemory(new=-1, dtype=np.int8)
    memory.remember(ids(30, 10, 20), ids(3, 1, 2))
    assert memory.recall(ids(20, 5, 30, 10)).tolist() == [2, -1, 3, 1]
    assert len(memory) == 3


def test_a_track_may_have_several_values():
    memory = TrackMemory(new=(np.nan, 0), dtype=np.float32)
    memory.remember(ids(2), np.array([[5, 6]]))
    np.testing.assert_array_equal(memory.recall(ids(1, 2)), [[np.nan, 0], [5, 6]])


def test_what_was_forgotten_is_returned_and_new_again():
    memory = TrackMemory(new=0, dtype=np.int64)
    memory.remember(ids(1, 2, 3), ids(10, 20, 30))
    particle, values = memory.forget(ids(3, 99, 1))
    assert (particle.tolist(), values.tolist()) == ([3, 1], [30, 10])
    assert memory.recall(ids(1, 2)).tolist() == [0, 20]
    assert [len(each) for each in memory.forget(ids())] == [0, 0]


def test_what_is_recalled_is_a_copy():
    memory = TrackMemory(new=0, dtype=np.int64)
    memory.remember(ids(1), ids(5))
    memory.recall(ids(1, 2))[:] = 7
    assert memory.recall(ids(1, 2)).tolist() == [5, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 12), max_size=6)), max_size=20))
def test_it_does_as_a_dictionary_does(steps):
    memory, wanted = TrackMemory(new=0, dtype=np.int64), {}
    for n, (forget, chosen) in enumerate(steps, start=1):
        particle = ids(*chosen)
        if forget:
            known, values = memory.forget(particle)
            assert dict(zip(known.tolist(), values.tolist(), strict=True)) == {
                each: wanted.pop(each) for each in chosen if each in wanted
            }
        else:
            assert memory.recall(particle).tolist() == [wanted.get(each, 0) for each in particle.tolist()]
            memory.remember(particle, n + particle)
            wanted.update({each: n + each for each in chosen})
        assert len(memory) == len(wanted)


def test_memory_is_that_of_the_living():
    memory = TrackMemory(new=0, dtype=np.int8)
    for first in range(0, 100_000, 10):
        memory.remember(np.arange(first, first + 10), np.ones(10))
        memory.forget(np.arange(first - 10, first))
    assert len(memory) == 10
    assert memory._values.nbytes == 11
