"""An HTTP server for movies in a folder, which can be slow, broken or hostile; and as much of S3 as reading takes."""

import base64
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class MovieServer(ThreadingHTTPServer):
    """Serves a folder at ``url``.

    Attributes
    ----------
    trouble
        Given the key of a request and how often it was asked for before, says what goes wrong, None for nothing:
        a number is the status of the answer; ``"stall"`` never sends the body, ``"silent"`` nothing at all, ``"drop"``
        closes the connection at once, ``"half"`` after half of the body, ``"short"`` says fewer bytes than there are
        and sends them, ``"long"`` more; ``"chunked"`` sends without a length; ``"redirect:URL"`` sends elsewhere.
    delay_s
        Before each answer.
    ranges
        Whether parts of files can be asked for.
    asked, headers
        Requests so far: how often for each key, and what came with each of them.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.trouble: Callable[[str, int], int | str | None] = lambda key, n_before: None
        self.delay_s = 0.0
        self.ranges = True
        self.needs: tuple[str, str] | None = None
        self.asked: Counter[str] = Counter()
        self.headers: list[tuple[str, dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        self.over = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are part of it."""


@contextmanager
def served(folder: Path) -> Iterator[MovieServer]:
    """Serve a folder."""
    with MovieServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MovieServer
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        server = self.server
        address = urlsplit(self.path)
        key = unquote(address.path).lstrip("/")
        with server.lock:
            n_before = server.asked[key]
            server.asked[key] += 1
            server.headers.append((key, dict(self.headers)))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            time.sleep(server.delay_s)
            if "list-type=2" in address.query:
                self._list(key, parse_qs(address.query))
            else:
                self._send(key, server.trouble(key, n_before), with_body)
        finally:
            with server.lock:
                server.at_once -= 1

    def _send(self, key: str, trouble: int | str | None, with_body: bool) -> None:
        if self.server.needs is not None and not self._is_allowed(*self.server.needs):
            self._end(401)
            return
        if isinstance(trouble, int):
            self._end(trouble, b"<Error>secret=hush</Error>")
            return
        if isinstance(trouble, str) and trouble.startswith("redirect:"):
            self.send_response(302)
            self.send_header("Location", trouble.removeprefix("redirect:"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        file = self.server.folder / key
        if trouble == "drop":
            self.close_connection = True
            return
        if trouble == "silent":
            self.server.over.wait(60)
            self.close_connection = True
            return
        if not file.is_file():
            self._end(404, b"not here")
            return
        self._send_file(file.read_bytes(), trouble, with_body)

    def _send_file(self, data: bytes, trouble: str | None, with_body: bool) -> None:
        status, total = 200, len(data)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked and self.server.ranges:
            first, last = asked.groups()
            start = int(first) if first else max(0, total - int(last))
            stop = min(total, int(last) + 1) if first and last else total
            if start >= total:
                self._end(416)
                return
            status, data = 206, data[start:stop]
        self.send_response(status)
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("ETag", '"1"')
        length = {"short": len(data) // 2, "long": len(data) + 99}.get(str(trouble), len(data))
        if trouble == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
        else:
            self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{total}")
        self.end_headers()
        if not with_body:
            return
        if trouble == "stall":
            self.wfile.flush()
            self.server.over.wait(60)
            self.close_connection = True
            return
        self.wfile.write(data[: len(data) // 2] if trouble in ("half", "short") else data)
        self.close_connection = trouble in ("half", "long")

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        """Say what is in a folder as S3 does, and Google's service by the same interface."""
        prefix = query.get("prefix", [""])[0]
        inside = sorted((self.server.folder / bucket / prefix).iterdir())
        lines = []
        for each in inside:
            if each.is_dir():
                lines.append(f"<CommonPrefixes><Prefix>{prefix}{each.name}/</Prefix></CommonPrefixes>")
            else:
                about = "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;1&quot;</ETag>"
                lines.append(f"<Contents><Key>{prefix}{each.name}</Key>{about}<Size>1</Size></Contents>")
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(lines)}</ListBucketResult>"
        self._end(200, body.encode())

    def _is_allowed(self, user: str, password: str) -> bool:
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        return self.headers.get("Authorization") == wanted

    def _end(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
