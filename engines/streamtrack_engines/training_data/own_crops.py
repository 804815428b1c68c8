"""A window of an image with marks, and the frames before it; beyond the border the image is mirrored."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.everyday import enlarge
from streamtrack_engines.training_data.images import MarkedImage

Image = NDArray[np.float32]

_MARGIN_PX = 2.0
_STILL_SEEN_BEFORE = 0.5
"""Share of the crops of single images that get frames before: the same image, a little elsewhere, with more noise."""
_FARTHEST_PX = 3


@dataclass(frozen=True, slots=True)
class Window:
    """A square of an image: frame, first row and column, which may lie outside, and side in px."""

    frame: int
    top: int
    left: int
    side: int

    def inside(self, image: MarkedImage) -> "Window":
        """Return the window moved into the image; the middle of one that is larger."""
        at = []
        for start, size in zip((self.top, self.left), image.frames[self.frame].shape, strict=True):
            room = size - self.side
            at.append(min(max(start, 0), room) if room >= 0 else room // 2)
        return replace(self, top=at[0], left=at[1])


@dataclass(frozen=True, slots=True, eq=False)
class OwnCrop:
    """A window: ``noisy`` (1, T, S, S) float32; ``points`` (M, 3) float32, 0, y, x; ``radius_px`` (M,) float32."""

    noisy: Image
    points: Image
    radius_px: Image

    def scaled(self, size_px: int) -> "OwnCrop":
        """Return the crop interpolated to another size."""
        factor = size_px / self.noisy.shape[-1]
        if factor == 1:
            return self
        points = self.points.copy()
        points[:, 1:] = (points[:, 1:] + 0.5) * factor - 0.5
        return OwnCrop(enlarge(self.noisy, size_px, 1), points, self.radius_px * np.float32(factor))


def cut(
    rng: np.random.Generator,
    image: MarkedImage,
    window: Window,
    n_before: int,
    *,
    always_known: bool = False,
    beyond_px: float = 0.0,
) -> OwnCrop:
    """Return what a window shows of its frame and those before; one that is not known is all zeros.

    If ``always_known``, the frame itself stands for it, a little elsewhere and with more noise. Points are told of that
    are `beyond_px` outside, 2 px at least.
    """
    marked = image.marked[window.frame]
    shape = image.frames[window.frame].shape
    noisy = np.zeros((n_before + 1, window.side, window.side), np.float32)
    noisy[-1] = _seen(image.frames[window.frame], window)
    if n_before and (always_known or (image.is_still and rng.random() < _STILL_SEEN_BEFORE)):
        noisy[:-1] = [_again(rng, image, window, noisy[-1]) for _ in range(n_before)]
    for before in range(1, n_before + 1):
        if window.frame - before in image.frames:
            noisy[-1 - before] = _seen(image.frames[window.frame - before], window)
    points, which = _mirrored(marked.points, window, shape, max(beyond_px, _MARGIN_PX))
    columns = np.column_stack([np.zeros(len(points), np.float32), points]).astype(np.float32)
    return OwnCrop(noisy[None], columns, marked.radius_px[which])


def _seen(levels: NDArray[np.generic], window: Window) -> Image:
    rows, columns = (
        _mirror(np.arange(start, start + window.side), size)
        for start, size in zip((window.top, window.left), levels.shape, strict=True)
    )
    return np.asarray(levels[rows[:, None], columns], np.float32)


def _mirror(places: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return which row or column stands in for one beyond the border; the last is followed by itself."""
    within = places % (2 * size)
    return np.where(within < size, within, 2 * size - 1 - within)


def _mirrored(
    points: Image, window: Window, shape: tuple[int, ...], margin_px: float
) -> tuple[Image, NDArray[np.intp]]:
    """Return the points in a window or near it, from its first pixel, and which these are; mirrored as the image is.

    Where the window ends with the image there is nothing near it.
    """
    found, which = [np.empty((0, 2), np.float32)], [np.empty(0, np.intp)]
    starts = (window.top, window.left)
    tiles = [
        range(start // size, (start + window.side - 1) // size + 1) for start, size in zip(starts, shape, strict=True)
    ]
    for tile_y in tiles[0]:
        for tile_x in tiles[1]:
            placed = np.empty_like(points)
            for axis, tile in enumerate((tile_y, tile_x)):
                size = shape[axis]
                placed[:, axis] = tile * size + (points[:, axis] if tile % 2 == 0 else size - 1 - points[:, axis])
            placed -= np.array(starts, np.float32)
            near = ((placed >= -margin_px) & (placed <= window.side - 1 + margin_px)).all(1)
            found.append(placed[near])
            which.append(np.flatnonzero(near))
    return np.concatenate(found), np.concatenate(which)


def _again(rng: np.random.Generator, image: MarkedImage, window: Window, seen: Image) -> Image:
    """Return a single image once more, moved by a pixel or some, with as much noise again as it has."""
    down, right = rng.integers(-_FARTHEST_PX, _FARTHEST_PX + 1, 2).tolist()
    moved = _seen(image.frames[window.frame], replace(window, top=window.top + down, left=window.left + right))
    noise = 1.4826 * float(np.median(np.abs(np.diff(seen, axis=1)))) / 2**0.5
    return (moved + rng.normal(0.0, noise, moved.shape).astype(np.float32)).clip(0.0)
