"""A view of results that a test gives, and how other programs reach it."""

import http.client
import json
import threading
from collections import Counter
from contextlib import contextmanager
from urllib.parse import urlsplit

import running
from websockets.sync.client import connect

from streamtrack.testing.sinks import example_results, example_source
from streamtrack.view.sink import ViewSink

WAIT_S = 60.0
REPORT = {"status": "completed", "error": None, "remarks": [], "frames": {"lost": 0}}


class Run:
    """What a view sees of a run."""

    def __init__(self):
        self.stopped = threading.Event()
        self.posted, self.events_refused = [], Counter()
        self.state = {
            "mode": "observe",
            "source": "example",
            "frames": {"in": 12, "processed": 12, "lost": 2, "lost_by_cause": {"ingest queue full": 2}},
            "last_frame": {"detections": 3, "tracks": 2},
            "latency_ms": {"detect": {"n": 12, "p50": 3.5, "p99": 9.0, "max": 11.0}},
            "rules": {},
            "actuators": {},
            "light": None,
            "stopping": None,
        }

    def snapshot(self):
        return self.state

    @property
    def control(self):
        return self

    def stop(self, who):
        self.stopped.set()

    def post(self, name, value, particle):
        self.posted.append((name, value, particle))
        return ["add"]

    def refuse_events(self, cause, n):
        self.events_refused[cause] += n


def shown(process, folder):
    """Wait until a run that was started is shown; return ``address`` and ``pid`` of its page's server."""
    path = folder / "view.json"
    running.wait_until(lambda: path.exists() and path.read_text(encoding="utf-8"), running.WAIT_S, process)
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def viewed(folder, run=None, results=None):
    """Yield a view that has seen some results."""
    sink = ViewSink()
    sink.attend(run or Run())
    sink.open(folder, example_source())
    try:
        for result in example_results() if results is None else results:
            sink.write(result)
        yield sink
    finally:
        sink.close()
        sink.tell(REPORT)


class Guest:
    """Another program: what it says and what it hears."""

    def __init__(self, line):
        self.line = line

    def say(self, **message):
        self.line.send(json.dumps(message))

    def until(self, wanted):
        """Return the first message, table or bytes, that is wanted."""
        while True:
            heard = self.line.recv(timeout=WAIT_S)
            heard = json.loads(heard) if isinstance(heard, str) else heard
            if wanted(heard):
                return heard


def parts_of(sink):
    """Port and token."""
    address = urlsplit(sink.address)
    return address.port, address.fragment.removeprefix("token=")


@contextmanager
def guest(sink, token=None, **settings):
    """Yield a program that has shown its token."""
    port, right = parts_of(sink)
    with connect(f"ws://127.0.0.1:{port}/pages", max_size=None, open_timeout=WAIT_S, proxy=None, **settings) as line:
        guest = Guest(line)
        guest.say(token=right if token is None else token)
        yield guest


def ask(sink, method, path, headers=None, body=None):
    """Return status, headers and text of an HTTP request."""
    port, _ = parts_of(sink)
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        line.request(method, path, body=body, headers=headers or {})
        answer = line.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode(errors="replace")
    finally:
        line.close()
