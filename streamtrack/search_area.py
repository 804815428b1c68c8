"""Where in the frame particles are looked for: what the user chose, and what a processed movie covers."""

import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from streamtrack.errors import ConfigError
from streamtrack.mask_file import read_mask
from streamtrack.types import Detections, Pixels, SourceInfo

_RUN_PX = 16
"""So many equal pixels in a row along the frame's edge are no camera's."""
_RUN = b"\1" * (_RUN_PX - 1)


class SearchArea:
    """The part of the frame that is searched; a particle is in it when its pixel is.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    roi
        ``"Y0:Y1,X0:X1"``, px, ends left out as in Python's slices; each of the four may be missing.
    mask
        TIFF, PNG, ``.npy`` or zarr of the size of the frames: what is not 0 is searched, labels for example.

    Raises
    ------
    ConfigError
        They do not fit the frames, leave nothing, or the file cannot be read.
    """

    def __init__(self, shape: tuple[int, int], roi: str | None = None, mask: Path | None = None) -> None:
        self._inside: NDArray[np.bool_] = np.ones(shape, bool) if mask is None else read_mask(mask, shape)
        if roi is not None:
            chosen = np.zeros(shape, bool)
            chosen[_slices(roi, shape)] = True
            self._inside = self._inside & chosen
        self._said = "; ".join(f"{name} {value}" for name, value in (("roi", roi), ("mask", mask)) if value is not None)
        if not self._inside.any():
            raise ConfigError(f"{self._said}: no pixel is left to search")

    def __str__(self) -> str:
        """Return what is searched, in a line."""
        return f"searched {self._inside.mean():.1%} of the frame only: {self._said}"

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which pixels are searched, shape (H, W)."""
        return self._inside

    @property
    def crc32(self) -> str:
        """A checksum of that: a file may be drawn anew under its name."""
        return f"{zlib.crc32(np.packbits(self._inside).data):08x}"

    def holds(self, y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of the places, px, shape (N,) each, lie in it."""
        height, width = self._inside.shape
        row, column = (np.rint(each).astype(np.intp) for each in (y, x))
        inside: NDArray[np.bool_] = self._inside[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        return inside

    def of(self, found: Detections) -> Detections:
        """Return the detections that lie in it."""
        inside = self.holds(found.y, found.x)
        if inside.all():
            return found
        columns: dict[str, Any] = {name: getattr(found, name)[inside] for name in ("y", "x", "score", "mass", "sigma")}
        return replace(found, **columns, extra={name: values[inside] for name, values in found.extra.items()})


def area_of(source: SourceInfo) -> SearchArea | None:
    """Return where a run looked for particles, by what it says of its source; None for everywhere."""
    roi, mask = (source.details.get(name) for name in ("roi", "mask"))
    roi = roi if isinstance(roi, str) else None  # four numbers are the part of the chip that a camera reads out
    return None if roi is None and mask is None else SearchArea(source.shape, roi, None if mask is None else Path(mask))


def _slices(roi: str, shape: tuple[int, int]) -> tuple[slice, slice]:
    match = re.fullmatch(r"([0-9]{0,9}):([0-9]{0,9}),([0-9]{0,9}):([0-9]{0,9})", re.sub(r"\s", "", roi))
    if match is None:
        raise ConfigError(
            f"roi {roi!r} is not a rectangle: give Y0:Y1,X0:X1 in px, for example 0:{shape[0]},0:{shape[1]}"
        )
    ends = [int(end) if end else None for end in match.groups()]
    y, x = slice(*ends[:2]), slice(*ends[2:])
    if any(side is not None and side > size for side, size in zip(ends, (*shape[:1] * 2, *shape[1:] * 2), strict=True)):
        raise ConfigError(f"roi {roi} reaches beyond the frame of {shape[0]} x {shape[1]} px")
    return y, x


def mask_unseen(pixels: Pixels) -> tuple[Pixels, int]:
    """Replace what was never seen by the mean of the other pixels, or by 0 where there are none.

    Not seen are NaN and infinite pixels, and areas that are exactly constant and reach the frame's edge, as
    registration and rotation leave them: at least 16 px along it, and together no more than half of the frame. A larger
    one is a ground without noise, which is left as it is.

    Returns the image, copied only when something had to be replaced, and how many pixels were.
    """
    unseen = _constant_border(pixels)
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        unseen = ~np.isfinite(pixels) if unseen is None else unseen | ~np.isfinite(pixels)
    if unseen is None:
        return pixels, 0
    n = int(np.count_nonzero(unseen))
    mean = pixels[~unseen].mean(dtype=np.float64) if n < pixels.size else 0.0
    fill = np.asarray(mean if pixels.dtype == np.float32 else round(mean), pixels.dtype)
    return np.where(unseen, fill, pixels), n


def _constant_border(pixels: Pixels) -> NDArray[np.bool_] | None:
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    values = {value for edge in edges for value in _repeated(edge)}
    if not values:
        return None
    border = np.zeros(pixels.shape, bool)
    for value in values:
        areas, _ = label(pixels == value)
        reaching = [areas[0], areas[-1], areas[:, 0], areas[:, -1]]
        numbers = {int(edge[at]) for edge, line in zip(reaching, edges, strict=True) for at in _runs(line, value)}
        border |= np.isin(areas, list(numbers - {0}))
    return border if 0 < 2 * np.count_nonzero(border) <= border.size else None


def _repeated(edge: Pixels) -> list[Any]:
    """Return the values of which there are many in a row along an edge; mostly none."""
    same = (edge[1:] == edge[:-1]).tobytes()
    at, found = same.find(_RUN), []
    while at >= 0:
        found.append(edge[at].item())
        end = same.find(b"\0", at)
        at = -1 if end < 0 else same.find(_RUN, end)
    return found


def _runs(edge: Pixels, value: Any) -> list[int]:
    """Return where along an edge runs of this value begin that are long enough."""
    same = (edge == value).tobytes()
    at, found = same.find(b"\1" * _RUN_PX), []
    while at >= 0:
        found.append(at)
        end = same.find(b"\0", at)
        at = -1 if end < 0 else same.find(b"\1" * _RUN_PX, end)
    return found
