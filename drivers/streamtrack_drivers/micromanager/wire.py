"""Speaks with the server that Micro-Manager opens for pycromanager, and never waits for ever.

The messages are those of pycromanager's own client (pyjavaz 1.2.8, protocol 5.1.0). That client is not used for three
reasons, all of which end a live run: a call that Micro-Manager does not answer hangs for ever, and so does the end of
the process; an object that is collected as garbage calls the server from whichever thread happens to run, which may be
the frame loop; and every image leaves an exit handler behind, so that memory grows by hundreds of MB a day.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import zmq

from streamtrack.errors import MicroscopeError
from streamtrack.waiting import acquired_within

DEFAULT_PORT = 4827
PROTOCOL = "5."
"""Versions of the protocol that are understood begin so."""
CONNECT_TIMEOUT_S = 1.0
"""How long a server may take to say hello."""

_ARRAYS = {"byte-array": np.uint8, "short-array": np.uint16, "int-array": np.uint32, "float-array": np.float32}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "double": (float, int),
    "float": (float, int),
    "int": (int,),
    "long": (int,),
    "boolean": (bool,),
    "java.lang.String": (str,),
}


class Connection:
    """One socket to the server, for calls from any thread, one after the other.

    A call that is not answered in time ends it: the answer might still come and be taken for that of another call.
    From then on every call fails at once.

    Parameters
    ----------
    port
        Of the server, on this machine.
    timeout_s
        Most that a call may take.

    Raises
    ------
    MicroscopeError
        If no Micro-Manager answers on the port.
    """

    def __init__(self, port: int, timeout_s: float) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._over = ""
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDTIMEO, round(1000 * timeout_s))
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self.version = self._hello()

    @property
    def is_alive(self) -> bool:
        """Whether it was neither closed nor let down by the server."""
        return not self._over

    def request(self, message: Mapping[str, Any]) -> Any:
        """Send a message and return what it is answered with; raises MicroscopeError."""
        return self._decoded(self._exchange(message, self._timeout_s, f"answer {_title(message)}"))

    def close(self) -> None:
        """Close the socket; a call that waits on it is given up at its own time-out. May be called twice."""
        if acquired_within(self._lock, self._timeout_s):
            try:
                self._end("the connection is closed")
            finally:
                self._lock.release()

    def _hello(self) -> str:
        wait_s = min(CONNECT_TIMEOUT_S, self._timeout_s)
        try:
            answer = _head(self._exchange({"command": "connect", "debug": False}, wait_s, "say hello"))
        except MicroscopeError:
            self.close()
            cure = "start it and switch on Tools > Options > Run pycro-manager server on port 4827"
            raise MicroscopeError(f"no Micro-Manager answers on port {self._port}: {cure}") from None
        version = str(answer.get("version", "unknown"))
        if not version.startswith(PROTOCOL):
            self.close()
            cure = "install a Micro-Manager nightly build of 2025 or later"
            raise MicroscopeError(f"Micro-Manager's server speaks protocol {version}, not {PROTOCOL}x: {cure}")
        return version

    def _exchange(self, message: Mapping[str, Any], timeout_s: float, what: str) -> list[bytes]:
        if not acquired_within(self._lock, timeout_s):
            raise MicroscopeError(f"Micro-Manager did not {what}: it is busy with another call")
        try:
            if self._over:
                raise MicroscopeError(f"Micro-Manager was not called: {self._over}")
            return self._ask(message, timeout_s, what)
        finally:
            self._lock.release()

    def _ask(self, message: Mapping[str, Any], timeout_s: float, what: str) -> list[bytes]:
        question = json.dumps(message).encode("iso-8859-1")
        try:
            self._socket.send(question)
            if self._socket.poll(round(1000 * timeout_s)):
                return self._socket.recv_multipart()
        except zmq.ZMQError:
            pass  # not even sent: nobody is there
        except BaseException:  # Ctrl-C: the answer to this call must not reach the next one
            self._end("an earlier call was interrupted; start streamtrack again")
            raise
        self._end(f"it did not {what} within {timeout_s:g} s; start Micro-Manager and streamtrack again")
        raise MicroscopeError(f"Micro-Manager did not {what} within {timeout_s:g} s: is it still running?")

    def _end(self, why: str) -> None:
        self._over = self._over or why
        self._socket.close()

    def _decoded(self, parts: Sequence[bytes]) -> Any:
        return self._value(_head(parts), parts)

    def _value(self, answer: Mapping[str, Any], parts: Sequence[bytes] = ()) -> Any:
        """Return what an answer holds, as Python has it; binary data comes in a part of its own."""
        kind, value = answer["type"], answer.get("value")
        if kind == "exception":
            raise MicroscopeError(f"Micro-Manager: {_reason(str(value))}")
        if kind in _ARRAYS:
            return np.frombuffer(parts[2], _ARRAYS[kind])
        if kind == "unserialized-object":
            found = RemoteObject(self, answer)
            return found.copied() if str(answer["class"]).endswith("Vector") else found
        if kind == "object":
            return json.loads(str(value))
        if kind == "list":
            return [self._value(each) for each in value or ()]
        return value if kind in ("primitive", "string") else None


class RemoteObject:
    """An object that lives in Micro-Manager; it stays there until `release` is called.

    Its methods are called by their Java names; one that it does not have raises MicroscopeError.
    """

    def __init__(self, connection: Connection, description: Mapping[str, Any]) -> None:
        self._connection = connection
        self._description = description
        self._java_class = description["class"]
        self._hash_code = description["hash-code"]
        self._methods = description["api"]
        self.port = int(description["port"])

    @property
    def is_reachable(self) -> bool:
        """Whether its connection is still open and alive."""
        return self._connection.is_alive

    def on(self, connection: Connection) -> "RemoteObject":
        """Return the same object, called through another connection."""
        return RemoteObject(connection, self._description)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the method of that Java name."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args: self._call(name, args)

    def field(self, name: str) -> Any:
        """Return the value of a field."""
        return self._request("get-field", name=name)

    def release(self) -> None:
        """Let Micro-Manager forget the object."""
        self._request("destructor")

    def copied(self) -> tuple[Any, ...]:
        """Return the elements of a list of Micro-Manager's own, and release it."""
        elements = tuple(self.get(place) for place in range(self.size()))
        self.release()
        return elements

    def _call(self, method: str, args: Sequence[Any]) -> Any:
        types = self._types_of(method, args)
        values = [float(arg) if java in ("double", "float") else arg for java, arg in zip(types, args, strict=True)]
        return self._request(
            "run-method",
            **{
                "static": False,
                "name": method,
                "argument-types": types,
                "argument-deserialization-types": types,
                "arguments": values,
            },
        )

    def _request(self, command: str, **more: Any) -> Any:
        return self._connection.request(
            {"command": command, "hash-code": self._hash_code, "java_class_name": self._java_class, **more}
        )

    def _types_of(self, method: str, args: Sequence[Any]) -> list[str]:
        for each in self._methods:
            types: list[str] = each["arguments"]
            if each["name"] == method and len(types) == len(args) and all(map(_fits, types, args)):
                return types
        raise MicroscopeError(f"Micro-Manager's {self._java_class} has no {method}({', '.join(map(repr, args))})")


def open_core(port: int, timeout_s: float) -> tuple[Connection, RemoteObject]:
    """Open a socket of its own to the core of a running Micro-Manager: calls on it wait for no other client's."""
    with_server = Connection(port, timeout_s)
    try:
        core = with_server.request(
            {
                "command": "constructor",
                "classpath": "mmcorej.CMMCore",
                "argument-types": [],
                "argument-deserialization-types": [],
                "arguments": [],
                "new-port": True,
            }
        )
    finally:
        with_server.close()
    connection = Connection(core.port, timeout_s)
    return connection, core.on(connection)


def _head(parts: Sequence[bytes]) -> dict[str, Any]:
    try:
        head: dict[str, Any] = json.loads(parts[0].decode("iso-8859-1"))
        head["type"]
    except (ValueError, TypeError, KeyError):
        raise MicroscopeError("what listens there is not Micro-Manager's server: it answers in another way") from None
    return head


def _fits(java_type: str, arg: object) -> bool:
    if isinstance(arg, bool):  # which is an int, too
        return java_type == "boolean"
    return isinstance(arg, _PYTHON_TYPES.get(java_type, ()))


def _title(message: Mapping[str, Any]) -> str:
    return str(message.get("name") or message["command"])


def _reason(trace: str) -> str:
    """Return the line of a Java stack trace that says what went wrong."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    line = (causes or lines or ["it refused the call"])[-1 if causes else 0]
    return line.removeprefix("java.lang.Exception: ")
