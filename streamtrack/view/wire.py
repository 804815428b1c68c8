"""Messages between a run and the server of its view: JSON, and bytes that belong to it, over a local socket."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

REST_S = 5.0
"""How long the rest of a message may take that has begun to come, or to go."""
MOST_HEAD = 1 << 24
"""Bytes of JSON in one message."""
MOST_PART = 1 << 31
_LENGTH = struct.Struct("<I")
KEY_BYTES = 32
LOOK, ACT, URGENT, EVENTS = PURPOSES = (b"l", b"a", b"u", b"e")
"""What a line is for: pictures and states; changes, which may take seconds; stop and disarm, which wait for none; and
events of other programs, which wait for no change."""
HELLO_S = 1.0
"""How long a caller may take to say who it is."""


class Message(NamedTuple):
    """What is said, and the bytes that belong to it."""

    head: dict[str, Any]
    parts: Sequence[bytes | bytearray]


def send(line: socket.socket, head: Mapping[str, Any], parts: Sequence[NDArray[Any]] = ()) -> None:
    """Send a message; raises OSError, TimeoutError included, where nobody takes it. ``parts`` are C-contiguous."""
    line.settimeout(REST_S)
    line.sendall(packed(head, parts))
    for part in parts:
        line.sendall(part.data.cast("B") if part.size else b"")


def packed(head: Mapping[str, Any], parts: Sequence[NDArray[Any]]) -> bytes:
    """Return the beginning of a message, which says how long each of its parts is."""
    text = json.dumps({**head, "parts": [part.nbytes for part in parts]}).encode()
    return _LENGTH.pack(len(text)) + text


def joined(head: Mapping[str, Any], parts: Sequence[NDArray[Any]]) -> bytes:
    """Return a whole message."""
    return b"".join([packed(head, parts), *(np.ascontiguousarray(part).tobytes() for part in parts)])


async def receive_soon(line: asyncio.StreamReader) -> Message:
    """Return the next message; raises OSError or EOFError where the line is cut."""
    (length,) = _LENGTH.unpack(await line.readexactly(_LENGTH.size))
    if length > MOST_HEAD:
        raise ConnectionError(f"a message begins with {length} bytes of text")
    head = json.loads(await line.readexactly(length))
    return Message(head, [await line.readexactly(size) for size in head.pop("parts")])


def hello(line: socket.socket) -> bytes:
    """Return key and purpose, the first that a line has to say; raises OSError."""
    line.settimeout(HELLO_S)
    return bytes(_exactly(line, KEY_BYTES + 1))


def receive(line: socket.socket, wait_s: float) -> Message | None:
    """Return the next message, None if none begins within ``wait_s``; raises OSError where the line is cut."""
    line.settimeout(wait_s)
    try:
        begun = line.recv(_LENGTH.size)
    except TimeoutError:
        return None
    if not begun:
        raise ConnectionError("the other side is gone")
    line.settimeout(REST_S)
    (length,) = _LENGTH.unpack(begun + _exactly(line, _LENGTH.size - len(begun)))
    if length > MOST_HEAD:
        raise ConnectionError(f"a message begins with {length} bytes of text")
    head = json.loads(bytes(_exactly(line, length)))
    return Message(head, [_exactly(line, size) for size in head.pop("parts")])


def _exactly(line: socket.socket, size: int) -> bytearray:
    if not 0 <= size <= MOST_PART:
        raise ConnectionError(f"a part of {size} bytes")
    content = bytearray(size)
    rest = memoryview(content)
    while rest:
        n_bytes = line.recv_into(rest)
        if not n_bytes:
            raise ConnectionError("the other side is gone")
        rest = rest[n_bytes:]
    return content
