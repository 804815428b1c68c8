import json
import sys
import threading
from dataclasses import replace

import numpy as np

from streamtrack.fanout import Fanout
from streamtrack.testing.actuators import example_command
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


class Odd:
    """An actuator of a lab that returns what no JSON holds, nothing at all, or ends the program."""

    rehearses = False

    def execute(self, command):
        if "exit" in command.action:
            sys.exit(command.action["exit"])
        return command.action.get("result")

    def close(self):
        pass


def test_the_command_log_is_json_whatever_an_actuator_returns_and_the_next_command_is_carried_out(tmp_path):
    actions = [
        {"result": {"power": np.float32(0.5), "peak": np.nan, "at": np.arange(2)}},
        {"exit": "enough"},
        {},
        {"result": {"ok": True}},
    ]
    fanout = Fanout({}, {"example": Odd()}, lossless=False, mode="armed")
    fanout.start(tmp_path, INFO)
    (example,) = example_results(1)
    fanout.publish(replace(example, commands=tuple(example_command(action) for action in actions)))
    fanout.finish(30)
    first, *rest = map(json.loads, (tmp_path / "commands.jsonl").read_text().splitlines())
    assert first["result"] == {"power": 0.5, "peak": None, "at": [0, 1]}
    assert [line["fate"] for line in rest] == ["failed", "failed", "sent"]
    assert fanout.outcome()["actuators"]["example"]["sent"] == 2
