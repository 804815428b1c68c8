import math
import os
import time
from functools import partial

import pytest

from benchmarks.shared.child import Child


@pytest.fixture
def child():
    with Child() as child:
        yield child


def test_functions_run_in_one_process_that_is_not_this_one(child):
    assert child.call(30, math.hypot, 3, 4) == 5
    first, second = child.call(30, os.getpid), child.call(30, os.getpid)
    assert first == second != os.getpid()


def test_what_takes_too_long_is_killed_and_the_next_call_works(child):
    before = child.call(30, os.getpid)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"timed out after 0\.2 s"):
        child.call(0.2, time.sleep, 60)
    assert time.monotonic() - began < 20
    assert child.call(30, os.getpid) != before


def test_errors_come_back(child):
    with pytest.raises(ValueError, match="invalid literal"):
        child.call(30, int, "x")
    assert child.call(30, int, "7") == 7


def test_every_process_is_warmed_up_first(tmp_path):
    here = os.getcwd()
    with Child(partial(os.chdir, tmp_path)) as child:
        assert child.call(30, os.getcwd) == str(tmp_path)
        child.kill()
        assert child.call(30, os.getcwd) == str(tmp_path)
    assert os.getcwd() == here


def test_a_process_that_dies_is_no_hang_and_the_next_call_works(child):
    with pytest.raises(ChildProcessError, match="died"):
        child.call(30, os._exit, 3)
    assert child.call(30, int, "7") == 7
