import json
import math
import re
import socket
import threading
import time
import tomllib
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamtrack.actuators.webhook import Webhook
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, StreamtrackError
from streamtrack.parts import ReadyMade, build_parts
from streamtrack.plain import without_secrets
from streamtrack.testing.actuators import example_command
from streamtrack.types import Event, SourceInfo


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_json = self.headers["Content-Type"] == "application/json"
        self.server.bodies.append((self.path, json.loads(body) if is_json else body.decode()))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.bodies, server.answers = [], []
        server.url = f"http://127.0.0.1:{server.server_port}/events"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@contextmanager
def one_that_never_answers(drip=b""):
    """A server that takes connections and then sends nothing, or a byte now and then."""
    over = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve():
            connection, _ = listener.accept()
            with closing(connection):
                while not over.wait(0.05):
                    if drip:
                        connection.sendall(drip)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        over.set()
        thread.join(10)


SLACK = '{{"text": "{rule} in frame {frame}: track {particle} at x {x}, y {y} px, {values}"}}'
PAGE = (Path(__file__).parents[3] / "docs" / "triggers.md").read_text(encoding="utf-8")
EXAMPLES = [
    table["template"]
    for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    for table in tomllib.loads(text).get("actuators", {}).values()
    if "template" in table
]


def test_a_template_says_what_the_body_is(server):
    awkward = replace(example_command({"text": "it moves"}), rule='the "fast" one\\')
    for template, command in (
        (SLACK, awkward),
        ("{rule} at {y}: {action}", awkward),
        (SLACK, replace(awkward, event=Event())),
    ):
        assert Webhook(url=server.url, template=template).execute(command)["status"] == 200
    (_, slack), (_, text), (_, nowhere) = server.bodies
    assert slack == {"text": 'the "fast" one\\ in frame 123: track 7 at x 30.0, y 40.0 px, speed_px_s 12.5'}
    assert text == 'the "fast" one\\ at 40.0: {"text": "it moves"}'
    assert "track -1 at x null, y null px" in nowhere["text"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{rule.name}", r"\{rule.name\} is no field \(known: \{rule\}, \{frame\}"),
        ("{rule[0]}", "is no field"),
        ("{frame:>1000000000}", "is no field"),
        ("{rule!r}", "is no field"),
        ("{}", "is no field"),
        ("{rules}", "is no field"),
        ("{rule", "for braces that are no field"),
        ('{"text": "{rule}"}', "braces of JSON are doubled"),
        ('{{"text": {rule}}}', "filled in it is not JSON"),
        ('{{"text": "{rule}"', "filled in it is not JSON"),
    ],
)
def test_a_template_that_cannot_be_is_refused_at_once(template, said):
    with pytest.raises(ConfigError, match=said) as refused:
        Webhook(url="http://localhost/x", template=template)
    assert "\n" not in str(refused.value)


def test_the_templates_of_the_page_are_sent(server):
    assert len(EXAMPLES) == 3
    for template in EXAMPLES:
        Webhook(url=server.url, template=template).execute(example_command({}))
    assert all("a rule" in str(body) for _, body in server.bodies)


def test_what_is_sent(server):
    command = example_command({"text": "it moves"})
    assert Webhook(url=server.url).execute(command) == {"status": 200, "tries": 1}
    ((path, body),) = server.bodies
    assert path == "/events"
    assert body.pop("time").endswith("+00:00")
    assert body == {
        "rule": "a rule",
        "frame": 123,
        "action": {"text": "it moves"},
        "event": {"particle": 7, "y": 40.0, "x": 30.0, "values": {"speed_px_s": 12.5}},
    }


def test_what_has_no_place_is_valid_json(server):
    Webhook(url=server.url).execute(replace(example_command({}), event=Event(values={"ratio": math.inf})))
    assert server.bodies[0][1]["event"] == {"particle": -1, "y": None, "x": None, "values": {"ratio": None}}


@pytest.mark.parametrize("status", [302, 404, 500])
def test_other_answers_are_failures_and_redirects_are_not_followed(server, status):
    server.answers.append(status)
    with pytest.raises(StreamtrackError, match=str(status)) as caught:
        Webhook(url=server.url).execute(example_command({}))
    assert len(str(caught.value).splitlines()) == 1
    assert [path for path, _ in server.bodies] == ["/events"]


def test_localhost_does_not_wait_for_an_address_where_nobody_listens(server, monkeypatch):
    """As on Windows: ::1 is found first, and a connection to it takes 2 s to be refused."""
    connect = socket.socket.connect

    def slow(self, address):
        if address[0] == "::1":
            time.sleep(2.0)
            raise ConnectionRefusedError
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", slow)
    url = server.url.replace("127.0.0.1", "localhost")
    assert Webhook(url=url, timeout_s=1.0).execute(example_command({})) == {"status": 200, "tries": 1}


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_localhost_may_listen_on_the_newer_address_only():
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    with Server(("::1", 0), Handler) as server:
        server.bodies, server.answers = [], []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        webhook = Webhook(url=f"http://localhost:{server.server_port}/events")
        assert webhook.execute(example_command({}))["status"] == 200
        server.shutdown()
    assert [path for path, _ in server.bodies] == ["/events"]


def test_retries(server):
    server.answers += [500, 503]
    assert Webhook(url=server.url, retries=2).execute(example_command({}))["tries"] == 3


def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.delenv("no_proxy", raising=False)
    assert Webhook(url=server.url).execute(example_command({}))["status"] == 200


def n_calls():
    return sum(thread.name == "streamtrack-call" for thread in threading.enumerate())


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"x"], ids=["silence", "headers", "nonsense"])
def test_a_receiver_that_hangs_holds_nobody_up(drip):
    with one_that_never_answers(drip) as url:
        webhook, before = Webhook(url=url, timeout_s=0.2), n_calls()
        for _ in range(5):
            started = time.perf_counter()
            with pytest.raises(StreamtrackError):
                webhook.execute(example_command({}))
            assert time.perf_counter() - started < 10
        assert n_calls() <= before + 1


def test_nobody_there():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StreamtrackError, match=r"127\.0\.0\.1 did not take it"):
        Webhook(url=f"http://127.0.0.1:{port}/").execute(example_command({}))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/",
        "host/path",
        "http://",
        "javascript:alert(1)",
        "http://[",
        "http://host:port/",
        "http://host/a\nb",
        "http://host/a b",
    ],
)
def test_only_http(url):
    with pytest.raises(ConfigError, match="give http"):
        Webhook(url=url)


def test_a_user_in_the_address_is_refused_without_saying_the_password():
    with pytest.raises(ConfigError, match="no user or password is sent to host") as caught:
        Webhook(url="http://me:hush@host/")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.org/services/T0/hush", "https://hooks.example.org/..."),
        ("https://hooks.example.org:8443/x?token=hush", "https://hooks.example.org:8443/...?..."),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1?hush#hush", "http://127.0.0.1?..."),
    ],
)
def test_what_is_secret_in_an_address_is_not_in_the_report(url, shown):
    config = RunConfig.model_validate(
        {"actuators": {"hook": {"kind": "webhook", "url": url}}, "sinks": [], "engine": {"kind": "denodet"}}
    )
    parts = build_parts(config, ReadyMade(Nothing(), Nothing()))
    (table,) = parts.tables["actuators"]
    assert table["url"] == shown
    assert "hush" not in json.dumps(parts.tables, default=str)
    parts.close()


def test_addresses_of_movies_keep_their_path():
    shown = without_secrets({"path": "https://me:hush@host/a/b.zarr?sig=hush#hush", "n": [1, "s3://x/y"]}, paths=False)
    assert shown == {"path": "https://host/a/b.zarr?...", "n": [1, "s3://x/y"]}


class Nothing:
    """Stands for source and engine."""

    info = SourceInfo("example", (64, 96), "uint16")

    def close(self):
        pass
