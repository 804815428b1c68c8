"""A browser without a window, driven by a program: Chromium by its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
QUIET = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
WAIT_S = 60.0
_LOOKS, _LOOK_S = 20, 0.1


class NoBrowser(Exception):
    """There is none here."""


def program() -> list[str]:
    """Return the command that starts a browser."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise NoBrowser("needs a browser (chromium)")
    as_root = ["--no-sandbox"] if sys.platform == "linux" and os.geteuid() == 0 else []
    return [found, *QUIET, *as_root]


class Navigated(Exception):
    """The page went while it was asked something."""


class Tab:
    """One page."""

    def __init__(self, line: ClientConnection) -> None:
        self._line, self._number = line, 0

    def call(self, method: str, **settings: Any) -> dict[str, Any]:
        """Have the browser do something; return its answer."""
        self._number += 1
        self._line.send(json.dumps({"id": self._number, "method": method, "params": settings}))
        while True:
            answer: dict[str, Any] = json.loads(self._line.recv(timeout=WAIT_S))
            if answer.get("id") == self._number:
                if "navigated" in answer.get("error", {}).get("message", ""):
                    raise Navigated
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, address: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=address)

    def of(self, expression: str) -> Any:
        """Return what an expression in the page is."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, wait_s: float = WAIT_S) -> Any:
        """Wait until an expression holds; return it."""
        end_s = time.monotonic() + wait_s
        # the page may not be there yet
        attempt = f"(async () => {{ try {{ return await ({expression}) }} catch {{ return false }} }})()"
        while not (value := self._now(attempt)):
            assert time.monotonic() < end_s, f"never {expression}; the page says: {self.of('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def _now(self, expression: str) -> Any:
        with suppress(Navigated):
            return self.of(expression)
        return None

    def click(self, selector: str, x: float | None = None, y: float | None = None) -> None:
        """Click on the middle of an element, or px from its corner, once it stands still for a moment."""
        place = f"(b => [b.x, b.y, b.width, b.height])(document.querySelector({selector!r}).getBoundingClientRect())"
        box, was = self.of(place), None
        for _ in range(_LOOKS):
            if box == was:
                break
            time.sleep(_LOOK_S)
            box, was = self.of(place), box
        at = {"x": box[0] + (box[2] / 2 if x is None else x), "y": box[1] + (box[3] / 2 if y is None else y)}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            text = key if kind == "keyDown" and len(key) == 1 else ""
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place of the window, x and y in px, and let it go at another one."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, x=x, y=y)

    def size(self, width: int, height: int) -> None:
        """Make the window so large, px."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path) -> None:
        """Write a PNG."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """Yield an empty page of a browser that is closed in the end; ``profile`` is a folder for what it keeps."""
    command = [*program(), f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = _port(Path(profile) / "DevToolsActivePort")
        with urlopen(f"http://127.0.0.1:{port}/json", timeout=WAIT_S) as answer:
            pages = [each for each in json.load(answer) if each["type"] == "page"]
        with connect(pages[0]["webSocketDebuggerUrl"], max_size=None, open_timeout=WAIT_S) as line:
            yield Tab(line)
    finally:
        process.kill()
        process.wait(WAIT_S)


def _port(file: Path) -> int:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        with suppress(OSError, ValueError, IndexError):
            return int(file.read_text().split()[0])
        time.sleep(0.05)
    raise AssertionError("the browser did not begin")
