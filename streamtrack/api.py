"""What a notebook or a script calls: `track`, `detect`, `simulate`, `read`, and `Tracker` for a loop of one's own.

Settings are those of a run's TOML file: a keyword is a table, or the name of a plug-in alone.
"""

import hashlib
import inspect
import math
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from numbers import Integral, Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from streamtrack.arrays import ArraySource, announced, frame_dtype, refuse_masked
from streamtrack.clock import monotonic_ns
from streamtrack.columns import measured_by
from streamtrack.config import PluginConfig, RunConfig, engine_kind, validate
from streamtrack.errors import ConfigError, StreamtrackError, foreign_errors
from streamtrack.in_python import said_in_python
from streamtrack.progress import FrameProgress
from streamtrack.protocols import Engine, FrameSource, HasThreshold, Linker
from streamtrack.registry import Group, build, load, source_from_text
from streamtrack.results import KeptOverview, Results
from streamtrack.session import Session
from streamtrack.sinks.files import replacing, sink_errors
from streamtrack.step import Step
from streamtrack.types import Frame, FrameResult, SourceInfo

if TYPE_CHECKING:
    import pandas as pd

    from streamtrack.simulation import ScenarioName

DEFAULT_KIND = {"engine": "denodet", "linker": "imm"}
MAX_INDEX = 2**50
"""A year of frames at a MHz."""


def track(
    movie: Any,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Results:
    """Track the particles of a movie.

    Parameters
    ----------
    movie
        A path (zarr, OME-Zarr, TIFF, or what an installed source opens) or ``"sim:receptor?snr=4"``; an array of shape
        (T, H, W), numpy, dask or zarr; any iterable of images (H, W); or a source of frames, such as a `Feed`.
    out
        Folder for the results, which are those of ``streamtrack track``. Without it nothing is left on the disk when
        the returned `Results` are gone.
    overwrite
        Whether results in ``out`` may be replaced.
    resume
        Whether to go on with the run that was killed or stopped in ``out``, if there is one. What comes out is what
        one run would have given.
    progress
        Whether to show a progress bar, on stderr.
    **settings
        Tables of a run's TOML file: ``engine={"threshold": 0.5}``, ``linker="trackpy"``, ``source={"channel": 0}``,
        ``measures=["intensity"]``, ``sinks=[...]``, ``triggers=[...]``. ``pixel_size_um`` and ``frame_interval_s`` go
        before what the movie says of them. ``roi`` and ``mask`` say where to look for particles; a mask may be an array
        (H, W), which is then kept in ``out`` as ``mask-*.npy``.

    Returns
    -------
    Results
        Tables, report and picture. Lost frames are said as a warning, and a calibration that the movie contradicts by
        more than 1 %; the report has which, and why.

    Raises
    ------
    StreamtrackError
        If a setting is wrong, or the run fails.
    """
    with ExitStack() as stack:
        stack.enter_context(said_in_python())
        config, source = _configured(movie, _with_mask_file(settings, None if out is None else _folder(out), stack))
        if source is not None:
            stack.enter_context(closing(source))
        if out is None:
            if resume:
                raise ConfigError("resume = True: say in which folder the run was, as out")
            return _track_in_memory(config, source, progress)
        report = _run(Session(config, _folder(out), overwrite=overwrite, source=source, resume=resume), progress)
        return _checked(Results(_folder(out)), report)


def _with_mask_file(settings: Mapping[str, Any], out: Path | None, stack: ExitStack) -> Mapping[str, Any]:
    """Return the settings with the file of a mask that was given as an array, under a name of its content's own."""
    mask = settings.get("mask")
    if not (hasattr(mask, "__array__") or isinstance(mask, list)):
        return settings
    with foreign_errors(ConfigError, "mask is no array"):
        array = np.asarray(refuse_masked(mask))
    if array.dtype.kind not in "biuf" or array.ndim != 2:
        raise ConfigError(f"mask is an array of shape {array.shape}, {array.dtype}: it must be (H, W), of numbers")
    folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamtrack-mask-")))
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes() + str((array.shape, array.dtype)).encode())
    file = folder / f"mask-{content.hexdigest()[:12]}.npy"
    if not file.exists():
        with sink_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(file) as partial, partial.open("wb") as opened:
                np.save(opened, array, allow_pickle=False)
    return {**settings, "mask": file.absolute()}


def read(folder: str | Path) -> Results:
    """Return the results that a run left in its folder; raises ConfigError where there are none."""
    return Results(_folder(folder))


def detect(image: NDArray[Any], engine: str | Mapping[str, Any] = "denodet") -> "pd.DataFrame":
    """Find the particles of a single picture. For one after the other, `Tracker` is faster: it prepares once.

    Parameters
    ----------
    image
        Shape (H, W), at least 32 x 32 px; dtypes as in `track`.
    engine
        Name of an engine, or a table of its settings: ``{"threshold": 0.5}``.

    Returns
    -------
    pandas.DataFrame
        ``y, x`` (px), ``score``, ``sigma`` (px), ``mass``; best score first.

    Raises
    ------
    StreamtrackError
        If a setting is wrong, or this is no image that can be taken.
    """
    import pandas as pd

    if isinstance(image, str | Path):
        raise ConfigError(f"{image} is a path: detect takes the image itself, for example tifffile.imread(path)")
    image = np.asarray(refuse_masked(image))
    if image.ndim != 2:
        raise ConfigError(f"an array of shape {image.shape} is not one picture (Y, X); streamtrack.track takes movies")
    with Tracker(image.shape, image.dtype, engine=engine) as tracker:
        found = tracker(image).detections
    usual = {name: getattr(found, name) for name in ("y", "x", "score", "sigma", "mass")}
    return pd.DataFrame({**usual, **found.extra})


class Simulation(NamedTuple):
    """A simulated movie and what is true of it.

    Attributes
    ----------
    movie
        Shape (T, H, W), uint8 or uint16: as a camera gives it, with shot noise.
    noise_free
        Shape (T, H, W), float32: without it.
    truth
        ``frame, particle, y, x`` (px) of every particle in every frame.
    """

    movie: NDArray[Any]
    noise_free: NDArray[np.float32]
    truth: "pd.DataFrame"


def simulate(
    scenario: "ScenarioName" = "receptor",
    *,
    snr: float = 4.0,
    density: float = 500.0,
    frames: int = 100,
    size: int = 512,
    seed: int = 1,
) -> Simulation:
    """Simulate a movie after the Particle Tracking Challenge (Chenouard et al., Nat. Methods 11 (2014) 281).

    Parameters
    ----------
    scenario
        ``vesicle`` (Brownian), ``receptor`` (switching) or ``microtubule`` (directed comets).
    snr
        A / sqrt(A + background) with the peak amplitude A of a particle.
    density
        Particles per 512x512 px in a frame, on average; may be 0.
    frames, size
        Length, at least 4; height and width in px, at least 32.
    seed
        The same settings give the same movie.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """
    from streamtrack.simulation import Movie, MovieSettings, ground_truth

    settings = MovieSettings(scenario, snr, density, frames, height_px=size, width_px=size, seed=seed)
    movie = Movie(settings)
    noisy = np.stack([movie.noisy(index) for index in range(frames)])
    clean = np.stack([movie.clean(index) for index in range(frames)])
    return Simulation(noisy, clean, ground_truth(settings))


class Tracker:
    """The loop inside an acquisition of your own: hand it each image, get detections and tracks.

    ::

        with streamtrack.Tracker(image.shape, image.dtype) as tracker:
            for image in camera:
                result = tracker(image)
                print(result.tracks.n_live, result.detections.y, result.tracks.particle)

    It is synchronous, writes no file, and is made for one thread. What it returns is what a run's `step` returns.

    Parameters
    ----------
    shape
        (H, W) of the images, px; at least 32 x 32.
    dtype
        Theirs, as in `track`.
    denoise
        Whether results hold the denoised image, too.
    engine, linker
        Name of a plug-in, or a table of its settings: ``{"threshold": 0.5}``.
    measures
        What else to measure, into ``result.detections.extra``: one or several, by name or as tables.

    Raises
    ------
    StreamtrackError
        If a setting is wrong, or the engine cannot take such images.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: Any = "uint16",
        *,
        denoise: bool = False,
        engine: str | Mapping[str, Any] = "denodet",
        linker: str | Mapping[str, Any] = "imm",
        measures: str | Sequence[str | Mapping[str, Any]] = (),
    ) -> None:
        self._shape, self._stored = announced(shape, dtype)
        self._dtype = frame_dtype(self._stored)
        self._next = 0
        self._last_s = -math.inf
        with ExitStack() as opened:
            self._engine: Engine = _build("engines", "engine", engine)
            opened.callback(self._engine.close)
            linker_: Linker = _build("linkers", "linker", linker)
            self._engine.prepare(self._shape, self._dtype.name)
            linker_.prepare(self._shape)
            tables = validate(RunConfig, {"measures": _table("measures", measures)}, "measures").measures
            measures_ = {table.kind: build("measures", table).instance for table in tables}
            measured_by(SourceInfo("tracker", self._shape, self._dtype.name), self._engine, linker_, measures_)
            for measure in measures_.values():
                measure.prepare(self._shape, self._dtype.name)
            self._step = Step(self._engine, linker_, wants_denoised=lambda index: denoise, measures=measures_)
            opened.pop_all()

    def __call__(self, image: NDArray[Any], time_s: float | None = None, index: int | None = None) -> FrameResult:
        """Track one image.

        Parameters
        ----------
        image
            Shape and dtype as announced. It is not copied; the result refers to it.
        time_s
            When it was exposed, s, rising: motion is judged by it. By default one second a frame.
        index
            Its number, rising from 0; leave one out where the camera lost it. By default one more than the last.

        Raises
        ------
        StreamtrackError
            If the image is not as announced, or the index does not rise.
        """
        image = np.asarray(refuse_masked(image))
        if image.shape != self._shape or image.dtype != self._stored:
            raise ConfigError(f"the image is {image.shape} {image.dtype}, announced was {self._shape} {self._stored}")
        index = self._next if index is None else index
        if not (isinstance(index, Integral) and self._next <= index < MAX_INDEX):
            raise ConfigError(f"index = {index!r} must be a whole number, {self._next} or more here, below {MAX_INDEX}")
        time_s = float(index) if time_s is None else time_s
        if not (isinstance(time_s, Real) and self._last_s < time_s < math.inf):
            raise ConfigError(f"time_s = {time_s!r} must be finite, and above the last image's {self._last_s:g}")
        pixels = np.ascontiguousarray(image, dtype=self._dtype)
        result = self._step(Frame(int(index), pixels, monotonic_ns(), float(time_s)))
        self._next, self._last_s = int(index) + 1, float(time_s)
        return result

    def set_threshold(self, value: float) -> None:
        """Set the score from which something is a detection, for the images from now on; tracks go on.

        Raises ConfigError where it cannot be, or where the engine has none.
        """
        if not isinstance(self._engine, HasThreshold):
            raise ConfigError(f"{type(self._engine).__name__} has no threshold that can be set")
        self._engine.set_threshold(value)

    def close(self) -> None:
        """Release the engine. May be called twice."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _configured(movie: Any, settings: Mapping[str, Any]) -> tuple[RunConfig, FrameSource | None]:
    """Return the run's configuration, and the source where it is not the configuration's."""
    tables = tables_of(settings)
    about_source = tables.pop("source", {})
    if isinstance(movie, str | Path):
        tables["source"] = {**source_from_text(str(movie)), **about_source}
        return validate(RunConfig, tables, "track"), None
    config = validate(RunConfig, tables, "track")
    if hasattr(movie, "frames") and hasattr(movie, "info"):
        if about_source:
            raise ConfigError(f"a {type(movie).__name__} has its settings already; leave out source={about_source}")
        return config, movie
    try:
        return config, ArraySource(movie=movie, **about_source)
    except TypeError:
        known = "pixel_size_um, frame_interval_s, name"
        raise ConfigError(f"source of an array: unknown key in {sorted(about_source)} (known: {known})") from None


def tables_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a run's TOML file for keywords; raises ConfigError on one that is no table."""
    _refuse_unknown(settings)
    return {name: _table(name, value) for name, value in settings.items()}


def _refuse_unknown(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError on a keyword that is no table, and say in which one it belongs."""
    for name, value in settings.items():
        if name in RunConfig.model_fields:
            continue
        plugins = {"engine": load("engines", DEFAULT_KIND["engine"]), "linker": load("linkers", DEFAULT_KIND["linker"])}
        owners = (table for table, plugin in plugins.items() if name in inspect.signature(plugin).parameters)
        table = next(owners, "source")
        known = ", ".join(sorted(RunConfig.model_fields))
        raise ConfigError(
            f"unknown keyword {name!r}: a setting belongs in its table, for example {table}={{{name!r}: {value!r}}} "
            f"(tables: {known})"
        )


def _table(name: str, value: Any) -> Any:
    """Return a table of the configuration: a name alone stands for a plug-in with its defaults; raises ConfigError."""
    if name in ("measures", "sinks"):
        several = [value] if isinstance(value, str | Mapping) else value
        if not isinstance(several, Sequence):
            raise ConfigError(f"{name} = {value!r}: give names of plug-ins, or tables with their kind and settings")
        return [{"kind": each} if isinstance(each, str) else each for each in several]
    if name not in ("engine", "linker", "microscope", "source"):
        return value
    if isinstance(value, str):
        return {"kind": value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} = {value!r}: give the name of a plug-in, or a table of its settings")
    if name in DEFAULT_KIND:
        return {"kind": engine_kind(value) if name == "engine" else DEFAULT_KIND[name], **value}
    return value


def _build(group: Group, name: str, value: str | Mapping[str, Any]) -> Any:
    return build(group, validate(PluginConfig, _table(name, value), name)).instance


def _track_in_memory(config: RunConfig, source: FrameSource | None, progress: bool) -> Results:
    """Run in a temporary folder that goes with the results; the overview is drawn when it is asked for."""
    overview = KeptOverview()
    sinks = tuple(sink for sink in config.sinks if sink.kind != "overview")
    config = config.model_copy(update={"sinks": sinks})
    with ExitStack() as failed:
        folder = Path(tempfile.mkdtemp(prefix="streamtrack-"))
        failed.callback(shutil.rmtree, folder, ignore_errors=True)
        session = Session(config, folder, source=source, sinks={"overview": overview})
        report = _run(session, progress)
        results = _checked(Results(folder, figure=overview.draw), report)
        weakref.finalize(results, shutil.rmtree, folder, ignore_errors=True)
        failed.pop_all()
        return results


def _folder(name: str | Path) -> Path:
    with foreign_errors(ConfigError, f"folder = {name!r}"):
        return Path(name)


def _run(session: Session, progress: bool) -> dict[str, Any]:
    for line in session.contradictions:
        warnings.warn(line, stacklevel=3)
    if not progress:
        return session.run()
    with FrameProgress() as bar:
        return session.run(bar.update)


def _checked(results: Results, report: Mapping[str, Any]) -> Results:
    """Raise what made the run fail; say which frames were lost."""
    if report["status"] == "failed":
        raise StreamtrackError(report["error"])
    causes = report["frames"]["lost_by_cause"]
    if causes:
        said = "; ".join(f"{count} x {cause}" for cause, count in causes.items())
        warnings.warn(f"frames were lost: {said}", stacklevel=3)
    return results
