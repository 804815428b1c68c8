"""The sink ``view``: hands the run over to the server of its page, in another process."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from streamtrack.files import remove_file
from streamtrack.plain import plain
from streamtrack.protocols import Attended
from streamtrack.report import COMMANDS_NAME
from streamtrack.settings import checks_settings
from streamtrack.sinks.files import check_folder
from streamtrack.types import MOTION_MODES, FrameResult, SourceInfo, Stream
from streamtrack.view.actions import act
from streamtrack.view.process import ViewServer, require_extra
from streamtrack.view.recent import Recent, measured
from streamtrack.view.wire import Message
from streamtrack.waiting import set_within

VIEW_NAME = "view.json"
"""Where the page is, and the token that opens it; for other programs of the same user, as long as the run goes."""
TOLD_S = 600.0
"""How long the run may take to finish its files."""
DENOISED_EVERY_S = 1 / 15
"""As often as a page shows a frame."""
MOST_WAIT_S = 1.0
"""For a frame that is still to come."""


@checks_settings
class ViewSink:
    """Shows the run in the browser while it is on: newest frame, particles, tracks, losses, commands; and stops it.

    The address stands in the terminal and in ``view.json``; its token is needed to see anything. The page is served on
    this computer only. Frames are left out for the page, never for the run.

    Parameters
    ----------
    port
        Of the server on 127.0.0.1; 0 takes a free one.
    """

    critical = False
    files = (VIEW_NAME,)

    def __init__(self, *, port: Annotated[int, Field(ge=0, le=65535)] = 0) -> None:
        require_extra()
        self._port = port
        self._streams: dict[Stream, Recent] = {}
        self._news = threading.Event()
        self._awaited = False
        self._run: Attended | None = None
        self._server: ViewServer | None = None
        self._shows_denoised = False
        self._denoise_next_s = 0.0
        self._gives_denoised = False
        self._folder = Path()
        self._live = False

    @property
    def address(self) -> str:
        """Address of the page, its token included; empty while it is not served."""
        return self._server.address if self._server else ""

    @property
    def server_pid(self) -> int:
        """Of the server's process; 0 while there is none."""
        return self._server.pid if self._server else 0

    def attend(self, run: Attended) -> None:
        """Be shown the run itself, before it begins."""
        self._run = run

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Start the server; raises SinkError."""
        check_folder(folder)
        self._folder, self._live = folder, source.live
        self._streams.clear()
        about = {
            "name": source.name,
            "shape": source.shape,
            "live": source.live,
            "n_frames": source.n_frames,
            "pixel_size_um": source.pixel_size_um,
            "time_unit": source.time_unit,
            "modes": MOTION_MODES,
            "image": source.image,
            "classes": {column.name: column.classes for column in source.columns if column.classes},
        }
        self._server = ViewServer(self._port, about, folder / COMMANDS_NAME, self._answer)
        if self._server.address:
            said = json.dumps({"address": self._server.address, "pid": self._server.pid})
            path = folder / VIEW_NAME
            path.touch(mode=0o600)
            path.write_text(said + "\n", encoding="utf-8", newline="\n")
            print(f"view at {self._server.address}", file=sys.stderr, flush=True)

    def wants_denoised(self, frame_index: int) -> bool:
        """Return whether a page shows the denoised image, and is due for one."""
        return self._shows_denoised and time.monotonic() >= self._denoise_next_s

    def write(self, result: FrameResult) -> None:
        """Keep a result until it is asked for, or the next one comes."""
        if result.denoised is not None:
            self._gives_denoised = True
            self._denoise_next_s = time.monotonic() + DENOISED_EVERY_S
        elif self._shows_denoised and self._gives_denoised:
            return self._of(result).add_places(result)
        self._of(result).add(result)
        if self._awaited:
            self._news.set()
        return None

    def _of(self, result: FrameResult) -> Recent:
        return self._streams.setdefault(result.frame.stream, Recent())

    def flush(self) -> None:
        """Do nothing: nothing is written."""

    def close(self) -> None:
        """Take the address away; the pages see the run until its report is there."""
        if self._server is not None:
            self._server.lasts_for(TOLD_S)
            with suppress(OSError):
                remove_file(self._folder / VIEW_NAME)

    def tell(self, report: Mapping[str, Any]) -> None:
        """Tell the pages how the run ended, and end the server."""
        if self._server is not None:
            said = {key: report[key] for key in ("status", "error", "remarks", "frames")}
            self._server.close(plain({**said, "folder": str(self._folder)}))

    def _answer(self, asked: Message) -> tuple[dict[str, Any], list[Any]]:
        """Return what the server asks for."""
        match asked.head:
            case {"ask": "picture", "stream": int(number), "denoised": bool(denoised)}:
                self._shows_denoised = denoised
                return self._picture(number, asked.head)
            case {"ask": "nothing"}:
                self._shows_denoised = False
                return {}, []
            case {"ask": "state", "events_refused": int(n)}:
                if n and self._run is not None:
                    self._run.control.refuse_events("too many in a second", n)
                return {"state": self._state()}, []
            case {"do": str(what), **settings}:
                return self._do(what, settings), []
        return {"error": "not understood"}, []

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = plain(dict(self._run.snapshot())) if self._run is not None else {}
        state.pop("changes", None)  # the newest are in the log
        with suppress(OSError):
            state["disk_free_bytes"] = shutil.disk_usage(self._folder).free
        return state

    def _do(self, what: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        if self._run is None:
            return {"error": "there is no run to act on"}
        who = settings.get("who")
        outcome: dict[str, Any] = plain(
            act(self._run.control, what, settings, who if who in ("terminal", "python") else "page")
        )
        return outcome

    def _picture(self, number: int, asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """Return the newest frame of a stream and all about it; nothing if it is older than what is asked for."""
        after, step = int(asked["after"]), max(1, int(asked["step"]))
        recent = self._awaited_news(number, int(asked["from"]), min(float(asked["wait_s"]), MOST_WAIT_S))
        streams = [str(each) for each in dict(self._streams)]
        said: dict[str, Any] = {"streams": streams} if len(streams) > 1 else {}
        result = recent.newest() if recent is not None else None
        if recent is None or result is None or result.frame.index < int(asked["from"]):
            return said, []
        frame, columns = result.frame, measured(result)
        frames, places, particles = recent.since(after, frame.index)
        values = np.stack([*columns.values()]) if columns else np.empty((0, len(result.detections)), np.float32)
        here = np.stack([result.detections.y, result.detections.x]).astype(np.float32)
        image = np.ascontiguousarray(frame.pixels[::step, ::step])
        parts = [image, here, result.tracks.particle.astype(np.int32), values, places, particles]
        picture = {
            "index": frame.index,
            "time_s": frame.time_s,
            "since_ns": frame.grabbed_ns if self._live else result.stamps.decided,
            "shape": frame.pixels.shape,
            "step": step,
            "dtype": frame.pixels.dtype.str,
            "columns": list(columns),
            "frames": frames,
            "denoised": result.denoised is not None,
            "commands": [{"rule": each.rule, **_place(asdict(each.event))} for each in result.commands],
        }
        said["picture"] = plain(picture)
        denoised = [] if result.denoised is None else [np.ascontiguousarray(result.denoised[::step, ::step])]
        return said, [*parts, *denoised]

    def _awaited_news(self, number: int, index: int, wait_s: float) -> Recent | None:
        """Wait for a frame of a stream; return the stream, None where there is none."""
        end_s = time.monotonic() + wait_s
        self._awaited = True
        while True:
            self._news.clear()
            streams = list(dict(self._streams).values())
            recent = streams[number] if 0 <= number < len(streams) else None
            newest = recent.newest() if recent is not None else None
            left_s = end_s - time.monotonic()
            if left_s <= 0 or (newest is not None and newest.frame.index >= index):
                self._awaited = False
                return recent
            set_within(self._news, left_s)


def _place(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key in ("y", "x", "particle") if (value := event[key]) == value}
