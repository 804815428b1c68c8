"""How long the first frame takes in a new process: ``python -m streamtrack.bench.cold_start SETTINGS``.

Nothing is imported before the clock runs. Files that earlier runs left (compiled loops, engine plans, the system's file
cache) are used, as by every run of a user but the first after an installation.
"""

import json
import subprocess
import sys
import time
from typing import Any

TIMEOUT_S = 900.0
"""A plan for a GPU may have to be built first."""


def measure_cold_start(movie: str, engine: dict[str, Any]) -> dict[str, Any]:
    """Start a process, and return its ms per stage and its memory in MiB; raises EngineError if it fails.

    Parameters
    ----------
    movie
        What ``streamtrack track`` takes; its first frame is used.
    engine
        The engine's table.
    """
    from streamtrack.errors import EngineError

    command = [sys.executable, "-m", __name__, json.dumps({"movie": movie, "engine": engine})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EngineError(f"the engine does not start in a new process: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"the engine has not started within {TIMEOUT_S:g} s") from error
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def first_frame(movie: str, engine: dict[str, Any]) -> dict[str, Any]:
    """Import, build, prepare, take a frame, and return ms per stage; the movie's own time does not count."""
    begin = time.perf_counter_ns()
    from streamtrack import registry
    from streamtrack.bench.computer import memory_mib
    from streamtrack.bench.replay import load_movie
    from streamtrack.config import PluginConfig
    from streamtrack.step import Step
    from streamtrack.types import Frame

    engine_table, linker_table = PluginConfig(**engine), PluginConfig(kind="imm")
    registry.load("engines", engine_table.kind)
    registry.load("linkers", linker_table.kind)
    imported = time.perf_counter_ns()
    engine_plugin = registry.build("engines", engine_table).instance
    linker_plugin = registry.build("linkers", linker_table).instance
    built = time.perf_counter_ns()
    loaded = load_movie(movie, 1)
    have_frame = time.perf_counter_ns()
    engine_plugin.prepare(loaded.info.shape, loaded.info.dtype)
    linker_plugin.prepare(loaded.info.shape)
    prepared = time.perf_counter_ns()
    Step(engine_plugin, linker_plugin)(Frame(0, loaded.at(0), prepared, 0.0))
    done = time.perf_counter_ns()
    memory = memory_mib()
    engine_plugin.close()
    stages = {
        "import": imported - begin,
        "build": built - imported,
        "prepare": prepared - have_frame,
        "first frame": done - prepared,
        "total": done - begin - (have_frame - built),
    }
    return {"ms": {stage: round(ns / 1e6, 3) for stage, ns in stages.items()}, "memory_mib": memory["now"]}


def main() -> None:
    """Print the figures as JSON."""
    from streamtrack.errors import StreamtrackError

    settings = json.loads(sys.argv[1])
    try:
        print(json.dumps(first_frame(settings["movie"], settings["engine"])))
    except StreamtrackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
