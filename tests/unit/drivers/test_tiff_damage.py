"""What a TIFF file promises is compared with what is in it: every frame of these files is right, or it is lost."""

import struct
import tracemalloc
import zlib
from functools import partial

import imagecodecs
import numpy as np
import pytest
import tiff_files
import tifffile
from tiff_files import WRITERS, random_movie

from streamtrack.errors import SourceError
from streamtrack.types import Frame, LostFrame
from streamtrack_drivers.tiff_stack import TiffSource

MOVIE = random_movie((20, 40, 48))
CRCS = [zlib.crc32(image) for image in MOVIE]
PLAIN = {"metadata": None}


def read(path, **settings):
    """Return the indices of the frames that came, each compared by its CRC, and the causes of those that did not."""
    source = TiffSource(path=path, **settings)
    items = list(source.frames())
    source.close()
    assert source.info.n_frames == len(items)
    frames = [item for item in items if isinstance(item, Frame)]
    assert [zlib.crc32(frame.pixels) for frame in frames] == [CRCS[frame.index] for frame in frames]
    return [frame.index for frame in frames], {i.index: i.cause for i in items if isinstance(i, LostFrame)}


def assert_one_line(error):
    assert len(str(error).splitlines()) == 1


def without(*indices):
    return [index for index in range(len(MOVIE)) if index not in indices]


@pytest.fixture(params=WRITERS)
def writer(request):
    return request.param


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_what_was_cut_off_is_lost_and_what_lies_before_is_read(writer, share, tmp_path):
    path = tmp_path / "m.tif"
    WRITERS[writer](path, MOVIE)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    frames, lost = read(path)
    n_whole = int(len(MOVIE) * share)
    assert frames == list(range(len(frames)))
    assert n_whole - 2 <= len(frames) <= n_whole + 1
    assert lost or len(frames) == len(MOVIE)  # of some only directories behind all pixels are gone
    assert set(lost) == set(range(len(frames), len(frames) + len(lost)))
    if "page" not in writer and writer not in ("pages", "ome lzw", "micro-manager"):  # the others say how many
        assert len(frames) + len(lost) >= len(MOVIE)


@pytest.mark.parametrize("where", [1, 3, 7, 12, 19])
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda image: image[:32], "height 32, not 40"),
        (lambda image: image[:, :32], "width 32, not 48"),
        (lambda image: image.astype(np.uint8), "bits 8, not 16"),
        (lambda image: image.astype(np.int16), "sample_format 2, not 1"),
        (lambda image: np.dstack([image] * 3), "samples 3, not 1"),
    ],
    ids=["height", "width", "bits", "sign", "colour"],
)
def test_a_page_of_another_kind_is_lost_wherever_it_is(change, cause, where, tmp_path):
    with tifffile.TiffWriter(tmp_path / "m.tif") as tif:
        for index, image in enumerate(MOVIE):
            page = change(image) if index == where else image
            photometric = "rgb" if page.ndim == 3 else "minisblack"
            tif.write(page, photometric=photometric, contiguous=False, **PLAIN)
    frames, lost = read(tmp_path / "m.tif")
    assert frames == without(where)
    assert lost[where].startswith("page of another kind: ")
    assert cause in lost[where]


def test_a_page_of_another_compression_or_tiling_is_decoded_by_its_own_tags(tmp_path):
    ways = [{}, {"compression": "lzw"}, {"compression": "zstd"}, {"tile": (32, 32)}, {"rowsperstrip": 7}]
    with tifffile.TiffWriter(tmp_path / "m.tif") as tif:
        for index, image in enumerate(MOVIE):
            tif.write(image, photometric="minisblack", contiguous=False, **PLAIN, **ways[index % len(ways)])
    assert read(tmp_path / "m.tif") == (without(), {})


def patch(path, page, code, value, index=0):
    """Put a number into a tag of a page."""
    with tifffile.TiffFile(path) as tif:
        tag, order = tif.pages[page].tags[code], tif.byteorder
    form = f"{order}{ {3: 'H', 4: 'I', 16: 'Q'}[tag.dtype] }"
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, tag.valueoffset + index * struct.calcsize(form), value)
    path.write_bytes(data)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (32, 32)}, {"rowsperstrip": 16}])
@pytest.mark.parametrize(("is_offset", "value"), [(True, 0), (False, 0), (True, 10**8), (False, 2**16 - 1)])
def test_a_strip_or_tile_without_a_place_is_a_lost_frame(options, is_offset, value, tmp_path):
    path = tmp_path / "m.tif"
    tiff_files.page_by_page(path, MOVIE, **PLAIN, **options)
    code = (324 if is_offset else 325) if "tile" in options else (273 if is_offset else 279)
    patch(path, 5, code, value, index=len(options) if "compression" not in options else 0)
    frames, lost = read(path)
    assert frames == without(5)
    assert list(lost) == [5]
    assert lost[5].startswith(("unwritten page: a", "missing page: the file is cut off", "unreadable", "damaged"))


def test_pixels_over_those_of_another_page_are_no_frame(tmp_path):
    path = tmp_path / "m.tif"
    tiff_files.page_by_page(path, MOVIE, **PLAIN)
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[9].dataoffsets[0] + 1000
    patch(path, 5, 273, place)
    frames, lost = read(path)
    assert frames == without(5, 9, 10)
    assert set(lost.values()) == {"damaged page: its pixels would lie where something else is"}


def put_next(path, page, value):
    """Change where a page says that the next one is."""
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[page].offset + 2 + 12 * len(tif.pages[page].tags)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, at, value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        (10**8, "the file is cut off after page 8: how many are missing is unknown"),
        (8, "the list of pages turns in a circle after page 8: how many are missing is unknown"),
        (0, "bytes of the file belong to none of its pages: some may be missing"),
    ],
)
def test_a_list_of_pages_that_breaks_off_says_so(where, cause, tmp_path):
    path = tmp_path / "m.tif"
    tiff_files.page_by_page(path, MOVIE, **PLAIN)
    put_next(path, 7, where)
    frames, lost = read(path)
    assert frames == list(range(8))
    assert list(lost) == [8]
    assert lost[8].endswith(cause)


def test_pages_that_the_description_leaves_out_are_no_complete_movie(tmp_path):
    path = tmp_path / "m.ome.tif"
    tiff_files.ome_page_by_page(path, MOVIE, xml=tiff_files.ome_xml(MOVIE[:12]))
    frames, lost = read(path)
    assert frames == list(range(12))
    assert lost == {12: "its description leaves out 8 pages that are in the file"}


def ome_set(folder, n_files=3):
    """Write an OME-TIFF in several files; every one has all of the XML, as the standard wants."""
    names, each = [f"exp_{k}.ome.tif" for k in range(n_files)], len(MOVIE) // n_files
    blocks = "".join(
        f'<TiffData IFD="{i}" FirstT="{k * each + i}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{k}</UUID></TiffData>'
        for k, name in enumerate(names)
        for i in range(each)
    )
    for k, name in enumerate(names):
        xml = tiff_files.ome_xml(MOVIE[: each * n_files], blocks).replace("<OME ", f'<OME UUID="urn:uuid:{k}" ')
        tiff_files.ome_page_by_page(folder / name, MOVIE[k * each : (k + 1) * each], xml=xml)
    return names


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_an_ome_tiff_in_several_files_is_one_movie_from_any_of_them(opened, tmp_path):
    names = ome_set(tmp_path)
    assert read(tmp_path / names[opened]) == (list(range(18)), {})


def test_a_missing_file_of_an_ome_tiff_is_one_cause_with_its_name(tmp_path):
    names = ome_set(tmp_path)
    (tmp_path / names[1]).unlink()
    frames, lost = read(tmp_path / names[0])
    assert frames == [*range(6), *range(12, 18)]
    assert lost == dict.fromkeys(range(6, 12), "missing file exp_1.ome.tif")


def test_planned_frames_that_micro_manager_did_not_record_are_lost(tmp_path):
    path = tmp_path / "aborted_1_MMStack_Pos0.ome.tif"
    tiff_files.mmstack(path, MOVIE[:12], planned={"Frames": 20, "Prefix": "aborted_1"})
    frames, lost = read(path)
    assert frames == list(range(12))
    assert lost == dict.fromkeys(range(12, 20), "never recorded: the acquisition ended after 12 of 20 images")


def test_a_killed_micro_manager_stack_without_an_index_is_read_by_what_its_pages_say(tmp_path):
    path = tmp_path / "killed_1_MMStack_Pos0.ome.tif"
    coordinates = [(c, 0, t, 0) for t in range(10) for c in (1, 0)]
    tiff_files.mmstack(path, MOVIE, coordinates, planned={"Frames": 12, "Channels": 2}, index=False)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = TiffSource(path=path, channel=0)
    items = list(source.frames())
    assert [item.index for item in items] == list(range(12))
    frames = [item for item in items if isinstance(item, Frame)]
    assert len(frames) == 4
    assert all(np.array_equal(frame.pixels, MOVIE[2 * frame.index + 1]) for frame in frames)


def test_a_plan_without_an_end_is_one_lost_frame(tmp_path):
    tiff_files.mmstack(tmp_path / "m.tif", MOVIE, planned={"Frames": 2**50})
    frames, lost = read(tmp_path / "m.tif")
    assert frames == without()
    assert lost == {20: "frames 20 to 1125899906842623 are not in the file"}


@pytest.mark.parametrize("axis", ["T", "Z", "C"])
def test_an_ome_tiff_of_countless_planes_is_one_line_or_one_lost_frame(axis, tmp_path):
    xml = tiff_files.ome_xml(MOVIE, **{"SizeT": 1, f"Size{axis}": 2**50})
    tiff_files.ome_page_by_page(tmp_path / "m.tif", MOVIE, xml=xml)
    try:
        frames, lost = read(tmp_path / "m.tif", z="max" if axis == "Z" else None)
    except SourceError as refused:
        assert_one_line(refused)
    else:
        assert len(frames) + len(lost) <= 21
        assert lost


def of_size(height, width, **tags):
    """Return a TIFF file of one page that claims a size; ``tags`` go before the others."""
    pixels = bytes(100)
    entries = {256: (4, width), 257: (4, height), 258: (3, 16), 259: (3, 1), 262: (3, 1), 273: (4, 200), 279: (4, 100)}
    entries |= {int(code[1:]): value for code, value in tags.items()}
    packed = b"".join(struct.pack("<HHII", code, type_, 1, value) for code, (type_, value) in sorted(entries.items()))
    return (struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + packed + bytes(4)).ljust(200, b"\0") + pixels


def peak_mb(call):
    tracemalloc.start()
    try:
        call()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / 2**20


def outcome(path):
    """Read a file that may be refused, with one line."""
    try:
        source = TiffSource(path=path)
        return list(source.frames())
    except SourceError as refused:
        assert_one_line(refused)
        return str(refused)


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize(("height", "width"), [(2**16, 2**15), (2**32 - 1, 2**32 - 1), (4000, 4000)])
def test_a_page_that_claims_gigabytes_takes_none(height, width, compression, tmp_path):
    path = tmp_path / "m.tif"
    path.write_bytes(of_size(height, width, t259=(3, compression)))
    assert peak_mb(lambda: outcome(path)) < 100
    found = outcome(path)
    assert isinstance(found, str) or all(isinstance(item, LostFrame) for item in found)


@pytest.mark.parametrize(
    ("compression", "bomb"),
    [
        (8, partial(zlib.compress, bytes(2**26), 9)),
        (50000, lambda: imagecodecs.zstd_encode(bytes(2**26))),
        (33003, lambda: imagecodecs.jpeg2k_encode(np.zeros((4000, 4000), np.uint16), level=0)),
        (34933, lambda: imagecodecs.png_encode(np.zeros((4000, 4000), np.uint16))),
        (50002, lambda: imagecodecs.jpegxl_encode(np.zeros((4000, 4000), np.uint16), lossless=True)),
    ],
    ids=["zlib", "zstd", "jpeg 2000", "png", "jpeg xl"],
)
def test_a_strip_that_grows_beyond_its_shape_is_a_lost_frame(compression, bomb, tmp_path):
    data = bomb()
    path = tmp_path / "m.tif"
    path.write_bytes(of_size(40, 48, t259=(3, compression), t279=(4, len(data)))[:200] + data)
    found: list = []
    assert peak_mb(lambda: found.extend(outcome(path))) < 30
    assert [type(item) for item in found] == [LostFrame]


def test_entities_in_ome_xml_are_one_line(tmp_path):
    levels = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    bomb = f'<!DOCTYPE OME [<!ENTITY e0 "x">{levels}]>' + tiff_files.ome_xml(MOVIE).replace("</OME>", "&e9;</OME>")
    tiff_files.ome_page_by_page(tmp_path / "m.tif", MOVIE, xml=bomb)
    with pytest.raises(SourceError, match=r"m\.tif: its OME-XML cannot be read: it defines entities"):
        TiffSource(path=tmp_path / "m.tif")


def test_broken_ome_xml_is_refused_unless_the_user_says_what_the_axes_are(tmp_path):
    tiff_files.ome_page_by_page(tmp_path / "m.tif", MOVIE, xml=tiff_files.ome_xml(MOVIE).replace("</Image>", ""))
    with pytest.raises(SourceError, match=r"its OME-XML cannot be read: .*; if its pages are time points, pass --axes"):
        TiffSource(path=tmp_path / "m.tif")
    assert read(tmp_path / "m.tif", axes="TYX") == (without(), {})


def test_a_description_nested_without_end_is_one_line(tmp_path):
    text = '{"shape": ' + "[" * 100_000
    with tifffile.TiffWriter(tmp_path / "m.tif") as tif:
        tif.write(MOVIE[0], description=text, **PLAIN)
    with pytest.raises(SourceError, match=r"its description .* cannot be understood: it is nested too deeply"):
        TiffSource(path=tmp_path / "m.tif")


def test_a_metamorph_stack_that_is_cut_off_keeps_what_is_there(tmp_path):
    """STK: one directory, whose UIC2 tag counts the planes behind it; only tifffile knows more of that format."""
    path, n = tmp_path / "m.stk", len(MOVIE)
    uic_at = 200
    uic2 = struct.pack("<6I", 1, 1, 2450000, 0, 2450000, 0) * n
    pixels_at = uic_at + len(uic2)
    tags = [(256, 4, 1, 48), (257, 4, 1, 40), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, pixels_at)]
    tags += [(277, 3, 1, 1), (278, 3, 1, 40), (279, 4, 1, 3840), (33628, 4, 1, uic_at), (33629, 5, n, uic_at)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    data = head.ljust(uic_at, b"\0") + uic2 + MOVIE.tobytes()
    path.write_bytes(data)
    assert TiffSource(path=path, axes="TYX").info.details["format"] == "tiff stk"
    assert read(path, axes="TYX") == (without(), {})
    path.write_bytes(data[: pixels_at + 12 * 3840 + 100])
    frames, lost = read(path, axes="TYX")
    assert frames == list(range(12))
    assert lost == dict.fromkeys(range(12, 20), "missing page: the file is cut off")
