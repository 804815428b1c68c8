"""What TIFF files say of their movies: channels, positions, sizes, places and times."""

import numpy as np
import pytest
import tiff_files
import tifffile
from movies import assert_shows
from tiff_movies import TYX, make_movie, read, write

from streamtrack.errors import SourceError
from streamtrack_drivers.tiff_stack import TiffSource


def test_ome_channels_have_names(tmp_path):
    movie = make_movie((3, 2, 40, 48))
    metadata = {"axes": "TCYX", "Channel": {"Name": ["GFP", "DIC"]}}
    path = write(tmp_path / "m.ome.tif", movie, ome=True, metadata=metadata)
    assert_shows(read(path, channel="DIC")[1], movie[:, 1])
    with pytest.raises(SourceError, match=r"m\.ome\.tif: .* 2 channels: .* --channel, of 0 \(GFP\), 1 \(DIC\)$"):
        TiffSource(path=path)


def test_ome_pixel_size_and_interval(tmp_path):
    sizes = {"PhysicalSizeX": 110.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.11, "PhysicalSizeYUnit": "µm"}
    times = {"TimeIncrement": 50.0, "TimeIncrementUnit": "ms"}
    info, items = read(write(tmp_path / "m.ome.tif", make_movie(), ome=True, metadata=TYX | sizes | times))
    assert info.pixel_size_um == pytest.approx(0.11)
    assert info.frame_interval_s == pytest.approx(0.05)
    assert items[7].time_s == pytest.approx(0.35)


def test_imagej_pixel_size_and_interval(tmp_path):
    metadata = TYX | {"unit": "um", "finterval": 0.2}
    path = write(tmp_path / "m.tif", make_movie(), imagej=True, resolution=(1 / 0.13, 1 / 0.13), metadata=metadata)
    info, _ = read(path)
    assert info.pixel_size_um == pytest.approx(0.13, rel=1e-4)
    assert info.frame_interval_s == pytest.approx(0.2)


def test_resolution_without_a_unit_says_nothing(tmp_path):
    info, _ = read(write(tmp_path / "m.tif", make_movie(), resolution=(72, 72), resolutionunit="INCH", metadata=TYX))
    assert (info.pixel_size_um, info.frame_interval_s) == (None, None)


@pytest.mark.parametrize("position", [0, "1"])
def test_a_position_of_one_micro_manager_file_is_chosen(tmp_path, position):
    movie = make_movie((2, 8, 64, 60))
    planes, places = zip(*((movie[p, t], (0, 0, t, p)) for t in range(8) for p in (0, 1)), strict=True)
    path = tmp_path / "cells_1_MMStack.ome.tif"
    tiff_files.mmstack(path, np.array(planes), places, planned={"Frames": 8, "Positions": 2})
    with pytest.raises(SourceError, match=r"2 positions: choose one with --position, of 0, 1$"):
        TiffSource(path=path)
    assert_shows(read(path, position=position)[1], movie[int(position)])


def test_an_image_of_an_ome_tiff_is_chosen_by_its_index_or_name(tmp_path):
    movies = [make_movie(seed=seed) for seed in (0, 1)]
    path = tmp_path / "m.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for name, movie in zip(("left", "right"), movies, strict=True):
            tif.write(movie, photometric="minisblack", metadata={**TYX, "Name": name})
    with pytest.raises(SourceError, match=r"2 positions: choose one with --position, of 0 \(left\), 1 \(right\)$"):
        TiffSource(path=path)
    for position in (1, "right"):
        assert_shows(read(path, position=position)[1], movies[1])


def test_each_position_of_an_ome_tiff_in_several_files_is_in_its_own(tmp_path):
    movies = [make_movie(seed=seed) for seed in (0, 1)]
    names = ["m_p0.ome.tif", "m_p1.ome.tif"]
    xml = "".join(
        tiff_files.ome_xml(
            movie, f'<TiffData PlaneCount="8"><UUID FileName="{name}">urn:{name}</UUID></TiffData>', Type="uint16"
        )
        for movie, name in zip(movies, names, strict=True)
    ).partition("</OME><OME ")
    whole = xml[0] + xml[2].partition(">")[2]
    for movie, name in zip(movies, names, strict=True):
        tiff_files.ome_page_by_page(tmp_path / name, movie, whole.replace("<OME ", f'<OME UUID="urn:{name}" ', 1))
    for named in (*names, ""):
        for position in (0, 1):
            assert_shows(read(tmp_path / named, position=position)[1], movies[position])
    (tmp_path / "other.tif").write_bytes((tmp_path / names[0]).read_bytes())
    with pytest.raises(SourceError, match="holds files of several kinds"):
        TiffSource(path=tmp_path)


def with_times(movie, times_ms, **attributes):
    """Return OME-XML with a time for each plane."""
    planes = "".join(f'<Plane TheC="0" TheZ="0" TheT="{t}" DeltaT="{at}" DeltaTUnit="ms"/>' for t, at in times_ms)
    return tiff_files.ome_xml(movie, **attributes).replace("</Pixels>", f"{planes}</Pixels>")


REGULAR = [(t, 20.0 * t) for t in range(8)]


@pytest.mark.parametrize(
    ("times_ms", "said", "expected_s"),
    [
        (REGULAR, {}, np.arange(8) * 0.02),
        (REGULAR[:1] + REGULAR[4:6], {}, np.arange(8) * 0.02),
        ([(t, at + 60.0 * (t > 4)) for t, at in REGULAR], {}, np.arange(8) * 0.02 + 0.06 * (np.arange(8) > 4)),
        (REGULAR, {"TimeIncrement": 1000.0, "TimeIncrementUnit": "ms"}, np.arange(8) * 0.02),
        ([(t, 0.0) for t in range(8)], {"TimeIncrement": 50.0, "TimeIncrementUnit": "ms"}, np.arange(8) * 0.05),
    ],
    ids=["regular", "some", "pause", "wrong increment", "all zero"],
)
def test_times_of_planes_are_those_of_the_frames(tmp_path, times_ms, said, expected_s):
    movie = make_movie()
    tiff_files.ome_page_by_page(tmp_path / "m.ome.tif", movie, with_times(movie, times_ms, Type="uint16", **said))
    info, items = read(tmp_path / "m.ome.tif")
    np.testing.assert_allclose([frame.time_s for frame in items], expected_s, atol=1e-12)
    np.testing.assert_allclose(info.frame_interval_s, np.median(np.diff(expected_s)))


def test_the_place_of_the_stage_is_where_the_image_is(tmp_path):
    movie = make_movie()
    said = 'PositionX="1.5" PositionXUnit="mm" PositionY="-20" PositionYUnit="µm" PositionZ="300" PositionZUnit="nm"'
    planes = "".join(f'<Plane TheC="0" TheZ="0" TheT="{t}" {said}/>' for t in range(8))
    xml = tiff_files.ome_xml(movie, Type="uint16").replace("</Pixels>", f"{planes}</Pixels>")
    for name, unit, expected in (("known", "µm", ((-20.0, 1500.0), 0.3)), ("other", "reference frame", (None, 0.3))):
        text = xml.replace('YUnit="µm"', f'YUnit="{unit}"').encode("utf-8")
        tiff_files.ome_page_by_page(tmp_path / f"{name}.ome.tif", movie, text)
        info, _ = read(tmp_path / f"{name}.ome.tif")
        assert (info.origin_um, info.z_um) == expected
    stage = {"XPositionUm": 1500.0, "YPositionUm": -20.0, "ZPositionUm": 0.3}
    tiff_files.mmstack(tmp_path / "m.tif", movie, more=stage)
    info, _ = read(tmp_path / "m.tif")
    assert (info.origin_um, info.z_um) == ((-20.0, 1500.0), 0.3)


def test_a_planned_interval_that_was_not_kept_is_said(tmp_path):
    movie = make_movie()
    for planned_s, n_remarks in ((1, 1), (0.0201, 0)):
        xml = with_times(movie, REGULAR, TimeIncrement=planned_s, TimeIncrementUnit="s")
        tiff_files.ome_page_by_page(tmp_path / "m.ome.tif", movie, xml)
        source = TiffSource(path=tmp_path / "m.ome.tif")
        source.close()
        assert len(source.remarks()) == n_remarks
        assert all("says 1 s per frame, but its frames came every 0.02 s" in each for each in source.remarks())


def test_pages_of_micro_manager_say_when_they_were_exposed(tmp_path):
    tiff_files.mmstack(tmp_path / "m.tif", make_movie(), elapsed_ms=[30.0 * t + 7 for t in range(8)])
    info, items = read(tmp_path / "m.tif")
    np.testing.assert_allclose([frame.time_s for frame in items], np.arange(8) * 0.03 + 0.007)
    assert (info.clock, round(info.frame_interval_s, 6)) == ("camera", 0.03)
