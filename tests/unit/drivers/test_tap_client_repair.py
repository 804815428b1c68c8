import json
import struct

import pytest

pytest.importorskip("pyjavaz")
import zmq
from pyjavaz import PullSocket

from streamtrack_drivers.micromanager.client_repair import repair_client

PIXELS = b"\x01\x02\x03\x04"


@pytest.fixture
def receive():
    """Return what pycromanager's client makes of a message of Micro-Manager's: JSON, then pixels by their number."""
    repair_client()
    server = zmq.Context.instance().socket(zmq.PUSH)
    client = PullSocket(server.bind_to_random_port("tcp://127.0.0.1"))

    def exchange(message, identity=0x1F):
        server.send_multipart([json.dumps(message).encode("iso-8859-1"), struct.pack("=i", identity), PIXELS])
        return client.receive(timeout=5000)

    yield exchange
    client.close()
    server.close()


def test_pixels_take_the_place_of_their_mark(receive):
    assert receive({"pixels": {"type": "byte-array", "value": "[B@1f"}})["pixels"]["value"] == PIXELS


@pytest.mark.parametrize("text", ["60x@1.4NA", "me@lab.org", "@", "[B@", "[B@2e", "not [B@1f", "[B@1f not"])
def test_other_text_with_an_at_sign_stays_as_it_is(receive, text):
    message = receive({"metadata": {"Objective-Label": text}, "pixels": "[B@1f"})
    assert message == {"metadata": {"Objective-Label": text}, "pixels": PIXELS}


def test_lists_are_gone_through(receive):
    message = receive({"metadata": ["a", ["60x@1.4NA", {"x": 1}], None, 2.5], "pixels": ["[B@1f"]})
    assert message == {"metadata": ["a", ["60x@1.4NA", {"x": 1}], None, 2.5], "pixels": [PIXELS]}
