"""The columns of a run: who measures what, under which names."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from streamtrack.config import did_you_mean
from streamtrack.errors import ConfigError
from streamtrack.protocols import Engine, Linker, Measure, SeesDepth
from streamtrack.types import Column, SourceInfo

USUAL = (Column("mass", "counts"), Column("score"), Column("sigma", "px"))
"""What every engine measures of each detection."""
TAKEN = (
    *("frame", "particle", "y", "x", "mass", "score", "sigma", "existence", "vy", "vx", "diffusion", "directed"),
    *("detection", "y_um", "x_um", "time_s"),
)
TAKEN_OF_FRAMES = (
    *("frame", "time_s", "detections", "tracks"),
    *(f"{stage}_ms" for stage in ("queue", "detect", "link", "measure", "decide", "total")),
)
"""What the tables have under these names anyway."""


def measured_by(
    source: SourceInfo,
    engine: Engine,
    linker: Linker,
    measures: Mapping[str, Measure],
    of_run: Sequence[Column] = (),
) -> SourceInfo:
    """Return what is known of a source, with the columns and the image of the run; raises ConfigError.

    ``of_run`` are the columns that the run itself says of each frame, as far as the source does not. No two columns may
    have one name.
    """
    of_parts = {"the engine": getattr(engine, "columns", ()), "the linker": getattr(linker, "columns", ())}
    of_measures = {f"measure {kind!r}": measure.columns for kind, measure in measures.items()}
    places = ("t", "c", "z", "p") if source.streams is not None else ()
    said = [source.z_um, *(stream.z_um for stream in source.streams or ())]
    heights = () if all(z_um is None for z_um in said) else ("z_um",)
    of_source = (*source.frame_columns, *(column for column in of_run if column not in source.frame_columns))
    of_frames = {"the source": of_source, "the engine": getattr(engine, "frame_columns", ())}
    return replace(
        source,
        columns=_joined(of_parts | of_measures, (*TAKEN, *places, *heights)),
        frame_columns=_joined(of_frames, (*TAKEN_OF_FRAMES, *places)),
        image=getattr(engine, "image", source.image),
    )


def measures_depth(engine: Engine) -> bool:
    """Return whether an engine measures where particles are along the optical axis, and how surely."""
    return {"z_um", "sigma_z_um"} <= {column.name for column in getattr(engine, "columns", ())}


def let_see_depth(linker: Linker, engine: Engine, pixel_size_um: float | None) -> None:
    """Let a linker that can use what an engine measures along the optical axis, if it is known what a pixel is."""
    if pixel_size_um is not None and measures_depth(engine) and isinstance(linker, SeesDepth):
        linker.see_depth(pixel_size_um)


def _joined(given: Mapping[str, Sequence[Column]], taken: Sequence[str]) -> tuple[Column, ...]:
    owner = dict.fromkeys(taken, "every table")
    for giver, columns in given.items():
        for column in columns:
            if not column.name.isidentifier():
                raise ConfigError(f"{giver} has a column {column.name!r}: its name must be of letters, digits and _")
            if column.name in owner:
                raise ConfigError(f"{giver} and {owner[column.name]} both have a column {column.name!r}; rename one")
            owner[column.name] = giver
    return tuple(column for columns in given.values() for column in columns)


def of_track(name: str, source: SourceInfo) -> Column | None:
    """Return the column of that name among those of each detection."""
    return _find(name, (*USUAL, *source.columns))


def of_frame(name: str, source: SourceInfo) -> Column | None:
    """Return the column of that name among those of each frame."""
    return _find(name, source.frame_columns)


def unknown(name: str, source: SourceInfo) -> ConfigError:
    """Return the error about a column that the run does not measure."""
    tracks = [column.name for column in (*USUAL, *source.columns)]
    frames = [column.name for column in source.frame_columns]
    known = f"of each track {', '.join(tracks)}; of each frame {', '.join(frames) or 'none'}"
    return ConfigError(f"nothing measures a column {name!r}{did_you_mean(name, [*tracks, *frames])} (known: {known})")


def _find(name: str, columns: Sequence[Column]) -> Column | None:
    return next((column for column in columns if column.name == name), None)


def metadata_of(column: Column) -> dict[str, str]:
    """Return what a table's schema says of a column, as texts."""
    said = {"unit": column.unit, "classes": json.dumps(column.classes) if column.classes else ""}
    return {name: text for name, text in said.items() if text}


def column_from(name: str, metadata: Mapping[bytes, bytes] | None) -> Column:
    """Return a column from what a table's schema says of it; raises ValueError on what is no such thing."""
    known = metadata or {}
    classes = tuple(str(each) for each in json.loads(known.get(b"classes", b"[]")))
    return Column(name, known.get(b"unit", b"").decode(), classes)
