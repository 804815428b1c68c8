"""Calls that hang."""

import threading
import time

import pytest

from streamtrack.deadline import MOST_AT_A_TIME, Deadline
from streamtrack.errors import MicroscopeError


@pytest.fixture
def hang():
    """Return a call that hangs until the end of the test, as a driver does that waits for a dead device."""
    over = threading.Event()
    yield lambda: over.wait(30)
    over.set()


def test_an_answer_comes_back():
    in_time = Deadline(5.0)
    assert in_time("add", lambda: 1 + 1) == 2
    in_time.close()


@pytest.mark.parametrize("error", [RuntimeError("device said\nno"), TimeoutError("its own\ntime-out"), KeyError("x")])
def test_a_failure_is_one_line_that_says_what_was_asked(error):
    def fail():
        raise error

    in_time = Deadline(5.0)
    with pytest.raises(MicroscopeError, match=r"^move Z: ") as caught:
        in_time("move Z", fail)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    in_time.close()


def test_a_call_that_hangs_releases_its_caller_and_holds_up_nobody(hang):
    in_time = Deadline(0.1)
    begun = time.monotonic()
    with pytest.raises(MicroscopeError, match=r"move Z: no answer within 0\.1 s"):
        in_time("move Z", hang)
    assert time.monotonic() - begun < 10
    assert in_time("read X", lambda: 7) == 7
    in_time.close()


def test_calls_after_too_many_that_hang_are_refused_at_once(hang):
    in_time = Deadline(0.01)
    for _ in range(MOST_AT_A_TIME):
        with pytest.raises(MicroscopeError, match="no answer"):
            in_time("move Z", hang)
    with pytest.raises(MicroscopeError, match="still hang"):
        in_time("move Z", hang)
    in_time.close()


def test_threads_are_used_again_and_end():
    in_time = Deadline(5.0)
    first = {in_time("who", threading.current_thread) for _ in range(20)}
    assert len(first) == 1
    in_time.close()
    thread = first.pop()
    thread.join(5.0)
    assert not thread.is_alive()
    with pytest.raises(MicroscopeError, match="closed"):
        in_time("who", threading.current_thread)


def test_threads_whose_calls_return_late_are_used_again():
    over = threading.Event()
    in_time = Deadline(0.01)
    for _ in range(MOST_AT_A_TIME):
        with pytest.raises(MicroscopeError, match="no answer"):
            in_time("move Z", lambda: over.wait(30))
    over.set()
    end = time.monotonic() + 30
    while _refused(in_time):
        assert time.monotonic() < end, "no thread came back"
        time.sleep(0.01)
    in_time.close()


def _refused(in_time):
    try:
        return in_time("read X", lambda: 7) != 7
    except MicroscopeError:
        return True
