import threading
from dataclasses import replace

import numpy as np

from streamtrack.fanout import Fanout
from streamtrack.testing.sinks import example_results
from streamtrack.types import Revision, SourceInfo
from streamtrack.workers import SINK_QUEUE

INFO = SourceInfo("example", (64, 96), "uint16")


class SlowSink:
    """Writes nothing until it is let go."""

    critical = False

    def __init__(self):
        self.go = threading.Event()
        self.written = []

    def open(self, folder, source):
        pass

    def wants_denoised(self, frame_index):
        return False

    def write(self, result):
        self.go.wait(30)
        self.written.append(result)

    def flush(self):
        pass

    def close(self):
        pass


def revising(result, index):
    one = np.array([index])
    revised = Revision(one - 1, one * 0, one, one.astype(np.float32))
    return replace(result, frame=replace(result.frame, index=index), tracks=replace(result.tracks, revised=revised))


def test_what_a_dropped_result_said_of_earlier_frames_comes_with_the_next_one(tmp_path):
    (example,) = example_results(1)
    sink = SlowSink()
    fanout = Fanout({"slow": sink}, {}, lossless=False)
    fanout.start(tmp_path, INFO)
    n = 3 * SINK_QUEUE
    for index in range(1, n):
        fanout.publish(revising(example, index))
    sink.go.set()
    while fanout.outcome()["sinks"]["slow"]["frames"] + fanout.outcome()["sinks"]["slow"]["dropped"] < n - 1:
        pass
    fanout.publish(revising(example, n))
    fanout.finish(30)
    assert fanout.outcome()["sinks"]["slow"]["dropped"] > SINK_QUEUE
    told = np.concatenate([result.tracks.revised.particle for result in sink.written])
    np.testing.assert_array_equal(told, np.arange(1, n + 1))
