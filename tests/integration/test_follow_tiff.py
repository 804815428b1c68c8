"""A TIFF file is tracked while another process writes it."""

import growing_movie
import numpy as np
import pytest
import tifffile
from growing_movie import SIZE, image, ome_xml

from benchmarks.loop.stop import wait_until
from streamtrack.errors import SourceError
from streamtrack.types import LostFrame
from streamtrack_drivers.tiff_stack import TiffSource, tiff_following
from streamtrack_drivers.tiff_stack.pages import Pages

N, IDLE_S = 120, 3.0


@pytest.fixture
def writing(tmp_path):
    """Start a writer; returns the process and where the movie will be."""
    with growing_movie.processes() as start:
        path = tmp_path / "m.tif"
        yield lambda writer, n=N: (start(writer, path, n), path)


def follow(path, **settings):
    """What comes of a movie: indices, those that are not what was written, causes of loss; and its source."""
    source = TiffSource(path=path, **{"follow": IDLE_S, **settings})
    return *growing_movie.read(source), source


WHOLE = ("pages", "compressed pages", "OME at the end", "OME at the start", "opened each time", "in pieces")


@pytest.mark.parametrize("writer", [*WHOLE, "list at the end"])
def test_every_frame_comes_once_in_order_and_whole(writing, writer):
    process, path = writing(writer)
    wait_until(path.exists, 60, process)
    indices, wrong, lost, source = follow(path)
    assert process.wait(60) == 0
    assert indices == list(range(N))
    assert (wrong, lost) == ([], {})
    assert source.remarks() == [f"followed until nothing new had come for 3 s: frame {N - 1} was the last"]


def test_a_file_may_be_waited_for(writing):
    _, path = writing("OME at the start", 30)
    indices, wrong, lost, source = follow(path, follow=20.0, frames="5:30")
    assert indices == list(range(5, 30))
    assert (wrong, lost) == ([], {})
    assert (source.info.pixel_size_um, source.info.frame_interval_s) == (0.1, 0.01)


def test_what_is_promised_and_never_comes_is_lost(writing):
    process, path = writing("promises too much")
    wait_until(path.exists, 60, process)
    indices, wrong, lost, _ = follow(path)
    assert indices == list(range(2 * N))
    assert wrong == []
    assert lost == dict.fromkeys(range(N, 2 * N), "never written: nothing new came for 3 s")


def test_a_length_that_is_too_short_loses_no_frame(writing):
    process, path = writing("promises too little")
    wait_until(path.exists, 60, process)
    assert follow(path)[:3] == (list(range(N)), [], {})


def test_one_of_two_channels_is_followed(writing):
    process, path = writing("two channels", 40)
    wait_until(path.exists, 60, process)
    assert follow(path, channel="c1")[:3] == (list(range(40)), [], {})
    assert follow(path, channel=0)[1] == list(range(40))
    with pytest.raises(SourceError, match="the movie has 2 channels: choose one with --channel"):
        follow(path)


def test_what_is_reserved_is_no_frame_before_it_is_written(writing):
    process, path = writing("reserved", 40)
    wait_until(path.exists, 60, process)
    indices, wrong, lost, _ = follow(path)
    assert indices == list(range(80))
    assert wrong == []
    assert set(lost) == set(range(40, 80))
    assert set(lost.values()) == {"an image of zeros, and none that is not after it: never written, or dark"}


def test_a_writer_that_dies_ends_the_run_with_the_cause(writing):
    process, path = writing("pages", 10_000)
    wait_until(lambda: path.exists() and path.stat().st_size > 200_000, 60, process)
    process.kill()
    process.wait()
    indices, wrong, lost, source = follow(path)
    assert indices == list(range(len(indices)))
    assert len(indices) > 20
    assert wrong == []
    assert all(index == indices[-1] for index in lost)
    assert "was the last" in source.remarks()[0]


def test_a_file_that_is_cut_anywhere_gives_whole_frames_only(tmp_path):
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as file:
        for index in range(4):
            file.write(image(index), contiguous=False, metadata=None)
    data = path.read_bytes()
    for n_bytes in np.linspace(8600, len(data) - 1, 12).astype(int):
        path.write_bytes(data[:n_bytes])
        indices, wrong, lost, _ = follow(path, follow=0.2)
        assert wrong == []
        assert indices == list(range(len(indices)))
        assert set(indices) - set(lost) == set(range(n_bytes // (len(data) // 4)))


def test_dark_frames_between_others_are_frames_and_those_at_the_end_are_lost(tmp_path):
    path = tmp_path / "m.tif"
    dark, framed = np.zeros(SIZE, "u2"), image(3)
    framed[[0, -1]] = 0
    with tifffile.TiffWriter(path) as file:
        for pixels in (dark, image(1), dark, framed, image(4), framed, dark, dark):
            file.write(pixels, contiguous=False, metadata=None)
    with_edges = list(TiffSource(path=path, follow=2.0).frames())
    assert [item.index for item in with_edges] == list(range(8))
    assert [isinstance(item, LostFrame) for item in with_edges] == [False] * 6 + [True] * 2
    assert not with_edges[0].pixels.any()
    np.testing.assert_array_equal(with_edges[5].pixels, framed)


def test_another_movie_in_its_place_is_not_taken_for_its_end(tmp_path):
    path = tmp_path / "m.tif"

    def write(n):
        with tifffile.TiffWriter(path) as file:
            for index in range(n):
                file.write(image(index), contiguous=False, metadata=None)

    write(5)
    frames = TiffSource(path=path, follow=5.0).frames()
    assert [next(frames).index for _ in range(5)] == [0, 1, 2, 3, 4]
    write(2)
    with pytest.raises(SourceError, match="shorter than what was read of it: was another movie written in its place"):
        next(frames)
    path.unlink()
    with pytest.raises(SourceError, match="is not there any more"):
        list(frames_of_a_file_that_is_deleted(path, write))


def frames_of_a_file_that_is_deleted(path, write):
    """Yield the frames of a file that is deleted after the first one."""
    write(3)
    for item in TiffSource(path=path, follow=0.5).frames():
        yield item
        path.unlink(missing_ok=True)


def test_pages_are_parsed_once(tmp_path, monkeypatch):
    path = tmp_path / "m.tif"
    monkeypatch.setattr(tiff_following, "_MOST_AT_ONCE", 30)
    with tifffile.TiffWriter(path) as file:
        for index in range(200):
            file.write(image(index), contiguous=False, metadata=None)
    parsed = []
    page = Pages.page
    monkeypatch.setattr(Pages, "page", lambda self, offset: parsed.append(offset) or page(self, offset))
    assert follow(path, follow=0.5)[0] == list(range(200))
    assert len(parsed) < 3 * 200


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"imagej": True}, "is a stack for ImageJ, which does not tell what is written"),
        ({"metadata": {"axes": "ZYX"}}, "has its planes in the order Z: only time as the slowest"),
        ({"description": ome_xml(3).replace("XYCZT", "XYTZC").replace('SizeC="1"', 'SizeC="2"')}, "in the order CZT"),
        ({"description": ome_xml(3).replace("<TiffData/>", '<TiffData IFD="2"/>')}, "in another order"),
    ],
)
def test_what_does_not_say_in_time_what_is_there_is_one_line(tmp_path, how, said):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.ones((3, *SIZE), "u2"), photometric="minisblack", **{"metadata": None, **how})
    with pytest.raises(SourceError, match=said):
        follow(path, follow=0.3)


def test_a_file_of_something_else_and_none_at_all_are_one_line(tmp_path):
    (tmp_path / "m.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(SourceError, match=r"has no first page: one that is written in one go"):
        follow(tmp_path / "m.tif", follow=0.3)
    with pytest.raises(SourceError, match="no such file or folder"):
        follow(tmp_path / "n.tif", follow=0.3)
