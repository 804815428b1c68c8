import tracemalloc
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import trackpy

from streamtrack.cli.saying import say_memory
from streamtrack.errors import ConfigError
from streamtrack.formats.tables import memory_of, read_tracks, write_csv, write_parquet
from streamtrack.sinks.tables import TableSink
from streamtrack.testing.sinks import example_results, example_source


def test_parquet_brings_tracks_and_units_back(awkward, tmp_path):
    path = tmp_path / "tracks.parquet"
    write_parquet(awkward, path)
    table = read_tracks(path)
    expected = awkward.sort_values(["frame", "particle"], ignore_index=True)
    pd.testing.assert_frame_equal(table, expected)
    assert table.attrs == {"pixel_size_um": 0.16, "frame_interval_s": 0.05}
    assert table[table["frame"] > 2].sort_values("x").attrs == table.attrs


def test_units_stay_unknown(awkward, tmp_path):
    awkward.attrs = {}
    write_parquet(awkward, tmp_path / "tracks.parquet")
    assert read_tracks(tmp_path / "tracks.parquet").attrs == {}


def test_the_tables_of_a_run_are_read(tmp_path):
    sink = TableSink()
    source = example_source()
    sink.open(tmp_path, source)
    for result in example_results():
        sink.write(result)
    sink.close()
    table, text = read_tracks(tmp_path / "tracks.parquet"), read_tracks(tmp_path / "tracks.csv")
    assert table.dtypes[["frame", "particle", "y", "x"]].tolist() == [np.int64, np.int64, np.float64, np.float64]
    known = {"pixel_size_um": source.pixel_size_um, "frame_interval_s": source.frame_interval_s}
    known |= {"source": source.name, "level": 0, "shape": source.shape, "frames": 12}
    assert table.attrs == known
    assert len(table) > 0
    np.testing.assert_array_equal(text[["frame", "particle"]], table[["frame", "particle"]])
    np.testing.assert_allclose(text[["y", "x"]], table[["y", "x"]], atol=1e-4)
    assert "particle" not in read_tracks(tmp_path / "detections.parquet")


def test_what_trackpy_links_and_pandas_writes_is_read(crowd, tmp_path):
    linked = trackpy.link(crowd[crowd["frame"] < 3].drop(columns="particle"), search_range=5)
    linked = linked.assign(ecc=0.5)[["x", "ecc", "particle", "y", "frame"]]
    linked.to_csv(tmp_path / "linked.csv")
    table = read_tracks(tmp_path / "linked.csv")
    assert list(table.columns) == ["x", "ecc", "particle", "y", "frame"]
    pd.testing.assert_frame_equal(table, linked.reset_index(drop=True), check_dtype=False)


def test_csv_has_trackpys_columns_first_and_few_decimals(awkward, tmp_path):
    write_csv(awkward.assign(y=awkward["y"] + 1 / 3)[["score", "x", "y", "particle", "frame"]], tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_bytes().split(b"\n")
    assert lines[:2] == [b"frame,particle,y,x,score", b"0,2,10.3333,20.0,0.9"]
    assert len(read_tracks(tmp_path / "a.csv")) == 8


def test_whole_numbers_may_be_written_as_floats_and_large_ones_stay_exact(tmp_path):
    (tmp_path / "a.csv").write_text("frame,particle,y,x\n3.0,9007199254740993,1,2\n")
    table = read_tracks(tmp_path / "a.csv")
    assert table["frame"].tolist() == [3]
    assert table["particle"].tolist() == [2**53 + 1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.doc", "", "name must end in .parquet, .csv, .tsv, .txt, .xml, .npy, .geff"),
        ("a.csv", "", "No columns to parse"),
        ("a.csv", "\0\0\0", "lacks the column"),
        ("a.csv", "frame,y,z\n1,2,3\n", r"lacks the column\(s\) x \(it has: frame, y, z\)"),
        ("a.csv", "frame,y,x\n1,2,3,4\n", "more fields in a row than names"),
        ("a.csv", "frame,y,x\n1,2,3\n1,2,3,4\n", "Expected 3 fields in line 3"),
        ("a.csv", "t;y;x\n1;2;3\n", r"lacks the column\(s\) frame \(it has: t, y, x\)"),
        ("a.csv", "frame,y,x\n1,2,3\n1,,3\n", r"y = nan in row 2.* \(1 such rows\)"),
        ("a.csv", "frame,y,x\n1,2,inf\n", "x = inf in row 1"),
        ("a.csv", "frame,y,x\n1,2,here\n", "x = here in row 1"),
        ("a.csv", "frame,y,x\n1.5,2,3\n", "frame = 1.5 in row 1, which is no whole number"),
        ("a.csv", "frame,y,x,particle\n1,2,3,4\n1,2,3,\n", "particle = nan in row 2"),
        ("a.csv", "frame,y,x\nnan,2,3\n", "frame = nan in row 1, which is no finite number"),
        ("a.csv", "frame,y,x\n9223372036854775808,2,3\n", "frame = 9223372036854775808 in row 1, which is too large"),
        ("a.csv", "frame,y,x\n1e300,2,3\n", "frame = 1e.300 in row 1, which is too large"),
        ("a.csv", f"frame,y,x\n1,2,{10**400}\n", "cannot read .* as csv|no finite number"),
        ("a.csv", "frame,frame,y,x\n1,2,3,4\n", r"has the column\(s\) frame twice; keep one each"),
        ("a.csv", "frame,y,x\nTrue,2,3\n", "has bool in its column frame; give numbers"),
        ("a.parquet", "PAR1", "cannot read"),
        ("a.parquet", "no parquet at all", "cannot read .* as parquet"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_tracks(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_units_are_below_the_names_or_in_the_metadata(tmp_path):
    (tmp_path / "a.csv").write_text("Frame,Particle,Y,X\n,,(µm),(µm)\n1,2,3,4\n", encoding="utf-8")
    assert read_tracks(tmp_path / "a.csv", pixel_size_um=0.5)[["y", "x"]].to_numpy().tolist() == [[6.0, 8.0]]
    with pytest.raises(ConfigError, match=r"has positions in µm.*--pixel-size"):
        read_tracks(tmp_path / "a.csv")
    fields = [pa.field("frame", pa.int64()), *(pa.field(name, pa.float64(), metadata={"unit": "nm"}) for name in "yx")]
    columns = [[1], [3.0], [4.0]]
    pa.parquet.write_table(pa.table(columns, schema=pa.schema(fields)), tmp_path / "a.parquet")
    assert read_tracks(tmp_path / "a.parquet", pixel_size_um=0.001)[["y", "x"]].to_numpy().tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize("name", ["none.parquet", "none.csv", "none.xml"])
def test_a_missing_file_and_a_folder_are_named(tmp_path, name):
    with pytest.raises(ConfigError, match=f"{name}: there is no such file"):
        read_tracks(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"{name}: there is no such file"):
        read_tracks(tmp_path / name)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(bytes(range(128, 256)) * 8)
    with pytest.raises(ConfigError, match=r"a\.csv lacks the column\(s\) frame, y, x") as caught:
        read_tracks(tmp_path / "a.csv")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([("frame", [[1]]), ("y", [1.0]), ("x", [1.0])], "cannot read .* as parquet|no finite number"),
        (
            [("frame", np.array([2**64 - 1], np.uint64)), ("y", [1.0]), ("x", [1.0])],
            "frame = 18446744073709551615 in row 1, .* too large",
        ),
        ([("frame", [None]), ("y", [1.0]), ("x", [1.0])], "frame = .* in row 1, which is no finite number"),
        ([("frame", [datetime(2026, 1, 1)]), ("y", [1.0]), ("x", [1.0])], "has datetime64.* in its column frame"),
        ([("y", [1.0]), ("y", [1.0]), ("x", [1.0])], r"has the column\(s\) y twice"),
    ],
)
def test_columns_of_parquet_that_are_no_numbers_are_refused_in_one_line(tmp_path, columns, message):
    table = pa.table([pa.array(values) for _, values in columns], names=[name for name, _ in columns])
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=message):
        read_tracks(tmp_path / "a.parquet")


@pytest.mark.parametrize("unit", ["nan", "inf", "-1", "0"])
def test_a_unit_that_is_no_size_is_unknown(tmp_path, unit):
    table = pa.table({"frame": [0], "y": [1.0], "x": [1.0]}).replace_schema_metadata({"pixel_size_um": unit})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_tracks(tmp_path / "a.parquet").attrs == {}


PLAIN = "frame,particle,y,x\n0,7,1.5,2.25\n1,7,1.75,-2.5\n"
FORMS = {
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace(".", ",").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "blanks": PLAIN.replace(",", "  ").encode(),
    "blanks in the header": PLAIN.replace("frame,particle,y,x", "frame, particle, y, x").encode(),
    "capitals": PLAIN.replace("frame,particle,y,x", "Frame,Particle,Y,X").encode(),
    "utf-8 with a mark": PLAIN.encode("utf-8-sig"),
    "utf-16": PLAIN.replace(",", "\t").encode("utf-16"),
    "lines before the header": b"# made by a program\n\n Tracks, of a movie\n" + PLAIN.encode(),
    "quotes": PLAIN.replace("frame,particle,y,x", '"frame","particle","y","x"').encode(),
    "decimal commas that begin late": b"frame;particle;y;x\n0;7;1,5;2,25\n1;7;1,75;-2,5\n",
    "napari's tracks": b"ID,T,Y,X\n7,0,1.5,2.25\n7,1,1.75,-2.5\n",
    "index that is a column, too": b"frame,frame,particle,y,x\n0,0,7,1.5,2.25\n1,1,7,1.75,-2.5\n",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_text_tables_of_other_programs_are_read(tmp_path, form):
    (tmp_path / "a.csv").write_bytes(form)
    table = read_tracks(tmp_path / "a.csv")
    assert set(table.columns) == {"frame", "particle", "y", "x"}
    assert table[["frame", "particle", "y", "x"]].to_numpy().tolist() == [[0, 7, 1.5, 2.25], [1, 7, 1.75, -2.5]]


def test_latin_1_is_read_where_it_is_no_utf_8(tmp_path):
    (tmp_path / "a.csv").write_bytes("frame,y,x,größe µm\n0,1.5,2.25,3\n".encode("latin-1"))
    assert read_tracks(tmp_path / "a.csv").to_dict("list") == {"frame": [0], "y": [1.5], "x": [2.25], "größe µm": [3]}


THUNDERSTORM = """"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","uncertainty_xy [nm]"
1.0,1.0,250.0,150.0,130.1,900.5,20.0
2.0,3.0,50.0,250.0,128.0,700.0,30.0
"""


def test_localisations_of_thunderstorm_are_read(tmp_path):
    """Frames from 1, nm from the corner of the first pixel."""
    (tmp_path / "a.csv").write_text(THUNDERSTORM)
    with pytest.raises(ConfigError, match=r"positions in nm.* --pixel-size UM_PER_PX"):
        read_tracks(tmp_path / "a.csv")
    table = read_tracks(tmp_path / "a.csv", pixel_size_um=0.1)
    np.testing.assert_allclose(table[["frame", "y", "x", "sigma"]].iloc[:, :3], [[0, 1, 2], [2, 2, 0]])
    assert table.columns.tolist() == ["frame", "x", "y", "sigma", "intensity", "sigma"] or "intensity" in table


def test_units_in_brackets_are_heeded(tmp_path):
    (tmp_path / "a.csv").write_text("Frame,Particle,X (um),Y (um)\n0,4,1.0,0.5\n")
    table = read_tracks(tmp_path / "a.csv", pixel_size_um=0.25)
    assert table[["frame", "particle", "y", "x"]].to_numpy().tolist() == [[0, 4, 2, 4]]


def test_a_table_on_its_side_is_refused_at_once(tmp_path):
    text = ",".join(map(str, range(1_000_000)))
    (tmp_path / "a.csv").write_text(f"{text}\n{text}\n")
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=r"a line of more than 1000000 characters; .* turn it"):
            read_tracks(tmp_path / "a.csv")
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    (tmp_path / "b.csv").write_text(",".join("abcdefghij" * 300) + "\n")
    with pytest.raises(ConfigError, match=r"has 3000 columns; .* turn it"):
        read_tracks(tmp_path / "b.csv")


TRACKMATE_CSV = """LABEL,ID,TRACK_ID,QUALITY,POSITION_X,POSITION_Y,POSITION_Z,POSITION_T,FRAME
Label,Spot ID,Track ID,Quality,X,Y,Z,T,Frame
Label,Spot ID,Track ID,Quality,X,Y,Z,T,Frame
,,,(quality),(micron),(micron),(micron),(sec),
ID0,0,3,9.1,0.5,1.0,0,0.000,0
ID1,1,3,9.1,0.75,1.5,0,0.050,1
ID2,2,,9.1,7,7,0,0.050,1
"""
TRACKMATE_XML = """<?xml version="1.0" encoding="UTF-8"?>
<Tracks nTracks="1" spaceUnits="micron" frameInterval="0.05" timeUnits="sec" from="TrackMate v7.13.2">
<particle nSpots="2"><detection t="0" x="0.5" y="1.0" z="0.0" /><detection t="1" x="0.75" y="1.5" z="0.0" /></particle>
</Tracks>
"""


@pytest.mark.parametrize(("name", "text", "particle"), [("a.csv", TRACKMATE_CSV, 3), ("a.xml", TRACKMATE_XML, 0)])
def test_what_trackmate_exports_is_read_and_its_micrometers_need_a_pixel_size(tmp_path, name, text, particle):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{name} has positions in micron.* --pixel-size UM_PER_PX"):
        read_tracks(tmp_path / name)
    table = read_tracks(tmp_path / name, pixel_size_um=0.25)
    assert table[["frame", "particle", "y", "x"]].to_numpy().tolist() == [[0, particle, 4, 2], [1, particle, 6, 3]]
    assert table.attrs == {"pixel_size_um": 0.25, "frame_interval_s": pytest.approx(0.05)}
    (tmp_path / name).write_text(text.replace("micron", "pixel"), encoding="utf-8")
    assert read_tracks(tmp_path / name)["x"].tolist() == [0.5, 0.75]


def test_points_of_napari_are_read(tmp_path):
    (tmp_path / "a.csv").write_text("index,axis-0,axis-1,axis-2\n0.0,3.0,4.5,5.5\n", encoding="utf-8")
    assert read_tracks(tmp_path / "a.csv").to_dict("list") == {"frame": [3], "y": [4.5], "x": [5.5]}


def test_how_much_memory_a_table_takes_is_said_before_it_is_read(tmp_path, monkeypatch, capsys):
    table = pd.DataFrame({"frame": [0, 1], "particle": [0, 0], "y": [1.0, 2.0], "x": [1.0, 2.0]})
    write_parquet(table, tmp_path / "tracks.parquet")
    write_csv(table, tmp_path / "tracks.csv")
    assert memory_of(tmp_path / "tracks.parquet") == 5 * 8 * 2 * 4
    assert memory_of(tmp_path / "tracks.csv") == 5 * (tmp_path / "tracks.csv").stat().st_size
    assert memory_of(tmp_path / "none.csv") == 0
    say_memory(tmp_path / "tracks.csv")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("streamtrack.cli.saying._MUCH_BYTES", 10)
    say_memory(tmp_path / "tracks.csv")
    assert "in memory as a whole" in capsys.readouterr().out
