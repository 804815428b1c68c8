import socket
import struct

import numpy as np
import pytest

from streamtrack.view.wire import MOST_HEAD, receive, send


@pytest.fixture
def line():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_what_is_sent_is_received(line):
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    send(line[0], {"index": 7}, [image, np.empty((2, 0), np.float32)])
    send(line[0], {"next": True})
    got = receive(line[1], 1)
    assert got.head == {"index": 7}
    assert np.array_equal(np.frombuffer(got.parts[0], np.uint16).reshape(3, 4), image)
    assert got.parts[1] == b""
    assert receive(line[1], 1).head == {"next": True}


def test_nothing_is_none(line):
    assert receive(line[1], 0.01) is None


@pytest.mark.parametrize("sent", [b"", struct.pack("<I", 20) + b'{"parts": [3]}', struct.pack("<I", MOST_HEAD + 1)])
def test_a_line_that_is_cut_or_lies_is_an_error(line, sent):
    line[0].sendall(sent)
    line[0].close()
    with pytest.raises(OSError, match=r"gone|begins with"):
        receive(line[1], 1)
