"""What every engine has to do, as tests.

In the tests of a plug-in::

    class TestMyEngine(EngineTests):
        def make_engine(self):
            return MyEngine()
"""

import inspect
import json
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack.protocols import Engine, Remarking
from streamtrack.types import DENOISED, Column, Detections, Pixels

SHAPES = ((32, 32), (33, 47), (64, 96))
DTYPES = ("uint8", "uint16", "float32")
SPOTS = ((12.0, 14.3), (15.6, 50.0), (30.4, 80.2), (48.0, 20.7), (50.5, 60.5))
"""Centres (y, x), px, of the particles in `example_frame` that are inside its shape."""


def example_frame(
    shape: tuple[int, int] = (64, 96), dtype: str = "uint8", seed: int = 0, *, sigma_px: float = 1.2
) -> Pixels:
    """Return a frame of bright Gaussian spots (60 counts) at `SPOTS` on Poisson noise of mean 16.

    Read-only, so that an engine cannot write into it unseen.
    """
    y, x = np.indices(shape)
    signal = sum(60 * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / (2 * sigma_px**2)) for spot_y, spot_x in SPOTS)
    pixels: Pixels = np.random.default_rng(seed).poisson(16 + signal).clip(0, 255).astype(dtype)
    pixels.flags.writeable = False
    return pixels


def example_movie(dtype: str = "uint16", *, sigma_px: float = 1.2) -> list[Pixels]:
    """Return three frames as from `example_frame`, each with noise of its own."""
    return [example_frame(dtype=dtype, seed=seed, sigma_px=sigma_px) for seed in range(3)]


def assert_same_bits(one: Detections, other: Detections) -> None:
    """Compare detections column by column."""
    assert columns(one).keys() == columns(other).keys()
    for name, column in columns(other).items():
        np.testing.assert_array_equal(column, columns(one)[name], err_msg=name)


def columns(detections: Detections) -> dict[str, NDArray[np.float32]]:
    """Return the columns of detections by name."""
    return {name: getattr(detections, name) for name in ("y", "x", "score", "mass", "sigma")} | dict(detections.extra)


def _copy(detections: Detections) -> Detections:
    """Return detections in arrays of their own."""
    y, x, score, mass, sigma, *_ = (column.copy() for column in columns(detections).values())
    extra = {name: column.copy() for name, column in detections.extra.items()}
    return Detections(y, x, score, mass, sigma, extra)


class EngineTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.Engine`."""

    sigma_px: float = 1.2
    """Of the spots that the engine is shown; larger for one that knows no small ones."""

    denoises: bool = True
    """Whether it gives the denoised frame, or another image; one that cannot gives None, also when asked."""

    finds: bool = True
    """Whether it finds particles; one that only counts them has nothing but values of the frame."""

    def frame(self, shape: tuple[int, int] = (64, 96), dtype: str = "uint8", seed: int = 0) -> Pixels:
        """Return an `example_frame` with spots that the engine knows."""
        return example_frame(shape, dtype, seed, sigma_px=self.sigma_px)

    def movie(self, dtype: str = "uint16") -> list[Pixels]:
        """Return an `example_movie` with such spots."""
        return example_movie(dtype, sigma_px=self.sigma_px)

    @staticmethod
    def in_counts(engine: Engine) -> bool:
        """Return whether the engine's image, where it gives one, is the denoised frame."""
        return str(getattr(engine, "image", DENOISED)) == DENOISED

    def checked(self, denoised: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """Return the denoised frame that was asked for; it is there exactly if the engine `denoises`."""
        assert (denoised is not None) == self.denoises
        return denoised

    def make_engine(self) -> Engine:
        """Return a new engine, not prepared yet, that knows spots such as those in `example_frame`."""
        raise NotImplementedError("override make_engine: say how your engine is made")

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        """Give an engine to a test and close it afterwards."""
        with closing(self.make_engine()) as engine:
            yield engine

    def test_settings_are_annotated_keywords(self, engine: Engine) -> None:
        """A plug-in's settings come from its signature, and all have defaults."""
        for setting in inspect.signature(type(engine)).parameters.values():
            assert setting.kind is setting.KEYWORD_ONLY, f"{setting.name} is not keyword-only"
            assert setting.annotation is not setting.empty, f"{setting.name} has no annotation"
            assert setting.default is not setting.empty, f"{setting.name} has no default"

    def test_info_goes_into_the_report(self, engine: Engine) -> None:
        """Back end, weights and versions as JSON, also once the engine is closed."""
        before = dict(engine.info)
        engine.close()
        assert before
        assert json.loads(json.dumps(dict(engine.info), allow_nan=False)) == json.loads(json.dumps(before))

    def test_remarks_are_of_the_movie_prepared_for_last(self, engine: Engine) -> None:
        """Plain lines for the summary, and none of an earlier movie."""
        if not isinstance(engine, Remarking):
            pytest.skip("has none")
        engine.prepare((64, 96), "uint8")
        before = list(engine.remarks())
        engine.detect(self.frame(), denoise=False)
        assert all(isinstance(line, str) and line and "\n" not in line for line in engine.remarks())
        engine.prepare((64, 96), "uint8")
        assert list(engine.remarks()) == before

    @pytest.mark.parametrize("shape", SHAPES)
    def test_detections_are_as_documented(self, engine: Engine, shape: tuple[int, int]) -> None:
        """Four finite float32 columns of one length, best score first, positions inside the frame."""
        for dtype in DTYPES:
            engine.prepare(shape, dtype)
            found, _ = engine.detect(self.frame(shape, dtype), denoise=False)
            assert (len(found) > 0) == self.finds, dtype
            for name, column in columns(found).items():
                assert column.shape == (len(found),), (dtype, name)
                assert column.dtype == np.float32, (dtype, name)
                assert name in found.extra or np.isfinite(column).all(), (dtype, name)
            assert np.all((found.score > 0) & (found.score <= 1)), dtype
            assert np.all(np.diff(found.score) <= 0), dtype
            for position, size in zip((found.y, found.x), shape, strict=True):
                assert np.all((position >= -0.5) & (position <= size - 0.5)), dtype

    def test_what_it_measures_is_declared(self, engine: Engine) -> None:
        """``columns`` and ``frame_columns``, where it has them, name exactly what comes with each frame."""
        engine.prepare((64, 96), "uint8")
        for pixels in (self.frame(), np.zeros((64, 96), np.uint8)):
            found, _ = engine.detect(pixels, denoise=False)
            for said, given in (("columns", found.extra), ("frame_columns", found.frame_values)):
                declared: tuple[Column, ...] = getattr(engine, said, ())
                assert [column.name for column in declared] == list(given), said

    def test_bright_spots_are_found_where_they_are(self, engine: Engine) -> None:
        """Each once and to half a pixel, with a mass, and nothing else."""
        if not self.finds:
            pytest.skip("finds none")
        for dtype in DTYPES:
            engine.prepare((64, 96), dtype)
            found, _ = engine.detect(self.frame(dtype=dtype), denoise=False)
            assert len(found) == len(SPOTS), dtype
            places = zip((found.y, found.x), np.array(SPOTS).T, strict=True)
            distance = np.hypot(*(np.subtract.outer(*pair) for pair in places))
            assert distance.min(0).max() < 0.5, dtype
            assert found.mass.min() > 0, dtype

    def test_denoised_frame_is_in_counts(self, engine: Engine) -> None:
        """Float32 with the frame's shape and mean, spots and all, and only if it is asked for."""
        for dtype in DTYPES:
            pixels = self.frame((33, 47), dtype)
            engine.prepare((33, 47), dtype)
            _, denoised = engine.detect(pixels, denoise=True)
            _, nothing = engine.detect(pixels, denoise=False)
            assert nothing is None, dtype
            if (image := self.checked(denoised)) is not None:
                assert image.shape == pixels.shape, dtype
                assert image.dtype == np.float32, dtype
                mean = pixels.mean(dtype=np.float64)
                assert image.mean() == pytest.approx(mean, rel=0.05) or not self.in_counts(engine), dtype

    def test_the_same_frames_give_the_same_bits(self, engine: Engine) -> None:
        """Again and again, denoised or not; results belong to the caller and stay as they were."""
        engine.prepare((64, 96), "uint16")
        first = [engine.detect(pixels, denoise=True) for pixels in self.movie()]
        kept = [
            (_copy(found), None if (given := self.checked(image)) is None else given.copy()) for found, image in first
        ]
        for denoised in ((False, True, False), (True, False, True)):
            engine.reset()
            for pixels, denoise, (wanted, wanted_image) in zip(self.movie(), denoised, kept, strict=True):
                found, image = engine.detect(pixels, denoise=denoise)
                assert_same_bits(wanted, found)
                if denoise:
                    np.testing.assert_array_equal(image, wanted_image)
        for (found, image), (wanted, wanted_image) in zip(first, kept, strict=True):
            assert_same_bits(wanted, found)
            np.testing.assert_array_equal(image, wanted_image)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_frames_of_another_movie_leave_no_trace(self, engine: Engine, dtype: str) -> None:
        """After reset, or prepared anew, the first frame is as it was on the new engine, and so is the next."""
        engine.prepare((64, 96), dtype)
        movie = self.movie(dtype)
        wanted = [engine.detect(pixels, denoise=False)[0] for pixels in movie[:2]]
        for forget in (engine.reset, lambda: engine.prepare((64, 96), dtype)):
            engine.detect(movie[2], denoise=False)
            forget()
            for pixels, found in zip(movie, wanted, strict=False):
                assert_same_bits(found, engine.detect(pixels, denoise=False)[0])

    def test_refused_frames_leave_no_trace(self, engine: Engine) -> None:
        """The next one is taken as if they had not come."""
        engine.prepare((64, 96), "uint16")
        movie = self.movie()
        wanted = [engine.detect(pixels, denoise=False)[0] for pixels in movie][-1]
        engine.reset()
        for pixels in movie[:2]:
            engine.detect(pixels, denoise=False)
        for refused in (self.frame((33, 47), "uint16"), self.frame(dtype="uint8")):
            with pytest.raises(EngineError):
                engine.detect(refused, denoise=False)
        assert_same_bits(wanted, engine.detect(movie[2], denoise=False)[0])

    def test_reset_is_always_possible(self, engine: Engine) -> None:
        """Also before the first frame, and once the engine is closed."""
        engine.reset()
        engine.prepare((33, 47), "uint8")
        engine.reset()
        engine.close()
        engine.reset()

    @pytest.mark.parametrize("level", [0, 255])
    def test_a_frame_without_contrast_is_empty(self, engine: Engine, level: int) -> None:
        """Lens cap on, or saturated: no detections, and no NaN, also where there were some in the frame before."""
        for dtype in DTYPES:
            engine.prepare((33, 47), dtype)
            for _ in range(2):
                found, denoised = engine.detect(np.full((33, 47), level, dtype), denoise=True)
                assert len(found) == 0, dtype
                if (image := self.checked(denoised)) is not None:
                    shown = level if self.in_counts(engine) else 0
                    np.testing.assert_allclose(image, shown, atol=0.01, err_msg=dtype)
                engine.detect(self.frame((33, 47), dtype), denoise=False)

    def test_counts_scale_with_the_camera(self, engine: Engine) -> None:
        """Gain and offset of the camera change mass and denoised frame as they should, and nothing else."""
        pixels = self.frame(dtype="uint16")
        engine.prepare(pixels.shape, "uint16")
        found, denoised = engine.detect(pixels, denoise=True)
        engine.reset()
        scaled, scaled_image = engine.detect((pixels * 100 + 1000).astype(np.uint16), denoise=True)
        assert len(found) == len(scaled)
        np.testing.assert_allclose(scaled.y, found.y, atol=0.01)
        np.testing.assert_allclose(scaled.x, found.x, atol=0.01)
        np.testing.assert_allclose(scaled.score, found.score, atol=0.01)
        np.testing.assert_allclose(scaled.mass, 100 * found.mass, rtol=0.01)
        if (image := self.checked(denoised)) is not None:
            assert scaled_image is not None
            shown = image * 100 + 1000 if self.in_counts(engine) else image
            np.testing.assert_allclose(scaled_image, shown, rtol=0.01, atol=1e-5)

    def test_prepares_anew_for_another_movie(self, engine: Engine) -> None:
        """One engine serves one shape and dtype after another."""
        for dtype, shape in zip(DTYPES, SHAPES, strict=True):
            engine.prepare(shape, dtype)
            _, denoised = engine.detect(self.frame(shape, dtype), denoise=True)
            if (image := self.checked(denoised)) is not None:
                assert image.shape == shape

    def test_other_frames_than_prepared_are_refused(self, engine: Engine) -> None:
        """Unprepared, other shape, other dtype: an EngineError, never a wrong result."""
        with pytest.raises(EngineError):
            engine.detect(self.frame((33, 47)), denoise=False)
        engine.prepare((33, 47), "uint8")
        for shape, dtype in (((47, 33), "uint8"), ((33, 47), "uint16")):
            with pytest.raises(EngineError):
                engine.detect(self.frame(shape, dtype), denoise=False)

    @pytest.mark.parametrize(("shape", "dtype"), [((31, 64), "uint8"), ((64, 31), "uint8"), ((64, 64), "complex64")])
    def test_impossible_frames_are_refused(self, engine: Engine, shape: tuple[int, int], dtype: str) -> None:
        """Below 32 px, or of a dtype that is no image."""
        with pytest.raises(EngineError):
            engine.prepare(shape, dtype)

    def test_close_twice(self, engine: Engine) -> None:
        """Also after use; a closed engine refuses frames."""
        engine.prepare((33, 47), "uint8")
        engine.close()
        engine.close()
        with pytest.raises(EngineError):
            engine.detect(self.frame((33, 47)), denoise=False)
