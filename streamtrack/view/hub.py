"""What the server knows of the run, and who looks at it."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.view.log import NewestLines
from streamtrack.view.pictures import Contrast
from streamtrack.view.wire import Message, joined, packed, receive_soon

PICTURE_EVERY_S = 1 / 30
"""How often the run is asked for a new frame while somebody looks."""
WAIT_S = 0.2
"""How long the run waits with its answer for a frame that is still to come."""
STATE_EVERY_S = 0.5
HISTORY = 1200
"""States kept for the charts: ten minutes."""
ANSWER_S = 10.0
"""How long the run may take to answer; it is on the same computer."""
PAGE_S = 10.0
"""How long a page may take for one message before it is left out."""
TAIL_FRAMES = 200
MOST_POINTS = 100_000
"""Of the tails that a page is given at a time."""


class Onlooker:
    """A page in a browser, or another program that looks."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.index = -1
        """Newest frame that it got."""
        self.n_taken = 0
        """Pictures that the server had when it got its last one."""
        self.news = asyncio.Event()
        self.step = 1
        """Which px of the image it can show: every one, every second one."""
        self.state_due = True
        self.doing: set[asyncio.Task[None]] = set()
        """What it waits for."""
        self.told = 0
        """How many points of the history it has."""


class Line:
    """Asks the run; one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    async def ask(self, question: Mapping[str, Any]) -> Message:
        """Return the answer; raises OSError, EOFError or TimeoutError where none comes.

        Whoever asked may go: the answer is read all the same, or the next one would be given his.
        """
        return await asyncio.shield(asyncio.ensure_future(self._ask(question)))

    async def _ask(self, question: Mapping[str, Any]) -> Message:
        async with self._turn:
            try:
                async with asyncio.timeout(ANSWER_S):
                    self._writer.write(packed(question, ()))
                    await self._writer.drain()
                    return await receive_soon(self._reader)
            except BaseException:
                self._writer.close()
                raise


def is_urgent(what: Mapping[str, Any]) -> bool:
    """Return whether this makes the run do less."""
    return what.get("do") == "stop" or (what.get("do") == "mode" and what.get("mode") != "armed")


class Over(Exception):
    """The run has ended; the argument says how."""


class Hub:
    """Gets news of the run and gives them to the pages; all see the same.

    Parameters
    ----------
    look, act, urgent, events
        Lines to the run: for news, for changes, for what must not wait for these, and for events of other programs.
    about
        What there is to know of the movie.
    log
        The commands of the run.
    """

    def __init__(
        self, look: Line, act: Line, urgent: Line, events: Line, about: Mapping[str, Any], log: NewestLines
    ) -> None:
        self._line, self._act, self._urgent, self._events = look, act, urgent, events
        self.events_refused = 0
        """Events that came too many in a second, since the run was told last."""
        self.about, self._log = dict(about), log
        self.pages: set[Onlooker] = set()
        self.state: dict[str, Any] = {}
        self.ending: dict[str, Any] | None = None
        self._contrast = {"raw": Contrast(), "denoised": Contrast()}
        self._stream, self._denoised = 0, False
        self._step = 1
        """Of the picture that is there."""
        self._frame: int | None = None
        """Of a run that is over, the one that somebody looks at; None for the newest."""
        self._picture: dict[str, Any] = {}
        self._n_taken = 0
        self._images: list[NDArray[Any]] = []
        self._index = -1
        self._tail: deque[tuple[int, NDArray[np.float32], NDArray[np.int32]]] = deque(maxlen=TAIL_FRAMES)
        self._history: deque[dict[str, float]] = deque(maxlen=HISTORY)
        self._n_history = 0
        self._lags_ms: deque[float] = deque(maxlen=300)
        self._n_drawn = 0
        self._since: deque[tuple[int, int]] = deque(maxlen=60)
        """When the last frames were grabbed, ns."""

    async def look(self) -> None:
        """Ask the run for news until it is over."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pictures())
                tasks.create_task(self._states())
        except* Over as ends:
            self.ending = ends.exceptions[0].args[0]
        except* (OSError, EOFError, TimeoutError):
            self.ending = {"status": "gone", "error": "the run is gone"}
        for page in self.pages:
            page.news.set()

    async def _ask(self, question: Mapping[str, Any]) -> Message:
        answer = await self._line.ask(question)
        if "over" in answer.head:
            raise Over(answer.head["over"])
        return answer

    async def do(self, what: Mapping[str, Any]) -> dict[str, Any]:
        """Have the run do something; return what became of it."""
        if self.ending is not None:
            return {"error": "the run is over"}
        try:
            line = self._urgent if is_urgent(what) else self._events if what.get("do") == "event" else self._act
            return (await line.ask(what)).head
        except (OSError, EOFError, TimeoutError):
            return {"error": "the run does not answer: Ctrl-C in its terminal, or 'streamtrack stop', ends it"}

    def show(self, page: Onlooker, wishes: Mapping[str, Any]) -> None:
        """Take what a page wants to see: stream, denoised, contrast for all, step for itself; raises ValueError."""
        if "step" in wishes:
            page.step = max(1, int(wishes["step"]))
        if "stream" in wishes:
            number = int(wishes["stream"])
            if number != self._stream:
                self._stream, self._index = number, -1
                self._tail.clear()
                for page in self.pages:
                    page.index = -1
        if "frame" in wishes and self.about.get("replay"):
            self._frame = int(wishes["frame"])
        if "denoised" in wishes:
            self._denoised = bool(wishes["denoised"])
        if "contrast" in wishes:
            chosen = wishes["contrast"]
            span = None if chosen is None else (float(chosen[0]), float(chosen[1]))
            if span is not None and not -1e12 < span[0] < span[1] < 1e12:
                raise ValueError("contrast: two numbers, the second larger")
            self._contrast["raw"].chosen = span

    def was_drawn(self, index: int) -> None:
        """Note that a page has drawn a frame, which tells how late the view is."""
        self._n_drawn += 1
        for shown, since_ns in self._since:
            if shown == index:
                self._lags_ms.append((time.monotonic_ns() - since_ns) / 1e6)

    @property
    def lag_ms(self) -> dict[str, float]:
        """How long after a frame was grabbed, or tracked if it is from a disk, it is on the screen."""
        if not self._lags_ms:
            return {"n": 0}
        p50, p99 = np.percentile(self._lags_ms, (50, 99))
        return {"n": len(self._lags_ms), "p50": round(float(p50), 2), "p99": round(float(p99), 2)}

    async def _pictures(self) -> None:
        asleep = False
        while True:
            began_s = time.monotonic()
            if self.pages:
                asleep = False
                self._take(await self._ask({"ask": "picture", **self._wish()}))
            elif not asleep:
                asleep = True
                await self._ask({"ask": "nothing"})
            pause_s = PICTURE_EVERY_S if self.pages else STATE_EVERY_S / 2
            await asyncio.sleep(max(0.001, pause_s - (time.monotonic() - began_s)))

    def _wish(self) -> dict[str, Any]:
        """Return which picture: the next one, or the one that is there with more of its px."""
        step = min(page.step for page in self.pages)
        wish = {"stream": self._stream, "denoised": self._denoised, "frame": self._frame, "step": step}
        return {**wish, "after": self._index, "from": self._index + (step >= self._step), "wait_s": WAIT_S}

    def _take(self, news: Message) -> None:
        if "streams" in news.head:
            self.about["streams"] = news.head["streams"]
        if "picture" not in news.head:
            return
        picture = news.head["picture"]
        step, n_found = picture.get("step", 1), len(news.parts[2]) // 4
        shape = tuple(-(-size // step) for size in picture["shape"])
        if picture.get("anew"):
            self._tail.clear()
            for page in self.pages:
                page.index = -1
        image = np.frombuffer(news.parts[0], picture["dtype"]).reshape(shape)
        shown, n, picture["contrast"] = self._contrast["raw"](image)
        self._step, picture["px"] = step, n * step
        picture["size"] = shown.shape[::-1]
        self._images = [shown]
        if picture["denoised"]:
            denoised = np.frombuffer(news.parts[6], np.float32).reshape(shape)
            self._images.append(self._contrast["denoised"](denoised)[0])
        here = [np.frombuffer(part, kind) for part, kind in zip(news.parts[1:4], ("f4", "i4", "f4"), strict=True)]
        picture["found"] = n_found
        self._images += here
        self._keep_places(picture.pop("frames"), news.parts[4], news.parts[5])
        self._index, self._picture = picture["index"], picture
        self._n_taken += 1
        self._since.append((picture["index"], picture["since_ns"]))
        for page in self.pages:
            page.news.set()

    def _keep_places(self, frames: list[list[int]], places: bytes | bytearray, particles: bytes | bytearray) -> None:
        yx, ids = np.frombuffer(places, np.float32).reshape(2, -1), np.frombuffer(particles, np.int32)
        at = 0
        for index, n in frames:
            self._tail.append((index, yx[:, at : at + n], ids[at : at + n]))
            at += n

    async def _states(self) -> None:
        before: tuple[float, int] | None = None
        while True:
            n_refused, self.events_refused = self.events_refused, 0
            question = {"ask": "state", "events_refused": n_refused}
            self.state = (await self._ask(question)).head.get("state", {})
            now_s, done = time.monotonic(), self.state.get("frames", {}).get("processed", 0)
            rate = 0.0 if before is None else (done - before[1]) / max(now_s - before[0], 1e-3)
            before = now_s, done
            if not self.about.get("replay"):
                self._note(rate)
            self.state["log"] = self._log.look()
            self.state["view"] = {"pages": len(self.pages), "lag_ms": self.lag_ms, "drawn": self._n_drawn}
            for page in self.pages:
                page.state_due = True
                page.news.set()
            await asyncio.sleep(STATE_EVERY_S)

    def _note(self, rate: float) -> None:
        last, latency = self.state.get("last_frame", {}), self.state.get("latency_ms", {})
        whole = latency.get("total") or latency.get("work") or {}
        point = {"rate": round(rate, 2), "detections": last.get("detections", 0), "tracks": last.get("tracks", 0)}
        point["lost"] = self.state.get("frames", {}).get("lost", 0)
        point["p50"], point["p99"] = (whole.get(share, 0.0) for share in ("p50", "p99"))
        self._history.append(point)
        self._n_history += 1

    async def serve(self, page: Onlooker) -> None:
        """Send a page the news as they come, the newest only; one that takes none is left out."""
        self.pages.add(page)
        try:
            while True:
                async with asyncio.timeout(PAGE_S):
                    if page.state_due:
                        page.state_due = False
                        await page.socket.send_text(self._state_for(page))
                    if page.n_taken != self._n_taken:
                        await page.socket.send_bytes(self._picture_for(page))
                    if self.ending is not None:
                        await page.socket.send_text(json.dumps({"over": self.ending}))
                        return
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAGE_S):
                        await page.news.wait()
                page.news.clear()
        finally:
            self.pages.discard(page)

    def _state_for(self, page: Onlooker) -> str:
        n_new = min(self._n_history - page.told, len(self._history))
        page.told = self._n_history
        history = list(self._history)[len(self._history) - n_new :]
        chosen = {"stream": self._stream, "denoised": self._denoised, "contrast": self._contrast["raw"].chosen}
        chosen["frame"] = self._frame
        return json.dumps({"about": self.about, "state": self.state, "history": history, "shown": chosen})

    def _picture_for(self, page: Onlooker) -> bytes:
        tail = [each for each in self._tail if page.index < each[0] <= self._index]
        while len(tail) > 1 and sum(len(ids) for _, _, ids in tail) > MOST_POINTS:
            tail = tail[len(tail) // 2 :]
        page.index, page.n_taken = self._index, self._n_taken
        yx = np.concatenate([each[1] for each in tail], axis=1) if tail else np.empty((2, 0), np.float32)
        ids = np.concatenate([each[2] for each in tail]) if tail else np.empty(0, np.int32)
        frames = [(index, len(ids)) for index, _, ids in tail]
        return joined({**self._picture, "frames": frames}, [yx, ids, *self._images[-3:], *self._images[:-3]])
