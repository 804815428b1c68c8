"""The movie of denoised frames, and its pyramid."""

from dataclasses import replace

import numpy as np
import pytest
import yaozarrs
import zarr

from streamtrack.sinks import raw_movie
from streamtrack.sinks.denoised import DenoisedSink
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import LostFrame, Stream
from streamtrack_drivers.zarr_movie import ZarrSource

SHAPE = (301, 600)


def with_denoised(results, shape):
    images = np.random.default_rng(0).normal(100, 5, (len(results), *shape)).astype(np.float32)
    return [replace(result, denoised=image) for result, image in zip(results, images, strict=True)]


@pytest.fixture(scope="module")
def results():
    return with_denoised(example_results(6, SHAPE, n_particles=2), SHAPE)


def write(folder, results, source, *, close=True):
    sink = DenoisedSink()
    sink.open(folder, source)
    for result in results:
        assert sink.wants_denoised(result.frame.index)
        sink.write(result)
    if close:
        sink.close()
    return sink


def test_each_level_is_the_movie_with_pixels_twice_as_large(tmp_path, results):
    write(tmp_path, results, replace(example_source(SHAPE), origin_um=(7.0, -3.0)))
    group = zarr.open_group(tmp_path / "denoised.ome.zarr", mode="r")
    levels = [group[name][:] for name in "012"]
    assert "3" not in group
    assert [level.shape for level in levels] == [(6, 301, 600), (6, 150, 300), (6, 75, 150)]
    assert all(level.dtype == np.float32 for level in levels)
    images = np.stack([result.denoised for result in results])
    np.testing.assert_array_equal(levels[0], images)
    np.testing.assert_allclose(levels[1], images[:, :300].reshape(6, 150, 2, 300, 2).mean((2, 4)), rtol=1e-5)
    np.testing.assert_allclose(levels[2], images[:, :300].reshape(6, 75, 4, 150, 4).mean((2, 4)), rtol=1e-5)


def test_levels_lie_over_each_other(tmp_path, results):
    """The centre of a coarse pixel is that of the fine ones that it is made of."""
    write(tmp_path, results, replace(example_source(SHAPE), origin_um=(7.0, -3.0)))
    group = zarr.open_group(tmp_path / "denoised.ome.zarr", mode="r")
    (multiscale,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "y", "x"]
    assert [axis.get("unit") for axis in multiscale["axes"]] == ["second", "micrometer", "micrometer"]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = (list(each.values())[1] for each in dataset["coordinateTransformations"])
        assert scale == pytest.approx([0.05, 0.1 * 2**level, 0.1 * 2**level])
        assert translation == pytest.approx([0, 7 + 0.05 * (2**level - 1), -3 + 0.05 * (2**level - 1)])
        with_places = ZarrSource(path=tmp_path / "denoised.ome.zarr", level=level).info
        assert with_places.pixel_size_um == pytest.approx(0.1 * 2**level)


def test_it_is_a_valid_ome_zarr_at_every_moment(tmp_path, results, monkeypatch):
    monkeypatch.setattr(raw_movie, "PUBLISH_NS", 0)
    sink = DenoisedSink()
    sink.open(tmp_path, example_source(SHAPE))
    for n, result in enumerate(results, 1):
        sink.write(result)
        yaozarrs.validate_zarr_store(tmp_path / "denoised.ome.zarr")
        group = zarr.open_group(tmp_path / "denoised.ome.zarr", mode="r")
        assert {group[name].shape[0] for name in "012"} == {n}
    sink.close()
    yaozarrs.validate_zarr_store(tmp_path / "denoised.ome.zarr")


def test_no_level_promises_what_a_killed_run_did_not_write(tmp_path, results):
    sink = write(tmp_path, results[:1], example_source(SHAPE), close=False)
    for result in results[1:4]:
        sink.write(result)  # within the second before the kill
    group = zarr.open_group(tmp_path / "denoised.ome.zarr", mode="r")
    for name in "012":
        assert group[name].shape[0] == 1
        assert group[name][0].mean() == pytest.approx(100, abs=1)
    assert group.attrs["streamtrack"]["complete"] is False


def test_frames_without_a_denoised_image_leave_gaps(tmp_path, results):
    gone = [replace(result, denoised=None) if result.frame.index in (1, 2) else result for result in results]
    write(tmp_path, gone, example_source(SHAPE))
    frames = list(ZarrSource(path=tmp_path / "denoised.ome.zarr").frames())
    assert [frame.index for frame in frames if isinstance(frame, LostFrame)] == [1, 2]


def test_small_frames_have_one_level(tmp_path):
    write(tmp_path, with_denoised(example_results(2, (64, 96)), (64, 96)), example_source((64, 96)))
    group = zarr.open_group(tmp_path / "denoised.ome.zarr", mode="r")
    assert sorted(group) == ["0", "time_s"]


def test_each_stream_has_its_movie(tmp_path, results):
    streams = (Stream(0, 0, origin_um=(1.0, 2.0)), Stream(1, 0, None, origin_um=(5.0, 6.0)))
    source = replace(example_source(SHAPE), streams=streams)
    write(
        tmp_path,
        [replace(r, frame=replace(r.frame, stream=stream)) for r in results[:3] for stream in streams],
        source,
    )
    assert sorted(path.name for path in tmp_path.rglob("*.ome.zarr")) == ["p0_c0_z0.ome.zarr", "p1_c0_zmax.ome.zarr"]
    info = ZarrSource(path=tmp_path / "denoised_streams" / "p1_c0_zmax.ome.zarr").info
    assert (info.n_frames, info.origin_um) == (3, (5.0, 6.0))
