"""Whatever actuators do, the loop that gives the commands keeps its pace, and every command is accounted for."""

import json
import socket
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from streamtrack.actuators.devices import Property
from streamtrack.actuators.guard import Guard
from streamtrack.actuators.stage import Stage
from streamtrack.actuators.webhook import Webhook
from streamtrack.clock import monotonic_ns
from streamtrack.commands import FATES
from streamtrack.errors import MicroscopeError
from streamtrack.fanout import Fanout
from streamtrack.testing.actuators import EVERYTHING
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import Command, Event

N = 1000
ACTIONS = {"laser": {"value": 1}, "stage": {"centre": True}, "hook": {}}


class StuckStage(SimulatedMicroscope):
    def move_stage_um(self, x, y):
        raise MicroscopeError("the stage does not answer")


def commands(frame_index):
    now = monotonic_ns()
    event = Event(1, 10.0, 20.0)
    return tuple(
        Command(name, action, frame_index, now, now + 200_000_000, "all", event, now)
        for name, action in ACTIONS.items()
    )


@pytest.mark.timing
def test_a_thousand_commands_a_second_a_stage_that_throws_and_a_webhook_that_hangs(tmp_path):
    microscope = StuckStage()
    guard = Guard(microscope, EVERYTHING, "armed")
    source = example_source()
    (result,) = example_results(1)
    with closing(socket.create_server(("127.0.0.1", 0), backlog=N)) as silent:
        actuators = {
            "laser": Property(microscope=guard, device="Laser", property="Power"),
            "stage": Stage(microscope=guard, settle_ms=0),
            "hook": Webhook(url=f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.3),
        }
        for name, actuator in actuators.items():
            actuator.prepare(source, [ACTIONS[name]])
        fanout = Fanout({}, actuators, lossless=False, mode="armed")
        fanout.start(tmp_path, source)
        spent, started = [], time.perf_counter()
        for index in range(N):
            while time.perf_counter() < started + index / 1000:
                time.sleep(0.0002)
            before = time.perf_counter()
            fanout.publish(replace(result, commands=commands(index)))
            spent.append(time.perf_counter() - before)
        fanout.finish(10)
    outcome = fanout.outcome()["actuators"]
    assert np.median(spent) < 0.001
    assert {name: sum(each[fate] for fate in FATES) for name, each in outcome.items()} == dict.fromkeys(ACTIONS, N)
    assert outcome["laser"]["sent"] == len(microscope.calls)
    assert outcome["laser"]["sent"] > N / 2
    assert outcome["stage"]["failed"] > 0
    assert "does not answer" in outcome["stage"]["error"]
    assert outcome["hook"]["sent"] == 0
    assert outcome["hook"]["failed"] > 0
    lines = (tmp_path / "commands.jsonl").read_text().splitlines()
    assert len(lines) == len(ACTIONS) * N
    assert {json.loads(line)["fate"] for line in lines} <= set(FATES)
