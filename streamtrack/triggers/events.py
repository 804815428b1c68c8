"""Events about a single track."""

import numpy as np

from streamtrack.types import Event, LiveTracks


def event_at(tracks: LiveTracks, row: int | np.intp, **values: float) -> Event:
    """Return an event about the track in a row, where it is now; with its height ``z_um``, where that was measured."""
    height = tracks.values.get("z_um")
    if height is not None and np.isfinite(height[row]):
        values = {"z_um": float(height[row])} | values
    return Event(int(tracks.particle[row]), float(tracks.y[row]), float(tracks.x[row]), values)
