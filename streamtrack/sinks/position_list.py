"""A list of places of the stage to come back to, for Micro-Manager and as a table."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from streamtrack.errors import ConfigError, MicroscopeError
from streamtrack.files import partial_of, write_durably
from streamtrack.protocols import Microscope
from streamtrack.settings import checks_settings
from streamtrack.sinks.files import check_folder, sink_errors, stream_name
from streamtrack.stage_moves import STAGE_COLUMNS
from streamtrack.types import ONE_STREAM, Command, FrameResult, SourceInfo, Stream

KIND = "position_list"
"""Rules name the sink so: ``do = "position_list"``."""
LIST, TABLE = "positions.pos", "positions.csv"
COLUMNS = ("label", "particle", "frame", "time_s", "rule", "y_px", "x_px", "stage_x_um", "stage_y_um", "focus_um")
HAS_MOVED_UM = 1.0
"""A stage that is now farther from where the run last knew it was moved meanwhile, perhaps by hand."""

Place = tuple[float, float]


@checks_settings
class PositionList:
    """Notes where the stage has to go to bring a track to the middle of the image: ``do = "position_list"``.

    Into ``positions.pos``, which Micro-Manager 2 opens in its Stage Position List, and ``positions.csv``. Both
    are complete after every position. A track is noted once, where it was in the frame of the first command about it;
    an event without a place stands for the middle of the image. Nothing moves, in any mode.

    Parameters
    ----------
    microscope
        Given by the run.
    most
        Positions of one run; those after them are counted.
    critical
        Whether a run that cannot write the list has failed.

    Raises
    ------
    ConfigError
        The microscope does not know where the stage is, or which way the image moves with it.
    """

    files = (LIST, partial_of(Path(LIST)).name, TABLE)
    needs_pixels = False
    needs_stage = True

    def __init__(
        self, *, microscope: Microscope, most: Annotated[int, Field(ge=1, le=10_000)] = 1000, critical: bool = False
    ) -> None:
        self.critical = critical
        self._microscope = microscope
        self._most = most
        try:
            microscope.stage_um()
            microscope.stage_um_per_px()
        except MicroscopeError as error:
            raise ConfigError(f"a list of positions cannot be made: {error}") from error
        self._noted: dict[tuple[Stream, int], None] = {}
        self._positions: list[dict[str, Any]] = []
        self._left_out: dict[str, int] = {}

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Take the middle of the image; raises SinkError."""
        check_folder(folder)
        self._folder = folder
        self._middle_px = np.array([source.shape[1] - 1, source.shape[0] - 1]) / 2

    def wants_denoised(self, frame_index: int) -> bool:
        """Return False: places only."""
        return False

    def write(self, result: FrameResult) -> None:
        """Note what rules ask for in this frame; raises SinkError."""
        for command in result.commands:
            if command.actuator == KIND:
                self._note(command, result)

    def flush(self) -> None:
        """Do nothing: all is written."""

    def close(self) -> None:
        """Do nothing: all is written."""

    def remarks(self) -> Sequence[str]:
        """Return how many positions were noted, and how many were not, with the reasons."""
        noted = [f"{len(self._positions)} positions are in {LIST}"] if self._positions else []
        return [*noted, *(f"{count} positions were not noted: {why}" for why, count in self._left_out.items())]

    def _note(self, command: Command, result: FrameResult) -> None:
        track = (command.stream, command.event.particle)
        if track[1] >= 0 and track in self._noted:
            return
        try:
            stage_um = self._stage_um(result)
            x, y = self._target_um(stage_um, command)
            focus_um = self._focus_um()
        except MicroscopeError as error:
            self._leave_out(str(error))
            return
        if len(self._positions) == self._most:
            self._leave_out(f"most = {self._most}")
            return
        self._noted[track] = None
        label = f"track{track[1]}" if track[1] >= 0 else f"frame{command.frame_index}_{len(self._positions)}"
        label += f"_{stream_name(command.stream)}" if command.stream is not ONE_STREAM else ""
        self._positions.append(self._entry(label, (x, y), focus_um))
        event = command.event
        row = (label, event.particle, command.frame_index, result.frame.time_s, command.rule, event.y, event.x)
        self._add_row([*row, x, y, focus_um])
        path = self._folder / LIST
        with sink_errors(path):
            write_durably(path, json.dumps(_property_map(self._positions), indent=1).encode())

    def _stage_um(self, result: FrameResult) -> Place:
        """Return where the stage was when the frame was exposed; raises MicroscopeError where nobody knows."""
        names = [column.name for column in STAGE_COLUMNS]
        x, y = (float(result.values.get(name, math.nan)) for name in names)
        if not math.isfinite(x + y):
            raise MicroscopeError("the stage was moving, or where it was is not known")
        if names[0] not in result.frame.values:  # nobody but the run says so: of moves by hand it does not hear
            here = self._microscope.stage_um()
            if math.hypot(here[0] - x, here[1] - y) > HAS_MOVED_UM:
                raise MicroscopeError("the stage had moved on, or was moved by hand")
        return x, y

    def _target_um(self, stage_um: Place, command: Command) -> Place:
        offset_px = np.array([command.event.x, command.event.y]) - self._middle_px
        way = np.zeros(2) if np.isnan(offset_px).any() else self._microscope.stage_um_per_px() @ offset_px
        return float(stage_um[0] + way[0]), float(stage_um[1] + way[1])

    def _focus_um(self) -> float | None:
        try:
            return float(self._microscope.focus_um())
        except MicroscopeError:  # there is none
            return None

    def _leave_out(self, why: str) -> None:
        self._left_out[why] = self._left_out.get(why, 0) + 1

    def _entry(self, label: str, stage_um: Place, focus_um: float | None) -> dict[str, Any]:
        """Return a position as Micro-Manager writes it."""
        info = self._microscope.info
        stage, focus = str(info.get("stage") or "XYStage"), str(info.get("focus") or "ZStage")
        devices = [_device(stage, *stage_um)]
        if focus_um is not None:
            devices.append(_device(focus, focus_um))
        return {
            "DefaultXYStage": _text(stage),
            "DefaultZStage": _text(focus if focus_um is not None else ""),
            "DevicePositions": {"type": "PROPERTY_MAP", "array": devices},
            "GridCol": {"type": "INTEGER", "scalar": 0},
            "GridRow": {"type": "INTEGER", "scalar": 0},
            "Label": _text(label),
            "Properties": {"type": "PROPERTY_MAP", "scalar": {}},
        }

    def _add_row(self, row: Sequence[Any]) -> None:
        path = self._folder / TABLE
        rows = [COLUMNS, row] if len(self._positions) == 1 else [row]
        values = [["" if _is_nothing(value) else value for value in each] for each in rows]
        with sink_errors(path), path.open("w" if len(rows) == 2 else "a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(values)


def _property_map(positions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a position list as Micro-Manager's ``PropertyMap.saveJSON`` writes it."""
    return {
        "encoding": "UTF-8",
        "format": "Micro-Manager Property Map",
        "major_version": 2,
        "minor_version": 0,
        "map": {"StagePositions": {"type": "PROPERTY_MAP", "array": positions}},
    }


def _device(name: str, *place_um: float) -> dict[str, Any]:
    return {"Device": _text(name), "Position_um": {"type": "DOUBLE", "array": list(place_um)}}


def _text(value: str) -> dict[str, str]:
    return {"type": "STRING", "scalar": value}


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
