"""Messages of the stand-in for Micro-Manager's server: JSON first, binary data in pairs of further parts."""

import itertools
import json
import queue
import socket
import struct
import threading
import traceback
import uuid

import numpy as np
import zmq

VERSION = "5.1.0"
OBJECTS = {}
"""What clients hold references to, by hash code."""

_identities = itertools.count(1)
_next_port = itertools.count()


def set_first_port(port):
    global _next_port
    _next_port = itertools.count(port)


def next_port():
    """Return the next port that nobody listens on: others of this machine take ports, too."""
    for port in _next_port:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def encode(message):
    """Return the parts of a message: bytes are replaced by a mark such as ``[B@1f`` and sent after it."""
    parts = []

    def marked(item):
        if isinstance(item, dict):
            return {key: marked(value) for key, value in item.items()}
        if isinstance(item, list | tuple):
            return [marked(value) for value in item]
        if isinstance(item, bytes):
            identity = next(_identities)
            parts.extend((struct.pack("=i", identity), item))
            return f"[B@{identity:x}"
        return item.item() if isinstance(item, np.generic) else item

    return [json.dumps(marked(message)).encode("iso-8859-1"), *parts]


def decode(parts):
    """Return a client's message: its marks for binary data look like ``@<identity>_<bytes per item>``."""
    blobs = {str(struct.unpack("=i", parts[i])[0]): parts[i + 1] for i in range(1, len(parts), 2)}

    def filled(item):
        if isinstance(item, dict):
            return {key: filled(value) for key, value in item.items()}
        if isinstance(item, list):
            return [filled(value) for value in item]
        if isinstance(item, str) and item.startswith("@"):
            return blobs.get(item[1:].partition("_")[0], item)
        return item

    return filled(json.loads(parts[0].decode("iso-8859-1")))


def typed_array(array):
    kind = {"u1": "byte-array", "u2": "short-array", "u4": "int-array"}[array.dtype.str[1:]]
    return {"type": kind, "value": array.tobytes()}


class Push:
    """Sends to a client that pulls."""

    def __init__(self):
        self.port = next_port()
        self._socket = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.bind(f"tcp://127.0.0.1:{self.port}")

    def send(self, message):
        self._socket.send_multipart(encode(message))


class Pull:
    """Receives from a client that pushes (and binds)."""

    def __init__(self):
        self.port = next_port()
        self._socket = zmq.Context.instance().socket(zmq.PULL)
        self._socket.connect(f"tcp://127.0.0.1:{self.port}")

    def receive(self, timeout_ms):
        return decode(self._socket.recv_multipart()) if self._socket.poll(timeout_ms) else None


class Remote:
    """An object that clients call: ``api`` lists (method, type of its result, types of its arguments)."""

    java_class = "java.lang.Object"
    interfaces = ()
    fields = ()
    api = ()


class TaggedImage(Remote):
    java_class, fields = "mmcorej.TaggedImage", ("pix", "tags")

    def __init__(self, pix, tags):
        self.pix, self.tags = pix, tags


class Server(threading.Thread):
    """Answers on one port until nobody needs it; ``classes`` makes objects by their Java class."""

    def __init__(self, port, classes, log, is_main=False):
        super().__init__(daemon=True)
        self.port, self._classes, self._log, self._is_main = port, classes, log, is_main
        self._mine = set()
        self._socket = zmq.Context.instance().socket(zmq.REP)
        self._socket.bind(f"tcp://127.0.0.1:{port}")

    def run(self):
        while self._is_main or self._mine:
            parts = self._socket.recv_multipart()
            self._log.put(parts[0].decode("iso-8859-1"))
            try:
                answer = self._answer(decode(parts))
            except Exception as error:
                trace = traceback.format_exc().replace("\n", "\n\tat ")
                answer = {"type": "exception", "value": f"java.lang.Exception: {error}\n\tat {trace}"}
            self._socket.send_multipart(encode(answer))
        self._socket.close()

    def hold(self, thing):
        """Keep an object for a client, and describe it."""
        hash_code = f"{id(thing):x}{uuid.uuid4()}"
        OBJECTS[hash_code] = thing
        self._mine.add(hash_code)
        return {
            "type": "unserialized-object",
            "class": thing.java_class,
            "hash-code": hash_code,
            "port": self.port,
            "interfaces": [thing.java_class, *thing.interfaces, "java.lang.Object"],
            "fields": list(thing.fields),
            "api": [{"name": name, "return-type": gives, "arguments": list(takes)} for name, gives, takes in thing.api],
        }

    def _answer(self, message):
        command = message["command"]
        if command == "connect":
            return {"type": "none", "version": VERSION}
        if command == "get-constructors":
            takes = getattr(self._classes[message["classpath"]], "takes", ())
            return {"type": "none", "api": [{"name": message["classpath"], "arguments": list(takes)}]}
        if command == "constructor":
            return self._constructed(message)
        thing = OBJECTS[message["hash-code"]]
        if command == "destructor":
            del OBJECTS[message["hash-code"]]
            self._mine.discard(message["hash-code"])
            return {"type": "none"}
        if command == "get-field":
            return self._described(getattr(thing, message["name"]))
        assert command == "run-method", command
        return self._described(getattr(thing, message["name"])(*self._arguments(message)))

    def _constructed(self, message):
        thing = self._classes[message["classpath"]](*self._arguments(message))
        if "new-port" not in message:
            return self.hold(thing)
        server = Server(next_port(), self._classes, self._log)
        description = server.hold(thing)
        server.start()
        return description

    def _arguments(self, message):
        given = message["arguments"]
        return [OBJECTS[each["hash-code"]] if isinstance(each, dict) else each for each in given]

    def _described(self, result):
        if result is None:
            return {"type": "none"}
        if isinstance(result, str):
            return {"type": "string", "value": result}
        if isinstance(result, bool | int | float):
            return {"type": "primitive", "value": result}
        if isinstance(result, np.ndarray):
            return typed_array(result)
        if isinstance(result, dict):
            return {"type": "object", "class": "JSONObject", "value": json.dumps(result)}
        return self.hold(result)


def in_thread(work):
    threading.Thread(target=work, daemon=True).start()


def bounded_queue():
    return queue.Queue(30)
