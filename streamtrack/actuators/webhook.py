"""Tells another program about events: an HTTP POST of JSON."""

import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from streamtrack.actuators.actions import Retries, attempt
from streamtrack.actuators.template import Template
from streamtrack.deadline import Deadline
from streamtrack.errors import ConfigError, StreamtrackError
from streamtrack.plain import plain
from streamtrack.settings import checks_settings
from streamtrack.types import Command, SourceInfo

LOCAL_CONNECT_S = 0.2
"""How long 127.0.0.1 may take to answer before ::1 is asked."""


@checks_settings
class Webhook:
    """Posts every command as JSON to an address, for example one on this computer; called in armed runs only.

    The body has ``rule, frame, action, event`` (``particle, y, x`` in px and ``values``; null where there is no place)
    and ``time``, the UTC wall clock at sending; or it is what ``template`` makes of these. Any answer of 200 to 299 is
    a success; its body is not read. Redirects are not followed and no proxy is used: the request goes to the host that
    is named, or nowhere.

    Parameters
    ----------
    url
        ``http://`` or ``https://``. Path and query, which are often the secret, do not appear in the report.
    timeout_s
        Longest time for one request, look-up of the host's name included.
    retries
        How often a request that failed is repeated while the command is valid.
    template
        The body, for services that want another one: a text in which ``{rule}``, ``{frame}``, ``{particle}``, ``{y}``,
        ``{x}``, ``{values}``, ``{action}`` and ``{time}`` stand for those, and ``{{`` and ``}}`` for braces. One that
        begins with a brace is sent as JSON, with texts escaped; any other as plain text.
    """

    rehearses = False

    def __init__(
        self,
        *,
        url: str,
        timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0,
        retries: Retries = 0,
        template: str | None = None,
    ) -> None:
        self._host = _checked_host(url)
        self._url = url
        self._timeout_s = timeout_s
        self._retries = retries
        self._template = None if template is None else Template(template, _fields(_message(_EXAMPLE)))
        is_text = self._template is not None and not self._template.is_json
        self._type = "text/plain; charset=utf-8" if is_text else "application/json"
        local = [_LocalHandler()] if self._host == "localhost" else []
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects(), *local)
        cure = "check the address, or raise timeout_s"
        self._in_time = Deadline(timeout_s, most=1, error=StreamtrackError, cure=cure)

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check that the actions can be sent as JSON; raises ConfigError."""
        for action in actions:
            try:
                json.dumps(dict(action), allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"action = {dict(action)} cannot be sent as JSON: {error}") from error

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Post the command; returns the answer's status and the number of tries. Raises StreamtrackError."""
        message = _message(command)
        whole = json.dumps(message, allow_nan=False)
        body = (whole if self._template is None else self._template.fill(_fields(message))).encode()
        status, tries = attempt(lambda: self._post(body), self._retries, command.valid_until_ns)
        return {"status": status, "tries": tries}

    def close(self) -> None:
        """End the thread that posts; no connection is kept."""
        self._in_time.close()

    def _post(self, body: bytes) -> int:
        """Return the status of the answer.

        The time-outs of sockets start anew with each byte and do not cover the look-up of a name: the request has a
        thread of its own, which is left behind when the time is over. There is never more than one of them.
        """
        return self._in_time(f"webhook: {self._host} did not take it", lambda: self._request(body))

    def _request(self, body: bytes) -> int:
        headers = {"Content-Type": self._type, "User-Agent": "streamtrack"}
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:  # an answer, and a connection to close
            error.close()
            raise


def _checked_host(url: str) -> str:
    """Return the host; raises ConfigError on an address that would fail later, with its secret in the message."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not url.isprintable() or " " in url:
        raise ConfigError(f"url = {url!r} is not an address: give http://host/path or https://host/path")
    if parts.username is not None:
        raise ConfigError(f"url: no user or password is sent to {host}: take them out, and use an address without")
    return host


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects as they are: the answer counts as refused."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Return no further request."""


class _LocalConnection(http.client.HTTPConnection):
    """To localhost, 127.0.0.1 first: Windows looks up ::1 first, and tries for 2 s where nobody listens there."""

    def connect(self) -> None:
        """Connect to whichever listens."""
        try:
            self.sock = socket.create_connection(("127.0.0.1", self.port), LOCAL_CONNECT_S)
        except OSError:
            self.sock = socket.create_connection(("::1", self.port), self.timeout)
        self.sock.settimeout(self.timeout)


class _LocalHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open over a connection of our own."""
        return self.do_open(_LocalConnection, request)


_EXAMPLE = Command("webhook", {}, 0, 0, 0, "rule")


def _fields(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's parts, as a template names them."""
    event = message["event"]
    values = ", ".join(f"{name} {value}" for name, value in event["values"].items())
    place = {name: event[name] if event[name] is None else round(event[name], 2) for name in ("y", "x")}
    fields = {"rule": message["rule"], "frame": message["frame"], "particle": event["particle"], **place}
    return {**fields, "values": values, "action": json.dumps(message["action"]), "time": message["time"]}


def _message(command: Command) -> dict[str, Any]:
    event = command.event
    return {
        "rule": command.rule,
        "frame": command.frame_index,
        "action": plain(command.action),
        "event": plain({name: getattr(event, name) for name in ("particle", "y", "x", "values")}),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
