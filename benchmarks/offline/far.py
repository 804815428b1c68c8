"""What a movie costs that lies far away: frames per second beside those of the same movie on the disk."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import zarr

from benchmarks.offline.batches import ENGINE
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine, FrameSource
from streamtrack.registry import build
from streamtrack.step import Detector
from streamtrack.types import Frame, Pixels

DELAY_S = 0.05
TARGET = 0.9
_START_S = 60


def far(pixels: Pixels, place: Path, rounds: int) -> dict[str, Any]:
    """Return frames per second through the engine, from the disk and from a server that waits before each answer.

    Both take turns; sources are open when the clock starts, and what comes ahead of the first frame counts.
    """
    zarr.create_array(place / "far.zarr", data=pixels, chunks=(1, *pixels.shape[1:]))
    engine: Engine = build("engines", PluginConfig(**ENGINE)).instance
    engine.prepare(pixels.shape[1:], pixels.dtype.name)
    with served(place, DELAY_S) as address:
        pairs = [(_took(engine, str(place / "far.zarr")), _took(engine, f"{address}/far.zarr")) for _ in range(rounds)]
    engine.close()
    ratios = [near.wall_s / far.wall_s for near, far in pairs]
    return {
        "frames": list(pixels.shape),
        "ms before each answer": 1e3 * DELAY_S,
        "frames/s from the disk": round(len(pixels) / median(near.wall_s for near, _ in pairs), 2),
        "frames/s from the server": round(len(pixels) / median(far.wall_s for _, far in pairs), 2),
        "server / disk": round(median(ratios), 3),
        "of each pair": [round(ratio, 3) for ratio in ratios],
        "share of the time in which the engine waited": {
            "disk": round(median(near.waited_s / near.wall_s for near, _ in pairs), 4),
            "server": round(median(far.waited_s / far.wall_s for _, far in pairs), 4),
        },
        "cpu time, server / disk": round(median(far.cpu_s / near.cpu_s for near, far in pairs), 3),
        "target": TARGET,
    }


class _Took(NamedTuple):
    """What it took to search a movie: of the clock, of that waiting for frames, and of this process."""

    wall_s: float
    waited_s: float
    cpu_s: float


def _took(engine: Engine, path: str) -> _Took:
    source: FrameSource
    with closing(build("sources", PluginConfig(kind="zarr", path=path)).instance) as source:
        frames, sight = source.frames(), Detector(engine)
        waited_s, began, began_cpu = 0.0, time.perf_counter(), time.process_time()
        while True:
            asked = time.perf_counter()
            frame = next(frames, None)
            waited_s += time.perf_counter() - asked
            if frame is None:
                return _Took(time.perf_counter() - began, waited_s, time.process_time() - began_cpu)
            assert isinstance(frame, Frame)
            sight(frame, denoise=False)


@contextmanager
def served(folder: Path, delay_s: float) -> Iterator[str]:
    """Serve a folder from a process of its own; yield its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(folder, delay_s, theirs), daemon=True)
    server.start()
    try:
        if not ours.poll(_START_S):
            raise RuntimeError("the server did not start")
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        server.terminate()
        server.join(_START_S)


def _serve(folder: Path, delay_s: float, said: Connection) -> None:
    class Late(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(delay_s)
            super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: whole files are broken off where a part was asked for."""

    with Server(("127.0.0.1", 0), partial(Late, directory=str(folder))) as server:
        said.send(server.server_port)
        server.serve_forever()
