"""A feed delivers what was pushed, in order, and counts what it could not take."""

import threading

import numpy as np
import pytest

from streamtrack.errors import ConfigError
from streamtrack.feed import Feed
from streamtrack.types import LostFrame

IMAGE = np.zeros((32, 40), np.uint16)


def feed(**settings):
    return Feed(IMAGE.shape, "uint16", **settings)


def items(of):
    return [(item.index, getattr(item, "cause", "")) for item in of.frames()]


def test_images_come_out_in_order_with_the_time_they_were_given():
    source = feed()
    for n in range(3):
        source.push(IMAGE + n, time_s=0.5 * n)
    source.finish()
    frames = list(source.frames())
    assert [(f.index, f.time_s, int(f.pixels[0, 0])) for f in frames] == [(0, 0.0, 0), (1, 0.5, 1), (2, 1.0, 2)]


def test_numbers_that_are_left_out_are_lost_frames():
    source = feed()
    source.push(IMAGE)
    source.push(IMAGE, index=3)
    source.finish()
    assert items(source) == [(0, ""), (1, "not handed over"), (2, "not handed over"), (3, "")]


def test_what_finds_no_room_is_lost_and_counted():
    source = feed(capacity=2)
    for _ in range(4):
        source.push(IMAGE)
    source.finish()
    assert items(source) == [(0, ""), (1, ""), (2, "feed queue full"), (3, "feed queue full")]


@pytest.mark.parametrize("image", [IMAGE[:, :32], IMAGE.astype(np.uint8), "text", None])
def test_what_is_no_such_image_is_lost_and_not_an_error(image):
    source = feed()
    source.push(image)
    source.finish()
    assert isinstance(next(source.frames()), LostFrame)


def test_a_number_that_does_not_rise_is_refused():
    source = feed()
    source.push(IMAGE, index=5)
    with pytest.raises(ConfigError, match="index 5 does not rise"):
        source.push(IMAGE, index=5)


def test_a_reader_waits_for_images_and_ends_when_there_will_be_none():
    source = feed()
    got = []
    reader = threading.Thread(target=lambda: got.extend(source.frames()))
    reader.start()
    assert source.started.wait(5)
    source.push(IMAGE)
    source.finish()
    reader.join(5)
    assert [frame.index for frame in got] == [0]


def test_images_after_the_end_are_counted():
    source = feed()
    source.close()
    source.push(IMAGE)
    assert source.info.details == {"after_the_end": 1}
    assert list(source.frames()) == []
