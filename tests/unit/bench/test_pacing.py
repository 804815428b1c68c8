import threading
import time

import numpy as np
import pytest

from streamtrack.bench.pacing import CameraClock, wait_until
from streamtrack.clock import monotonic_ns


@pytest.mark.timing
def test_waiting_ends_after_the_moment_and_soon():
    late_ns = []
    for _ in range(20):
        moment = monotonic_ns() + 3_000_000
        assert wait_until(moment)
        late_ns.append(monotonic_ns() - moment)
    assert min(late_ns) >= 0
    assert np.median(late_ns) < 1_000_000


def test_a_moment_that_is_over_is_not_waited_for():
    begin = monotonic_ns()
    assert wait_until(begin - 1_000_000_000)
    assert monotonic_ns() - begin < 900_000_000


@pytest.mark.timeout(20)
def test_waiting_is_broken_off():
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    begin = time.monotonic()
    assert not wait_until(monotonic_ns() + 60_000_000_000, stop)
    assert time.monotonic() - begin < 15


@pytest.mark.timing
def test_the_wait_is_as_exact_where_waiting_for_an_event_is_not():
    """On Windows an event's wait ends with the next tick of 15.6 ms."""

    class Coarse(threading.Event):
        def wait(self, timeout=None):
            time.sleep((timeout // 0.015625 + 1) * 0.015625)
            return self.is_set()

    late_ns = []
    for _ in range(20):
        moment = monotonic_ns() + 3_000_000
        assert wait_until(moment, Coarse())
        late_ns.append(monotonic_ns() - moment)
    assert np.median(late_ns) < 1_000_000


def test_without_a_camera_frames_are_counted():
    pace = CameraClock(None)
    assert [pace.next_slot() for _ in range(4)] == [0, 1, 2, 3]


def test_frames_come_at_the_cameras_rate():
    pace = CameraClock(5_000_000)
    begin = monotonic_ns()
    slots = [pace.next_slot() for _ in range(10)]
    assert slots == sorted(set(slots))
    assert monotonic_ns() - begin >= (slots[-1] - 1) * 5_000_000


@pytest.mark.timing
def test_who_is_slow_gets_the_newest_frame():
    pace = CameraClock(5_000_000)
    pace.next_slot()
    time.sleep(0.032)
    began = monotonic_ns()
    assert pace.next_slot() >= 6
    assert monotonic_ns() - began < 5_000_000, "the newest frame is ready: nothing to wait for"
