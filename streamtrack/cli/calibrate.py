"""``streamtrack calibrate``: measures what a run has to know of the microscope."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from streamtrack import registry
from streamtrack.actuators.guard import Guard
from streamtrack.actuators.slm_calibration import SAME, SlmCalibration
from streamtrack.cli.calibrate_psf import psf
from streamtrack.cli.helping import PlainCommand, PlainGroup
from streamtrack.cli.running import EXIT_CODES
from streamtrack.cli.saying import say, say_error
from streamtrack.clock import monotonic_ns
from streamtrack.config import RunConfig, did_you_mean, read_toml, validate
from streamtrack.errors import ConfigError, MicroscopeError, SourceError, StreamtrackError, described
from streamtrack.interrupts import Stop
from streamtrack.protocols import FrameSource, Microscope
from streamtrack.types import Frame
from streamtrack.waiting import joined_within, within

if TYPE_CHECKING:
    from streamtrack.calibration.slm import SlmFit
    from streamtrack.calibration.stage import StageFit

SETTLE_MS = 150.0
"""After a move, besides two exposures: until the stage is at rest, and the camera has handed over what it held."""
AVERAGED = 3
"""Frames of one look."""
PATIENCE_S = 20.0
"""How long a look may take, besides ten exposures."""

calibrate = typer.Typer(cls=PlainGroup, help="Measure what a run has to know of the microscope.", no_args_is_help=True)


@calibrate.callback()
def _calibrate() -> None:
    """Measure what a run has to know of the microscope."""


calibrate.command(cls=PlainCommand)(psf)


@calibrate.command(cls=PlainCommand)
def stage(
    config: Annotated[Path, typer.Argument(help="TOML file of the run: its microscope, source and limits.")],
) -> None:
    """Measure how far, and which way, the stage has to go for a distance in the image.

    Moves the stage a little, within the limits of the file, looks at the image each time, and brings the stage back.
    There has to be something in view that does not move by itself. Prints the line for [microscope].
    """
    with _ready(
        config, "stage", "moving the stage a little; Ctrl-C brings it back", "the stage is back where it was"
    ) as ready:
        found, binning = calibrate_stage(*ready)
    say(*in_words(found, binning))


@calibrate.command(cls=PlainCommand)
def slm(
    config: Annotated[Path, typer.Argument(help="TOML file of the run: its microscope, source and limits.")],
    device: Annotated[str | None, typer.Option(help="Which SLM; needed where safety.slms has several.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; by default slm.json beside the run's file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Measure where a pixel of the camera's image is on a spatial light modulator (SLM, DMD).

    Lights one spot after another, within the limits of the file, and looks where each is in the image. Nothing moves.
    There has to be something that shows the light: a mirror, a dye. Writes the file that the actuator 'slm' reads.
    """
    path = config.resolve().parent / "slm.json" if out is None else out
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there already: give --overwrite to replace it, or --out another")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}: make it first, or give --out another")
    with _ready(config, "SLM", "lighting spots; Ctrl-C makes it dark", "the SLM is dark") as ready:
        found, calibration = calibrate_slm(*ready, device)
    calibration.write(path)
    say(*slm_in_words(found))
    say(f"written to {path}; in the table of the actuator 'slm':", f"calibration = {json.dumps(path.as_posix())}")


@contextmanager
def _ready(config: Path, what: str, begins: str, after_stop: str) -> Iterator[tuple[RunConfig, Microscope, Stop]]:
    """Yield a run's configuration, its microscope, and what a signal ends; says what begins, and how a stop left it."""
    run = validate(RunConfig, read_toml(config), str(config)).from_file(config)
    if run.microscope is None:
        raise ConfigError(f"{config} has no [microscope] table: which {what} shall be calibrated?")
    with Stop() as stop, ExitStack() as opened:
        try:
            with stop.breaks_off():
                microscope: Microscope = registry.build("microscopes", run.microscope).instance
                opened.callback(microscope.close)
            say(begins)
            yield run, microscope, stop
        except KeyboardInterrupt:
            say_error(f"stopped; {after_stop}")
            raise typer.Exit(EXIT_CODES["interrupted"]) from None


def calibrate_slm(
    run: RunConfig, microscope: Microscope, stop: Stop, device: str | None = None
) -> "tuple[SlmFit, SlmCalibration]":
    """Measure with the camera and within the limits of a run; the SLM is dark after that, whatever happens.

    Raises KeyboardInterrupt when asked to stop.
    """
    from streamtrack.calibration.slm import measure_slm

    safety = run.safety
    if run.source is None:
        raise ConfigError("calibrate slm looks through the camera of the run: add its [source] table")
    chosen = _the_slm(safety.slms, device)
    if safety.slm_area_px2 is None or safety.slm_intensity is None or safety.pulse_ms is None:
        limits = "safety.slm_area_px2, slm_intensity and pulse_ms"
        raise ConfigError(f"calibrate slm lights spots within the limits {limits}: set them first")
    # Shutters are left alone: what is open has to stay so for the images, and nothing is opened here.
    guard = Guard(microscope, safety.model_copy(update={"close_shutter": None}), "armed")
    guard.check_names()
    source: FrameSource = registry.build("sources", run.source, microscope, run.folder).instance
    with closing(Newest(source)) as camera, closing(guard):
        if not source.info.live:
            raise ConfigError(f"{source.info.name} is not a camera: its images cannot show the light")
        longest_ms = safety.pulse_ms[1]

        def look() -> NDArray[np.float64]:
            begun_ns = monotonic_ns()
            image = camera.look(guard.exposure_ms(), stop.requested.is_set)
            took_ms = (monotonic_ns() - begun_ns) / 1e6
            if took_ms > longest_ms:
                needed = f"a look takes {took_ms:.0f} ms, and a spot may stay for safety.pulse_ms = {longest_ms:g} only"
                raise ConfigError(f"{needed}: allow it longer, or take a shorter exposure")
            return image

        def show(image: NDArray[np.uint8] | None) -> None:
            guard.show_on_slm(chosen, image, longest_ms)

        shape = guard.slm_shape(chosen)
        found = measure_slm(shape, safety.slm_area_px2, safety.slm_intensity, show, look)
        camera_is = {name: source.info.details.get(name) for name in SAME}
        return found, SlmCalibration(
            chosen, shape, source.info.shape, found.camera_to_slm, found.residual_px, camera_is
        )


def slm_in_words(found: "SlmFit") -> list[str]:
    """Return what was found."""
    x, y = found.slm_px
    mirrored = "mirrored" if found.is_mirrored else "not mirrored"
    return [
        f"{found.seen} of {found.shown} spots were seen; {found.residual_px:.2f} px of the image are left (root mean "
        f"square), {found.worst_px:.2f} at worst, {found.residual_slm_px:.2f} px of the SLM",
        f"a pixel of the image is {x:.4g} x {y:.4g} px of the SLM",
        f"against the SLM the camera is turned by {round(found.rotation_deg, 1) + 0.0:.1f} degrees and {mirrored}",
    ]


def _the_slm(slms: Sequence[str], device: str | None) -> str:
    """Return the modulator that is meant; raises ConfigError."""
    if device is None and len(slms) == 1:
        return slms[0]
    if not slms:
        raise ConfigError("safety.slms names no SLM: add the one that may be lit")
    if device is None:
        raise ConfigError(f"safety.slms names several, {', '.join(slms)}: give --device one of them")
    if device not in slms:
        raise ConfigError(f"{device!r} is not in safety.slms{did_you_mean(device, slms)}: add it there to allow it")
    return device


def calibrate_stage(run: RunConfig, microscope: Microscope, stop: Stop) -> "tuple[StageFit, tuple[int, int]]":
    """Measure with the camera and within the limits of a run; return what was found, and the binning, x and y.

    Raises KeyboardInterrupt when asked to stop, after the stage was brought back.
    """
    from streamtrack.calibration.stage import measure_stage

    safety = run.safety
    if run.source is None:
        raise ConfigError("calibrate stage looks through the camera of the run: add its [source] table")
    if safety.x_um is None or safety.y_um is None:
        raise ConfigError("calibrate stage moves within the limits safety.x_um and safety.y_um: set them first")
    # Shutters are left alone: what is open has to stay so for the images, and nothing is opened here.
    guard = Guard(microscope, safety.model_copy(update={"close_shutter": None}), "armed")
    source: FrameSource = registry.build("sources", run.source, microscope, run.folder).instance
    with closing(Newest(source)) as camera, closing(guard):
        if not source.info.live:
            raise ConfigError(f"{source.info.name} is not a camera: its images cannot follow the stage")

        def look() -> NDArray[np.float64]:
            return camera.look(guard.exposure_ms(), stop.requested.is_set)

        found = measure_stage(guard, look, safety.x_um, safety.y_um, source.info.pixel_size_um)
        return found, binning(microscope)


def in_words(found: "StageFit", binning: tuple[int, int]) -> list[str]:
    """Return what was found, and the line for the run's file."""
    matrix = found.um_per_px / binning
    rows = ", ".join(f"[{', '.join(map(_number(matrix), row))}]" for row in matrix)
    digits = _number(found.um_per_px)
    right, down = (", ".join(map(digits, column)) for column in found.um_per_px.T)
    x_um, y_um = found.pixel_um
    degrees = round(found.rotation_deg, 1) + 0.0
    mirrored = "mirrored" if found.is_mirrored else "not mirrored"
    return [
        f"{found.moves} moves of up to {found.longest_um:.3g} um shifted the image by up to {found.longest_px:.0f} px; "
        f"{found.residual_px:.2f} px are left (root mean square)",
        f"what is 1 px to the right of the middle comes there when the stage moves by ({right}) um",
        f"what is 1 px below the middle comes there when the stage moves by ({down}) um",
        f"a pixel is {x_um:.4g} x {y_um:.4g} um, binned {binning[0]} x {binning[1]}",
        f"against the stage the camera is turned by {degrees:.1f} degrees and {mirrored}",
        "for this objective, in the table [microscope] of the run's file:",
        f"stage_um_per_px = [{rows}]",
    ]


def binning(microscope: Microscope) -> tuple[int, int]:
    """Return the binning of the run's camera along x and y, as Micro-Manager's cameras say it; 1 for others."""
    camera = str(microscope.info.get("camera", ""))
    try:
        factors = [int(each) for each in re.findall(r"\d+", microscope.property_value(camera, "Binning"))] or [1]
    except MicroscopeError:
        return 1, 1
    return max(1, factors[0]), max(1, factors[-1])


class Newest:
    """Takes every frame of a source as it comes, and keeps none but those that somebody waits for.

    Parameters
    ----------
    source
        A live one; it is closed with this.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._wanted_from_ns = 0
        self._frames: list[Frame] = []
        self._error = ""
        self._thread = threading.Thread(target=self._read, name="streamtrack-source", daemon=True)
        self._thread.start()

    def look(self, exposure_ms: float, stopped: Callable[[], bool]) -> NDArray[np.float64]:
        """Return the mean of some frames whose exposure begins after now, shape (H, W).

        Raises SourceError where none come, and KeyboardInterrupt when ``stopped()``.
        """
        if stopped():
            raise KeyboardInterrupt
        with self._changed:
            self._wanted_from_ns = monotonic_ns() + int(1e6 * (2 * exposure_ms + SETTLE_MS))
            self._frames = []
        if not within(PATIENCE_S + exposure_ms / 100, self._wait, lambda: stopped() or bool(self._error)):
            if stopped():
                raise KeyboardInterrupt
            raise SourceError(self._error or f"no frame from {self._source.info.name}: is it running?")
        return np.asarray(np.mean([frame.pixels for frame in self._frames], axis=0, dtype=np.float64))

    def close(self) -> None:
        """End the source."""
        self._source.close()
        joined_within(self._thread, PATIENCE_S)

    def _wait(self, step_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self._frames) >= AVERAGED, min(step_s, 0.1))

    def _read(self) -> None:
        try:
            for item in self._source.frames():
                with self._changed:
                    if (
                        isinstance(item, Frame)
                        and item.grabbed_ns >= self._wanted_from_ns
                        and len(self._frames) < AVERAGED
                    ):
                        self._frames.append(item)
                        self._changed.notify_all()
            self._error = f"{self._source.info.name} has ended"
        except StreamtrackError as error:
            self._error = str(error)
        except Exception as error:
            self._error = f"the source failed: {described(error)}"


def _number(matrix: NDArray[np.float64]) -> Callable[[float], str]:
    """Return what writes its elements, with four digits of the largest."""
    places = max(0, 4 - int(np.floor(np.log10(np.abs(matrix).max()))))
    return lambda value: f"{round(value, places) + 0.0:.{places}f}"
