"""Frames that travel in a deploy file: its network finds something in them, on any machine and in any back end."""

import base64
import json
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack_engines.backends.runner import FrameSize

EXAMPLE_KEY = "streamtrack_example"
EXAMPLE_PX = 128

Frames = NDArray[np.uint8] | NDArray[np.uint16]

_MOST_BYTES = 1 << 25


def example_properties(frames: NDArray[np.uint16]) -> dict[str, str]:
    """Return the ONNX ``metadata_props`` for frames (T, H, W)."""
    packed = base64.b64encode(zlib.compress(frames.astype("<u2").tobytes(), 9)).decode()
    return {EXAMPLE_KEY: json.dumps({"shape": frames.shape, "zlib": packed})}


def example_of(properties: Mapping[str, str], name: str) -> NDArray[np.uint16] | None:
    """Return the frames (T, H, W) that `example_properties` wrote, None if there are none; raises EngineError."""
    if EXAMPLE_KEY not in properties:
        return None
    try:
        said = json.loads(properties[EXAMPLE_KEY])
        n_frames, height, width = map(int, said["shape"])
        raw = zlib.decompressobj().decompress(base64.b64decode(said["zlib"]), _MOST_BYTES)
        if min(n_frames, height, width) < 1:
            raise ValueError("frames without pixels")
        return np.frombuffer(raw, "<u2").reshape(n_frames, height, width).astype(np.uint16)
    except (ValueError, TypeError, KeyError, zlib.error) as error:
        raise EngineError(f"the example frames of {name} are damaged ({error}): export or pack it again") from error


def movie_of(example: NDArray[np.uint16], n_frames: int, size: FrameSize) -> Frames:
    """Return a movie (n_frames, H, W) made of example frames: mirrored at their borders, again from the first on.

    Where they do not fit into bytes, they are scaled to fit.
    """
    frames = example[np.arange(n_frames) % len(example)]
    for axis, wanted in ((1, size.height), (2, size.width)):
        length = frames.shape[axis]
        place = np.arange(wanted) % (2 * length)
        frames = frames.take(np.minimum(place, 2 * length - 1 - place), axis)
    if size.itemsize == 2:
        return frames
    return (frames * min(1.0, 255 / max(int(frames.max()), 1))).round().astype(np.uint8)
