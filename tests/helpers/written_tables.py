"""Tables that were written, against what results say row by row."""

import numpy as np
import pandas as pd

from streamtrack.sinks.making import TABLES
from streamtrack.sinks.tables import TableSink
from streamtrack.testing.sinks import example_source
from streamtrack.types import CONFIRMED

DETECTIONS = ["frame", "y", "x", "score", "sigma", "mass"]
TRACKS = ["frame", "particle", "y", "x", "mass", "score", "sigma", "existence", "vy", "vx", "diffusion", "directed"]

PLACES = ["y_um", "x_um", "time_s"]
"""What the example's pixel size and frame interval lead to."""


def write_tables(folder, results, source=None):
    folder.mkdir(exist_ok=True)
    sink = TableSink()
    sink.open(folder, source or example_source())
    for result in results:
        sink.write(result)
    sink.close()
    return tables_in(folder)


def tables_in(folder):
    return [pd.read_parquet(folder / name) for name in TABLES[:2]]


def rows(results):
    """All that the results say in the end, row by row, the slow way."""
    table = {}
    for r in results:
        for i in range(len(r.detections)):
            table[r.frame.index, i] = row(r, i)
        revised = r.tracks.revised
        for i in range(len(revised)):
            place = revised.frame_index[i], revised.detection[i]
            if place in table:
                table[place] |= {"particle": revised.particle[i], "existence": revised.existence[i]}
    kinds = {name: np.int64 if name in ("frame", "particle") else np.float32 for name in TRACKS}
    kinds |= dict.fromkeys(PLACES, np.float64)
    return pd.DataFrame(list(table.values()), columns=[*TRACKS, *PLACES]).astype(kinds)


def row(result, i):
    d, t, motion = result.detections, result.tracks, result.tracks.motion
    said = {"frame": result.frame.index, "particle": t.particle[i], "existence": t.existence[i]}
    said |= {name: getattr(d, name)[i] for name in ("y", "x", "mass", "score", "sigma")}
    said |= {"y_um": float(d.y[i]) * 0.1, "x_um": float(d.x[i]) * 0.1, "time_s": result.frame.time_s}
    if motion is not None:
        vy, vx = motion.velocity_px_s[i]
        said |= {"vy": vy, "vx": vx, "diffusion": motion.diffusion_px2_s[i], "directed": motion.modes[i, 1]}
    return said


def only_confirmed(table):
    confirmed = set(table.particle[table.existence >= np.float32(CONFIRMED)]) - {-1}
    kept = table[table.particle.isin(confirmed)]
    return kept.sort_values(["frame", "particle"]).reset_index(drop=True)


def assert_tables_are_of(results, folder):
    """Compare the Parquet tables of a folder with results."""
    detections, tracks = tables_in(folder)
    expected = rows(results)
    pd.testing.assert_frame_equal(detections, expected[[*DETECTIONS, *PLACES]])
    pd.testing.assert_frame_equal(tracks, only_confirmed(expected))
