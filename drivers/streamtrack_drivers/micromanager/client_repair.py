"""Mends a fault of pycromanager's client that ends an acquisition: '@' in the metadata of an image.

Micro-Manager marks the place of pixels in a message by text like ``[B@1a2b3c``. The client (pyjavaz 1.2.8) takes any
text with an '@' for such a mark, an objective called ``60x@1.4NA`` for example: its receiving thread dies with a
ValueError, and the acquisition waits for it without end. A list of texts kills it, too.
"""

import re
import sys
from typing import Any

_MARK = re.compile(r"\[[A-Z]@([0-9a-f]+)")


def repair_client() -> None:
    """Make pycromanager's client read such messages, if a script of this process has loaded it."""
    client = sys.modules.get("pyjavaz.bridge")
    if client is not None:
        client._DataSocket._replace_bytes = _replace_bytes


def _replace_bytes(_socket: object, structure: Any, identity: int, value: bytes) -> None:
    """Put binary data in the place of its mark; named and called as the method that it replaces."""
    places = enumerate(structure) if isinstance(structure, list) else structure.items()
    for key, entry in list(places):
        if isinstance(entry, dict | list):
            _replace_bytes(_socket, entry, identity, value)
        elif isinstance(entry, str) and (mark := _MARK.fullmatch(entry)) and int(mark[1], 16) == identity:
            structure[key] = value
