"""What the view costs the loop, and how late it is.

``python -m benchmarks.view [--quick] [--only PART ...] [--out FILE.json]``

Runs of `streamtrack.session.Session` on frames at a camera's rate, in turn without a view, and with one that a
headless Chromium looks at:

- *512*: 512x512 uint16, DENODET with one thread, 5 frames/s;
- *2048*: 2048x2048, an engine that takes no processor's time, 20 frames/s.

CPU time of the run's process and latencies are those of the loop; what server and browser take is beside it. *Lag* is
from when a frame was grabbed to when the page says that it has drawn it. *Looks*: a page is opened and closed so many
times during a run. *Steady*: a page looks for ten minutes. Of both, how much more memory run and server have in the
last third than in the one before.
"""

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import psutil

import streamtrack
from benchmarks.shared.browser import NoBrowser, Tab, tab
from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.bench.computer import describe
from streamtrack.bench.pacing import CameraClock
from streamtrack.clock import monotonic_ns
from streamtrack.config import RunConfig
from streamtrack.protocols import Engine
from streamtrack.session import Session
from streamtrack.types import Detections, Frame, Pixels, SourceInfo
from streamtrack.view.sink import ViewSink

MOVIE_FRAMES = 20
CASES = {"512": (512, 5.0, 500), "2048": (2048, 20.0, 0)}
"""Side, px; frames/s; vesicles in 512x512 px."""


class Paced:
    """A camera that shows the same frames again and again.

    Parameters
    ----------
    movie
        Shape (T, H, W).
    """

    def __init__(self, movie: Pixels, n_frames: int, frames_per_s: float) -> None:
        self._movie, self._interval_ns = movie, round(1e9 / frames_per_s)
        shape, dtype = movie.shape[1:], str(movie.dtype)
        self.info = SourceInfo("paced", shape, dtype, n_frames, live=True, frame_interval_s=1 / frames_per_s)

    def frames(self) -> Iterator[Frame]:
        """Yield each when it is due."""
        clock = CameraClock(self._interval_ns)
        for index in range(self.info.n_frames or 0):
            slot = clock.next_slot()
            yield Frame(index, self._movie[slot % len(self._movie)], monotonic_ns(), slot * self._interval_ns / 1e9)

    def close(self) -> None:
        """Do nothing."""


class Resting:
    """An engine that finds the same 200 particles in every frame, and takes no processor's time."""

    info: Mapping[str, Any] = {"kind": "resting"}

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Place the particles."""
        rng = np.random.default_rng(0)
        y, x = (rng.uniform(0, size - 1, 200).astype(np.float32) for size in shape)
        ones = np.ones(200, np.float32)
        self._found = Detections(y, x, ones, ones, ones)

    def reset(self) -> None:
        """Do nothing."""

    def detect(self, pixels: Pixels, *, denoise: bool) -> tuple[Detections, None]:
        """Find them after 10 ms."""
        time.sleep(0.01)
        return self._found, None

    def close(self) -> None:
        """Do nothing."""


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = command_parser(__doc__, "a pair of short runs a case")
    names = (*CASES, "looks", "steady")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure these only")
    arguments = parser.parse_args()
    seconds, n_pairs, n_looks, steady_s = (6.0, 1, 3, 6.0) if arguments.quick else (30.0, 5, 50, 600.0)
    try:
        record = {name: measure(name, seconds, n_pairs) for name in CASES if name in arguments.only}
        if "looks" in arguments.only:
            record["looks"] = {"n": n_looks, **remembered(3.0, n_looks)}
        if "steady" in arguments.only:
            record["steady"] = {"seconds": steady_s, **remembered(steady_s)}
    except NoBrowser as error:
        print(f"nothing measured: {error}")
        return
    print(json.dumps(record, indent=2))
    write({"command": command_line("view"), "computer": describe(), **record}, arguments.out)


def measure(name: str, seconds: float, n_pairs: int) -> dict[str, Any]:
    """Return the figures of one case, medians of the pairs."""
    movie = movie_of(name)
    run(name, movie, 2.0, viewed=False)  # compiled
    pairs = [tuple(run(name, movie, seconds, viewed=viewed) for viewed in (False, True)) for _ in range(n_pairs)]
    costs = [seen["cpu_ms_per_frame"] / without["cpu_ms_per_frame"] for without, seen in pairs]
    return {
        "cpu_ratio": {"median": round(median(costs), 4), "all": [round(each, 4) for each in costs]},
        "without": [_but_memory(without) for without, _ in pairs],
        "viewed": [_but_memory(seen) for _, seen in pairs],
    }


def _but_memory(said: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key != "memory_mib"}


def movie_of(name: str) -> Pixels:
    """Return the frames of a case."""
    side, _, density = CASES[name]
    if density:
        return streamtrack.simulate("vesicle", frames=MOVIE_FRAMES, size=side, density=density, seed=903).movie
    return np.random.default_rng(904).poisson(100, (MOVIE_FRAMES, side, side)).astype(np.uint16)


def run(name: str, movie: Pixels, seconds: float, *, viewed: bool, n_looks: int = 0) -> dict[str, Any]:
    """Return what one run took, and how late the page was."""
    frames_per_s = CASES[name][1]
    engine: Engine | None = None if CASES[name][2] else Resting()
    table = {"sinks": [{"kind": "tables"}], "engine": {"kind": "denodet", "backend": "onnxruntime", "threads": 1}}
    view = ViewSink()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        source = Paced(movie, round((seconds + 60 * n_looks) * frames_per_s), frames_per_s)
        sinks = {"view": view} if viewed else {}
        session = Session(
            RunConfig.model_validate(table), Path(folder) / "run", source=source, engine=engine, sinks=sinks
        )
        looked: dict[str, Any] = {}
        page = threading.Thread(target=look, args=(view, Path(folder) / "profile", looked, n_looks))
        if viewed:
            page.start()
        report, cpu_s = timed(session)
        if viewed:
            page.join()
            if "lag_ms" not in looked and not n_looks:
                raise RuntimeError("the page did not look at the run")
    frames, total = report["frames"], report["latency_ms"]["total"]
    memory = looked.pop("memory_mib", [])
    return {
        "status": report["status"],
        "processed": frames["processed"],
        "lost": frames["lost_by_cause"],
        "cpu_ms_per_frame": round(1e3 * cpu_s / frames["processed"], 3),
        "total_ms": {share: round(total[share], 2) for share in ("p50", "p99")},
        **looked,
        "memory_mib": memory,
    }


def timed(session: Session) -> tuple[dict[str, Any], float]:
    """Return the report, and the CPU time of this process from the first frame to the last."""
    marks: list[float] = []
    report = session.run(lambda progress: marks.append(time.process_time()))
    return report, marks[-1] - marks[len(marks) // 5]


def look(view: ViewSink, profile: Path, looked: dict[str, Any], n_looks: int) -> None:
    """Look at a run until it is over, or again and again."""
    while not view.address:
        time.sleep(0.01)
    with tab(profile) as page:
        page.size(1280, 900)
        for _ in range(n_looks):
            page.open(view.address)
            page.until("document.querySelectorAll('#colour option').length > 2")
            looked.setdefault("memory_mib", []).append(memory_mib(view))
            page.open("about:blank")
            time.sleep(0.05)
        page.open(view.address)
        page.until("document.querySelectorAll('#colour option').length > 2")  # before it is connected, stop is disabled
        if n_looks:
            page.click("#stop")
        watch(view, page, looked)


def watch(view: ViewSink, page: Tab, looked: dict[str, Any]) -> None:
    """Note how late the page is, and how often it draws, until the run is over."""
    began: tuple[float, int] | None = None
    while not page.of("document.querySelector('#stop').disabled"):
        seen = state_of(view).get("view", {})
        if seen:
            began = began or (time.monotonic(), seen["drawn"])
            took_s, drawn = time.monotonic() - began[0], seen["drawn"] - began[1]
            looked.update(lag_ms=seen["lag_ms"], drawn_per_s=round(drawn / took_s, 1) if took_s > 1 else None)
            with suppress(psutil.NoSuchProcess):  # the run is over
                looked.setdefault("memory_mib", []).append(memory_mib(view))
        time.sleep(0.5)


def state_of(view: ViewSink) -> dict[str, Any]:
    """Return the state that the server tells; empty where it is gone."""
    address, _, token = view.address.partition("#token=")
    request = Request(f"{address}api/state", headers={"Authorization": f"Bearer {token}"})
    try:
        with urlopen(request, timeout=5) as answer:
            state: dict[str, Any] = json.load(answer)["state"]
            return state
    except OSError:
        return {}


def memory_mib(view: ViewSink) -> tuple[float, float]:
    """Return the memory of this process, and of the server."""
    processes = psutil.Process(), psutil.Process(view.server_pid)
    own, server = (round(process.memory_info().rss / 2**20, 1) for process in processes)
    return own, server


def remembered(seconds: float, n_looks: int = 0) -> dict[str, Any]:
    """Return what becomes of memory while a page looks, or is opened and closed again and again."""
    seen = run("2048", movie_of("2048"), seconds, viewed=True, n_looks=n_looks)
    memory = seen.pop("memory_mib")
    third = max(1, len(memory) // 3)
    growth = [
        round(float(np.median(last) - np.median(before)), 1)
        for before, last in zip(
            np.transpose(memory[third : 2 * third] or memory), np.transpose(memory[-third:]), strict=True
        )
    ]
    return {"grew_mib": dict(zip(("run", "server"), growth, strict=True)), **seen}


if __name__ == "__main__":
    main()
