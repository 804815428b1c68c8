import warnings
from collections import Counter
from dataclasses import replace
from shutil import rmtree

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.image import imread

from streamtrack.errors import SinkError
from streamtrack.sinks import overview_summary
from streamtrack.sinks.overview import OVERVIEW, OverviewSink
from streamtrack.sinks.overview_figure import draw
from streamtrack.sinks.overview_summary import PointSample
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import Revision, TrackUpdate


def written(folder, results, source=None):
    """Return a sink that took these results as the loop gives them."""
    sink = OverviewSink()
    sink.open(folder, source or example_source())
    for result in results:
        wanted = sink.wants_denoised(result.frame.index)
        sink.write(result if wanted else replace(result, denoised=None))
    return sink


def run(folder, results, source=None):
    written(folder, results, source).close()


def summary_of(folder, results, source=None):
    sink = written(folder, results, source)
    return sink.summary()


def figure_of(folder, results, source=None):
    """Return what ``close`` would save; saving takes the time of a hundred frames."""
    return draw(summary_of(folder, results, source))


def said_at_once(results):
    """Return what a linker would have said that knew at once what it revised later."""
    tracks = {r.frame.index: (r.tracks.particle.copy(), r.tracks.existence.copy()) for r in results}
    for revised in (r.tracks.revised for r in results):
        for row, frame in enumerate(revised.frame_index.tolist()):
            if frame in tracks:
                particle, existence = tracks[frame]
                particle[revised.detection[row]] = revised.particle[row]
                existence[revised.detection[row]] = revised.existence[row]
    none = Revision.none()
    final = {
        frame: TrackUpdate(particle, existence, *3 * [none.particle], len(particle), frame)
        for frame, (particle, existence) in tracks.items()
    }
    return [replace(r, tracks=replace(final[r.frame.index], ended=r.tracks.ended)) for r in results]


def late(results, lag):
    """Return the same with every decision on a random one of detections, `lag` frames or fewer later."""
    rng = np.random.default_rng(lag)
    changed = []
    for place, r in enumerate(results):
        frame = rng.integers(max(place - lag, 0), place, 5 if place else 0)
        frame = np.array([results[f].frame.index for f in frame], np.int64)
        rows = rng.integers(0, 8, len(frame)), rng.integers(-1, 8, len(frame)), rng.choice([0.2, 0.99], len(frame))
        revised = Revision(frame, *rows[:2], rows[2].astype(np.float32))
        final_index = results[place - lag].frame.index if place >= lag else -1
        changed.append(replace(r, tracks=replace(r.tracks, revised=revised, final_index=final_index)))
    return changed


def in_generations(results):
    """Return the same with new particles at frames 40 and 80, where those before end."""

    def renamed(particle, frame):
        return np.where(particle < 0, -1, particle + 10 * (frame // 40))

    changed = []
    for r in results:
        t, frame = r.tracks, r.frame.index
        revised = replace(t.revised, particle=renamed(t.revised.particle, t.revised.frame_index))
        ended = np.arange(8) + 10 * (frame // 40 - 1) if frame in (40, 80) else t.ended
        tracks = replace(t, particle=renamed(t.particle, frame), revised=revised, ended=ended)
        changed.append(replace(r, tracks=tracks))
    return changed


def panels(figure):
    """Return the axes by the first word of their bold titles."""
    return {axes.texts[0].get_text().split()[0]: axes for axes in figure.axes}


def only(axes, kind):
    (found,) = [c for c in axes.collections if isinstance(c, kind)]
    return found


def test_the_picture_is_a_picture_and_comes_alone(tmp_path):
    run(tmp_path, example_results())
    assert [path.name for path in tmp_path.iterdir()] == [OVERVIEW]
    height, width, _ = imread(tmp_path / OVERVIEW).shape
    assert width > 1500
    assert height > 700


def test_the_middle_frame_is_shown_with_its_detections_in_place(tmp_path):
    results = example_results()
    figure = figure_of(tmp_path, results)
    shown = panels(figure)
    axes, middle = shown["Frame"], results[6]
    assert axes.texts[0].get_text() == "Frame 6"
    assert axes.get_title(loc="left") == "8 detections"
    np.testing.assert_array_equal(axes.images[0].get_array(), middle.frame.pixels)
    assert axes.images[0].get_extent() == [-0.5, 95.5, 63.5, -0.5]
    expected = np.column_stack([middle.detections.x, middle.detections.y])
    np.testing.assert_allclose(only(axes, EllipseCollection).get_offsets(), expected)
    np.testing.assert_array_equal(shown["Denoised"].images[0].get_array(), middle.denoised)


def test_tracks_lie_over_the_maximum_projection(tmp_path):
    results = example_results()
    figure = figure_of(tmp_path, results)
    axes = panels(figure)["Maximum"]
    projection = np.max([r.frame.pixels for r in results], axis=0)
    np.testing.assert_array_equal(axes.images[0].get_array(), projection)
    lines = only(axes, LineCollection)
    assert len(lines.get_segments()) == 6  # particle 0 was never confirmed
    first = [(r.detections.x[1], r.detections.y[1]) for r in results]
    np.testing.assert_allclose(lines.get_segments()[0], first)
    assert len({tuple(colour) for colour in lines.get_colors()}) == 6
    assert axes.get_title(loc="left") == "6 tracks"


def test_a_large_frame_is_shown_in_part_around_its_detections(tmp_path):
    (result,) = example_results(1, (900, 1400), n_particles=5)
    detections = replace(result.detections, y=np.full(5, 890.0, np.float32), x=np.full(5, 700.0, np.float32))
    figure = figure_of(tmp_path, [replace(result, detections=detections)], example_source((900, 1400), n_frames=1))
    shown = panels(figure)
    left, right, bottom, top = shown["Frame"].images[0].get_extent()
    assert (right - left, bottom - top) == (512, 512)
    assert bottom == 899.5
    assert (left + right) / 2 == 699.5
    np.testing.assert_array_equal(shown["Frame"].images[0].get_array(), result.frame.pixels[388:, 444:956])
    assert "512 x 512 px of it" in shown["Frame"].get_title(loc="left")
    assert len(shown["Maximum"].patches) == 1


@pytest.mark.parametrize(
    ("n_frames", "asked", "wanted"),
    [
        (10, range(10), [5]),
        (1, range(1), [0]),
        (None, range(10), [0]),
        (None, range(3, 10), [3]),
        (10, [0, 1, 2, 8, 9], [8]),
        (10, range(4), []),
        (10, range(100, 110), [100]),
    ],
    ids=["middle", "single", "open-ended", "first lost", "middle lost", "interrupted", "part of a movie"],
)
def test_exactly_one_denoised_image_is_asked_for(tmp_path, n_frames, asked, wanted):
    sink = OverviewSink()
    sink.open(tmp_path, example_source(n_frames=n_frames))
    assert [index for index in asked if sink.wants_denoised(index)] == wanted


def test_the_next_frame_is_shown_for_a_lost_one(tmp_path):
    figure = figure_of(tmp_path, [r for r in example_results() if r.frame.index not in (6, 7)])
    shown = panels(figure)
    assert shown["Frame"].texts[0].get_text() == "Frame 8"
    assert len(shown["Denoised"].images) == 1


def test_a_run_cut_short_shows_its_last_frame(tmp_path):
    figure = figure_of(tmp_path, example_results()[:4])
    shown = panels(figure)
    assert shown["Frame"].texts[0].get_text() == "Frame 3"
    assert not shown["Denoised"].images
    assert "not available" in shown["Denoised"].get_title(loc="left")


def test_a_frame_whose_result_was_dropped_on_the_way_is_replaced(tmp_path):
    sink = OverviewSink()
    sink.open(tmp_path, example_source())
    for result in example_results():
        if not sink.wants_denoised(result.frame.index):  # the one it wanted never arrives
            sink.write(replace(result, denoised=None))
    assert sink.summary().shown.frame.index in (5, 7)


@pytest.mark.parametrize(("n_frames", "n_particles"), [(0, 0), (1, 0), (1, 1), (3, 0)])
def test_what_is_missing_is_noted(tmp_path, n_frames, n_particles):
    figure = figure_of(tmp_path, example_results(n_frames, n_particles=n_particles), example_source(n_frames=n_frames))
    notes = [axes.get_title(loc="left") for axes in figure.axes]
    assert "no confirmed track" in notes
    assert notes.count("no frame was processed") == (0 if n_frames else 3)


def test_track_lengths_count_confirmed_tracks_once_ended_or_not(tmp_path):
    # Six confirmed tracks in each of three generations, of which the last has not ended; that none is confirmed in the
    # first two frames does not shorten them.
    results = in_generations(example_results(100))
    assert summary_of(tmp_path, results).lengths == Counter({40: 6 + 6, 20: 6})


@pytest.mark.parametrize("lag", [1, 2, 10, 50, 200])
def test_what_counts_is_what_the_linker_said_last(tmp_path, lag):
    kept = [r for r in example_results(100, (32, 32)) if r.frame.index not in (0, 31, 32, 70)]
    results = in_generations(late(kept, lag))
    one, other = summary_of(tmp_path, results), summary_of(tmp_path, said_at_once(results))
    assert one.lengths == other.lengths
    for name in PointSample.__slots__:
        np.testing.assert_array_equal(getattr(one.points, name), getattr(other.points, name))


def test_a_track_that_ends_unconfirmed_is_not_counted(tmp_path):
    results = example_results(2)
    results[1] = replace(results[1], tracks=replace(results[1].tracks, ended=np.arange(8)))
    assert summary_of(tmp_path, results).lengths.total() == 0


def test_memory_is_bounded_by_dropping_the_oldest_points(tmp_path, monkeypatch):
    monkeypatch.setattr(overview_summary, "_MAX_POINTS", 700)
    results = example_results(400)
    summary = summary_of(tmp_path, results)
    assert 700 <= len(summary.points) < 700 + 2 * 32 * 7
    assert summary.points.frame[-1] == 399
    assert summary.lengths == Counter({400: 6})
    assert summary.n_detections == 3200
    first = summary.points.frame[0]
    assert panels(draw(summary))["Maximum"].get_title(loc="left") == f"6 tracks since frame {first}"


def test_latency_medians_are_right(tmp_path):
    rng = np.random.default_rng(0)
    results, detect_ms = example_results(200), rng.lognormal(2, 0.3, 200)
    for i, ms in enumerate(detect_ms):
        stamps = results[i].stamps
        results[i] = replace(results[i], stamps=replace(stamps, detected=stamps.dequeued + int(ms * 1e6)))
    summary = summary_of(tmp_path, results)
    (legend,) = [axes.get_legend() for axes in draw(summary).axes if axes.get_legend()]
    named = dict(text.get_text().rsplit(": median ", 1) for text in legend.get_texts())
    assert float(named["detection"].removesuffix(" ms")) == pytest.approx(np.median(detect_ms), rel=0.05)
    assert len(summary.latency["whole"]) == 200


def test_stamps_that_make_no_sense_break_nothing(tmp_path):
    results = [replace(r, stamps=replace(r.stamps, detected=0)) for r in example_results(3)]
    run(tmp_path, results)
    assert (tmp_path / OVERVIEW).exists()


def test_the_projection_passes_over_nan(tmp_path):
    results = example_results(3, dtype="float32")
    pixels = [r.frame.pixels.copy() for r in results]
    pixels[0][3, 4] = pixels[1][5, 6] = np.nan
    results = [replace(r, frame=replace(r.frame, pixels=p)) for r, p in zip(results, pixels, strict=True)]
    np.testing.assert_array_equal(summary_of(tmp_path, results).projection, np.nanmax(pixels, axis=0))


def test_the_first_frame_is_not_changed_by_the_projection(tmp_path):
    results = example_results(5)
    before = results[0].frame.pixels.copy()
    summary_of(tmp_path, results)
    np.testing.assert_array_equal(results[0].frame.pixels, before)


@pytest.mark.parametrize("shape", [(32, 32), (64, 512), (512, 64), (32, 4096), (1024, 700)])
def test_panels_do_not_overlap_whatever_the_frames(tmp_path, shape):
    figure = figure_of(tmp_path, example_results(3, shape), example_source(shape, n_frames=3))
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for i, one in enumerate(boxes):
        assert one.width > 100
        assert one.height > 60
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_signs_that_the_font_lacks_and_dollars_do_no_harm(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path, example_results(2), replace(example_source(), name="細胞/$x_1$/µm"))


def test_the_scale_bar_is_as_long_as_it_says(tmp_path):
    figure = figure_of(tmp_path, example_results(2), replace(example_source(n_frames=2), pixel_size_um=0.065))
    axes = panels(figure)["Frame"]
    (bar,) = axes.lines
    assert axes.texts[-1].get_text() == "1 µm"
    assert np.ptp(bar.get_xdata()) == pytest.approx(1 / 0.065)


def test_a_folder_that_vanished_is_said_in_one_line(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    sink = OverviewSink()
    sink.open(folder, example_source())
    rmtree(folder)
    with pytest.raises(SinkError, match=r"cannot write .*overview\.png: .*; check that"):
        sink.close()


def test_frames_lost_in_between_stand_in_the_headline(tmp_path):
    results = example_results()
    assert "lost" not in figure_of(tmp_path, results).get_suptitle()
    kept = [result for result in results if result.frame.index not in (1, 2)]
    assert "(2 lost in between)" in figure_of(tmp_path, kept).get_suptitle()


def test_what_was_not_searched_is_veiled(tmp_path):
    source = replace(example_source(), details={"roi": "8:40,10:70"})
    figure = figure_of(tmp_path, example_results(4), source)
    frame, tracks = figure.axes[0], figure.axes[2]
    for axes in (frame, tracks):
        veil = axes.images[1].get_array()
        assert (veil[8:40, 10:70, 3] == 0).all()
        assert (veil[:8, :, 3] > 0.3).all()
        assert axes.images[1].get_extent() == axes.images[0].get_extent()
    assert "31% of the frame searched" in figure.get_suptitle()
    assert len(figure_of(tmp_path, example_results(4)).axes[0].images) == 1
    gone = replace(example_source(), details={"mask": str(tmp_path / "gone.npy")})
    assert len(figure_of(tmp_path, example_results(4), gone).axes[0].images) == 1


def test_a_movie_on_disk_shows_frames_per_second_and_a_camera_its_latency(tmp_path):
    disk = figure_of(tmp_path, example_results(4)).axes[4]
    assert disk.get_title(loc="left").endswith("frames per second")
    said = [text.get_text() for text in disk.get_legend().get_texts()]
    assert any(text.startswith("whole frame: median") for text in said)
    live = figure_of(tmp_path, example_results(4), replace(example_source(), live=True)).axes[4]
    assert live.get_title(loc="left") == "per frame, by stage"
    assert any("grab to decision, waiting included" in text.get_text() for text in live.get_legend().get_texts())
