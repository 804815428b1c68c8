"""What sinks leave of a process that is killed, or whose disk is full."""

import itertools
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import zarr
from written_tables import assert_tables_are_of

from streamtrack.sinks.frame_table import FRAMES, FRAMES_PARTIAL
from streamtrack.sinks.making import TABLES, recover
from streamtrack.sinks.tables import PARTIAL
from streamtrack.testing.sinks import example_results
from streamtrack_drivers.zarr_movie import ZarrSource

WRITE_SLOWLY = """
import sys, time
from pathlib import Path
from streamtrack.sinks.tables import TableSink
from streamtrack.testing.sinks import example_results, example_source

results = example_results(400, (32, 32))
sink = TableSink()
sink.open(Path(sys.argv[1]), example_source())
for result in results:
    sink.write(result)
    print(result.frame.index, time.monotonic(), flush=True)
    time.sleep(0.01)
"""


def test_a_killed_process_loses_its_last_second_of_tables_only(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", WRITE_SLOWLY, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    written = []
    for line in child.stdout:
        index, at_s = line.split()
        written.append((int(index), float(at_s)))
        if written[-1][1] - written[0][1] > 2.5:
            break
    child.kill()
    child.communicate()
    assert {path.name for path in tmp_path.iterdir()} == {PARTIAL, FRAMES_PARTIAL}

    n_rows = recover(tmp_path).n_detections

    safe = max(index for index, at_s in written if at_s < written[-1][1] - 1.3)
    detections = pd.read_parquet(tmp_path / "detections.parquet")
    assert detections.frame.max() >= safe
    results = example_results(400, (32, 32))[: detections.frame.max() + 1]
    assert_tables_are_of(results, tmp_path)
    assert n_rows == len(detections)
    assert {path.name for path in tmp_path.iterdir()} == {*TABLES, FRAMES}


WRITE_TOO_MUCH = """
import resource, sys
from itertools import cycle
from pathlib import Path
from streamtrack.errors import SinkError
from streamtrack.sinks import tables
from streamtrack.testing.sinks import example_results, example_source

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
tables._FLUSH_NS = 0
sink = tables.TableSink()
sink.open(Path(sys.argv[1]), example_source())
for attempt in range(2):
    try:
        for result in cycle(example_results()):
            sink.write(result)
    except SinkError as error:
        print(error)
sink.close()
"""


@pytest.mark.skipif(not find_spec("resource"), reason="the size of a file cannot be limited here")
def test_a_full_disk_is_said_once_and_no_table_pretends(tmp_path):
    command = [sys.executable, "-c", WRITE_TOO_MUCH, str(tmp_path)]
    first, second = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert str(tmp_path / PARTIAL) in first
    assert "check that" in first
    assert "an earlier write failed" in second
    assert {path.name for path in tmp_path.iterdir()} == {PARTIAL, FRAMES_PARTIAL}
    n_frames, rest = divmod(recover(tmp_path).n_detections, 8)
    assert n_frames > 5
    assert rest == 0


KILLED = """
import sys
from itertools import count
from pathlib import Path
from dataclasses import replace
from time import monotonic
from streamtrack.sinks.raw import RawSink
from streamtrack.sinks import raw_movie
from streamtrack.testing.sinks import example_results, example_source
raw_movie.PUBLISH_NS = 20_000_000
(result,) = example_results(1, n_particles=2)
sink = RawSink()
sink.open(Path(sys.argv[1]), example_source(n_frames=None))
began = monotonic()
for index in count():
    pixels = result.frame.pixels + index % 1000
    sink.write(replace(result, frame=replace(result.frame, index=index, pixels=pixels.astype("uint16"))))
    print(monotonic() - began, flush=True)
"""


def test_a_process_that_is_killed_leaves_a_movie_of_whole_frames(tmp_path):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        written_at_s = list(itertools.takewhile(lambda at: at < 0.5, map(float, child.stdout)))
        child.kill()
    (example,) = example_results(1, n_particles=2)
    with closing(ZarrSource(path=tmp_path / "raw.ome.zarr")) as source:
        frames = list(source.frames())
    assert len(frames) >= sum(at < 0.3 for at in written_at_s), "what was written long ago cannot be seen"
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.pixels, example.frame.pixels + index % 1000)
    known = zarr.open_group(tmp_path / "raw.ome.zarr", mode="r")
    assert known["time_s"].shape[0] >= len(frames)
    assert known.attrs["streamtrack"]["complete"] is False
