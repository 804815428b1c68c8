"""The stream that tables are made from, damaged in every way."""

from io import FileIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from streamtrack.errors import SinkError
from streamtrack.sinks import tables
from streamtrack.sinks.frame_table import FRAMES_PARTIAL
from streamtrack.sinks.making import TABLES, recover
from streamtrack.sinks.stream import Extent, read_batches, read_schema
from streamtrack.sinks.tables import PARTIAL, TableSink
from streamtrack.testing.sinks import example_results, example_source

N_FRAMES = 12


@pytest.fixture
def stream(tmp_path, monkeypatch):
    """A complete stream of one batch for each frame; and the rows of `detections.parquet`."""
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    (tmp_path / "whole").mkdir()
    sink = TableSink()
    sink.open(tmp_path / "whole", example_source())
    for result in example_results(N_FRAMES):
        sink.write(result)
    content = (tmp_path / "whole" / PARTIAL).read_bytes()
    sink.close()
    return content, pd.read_parquet(tmp_path / "whole" / "detections.parquet")


def recovered(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / PARTIAL).write_bytes(content)
    return recover(folder), pd.read_parquet(folder / "detections.parquet")


def start_of_batches(content, path):
    path.write_bytes(content)
    return len(read_schema(path).serialize())


def assert_only_true_rows(found, rows):
    assert set(found.frame) <= set(rows.frame)
    expected = rows[rows.frame.isin(found.frame)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)


def test_any_arrow_reader_reads_it(tmp_path, stream):
    content, rows = stream
    with pa.ipc.open_stream(content) as reader:
        batches = list(reader)
    assert sum(batch.column("detection").null_count for batch in batches) == len(rows)


def test_a_flipped_bit_costs_its_batch_and_never_becomes_a_particle(tmp_path, stream):
    content, rows = stream
    start = start_of_batches(content, tmp_path / "stream")
    rng = np.random.default_rng(0)
    for place in rng.integers(start, len(content), 60).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        said, found = recovered(tmp_path / "run", bytes(damaged))
        assert_only_true_rows(found, rows)
        if len(found) == len(rows):  # padding, which is no value
            assert said.extent.lost_bytes == 0
            continue
        assert found.frame.nunique() == N_FRAMES - 1, "the other batches can be read"
        assert said.extent.lost_bytes > 0
        assert said.extent.lost_frames == (0 if rows.frame.max() not in set(found.frame) else 1)
        assert (tmp_path / "run" / PARTIAL).read_bytes() == damaged, "what was not read is kept"


@pytest.mark.parametrize("n_bytes", [1, 8, 512, 4096])
def test_a_hole_costs_what_it_covers(tmp_path, stream, n_bytes):
    content, rows = stream
    start = start_of_batches(content, tmp_path / "stream")
    middle = (start + len(content)) // 2
    holed = content[:middle] + bytes(n_bytes) + content[middle + n_bytes :]
    missing = content[:middle] + content[middle + n_bytes :]
    for damaged in (holed, missing):
        said, found = recovered(tmp_path / "run", damaged)
        assert_only_true_rows(found, rows)
        lost = set(rows.frame) - set(found.frame)
        assert 0 < len(lost) <= 2 + n_bytes // 400 or n_bytes == 1
        if found.frame.max() == rows.frame.max():
            assert said.extent.lost_frames == len(lost)


def test_a_length_of_terabytes_takes_no_memory(tmp_path, stream):
    content, rows = stream
    start = start_of_batches(content, tmp_path / "stream")
    for claimed in (b"\xff\xff\xff\x7f", b"\x00\x00\x0f\x00"):
        _, found = recovered(tmp_path / "run", content[: start + 4] + claimed + content[start + 8 :])
        assert_only_true_rows(found, rows)
        assert found.frame.nunique() == N_FRAMES - 1


def test_damage_seen_at_the_end_of_a_run_makes_no_tables_and_says_the_cure(tmp_path):
    sink = TableSink()
    sink.open(tmp_path, example_source())
    for result in example_results():
        sink.write(result)
    sink.flush()
    with (tmp_path / PARTIAL).open("r+b") as file:
        file.seek((tmp_path / PARTIAL).stat().st_size // 2)
        file.write(b"\x55\xaa")
    with pytest.raises(SinkError, match=r"damaged: of 12 frames with \d+ rows 0 with 0 can be read back.*recover"):
        sink.close()
    assert {path.name for path in tmp_path.iterdir()} == {PARTIAL, FRAMES_PARTIAL}


def test_a_stream_of_another_run_makes_no_tables(tmp_path):
    sinks = [TableSink(), TableSink()]
    for sink, name in zip(sinks, "ab", strict=True):
        (tmp_path / name).mkdir()
        sink.open(tmp_path / name, example_source())
        sink.write(example_results(1)[0])
        sink.flush()
    (tmp_path / "a" / PARTIAL).write_bytes((tmp_path / "b" / PARTIAL).read_bytes())
    with pytest.raises(SinkError, match="replaced during the run"):
        sinks[0].close()
    sinks[1].close()
    assert not (tmp_path / "a" / TABLES[0]).exists()


def test_streams_of_older_versions_have_no_checksum_and_are_read(tmp_path, stream):
    content, rows = stream
    with pa.ipc.open_stream(content) as reader:
        batches = list(reader)
        schema = reader.schema.with_metadata({"streamtrack_version": "0.1.0", "source": "old"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    said, found = recovered(tmp_path / "run", sink.getvalue().to_pybytes())
    pd.testing.assert_frame_equal(found, rows)
    assert said.source.name == "old"
    assert [path.name for path in (tmp_path / "run").glob("*.arrows")] == []


def test_frames_without_a_particle_are_counted_too(tmp_path):
    sink = TableSink()
    sink.open(tmp_path, example_source())
    for result in example_results(5, n_particles=0):
        sink.write(result)
    sink.flush()
    extent = Extent()
    assert sum(len(batch) for batch in read_batches(tmp_path / PARTIAL, extent)) == 0
    assert (extent.n_frames, extent.first, extent.last) == (5, 0, 4)
    sink.close()


@pytest.mark.parametrize("nth", [1, 2])
def test_no_file_stays_open_where_there_is_no_room_for_its_beginning(tmp_path, monkeypatch, nth):
    opened = []

    class Full(FileIO):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            opened.append(self)

        def write(self, data):
            if len(opened) == nth:
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr("streamtrack.sinks.stream.FileIO", Full)
    with pytest.raises(SinkError, match="No space left on device"):
        TableSink().open(tmp_path, example_source())
    assert len(opened) == nth
    assert all(file.closed for file in opened)
