"""The server of a view: ``python -m streamtrack.view.server``, started by the sink ``view``, which it belongs to.

It listens on 127.0.0.1 only, answers to the names of this computer only, tells nothing without the run's token, and
ends with the run. It reads no path of the disk that a page names, and a lost page changes nothing.
"""

import asyncio
import hmac
import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamtrack.view.hub import Hub, Line, Onlooker, is_urgent
from streamtrack.view.log import NewestLines
from streamtrack.view.openapi import document
from streamtrack.view.wire import MOST_PART, PURPOSES, packed

PAGE = Path(__file__).with_name("page")
SCRIPTS = ("view.js", "line.js", "panels.js", "picture.js", "regions.js", "state.js")
FILES = {
    "": (PAGE / "index.html", "text/html"),
    "view.css": (PAGE / "view.css", "text/css"),
    **{name: (PAGE / name, "text/javascript") for name in SCRIPTS},
}
MOST_CONNECTIONS = 64
MOST_MESSAGE = 1 << 16
"""Bytes of a message from a page."""
MOST_AT_ONCE = 4
"""Changes that a page may wait for."""
MOST_PER_S = 50
"""Messages from one page in a second, what it has drawn included; requests of all other programs together."""
TOKEN_S = 5.0
"""How long a page may take to show its token."""
GOODBYE_S = 1.0
"""How long pages have to hear that the run is over."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
DENIED, TOO_MUCH = 4401, 4429


class Recently:
    """What came in the last second."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=MOST_PER_S)

    def is_too_much(self) -> bool:
        """Count one more, unless there are too many; return whether there are."""
        now_s = time.monotonic()
        if len(self._times_s) == MOST_PER_S and now_s - self._times_s[0] < 1.0:
            return True
        self._times_s.append(now_s)
        return False


class Impatient(H11Protocol):
    """HTTP that closes a connection which asks for nothing: other users of this computer would keep its owner out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self.loop.call_later(TOKEN_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and self.transport.get_protocol() is self:
            self.transport.close()


class GuardedPages:
    """Serves files from memory, and answers to those who have the token.

    Parameters
    ----------
    token
        What opens it.
    port
        Where it is served: other addresses are somebody else's page.
    files
        By name, where each is read, and its kind.
    """

    def __init__(self, token: str, port: int, files: Mapping[str, tuple[Path, str]]) -> None:
        self._token = token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._files = {name: (path.read_bytes(), kind) for name, (path, kind) in files.items()}
        self.routes: list[BaseRoute] = [Route(f"/{name}", self._file(name)) for name in files]

    def is_ours(self, request: Request | WebSocket) -> bool:
        """Return whether a request is for this computer by name, and not sent by another page in the browser."""
        host, origin = request.headers.get("host"), request.headers.get("origin")
        return host in self._hosts and (origin is None or origin.removeprefix("http://") in self._hosts)

    def opens(self, token: object) -> bool:
        """Return whether this is the token."""
        return isinstance(token, str) and hmac.compare_digest(token.encode(), self._token.encode())

    def guarded(self, respond: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return an end point that asks for the token before it responds."""

        async def guarded(request: Request) -> Response:
            kind, _, token = request.headers.get("authorization", "").partition(" ")
            if not (self.is_ours(request) and kind == "Bearer" and self.opens(token)):
                return JSONResponse({"error": "needs the header 'Authorization: Bearer TOKEN'"}, 403, HEADERS)
            return await respond(request)

        return guarded

    def _file(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            if not self.is_ours(request):
                return Response("not the name of this server\n", 403, HEADERS)
            content, kind = self._files[name]
            return Response(content, headers=HEADERS, media_type=kind)

        return respond


class PageServer(GuardedPages):
    """The end points of the server.

    Parameters
    ----------
    hub
        What there is to see.
    token, port
        As in `GuardedPages`.
    """

    def __init__(self, hub: Hub, token: str, port: int) -> None:
        super().__init__(token, port, FILES)
        self._hub = hub
        self._recent = Recently()
        self.routes += [
            Route("/api/state", self.guarded(self._state)),
            Route("/api/openapi.json", self.guarded(self._openapi)),
            Route("/api/{what}", self.guarded(self._act), methods=["POST"]),
            WebSocketRoute("/pages", self._page),
        ]
        self.app = Starlette(routes=self.routes)

    async def _state(self, request: Request) -> Response:
        return JSONResponse({"about": self._hub.about, "state": self._hub.state}, headers=HEADERS)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(document(), headers=HEADERS)

    async def _act(self, request: Request) -> Response:
        try:
            content = b""
            async for chunk in request.stream():
                content += chunk
                if len(content) > MOST_MESSAGE:
                    return JSONResponse({"error": f"more than {MOST_MESSAGE} bytes"}, 413, HEADERS)
            settings = _table(content or b"{}")
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400, HEADERS)
        what = {**settings, "who": settings.get("who", "python"), "ask": None, "do": request.path_params["what"]}
        if not is_urgent(what) and self._recent.is_too_much():
            self._hub.events_refused += what["do"] == "event"
            return JSONResponse({"error": f"more than {MOST_PER_S} requests in a second: ask later"}, 429, HEADERS)
        outcome = await self._hub.do(what)
        return JSONResponse(outcome, 409 if "error" in outcome else 200, HEADERS)

    async def _page(self, socket: WebSocket) -> None:
        if not self.is_ours(socket):
            await socket.close(DENIED)
            return
        await socket.accept()
        with suppress(WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            async with asyncio.timeout(TOKEN_S):
                hello = await self._heard(socket)
            if not self.opens(hello.get("token")):
                await socket.close(DENIED, "wrong token")
                return
            await self._serve(socket)

    async def _serve(self, socket: WebSocket) -> None:
        page = Onlooker(socket)
        tasks = [asyncio.create_task(self._hub.serve(page)), asyncio.create_task(self._listen(page))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(RuntimeError):
            await socket.close()

    async def _listen(self, page: Onlooker) -> None:
        """Do what a page asks for, until it goes."""
        recent = Recently()
        while True:
            said = await self._heard(page.socket)
            if recent.is_too_much() and said.get("do") != "stop":
                await page.socket.close(TOO_MUCH, "too many messages")
                raise WebSocketDisconnect(TOO_MUCH)
            if isinstance(said.get("drawn"), int):
                self._hub.was_drawn(said["drawn"])
            if isinstance(said.get("show"), dict):
                with suppress(ValueError, TypeError, LookupError):
                    self._hub.show(page, said["show"])
            if isinstance(said.get("do"), str):
                if len(page.doing) >= MOST_AT_ONCE and said["do"] != "stop":
                    await page.socket.send_text(json.dumps({"outcome": {"error": "wait for what was asked before"}}))
                    continue
                task = asyncio.create_task(self._do(page, said))
                page.doing.add(task)
                task.add_done_callback(page.doing.discard)

    async def _do(self, page: Onlooker, said: dict[str, Any]) -> None:
        outcome = await self._hub.do({**said, "ask": None, "who": "page"})
        with suppress(RuntimeError, OSError):  # the page is gone
            await page.socket.send_text(json.dumps({"outcome": outcome, "of": said}))

    async def _heard(self, socket: WebSocket) -> dict[str, Any]:
        try:
            return _table(await socket.receive_text())
        except (ValueError, KeyError):
            return {}


def _table(text: str | bytes) -> dict[str, Any]:
    """Return what JSON says; raises ValueError where it is no table."""
    try:
        known = json.loads(text)
    except RecursionError:
        known = None
    if not isinstance(known, dict):
        raise ValueError("needs a JSON object")
    return known


def server_of(app: Starlette) -> uvicorn.Server:
    """Return a server that nobody can keep busy for long."""
    config = uvicorn.Config(
        app,
        http=Impatient,
        log_level="critical",
        limit_concurrency=MOST_CONNECTIONS,
        ws_max_size=MOST_MESSAGE,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=int(GOODBYE_S),
        server_header=False,
        lifespan="off",
    )
    return uvicorn.Server(config)


async def serve(settings: dict[str, Any]) -> None:
    """Serve the view until its run is over."""
    lines = []
    for purpose in PURPOSES:
        reader, writer = await asyncio.open_connection("127.0.0.1", settings["line"], limit=MOST_PART)
        writer.write(settings["key"].encode() + purpose)
        lines.append((reader, writer))
    writer = lines[0][1]
    try:
        door = socket.create_server(("127.0.0.1", settings["port"]))
    except OSError as error:
        writer.write(packed({"error": f"port {settings['port']} of this computer: {error.strerror}"}, ()))
        await writer.drain()
        return
    port = door.getsockname()[1]
    look, act, urgent, events = (Line(*each) for each in lines)
    hub = Hub(look, act, urgent, events, settings["about"], NewestLines(Path(settings["log"])))
    server = server_of(PageServer(hub, settings["token"], port).app)
    serving = asyncio.create_task(server.serve(sockets=[door]))
    writer.write(packed({"port": port}, ()))
    await writer.drain()
    _say_nothing_more()
    await hub.look()
    await asyncio.sleep(GOODBYE_S / 2)
    server.should_exit = True
    await serving


def _say_nothing_more() -> None:
    """Leave the pipe to the run, which reads it only if this process cannot begin."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.buffer.read())))
