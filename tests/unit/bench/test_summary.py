import numpy as np

from streamtrack.bench.summary import Timeline, summarise

MS = 1_000_000


def timeline(durations_ms, *, index=None, interval_ms=None, n_due=None, begin_ms=None):
    """A measurement of two stages, of which the second takes 1 ms."""
    durations = np.asarray(durations_ms, np.int64) * MS
    index = np.arange(len(durations)) if index is None else np.asarray(index)
    begin = index * (interval_ms or 100) * MS if begin_ms is None else np.asarray(begin_ms) * MS
    stamps = np.stack([begin, begin + durations, begin + durations + MS], axis=1)
    due = int(index[-1]) + 1 if n_due is None else n_due
    return Timeline(index, stamps, ("detect", "link"), due, interval_ms * MS if interval_ms else None)


def test_the_warm_up_is_counted_by_the_cameras_frames_and_kept_apart():
    index = [0, 2, 3, 4, 7]
    found = summarise(timeline([90, 80, 5, 6, 7], index=index, n_due=9), n_warm_up=3)
    assert found["warm_up"] == {"frames": 3, "max_ms": 91.0}
    assert (found["due"], found["processed"], found["dropped"]) == (6, 3, 3)
    assert found["stages_ms"]["detect"]["max"] == 7.0


def test_the_total_is_summed_frame_by_frame():
    line = timeline([4, 8])
    stamps = line.stamps_ns.copy()
    stamps[0, 2] += 9 * MS  # link takes long where detect does not
    found = summarise(Timeline(line.index, stamps, line.stages, 2), n_warm_up=0)
    assert found["stages_ms"]["total"]["max"] == 14.0
    assert found["stages_ms"]["link"]["max"] == 10.0


def test_deadlines_are_missed_by_frames_that_take_longer_than_the_interval():
    found = summarise(timeline([3, 9, 10, 30], interval_ms=10), n_warm_up=0)
    assert found["deadline_misses"] == 2
    assert "deadline_misses" not in summarise(timeline([3, 9, 10, 30]), n_warm_up=0)


def test_a_camera_that_was_late_is_shown():
    found = summarise(timeline([1, 1, 1], interval_ms=10, begin_ms=[5, 22, 25]), n_warm_up=0)
    assert found["camera_late_ms"]["max"] == 7.0


def test_the_rate_is_that_of_all_frames_and_no_mean_of_rates():
    found = summarise(timeline([1, 1, 1], begin_ms=[0, 10, 100]), n_warm_up=0)
    assert found["frames_per_s"] == 20.0


def test_nothing_measured_gives_no_figures():
    found = summarise(timeline([50, 50], interval_ms=10), n_warm_up=5)
    assert found["processed"] == 0
    assert found["frames_per_s"] is None
    assert found["stages_ms"]["detect"]["p50"] is None
