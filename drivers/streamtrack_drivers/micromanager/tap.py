"""Tracks what an acquisition of the user's own script records, while it runs.

In an existing pycromanager script::

    from streamtrack_drivers.micromanager import Tap

    with Tap("run.toml", out="results", core=Core()) as tap:
        with Acquisition(directory=None, name="cells", image_process_fn=tap) as acquisition:
            acquisition.acquire(multi_d_acquisition_events(num_time_points=1000))
    print(tap.report["status"])
"""

import atexit
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pymmcore
from numpy.typing import NDArray

from streamtrack.config import PluginConfig, RunConfig, read_toml, validate
from streamtrack.control.control import Control
from streamtrack.errors import ConfigError, MicroscopeError, StreamtrackError, described
from streamtrack.interrupts import Stop, instead_of_dying
from streamtrack.protocols import Microscope
from streamtrack.registry import build
from streamtrack.run_record import Progress
from streamtrack.session import Session
from streamtrack.types import Column, SourceInfo
from streamtrack.waiting import joined_within, set_within
from streamtrack_drivers.micromanager.acquisition_events import as_pycromanager
from streamtrack_drivers.micromanager.bridge import PycroManager
from streamtrack_drivers.micromanager.client_repair import repair_client
from streamtrack_drivers.micromanager.core import MicroManager
from streamtrack_drivers.micromanager.image_format import grey, image_format
from streamtrack_drivers.micromanager.pushed import PushedSource
from streamtrack_drivers.micromanager.streams import AllStreams, OneStream, Only, where_by_tags

READY_TIMEOUT_S = 1800.0
"""An engine may be compiled before the first frame."""
CLOSE_TIMEOUT_S = 900.0
"""More than a run needs to write everything down."""
PAUSE_S = 7 * 24 * 3600.0
"""The acquisition sets the pace: unless the run's file says otherwise, a pause is not a stall."""


class Tap:
    """A run that is fed by an acquisition: give it to pycromanager as ``image_process_fn``.

    Ready when it is made: the engine is compiled and the files are open. Each image is handed to a bounded queue and
    returned at once; the tracking has threads of its own and can neither stop nor crash the acquisition. Images that it
    does not get to see are counted in the report.

    The images have to be of one stream, unless ``only`` is ``"all"``: of several channels, positions, planes or cameras
    it chooses one. A second stream makes the run fail, and leaves the acquisition alone. Indices are time points where
    the metadata have ``Axes`` with a time. An image must not be written into after it was handed over.

    Parameters
    ----------
    run
        The run's TOML file, or its configuration; a ``[source]`` in it is not used.
    out
        Folder of the results.
    core
        What ``pycromanager.Core()`` returned: says how large the images are. One of the Python backend, or a
        ``CMMCorePlus``, becomes the run's microscope, too; of the file's ``[microscope]`` only ``stage_um_per_px``
        counts then. With the Java backend commands go through that ``[microscope]`` (``kind = "pycromanager"``), which
        has a socket of its own.
    shape, dtype, pixel_size_um
        Of the images, instead of a core: (H, W), ``uint8`` or ``uint16``.
    only
        The stream to track: of each axis the index or name, ``{"channel": "GFP", "z": 0, "position": 0}`` (``c``,
        ``p``, ``camera`` and axes of your own, too), or a function of an image's metadata that says whether it belongs
        to the movie. ``"all"`` tracks each stream by itself, in one run: tables say ``t, c, z, p``.
    overwrite
        Whether results in the folder may be replaced.
    queue_frames
        Images that may wait before the run takes them.

    Raises
    ------
    StreamtrackError
        If the run cannot begin.
    """

    def __init__(
        self,
        run: str | Path | RunConfig,
        out: str | Path,
        *,
        core: Any = None,
        shape: tuple[int, int] | None = None,
        dtype: str = "uint16",
        pixel_size_um: float | None = None,
        only: Only = None,
        overwrite: bool = False,
        queue_frames: int = 64,
    ) -> None:
        repair_client()
        config = _config(run)
        self._one = AllStreams() if only == "all" else OneStream(only)
        info = replace(_info(core, shape, dtype, pixel_size_um), frame_columns=self._frame_columns(core))
        self._source = PushedSource(info, queue_frames, self._one)
        self._event_queue: Any = None
        self._microscope = self._make_microscope(config.microscope, core)
        self._report: dict[str, Any] | None = None
        self._progress: Progress | None = None
        self._error: str | None = None
        self._closing = False
        self._signals = ExitStack()
        stop = Stop()
        try:
            self._signals.enter_context(instead_of_dying(stop))
            self._session = Session(
                config, Path(out), overwrite=overwrite, source=self._source, microscope=self._microscope, stop=stop
            )
            self._start()
        except BaseException:
            stop.request()
            self._source.close()
            self._let_go()
            raise

    def __call__(self, image: NDArray[Any], metadata: dict[str, Any]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Hand an image over and return it as it is: what pycromanager calls for every image."""
        self._source.push(image, metadata, where_by_tags(metadata), metadata)
        return image, metadata

    def with_events(
        self, image: NDArray[Any], metadata: dict[str, Any], event_queue: Any
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """As the tap itself, for runs with an actuator ``mda_event``: ``image_process_fn=tap.with_events``.

        Do not use ``with Acquisition(...)`` then: it takes no events after those that it was given.
        """
        self._event_queue = event_queue
        return self(image, metadata)

    @property
    def report(self) -> dict[str, Any] | None:
        """The run's report, as in ``report.json``; None before the end, and if the run broke off."""
        return self._report

    @property
    def control(self) -> Control:
        """What may be changed while the run runs."""
        return self._session.control

    @property
    def progress(self) -> Progress | None:
        """How far the run is; None before the first frame."""
        return self._progress

    def close(self) -> None:
        """Track what was handed over, write everything down, and end the run. May be called twice.

        Raises
        ------
        StreamtrackError
            If the run failed; the report then says how far it came.
        """
        atexit.unregister(self._close_at_exit)
        self._closing = True
        self._source.finish()
        if not joined_within(self._thread, CLOSE_TIMEOUT_S):
            raise StreamtrackError(f"the run did not end within {CLOSE_TIMEOUT_S:g} s; its report is not complete")
        self._let_go()
        error, self._error = self._error, None
        if error is not None:
            raise StreamtrackError(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        self._session.stop()
        try:
            self.close()
        except StreamtrackError as also:  # what ended the block is the news
            _tell(str(also))

    def _frame_columns(self, core: Any) -> tuple[Column, ...]:
        """Return what is said of each image."""
        return ()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="streamtrack-tap", daemon=True)
        self._thread.start()
        if not set_within(self._source.started, READY_TIMEOUT_S):
            raise StreamtrackError(f"the run is not ready after {READY_TIMEOUT_S:g} s: the engine takes too long")
        if self._error is not None:
            raise StreamtrackError(self._error)
        atexit.register(self._close_at_exit)

    def _run(self) -> None:
        try:
            self._report = self._session.run(self._note)
            self._error = self._report["error"]
        except StreamtrackError as error:
            self._error = str(error)
        except Exception as error:
            self._error = f"the run broke off: {described(error)}"
        finally:
            if self._error is not None and self._source.started.is_set() and not self._closing:
                _tell(f"{self._error} (the acquisition goes on)")  # perhaps for hours
            self._source.close()
            self._source.started.set()

    def _note(self, progress: Progress) -> None:
        self._progress = progress

    def _make_microscope(self, table: PluginConfig | None, core: Any) -> Microscope | None:
        if isinstance(core, pymmcore.CMMCore):
            matrix = table.settings.get("stage_um_per_px") if table else None
            return MicroManager.around(core, add_event=self._add_event, stage_um_per_px=matrix)
        if table is None:
            return None
        if table.kind == "micromanager":
            cure = "give the tap the acquisition's own: core=core"
            raise ConfigError(f"[microscope] would load a second core beside the acquisition's; {cure}")
        microscope: Microscope = build("microscopes", table).instance
        if isinstance(microscope, PycroManager):
            microscope.hand_events_to(self._add_event)
        return microscope

    def _add_event(self, event: Mapping[str, Any]) -> None:
        if self._event_queue is None:
            cure = "pass image_process_fn=tap.with_events, which gets pycromanager's event queue"
            raise MicroscopeError(f"the acquisition takes no events: {cure}")
        self._event_queue.put(as_pycromanager(event))

    def _let_go(self) -> None:
        self._signals.close()
        if self._microscope is not None:
            self._microscope.close()

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except StreamtrackError as error:
            _tell(str(error))


def _config(run: str | Path | RunConfig) -> RunConfig:
    config = (
        run if isinstance(run, RunConfig) else validate(RunConfig, read_toml(Path(run)), str(run)).from_file(Path(run))
    )
    if "stall_timeout_s" in config.ingest.model_fields_set:
        return config
    return config.model_copy(update={"ingest": config.ingest.model_copy(update={"stall_timeout_s": PAUSE_S})})


def _info(core: Any, shape: tuple[int, int] | None, dtype: str, pixel_size_um: float | None) -> SourceInfo:
    if core is None:
        if shape is None:
            raise ConfigError("how large are the images? Give the tap core=Core(), or shape=(height, width)")
        return SourceInfo("tap", shape, dtype, pixel_size_um=pixel_size_um)
    core = _JavaNames(core)
    label = str(core.getCameraDevice())
    try:
        image = grey(image_format(core), f"camera {label}")
    except MicroscopeError as error:
        raise ConfigError(str(error)) from error
    return SourceInfo(f"tap: {label}", image.shape, image.dtype, pixel_size_um=float(core.getPixelSizeUm()) or None)


class _JavaNames:
    """A core that has either Java's names or Python's, by Java's."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        return getattr(self._core, name if hasattr(self._core, name) else snake)


def _tell(error: str) -> None:
    print(f"streamtrack: {error}", file=sys.stderr)
