"""The page of a run: what is on it, and that nothing gets into it that would be more than text."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import run_pages
from PIL import Image

from streamtrack.config import RunConfig
from streamtrack.session import Session
from streamtrack.sinks.contrast import stretch
from streamtrack.sinks.overview_summary import PointSample
from streamtrack.sinks.page import ReportSink
from streamtrack.sinks.page.charts import Scale, Series, chart
from streamtrack.sinks.page.gathered import MOST_BINS, Curves
from streamtrack.sinks.page.motion import confirmed, displacements, fitted, mean_square_displacement
from streamtrack.sinks.page.pictures import MOVIE_FRAMES, MOVIE_PX, shrink, still
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import Stream

EMPTY = {"meta", "img", "source", "br"}


class Read(HTMLParser):
    """A page's elements and text; fails where tags do not match."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.words, self._open = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == [], "not closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def image_of(uri):
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(data)))


def test_all_that_was_asked_for_is_on_it(tmp_path):
    page = Read(run_pages.write(tmp_path, told=run_pages.report()))
    for title in (
        *("Overview", "Frame 30", "Denoised", "Tracks over the projection", "Movie", "Particles"),
        *("Intensity of particles", "Track lengths", "Steps from frame to frame", "Mean square displacement"),
        *("Scores", "Time per frame", "What was lost", "Settings and versions", "Remarks"),
    ):
        assert title in page.text
    assert "nothing to show" not in page.text
    assert "incomplete" in page.text
    assert "2 frames lost" in page.text
    assert '"threshold": 0.5' in page.text
    assert "5 to 6" in page.text
    assert "D = " in page.text
    assert "µm²/s" in page.text


def test_nothing_on_it_is_more_than_text(tmp_path):
    page = Read(run_pages.write(tmp_path, name=run_pages.HOSTILE, told=run_pages.report(error=run_pages.HOSTILE)))
    assert page.text.count(run_pages.HOSTILE) == 6  # title, heading, error, cause and its frames, remark
    assert page.all("script") == []
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "data:").startswith("data:"), tag
    assert any("default-src 'none'" in each.get("content", "") for each in page.all("meta"))
    assert "url(" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_movie_is_of_the_middle_and_moves(tmp_path):
    page = Read(run_pages.write(tmp_path, n_frames=120))
    (movie,) = page.all("img")
    assert f"movie of frames {60 - MOVIE_FRAMES // 2} to" in movie["alt"]
    moving, standing = image_of(movie["src"]), image_of(page.all("source")[0]["srcset"])
    assert moving.n_frames == MOVIE_FRAMES
    assert getattr(standing, "n_frames", 1) == 1
    assert moving.size == (384, 256)
    first = np.asarray(moving.convert("RGB"), int)
    moving.seek(20)
    assert np.abs(np.asarray(moving.convert("RGB"), int) - first).mean() > 1


def test_a_run_that_ends_before_the_middle_shows_its_beginning(tmp_path):
    sink = ReportSink()
    sink.open(tmp_path, example_source(n_frames=1000))
    for result in example_results(20):
        sink.write(result)
    sink.close()
    assert "frames 0 to 19" in Read(tmp_path / "report.html").text


def test_it_is_there_before_the_report_is_and_says_so(tmp_path):
    page = Read(run_pages.write(tmp_path))
    assert "had not come to its end" in page.text
    assert "What was lost" not in page.text


def test_of_several_streams_the_first_is_shown(tmp_path):
    streams = (Stream(0, 0), Stream(0, 1))
    sink = ReportSink()
    sink.open(tmp_path, replace(example_source(n_frames=20), streams=streams))
    for result in example_results(10):
        for stream in streams:
            sink.write(replace(result, frame=replace(result.frame, stream=stream)))
    sink.close()
    assert sum(sink._gathered.scores) == 10 * len(example_results(1)[0].detections)
    assert "one stream of 2" in Read(tmp_path / "report.html").text


def run(folder, **sinks):
    source = {"kind": "sim", "scenario": "vesicle", "frames": 12, "size": 64, "snr": 7}
    tables = {"source": source, "engine": {"kind": "denodet", "threads": 1}, "sinks": [{"kind": "tables"}]}
    return Session(RunConfig.model_validate(tables), folder, sinks=sinks).run()


def test_a_run_tells_it_how_it_ended(tmp_path):
    report = run(tmp_path, report=ReportSink())
    page = Read(tmp_path / "report.html")
    assert report["status"] == "completed"
    assert "No frame was lost." in page.text
    assert report["started"] in page.text
    assert "sim:vesicle" in page.text


def test_a_sink_that_fails_when_it_is_told_is_named(tmp_path):
    class Deaf(ReportSink):
        def tell(self, report):
            raise ValueError("not now")

    report = run(tmp_path, report=Deaf())
    assert report["status"] == "completed"
    assert "not now" in report["outputs"]["sinks"]["report"]["error"]


@pytest.mark.parametrize("n", [1, 2 * MOST_BINS - 1, 2 * MOST_BINS, 2 * MOST_BINS + 1, 10_007])
def test_curves_of_any_length_are_means_in_bounded_memory(n):
    curves = Curves(("t", "value"))
    for t in range(n):
        curves.add((t, np.nan if t % 2 else 3.0 * t))
    means = curves.means()
    assert len(means["t"]) <= 2 * MOST_BINS
    assert means["t"][0] == pytest.approx(0, abs=n / MOST_BINS)
    even = np.isfinite(means["value"])
    np.testing.assert_allclose(means["value"][even], 3 * means["t"][even], atol=3 * n / MOST_BINS + 1e-9)


def walk(n_tracks=200, n_frames=60, diffusion=0.5, error=0.0, seed=0, drift=0.0):
    """Points of confirmed tracks that diffuse, px^2/frame, with gaps."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(drift, np.sqrt(2 * diffusion), (n_frames, n_tracks, 2))
    places = np.cumsum(steps, 0) + rng.normal(0, error, (n_frames, n_tracks, 2)) + 100
    frame, particle = np.indices((n_frames, n_tracks))
    kept = rng.uniform(size=frame.shape) < 0.9
    y, x = (places[..., axis][kept].astype(np.float32) for axis in (0, 1))
    return PointSample(frame[kept], particle[kept], np.full(kept.sum(), 0.99, np.float32), y, x)


def test_the_fit_finds_the_diffusion_that_is_there():
    fit = fitted(mean_square_displacement(confirmed(walk(diffusion=0.5, error=0.7))))
    assert fit.diffusion == pytest.approx(0.5, rel=0.05)
    assert fit.offset == pytest.approx(4 * 0.7**2, rel=0.15)
    assert fit.alpha == pytest.approx(1, abs=0.06)


def test_directed_motion_has_an_exponent_of_two():
    msd = mean_square_displacement(confirmed(walk(diffusion=1e-4, drift=1.0)))
    np.testing.assert_allclose(msd.msd, 2 * msd.lag**2, rtol=0.02)
    assert fitted(msd).alpha > 1.5


def test_displacements_pass_over_gaps_and_never_from_track_to_track():
    frame, particle = np.array([0, 1, 3, 4, 0, 1]), np.array([1, 1, 1, 1, 2, 2])
    x = np.array([0, 1, 5, 9, 100, 108], np.float32)
    points = confirmed(PointSample(frame, particle, np.ones(6, np.float32), np.zeros(6, np.float32), x))
    assert displacements(points, 1).tolist() == [1, 4, 8]
    assert displacements(points, 2).tolist() == [4]
    assert displacements(points, 5).tolist() == []


def test_tracks_that_were_never_confirmed_count_for_nothing():
    points = walk(n_tracks=3)
    assert len(confirmed(replace(points, existence=np.full(len(points), 0.5, np.float32)))) == 0
    assert fitted(mean_square_displacement(confirmed(PointSample.none()))) is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 3), (-5, 1e6), (1e-9, 2e-9)])
def test_ticks_are_round_few_and_within(low, high):
    ticks = Scale(low, high, 0, 100).ticks()
    assert 1 <= len(ticks) <= 12
    assert all(-1e-6 <= Scale(low, high, 0, 100)(tick) <= 100 + 1e-6 for tick in ticks)


def test_a_chart_of_nothing_says_so_and_leaves_out_what_is_no_number():
    nothing = np.array([np.nan])
    assert "nothing to show" in chart("A", [Series(nothing, nothing)], "x", "y")
    drawn = chart("A<b>", [Series(np.arange(4.0), np.array([1, np.nan, np.inf, 2]))], "x", "y", log_y=True)
    assert "nan" not in drawn
    assert "A&lt;b&gt;" in drawn
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    assert len(points.split()) == 2


def test_shrinking_keeps_places():
    image = np.zeros((1000, 801), np.uint16)
    image[600:603, 300:303] = 900
    small, n = shrink(image, MOVIE_PX)
    assert n == 3
    assert small.shape == (333, 267)
    assert small[200, 100] == 900


def test_a_strip_shrinks_to_a_line():
    assert shrink(np.ones((32, 20_000), np.uint16), MOVIE_PX)[0].shape == (1, 625)


@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e30])
def test_what_is_white_does_not_depend_on_the_unit(unit):
    image = np.linspace(1, 2, 10_000).reshape(100, 100).astype(np.float32) * np.float32(unit)
    low, high = stretch(image)
    assert low == pytest.approx(1.01 * unit)
    assert high == pytest.approx(1.998 * unit)


@pytest.mark.parametrize("value", [0.0, 100.0, 1e30, np.nan])
def test_an_image_of_one_value_is_black(value):
    low, high = stretch(np.full((32, 32), value, np.float32))
    assert high > low


def test_noise_that_is_left_in_a_denoised_frame_does_not_shine():
    noise = np.random.default_rng(0).normal(100, 0.01, (64, 64)).astype(np.float32)
    shown = re.search(r'base64,([^"]*)', still(noise, "", None, "denoised", least_span=10.0))[1]
    assert np.asarray(Image.open(BytesIO(base64.b64decode(shown))).convert("L")).max() < 5
