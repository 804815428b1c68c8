"""Tables of linkers that think twice; and what they say of motion."""

from dataclasses import replace
from itertools import count

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamtrack.sinks import row_groups, tables
from streamtrack.sinks.making import TABLES, recover
from streamtrack.sinks.tables import PARTIAL, TableSink
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import CONFIRMED, Detections, Revision, TrackMotion, TrackUpdate


def with_existence(result, existence, revised=None):
    revised = revised or Revision.none()
    tracks = replace(result.tracks, existence=np.full(8, existence, np.float32), revised=revised)
    return replace(result, tracks=tracks)


def test_a_track_confirmed_once_stays_in_the_table(tmp_path, run):
    _, tracks = run(tmp_path, [with_existence(r, r.frame.index == 5) for r in example_results()])
    assert set(tracks.frame[tracks.particle == 1]) == set(range(12))


def test_a_track_confirmed_only_by_what_was_revised_is_not_in_the_table(tmp_path, run):
    results = [with_existence(r, 0.99 if r.frame.index == 1 else 0.5) for r in example_results(3)]
    doubts = Revision(np.array([1, 1]), np.array([2, 4]), np.array([2, 3]), np.array([0.9, 0.99], np.float32))
    results[2] = with_existence(results[2], 0.5, doubts)  # particle 2 is not sure, and what confirmed 4 is particle 3
    _, tracks = run(tmp_path, results)
    assert set(tracks.particle) == {0, 1, 3, 5, 6}
    assert len(tracks) == 5 * 3 + 1


def test_a_track_confirmed_only_by_a_revision_is_in_the_table(tmp_path, run):
    results = [with_existence(r, 0.5) for r in example_results(3)]
    sure = Revision(np.array([0]), np.array([2]), np.array([2]), np.array([0.95], np.float32))
    _, tracks = run(tmp_path, [*results[:2], with_existence(results[2], 0.5, sure)])
    assert tracks.particle.tolist() == [2, 2, 2]
    np.testing.assert_array_equal(tracks.existence, np.float32([0.95, 0.5, 0.5]))


def test_a_row_that_changes_tracks_keeps_its_motion(tmp_path, run):
    results = example_results(6)  # of which the last revises frames 3 and 4
    assert (results[3].tracks.particle[1], results[5].tracks.revised.particle[0]) == (2, 1)
    _, tracks = run(tmp_path, results)
    changed = tracks[(tracks.frame == 3) & (tracks.particle == 1)]
    assert changed.y.item() == results[3].detections.y[1]
    assert [changed.vy.item(), changed.vx.item()] == results[3].tracks.motion.velocity_px_s[1].tolist()


def test_what_a_linker_does_not_tell_is_null(tmp_path, run):
    results = [replace(r, tracks=replace(r.tracks, motion=None)) for r in example_results(4)]
    run(tmp_path, results)
    tracks = pq.read_table(tmp_path / "tracks.parquet")
    assert {tracks[name].null_count for name in ("vy", "vx", "diffusion", "directed")} == {len(tracks)}
    lines = (tmp_path / "tracks.csv").read_bytes().splitlines()[1:]
    assert len(lines) == len(tracks) > 0
    assert all(line.split(b",")[8:12] == [b""] * 4 for line in lines)


def random_results(rng):
    """Return a movie of which frames and results are missing and whose linker thinks twice of all that is not final."""
    (blank,) = example_results(1, (32, 32), n_particles=0)
    results, final_index, index = [], -1, int(rng.integers(3))
    motion_known = rng.random() < 0.7
    n_detections = {}
    for _ in range(rng.integers(1, 30)):
        open_places = [(f, i) for f in n_detections if f > final_index for i in range(n_detections[f])]
        n_detections[index] = n = int(rng.integers(6))
        final_index = int(rng.integers(final_index, index + 1))
        yx, score, mass, sigma = rng.random((n, 2)), *rng.random((3, n))
        detections = Detections(*(values.astype(np.float32) for values in (*yx.T, score, mass, sigma)))
        tracks = random_tracks(rng, n, open_places, final_index, motion_known)
        frame = replace(blank.frame, index=index)
        if rng.random() < 0.9:  # or the sink was too slow for this one
            results.append(replace(blank, frame=frame, detections=detections, tracks=tracks))
        index += int(rng.geometric(0.7))
    return results


def random_tracks(rng, n, open_places, final_index, motion_known):
    def particle(n):
        return rng.integers(-1, 10, n)

    def existence(n):
        return rng.choice(np.float32([0.2, 0.94, CONFIRMED, 0.99]), n, p=[0.5, 0.3, 0.1, 0.1])

    n_revised = rng.integers(8) if open_places and rng.random() < 0.6 else 0
    frame, detection = rng.choice(open_places, n_revised).T if n_revised else np.empty((2, 0), np.int64)
    revised = Revision(frame, detection, particle(n_revised), existence(n_revised))
    diffusion = rng.choice(np.float32([np.nan, 0.1, 1e-5, 1234.5]), n)
    velocity, modes = rng.normal(0, 1, (n, 2)).astype(np.float32), rng.random((n, 3)).astype(np.float32)
    motion = TrackMotion(np.zeros(n, np.int64), np.zeros(n, np.float32), velocity, modes, diffusion)
    none = np.empty(0, np.int64)
    return TrackUpdate(
        particle(n), existence(n), none, none, none, n, final_index, revised, motion if motion_known else None
    )


NEVER = 10**18


@pytest.fixture
def flush_at_random(monkeypatch):
    """Return a function that makes the next frame reach the disk at once, or not."""
    monkeypatch.setattr(row_groups, "GROUP_ROWS", 20)
    return lambda rng, often: monkeypatch.setattr(tables, "_FLUSH_NS", 0 if rng.random() < often else NEVER)


@pytest.mark.parametrize("seed", range(12))
def test_tables_say_what_the_linker_said_last_whenever_it_was_flushed(
    tmp_path, flush_at_random, seed, run, assert_tables_are_of
):
    rng = np.random.default_rng(seed)
    results = random_results(rng)

    def flushing(often):
        for result in results:
            flush_at_random(rng, often)
            yield result

    for often in (0.0, 0.3, 1.0):
        run(tmp_path / f"{often}", flushing(often))
        assert_tables_are_of(results, tmp_path / f"{often}")
    for name in TABLES:
        assert len({(tmp_path / folder / name).read_bytes() for folder in ("0.0", "0.3", "1.0")}) == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_stream_cut_anywhere_gives_what_was_said_until_then(tmp_path, flush_at_random, seed, assert_tables_are_of):
    rng = np.random.default_rng(seed)
    results = random_results(rng)
    sink = TableSink()
    sink.open(tmp_path, example_source())
    partial = tmp_path / PARTIAL
    safe = [(partial.stat().st_size, 0)]  # size of the stream, results in it
    for n_written, result in enumerate(results, 1):
        flush_at_random(rng, 0.5)
        sink.write(result)
        if partial.stat().st_size > safe[-1][0]:
            safe.append((partial.stat().st_size, n_written))
    stream = partial.read_bytes()
    sink.close()
    for cut in {safe[0][0], len(stream), *rng.integers(safe[0][0], len(stream) + 1, 6).tolist()}:
        partial.write_bytes(stream[:cut])
        recover(tmp_path)
        n_safe = max(n for size, n in safe if size <= cut)
        assert_tables_are_of(results[:n_safe], tmp_path)


def test_a_slow_acquisition_waits_for_no_second_frame(tmp_path, monkeypatch, assert_tables_are_of):
    every_10_s = count(0, 10 * 10**9)
    monkeypatch.setattr(tables, "monotonic_ns", lambda: next(every_10_s))
    results = example_results(6)
    sink, copy = TableSink(), tmp_path / "copy"
    copy.mkdir()
    sink.open(tmp_path, example_source())
    for n_written, result in enumerate(results, 1):
        sink.write(result)
        (copy / PARTIAL).write_bytes((tmp_path / PARTIAL).read_bytes())
        recover(copy)
        assert_tables_are_of(results[:n_written], copy)
    sink.close()
