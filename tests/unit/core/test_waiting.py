import ast
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

import streamtrack
import streamtrack_drivers
import streamtrack_engines
from streamtrack.waiting import acquired_within, done_within, joined_within, set_within, within

PACKAGES = [Path(package.__file__).parent for package in (streamtrack, streamtrack_drivers, streamtrack_engines)]
MOST_S = 0.5
NO_LOCKS = {
    "stream.wait()",
    "pd.DataFrame(found).join(others)",
    *("promise.result()", "future.result(timeout=START_S)", "self._future.result(timeout=START_S)"),
    *("page.news.wait()", "asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)", "request.wait(WAIT_S)"),
}
"""A wait for a GPU, a join of tables, results that are there already when they are asked for, asyncio's waits,
which keep no thread, and one that is in short steps itself."""


def long_waits(path):
    """Yield the calls in a file that may wait for a lock for longer than `MOST_S` at a time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in ("join", "wait", "result", "acquire") and not joins_text(node):
            given = [*node.args, *(word.value for word in node.keywords if word.arg == "timeout")]
            values = [constants.get(each.id) if isinstance(each, ast.Name) else ast.unparse(each) for each in given]
            if not (values and float_or_inf(values[-1]) <= MOST_S) and ast.unparse(node) not in NO_LOCKS:
                yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"


def joins_text(call):
    receiver = call.func.value
    return call.func.attr == "join" and (
        isinstance(receiver, ast.Constant | ast.JoinedStr) or ast.unparse(receiver) in ("os.path", "os.pathsep")
    )


def float_or_inf(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("inf")


def test_nothing_waits_long_but_the_waits_that_hear_ctrl_c():
    files = [path for package in PACKAGES for path in package.rglob("*.py") if path.name != "waiting.py"]
    assert len(files) > 100
    assert [wait for path in files for wait in long_waits(path)] == []


@pytest.mark.parametrize(
    ("code", "n"),
    [
        ("thread.join()", 1),
        ("thread.join(600)", 1),
        ("A = 0.4\nB = 5\nevent.wait(A)\nevent.wait(B)", 1),
        ("future.result(self.timeout_s)\nlock.acquire(timeout=0.1)\nlock.acquire(timeout=t)", 2),
        ("', '.join(names)\nos.pathsep.join(names)", 0),
    ],
)
def test_a_long_wait_is_found(tmp_path, code, n):
    (tmp_path / "code.py").write_text(code)
    assert len(list(long_waits(tmp_path / "code.py"))) == n


def test_a_wait_ends_when_there_is_something_or_the_time_is_over():
    event, future, lock = threading.Event(), Future(), threading.Lock()
    thread = threading.Thread(target=event.wait, args=(120,))
    thread.start()
    begun = time.monotonic()
    assert not set_within(event, 0.05)
    assert not done_within(future, 0.05)
    assert not joined_within(thread, 0.05)
    assert not within(60, lambda step_s: False, give_up=lambda: True)
    assert time.monotonic() - begun < 30
    event.set()
    future.set_exception(TimeoutError("of the call, not of the wait"))
    assert set_within(event, 0)
    assert done_within(future, 0)
    assert joined_within(thread, 30)
    assert acquired_within(lock, 0)
    assert not acquired_within(lock, 0.05)
