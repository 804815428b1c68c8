"""``streamtrack train --view``: a page that shows a training while it is on, and can end it.

It is guarded as a run's view is (`streamtrack.view.server.GuardedPages`): on 127.0.0.1, with a token, for no other page
of the browser. It is served by a thread: a training has no frame to lose.
"""

import base64
import importlib.util
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.metrics.detection import match
from streamtrack.plain import plain
from streamtrack.sinks.contrast import stretch
from streamtrack.waiting import joined_within, within
from streamtrack_engines.training.evaluation import GATE_PX
from streamtrack_engines.training_data.truth import Truth

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

PAGE = Path(__file__).with_name("page")
FILES = {
    "": (PAGE / "index.html", "text/html"),
    "train.css": (PAGE / "train.css", "text/css"),
    "train.js": (PAGE / "train.js", "text/javascript"),
}
MOST_CROPS = 8
MOST_ROWS = 500
"""Of the losses, that a page gets: of more every second, or every third, ..."""
START_S = 10.0
LEAVE_S = 3.0


class TrainingView:
    """The page of a training, as long as the ``with`` block lasts.

    Parameters
    ----------
    out
        Folder of the training.

    Attributes
    ----------
    stopping
        Set when somebody ends the training on the page.
    address
        What opens it, token included.

    Raises
    ------
    ConfigError
        The extra ``view`` is not installed.
    """

    def __init__(self, out: Path) -> None:
        if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn", "websockets")):
            raise ConfigError('--view needs starlette, uvicorn and websockets: pip install ".[view]"')
        self.stopping = threading.Event()
        self.address = ""
        self._state: dict[str, Any] = {"out": str(out.absolute()), "phase": "begins", "losses": [], "evaluations": []}
        self._crops: dict[str, list[dict[str, Any]]] = {}
        self._n_shown = 0

    def __enter__(self) -> Self:
        from starlette.applications import Starlette
        from starlette.routing import Route

        from streamtrack.view.server import GuardedPages, server_of

        token, door = secrets.token_urlsafe(24), socket.create_server(("127.0.0.1", 0))
        port = door.getsockname()[1]
        pages = GuardedPages(token, port, FILES)
        points = (("state", self._tell, "GET"), ("crops", self._tell_crops, "GET"), ("stop", self._stop, "POST"))
        routes = [Route(f"/api/{name}", pages.guarded(point), methods=[method]) for name, point, method in points]
        self._server = server_of(Starlette(routes=[*pages.routes, *routes]))
        self._thread = threading.Thread(target=self._server.run, args=([door],), name="training-view", daemon=True)
        self._thread.start()
        if not within(START_S, self._is_served):
            raise ConfigError(f"the page of the training is not served within {START_S:g} s: leave out --view")
        self.address = f"http://127.0.0.1:{port}/#token={token}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        joined_within(self._thread, LEAVE_S)

    def _is_served(self, step_s: float) -> bool:
        time.sleep(min(step_s, 0.02))
        return bool(self._server.started)

    def note(self, phase: str, fraction: float, losses: Sequence[Any], evaluations: Sequence[Any]) -> None:
        """Take how far the training is: in words, as a part of the whole, and the rows of its two logs."""
        every = max(1, -(-len(losses) // MOST_ROWS))
        rows = {"losses": [*losses[:-1:every], *losses[-1:]], "evaluations": list(evaluations)}
        self._state = {**self._state, "phase": phase, "fraction": min(fraction, 1.0), **plain(rows)}

    def show(self, name: str, truth: Truth, found: NDArray[np.float32]) -> None:
        """Take what the network finds in crops that are held out; the first of them are shown.

        Parameters
        ----------
        name
            Of this part of the data; what was shown of it before is replaced.
        truth
            The crops, and the particles in them.
        found
            Shape (N, 3 or more): crop, y, x (px), score.
        """
        crops = [_crop(name, number, truth, found) for number in range(min(MOST_CROPS, len(truth.noisy)))]
        self._crops = {**self._crops, name: crops}
        self._n_shown += 1

    async def _tell(self, request: "Request") -> "Response":
        return _said({**self._state, "shown": self._n_shown, "stopping": self.stopping.is_set()})

    async def _tell_crops(self, request: "Request") -> "Response":
        parts = list(self._crops.values())
        in_turn = [part[number] for number in range(MOST_CROPS) for part in parts if number < len(part)]
        return _said({"crops": in_turn[:MOST_CROPS], "shown": self._n_shown})

    async def _stop(self, request: "Request") -> "Response":
        self.stopping.set()
        return _said({"done": "it ends after this step; the checkpoint is kept"})


def _said(what: Mapping[str, Any]) -> "Response":
    from starlette.responses import JSONResponse

    from streamtrack.view.server import HEADERS

    return JSONResponse(what, headers=HEADERS)


def _crop(name: str, number: int, truth: Truth, found: NDArray[np.float32]) -> dict[str, Any]:
    """Return a crop's last frame, 8 bit, and the places in it: found, missed, and found falsely."""
    image = truth.noisy[number, -1]
    black, white = stretch(image)
    pixels = np.clip((image - black) / (white - black) * 255, 0, 255).astype(np.uint8)
    here, there = found[found[:, 0] == number, 1:3], truth.points[truth.points[:, 0] == number, 1:3]
    of_truth, of_found, _ = match(there, here, GATE_PX)
    marks = {
        "found": there[of_truth],
        "missed": np.delete(there, of_truth, axis=0),
        "false": np.delete(here, of_found, axis=0),
    }
    return {
        "name": f"{name} {number + 1}",
        "size": image.shape[::-1],
        "pixels": base64.b64encode(pixels.tobytes()).decode(),
        **{mark: np.round(places, 1).tolist() for mark, places in marks.items()},
    }
