"""The process that serves a view, and the thread that answers it."""

import importlib.util
import json
import math
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtrack.errors import ConfigError, SinkError, StreamtrackError, described
from streamtrack.view.wire import KEY_BYTES, LOOK, PURPOSES, Message, hello, receive, send
from streamtrack.waiting import STEP_S, joined_within, within

START_S = 30.0
"""How long the server may take to begin: a cold disk."""
LEAVE_S = 3.0
"""How long the end of the run waits for the server."""
LOOK_S = 0.02


def require_extra() -> None:
    """Raise ConfigError where the server's packages are not installed."""
    missing = [name for name in ("starlette", "uvicorn", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f'the view needs {", ".join(missing)}: pip install ".[view]"')


class ViewServer:
    """The process that serves the page, and the thread that answers it.

    Parameters
    ----------
    about
        What there is to know of the movie.
    log
        Where the run writes its commands.
    answer
        Returns what is asked for; called in that thread.
    """

    def __init__(
        self,
        port: int,
        about: Mapping[str, Any],
        log: Path,
        answer: Callable[[Message], tuple[dict[str, Any], list[Any]]],
    ) -> None:
        self._answer = answer
        self._over = threading.Event()
        self._end_s = math.inf
        token, key = secrets.token_urlsafe(24), secrets.token_hex(KEY_BYTES // 2)
        with socket.create_server(("127.0.0.1", 0)) as door:
            door.settimeout(STEP_S)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "streamtrack.view.server"],  # not what lies in the current folder
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                **_apart(),
            )
            settings = {"line": door.getsockname()[1], "key": key, "token": token, "port": port, "about": about}
            settings["log"] = str(log.absolute())
            self._tell(json.dumps(settings).encode())
            self._lines = self._called_back(door, key.encode())
        self.address = f"http://127.0.0.1:{self._served_at()}/#token={token}"
        self._threads = [
            threading.Thread(target=self._listen, args=(line,), name="streamtrack-view", daemon=True)
            for line in self._lines.values()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._process.pid

    @property
    def is_on(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def lasts_for(self, seconds: float) -> None:
        """Leave by then, whatever happens."""
        self._end_s = time.monotonic() + seconds

    def close(self, ending: Mapping[str, Any]) -> None:
        """Say how the run ended, and leave; a server that stays is killed."""
        self._over.set()
        for thread in self._threads:
            joined_within(thread, LEAVE_S)
        with suppress(OSError):
            send(self._lines[LOOK], {"over": ending})
        for line in self._lines.values():
            line.close()
        if not within(LEAVE_S, self._has_ended):
            self._process.kill()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _has_ended(self, step_s: float) -> bool:
        time.sleep(min(step_s, LOOK_S))
        return self._process.poll() is not None

    def _tell(self, settings: bytes) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            with suppress(OSError):  # it died; its exit code says so
                stdin.write(settings)
                stdin.close()
        self._process.stdin = None

    def _called_back(self, door: socket.socket, key: bytes) -> dict[bytes, socket.socket]:
        """Return the lines to the server, once it has begun and said the key on each; raises SinkError."""
        lines: dict[bytes, socket.socket] = {}
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s and self._process.poll() is None:
            with suppress(TimeoutError):
                line, _ = door.accept()
                said = b""
                with suppress(OSError):
                    said = hello(line)
                if secrets.compare_digest(said[:-1], key) and said[-1:] in PURPOSES:
                    lines[said[-1:]] = line
                else:  # somebody else on this computer
                    line.close()
            if len(lines) == len(PURPOSES):
                return lines
        raise SinkError(f"the view could not begin: {self._last_words()}")

    def _served_at(self) -> int:
        with suppress(OSError, ValueError):
            said = receive(self._lines[LOOK], START_S)
            if said is not None and "port" in said.head:
                return int(said.head["port"])
            if said is not None and "error" in said.head:
                raise SinkError(f"the view could not begin: {said.head['error']}")
        raise SinkError(f"the view could not begin: {self._last_words()}")

    def _last_words(self) -> str:
        self._process.kill()
        _, said = self._process.communicate(timeout=START_S)
        lines = said.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its server gave no sign within {START_S:g} s"

    def _listen(self, line: socket.socket) -> None:
        """Answer until the run is over, or the server gone: that ends the view, and nothing else."""
        with suppress(OSError, ValueError):
            while not self._over.is_set() and time.monotonic() < self._end_s:
                asked = receive(line, STEP_S)
                if asked is not None:
                    send(line, *self._safely(asked))

    def _safely(self, asked: Message) -> tuple[dict[str, Any], list[Any]]:
        try:
            return self._answer(asked)
        except StreamtrackError as error:
            return {"error": str(error)}, []
        except Exception as error:  # a state that cannot be had is no reason to end the view
            return {"error": described(error)}, []


def _apart() -> dict[str, Any]:
    """Return how to start a process that Ctrl-C in the terminal does not reach: it goes when the run does."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
