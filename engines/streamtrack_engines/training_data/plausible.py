"""Whether marks belong where they are: positions in µm, and y for x, are the usual mistakes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata

from streamtrack.errors import ConfigError
from streamtrack_engines.training_data.images import MarkedImage

_ENOUGH = 10
"""Marks; fewer prove nothing."""
_CORNER = 0.35
"""Share of height and width: all marks in so small a corner are hardly in px."""
_SPECK = 0.035
"""Such a share, in spite of a pixel size that was said: it is in nm, or the marks were in px."""
_SURE = 3.0
"""Standard errors by which the contrast must be higher where marks with y and x swapped would be."""
_WINDOWS_PX = (9, 31)


def check_plausible(images: Sequence[MarkedImage], binning: int, said_pixel_size: bool) -> None:
    """Raise ConfigError where the marks of all images together look as if they were in µm, or had y and x swapped."""
    reach = [_reach(image, binning) for image in images]
    n = sum(len(marked.points) for image in images for marked in image.marked.values())
    if n < _ENOUGH:
        return
    furthest = max(reach, default=1.0)
    if furthest < _CORNER and not said_pixel_size:
        raise ConfigError(
            f"all {n} points lie in the upper left {furthest:.0%} of the images: if they are in µm, say how large a "
            "pixel is with --pixel-size; if they are right as they are, say --pixel-size 1"
        )
    if furthest < _SPECK:
        raise ConfigError(
            f"by that pixel size all {n} points lie in the upper left {furthest:.1%} of the images: it is in µm, and "
            "points that are in px need none"
        )
    if _is_swapped(images):
        raise ConfigError(
            f"the {n} points lie where little stands out, but with y and x swapped on what does: swap the names of "
            "these columns"
        )


def _is_swapped(images: Sequence[MarkedImage]) -> bool:
    """Return whether there is more contrast where marks would be with y and x swapped, than at the marks and anywhere.

    The middle of a ring or of a nucleus is flat, and yet right: the surroundings count, small and large ones.
    """
    given, swapped = (np.concatenate(each) for each in zip(*map(_ranks, images), strict=True))
    if len(swapped) < _ENOUGH:
        return False
    error = np.sqrt((1 / len(given) + 1 / len(swapped)) / 12)
    return bool(swapped.mean() - max(given.mean(), 0.5) > _SURE * error)


def _reach(image: MarkedImage, binning: int) -> float:
    """Return how far into the image the marks go, as a share of height or width."""
    shares = [
        float((marked.points * binning / np.array(image.raw_shape)).max())
        for marked in image.marked.values()
        if len(marked.points)
    ]
    return max(shares, default=0.0)


def _ranks(image: MarkedImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ranks of the contrast at the marks, and at the places with y and x swapped that are in the image."""
    given, swapped = [np.empty(0)], [np.empty(0)]
    for frame, marked in list(image.marked.items())[:: max(1, len(image.marked) // 10)]:
        if not len(marked.points):
            continue
        ranks = _rank_map(image.frames[frame])
        y, x = np.rint(marked.points).astype(np.intp).T
        given.append(ranks[y.clip(0, ranks.shape[0] - 1), x.clip(0, ranks.shape[1] - 1)])
        inside = (x < ranks.shape[0]) & (y < ranks.shape[1]) & (x >= 0) & (y >= 0)
        swapped.append(ranks[x[inside], y[inside]])
    return np.concatenate(given), np.concatenate(swapped)


def _rank_map(levels: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the mean rank, 0 to 1, of the contrast in each pixel's surroundings of some sizes."""
    pixels = levels.astype(np.float64)
    ranks = np.zeros(levels.shape)
    for window in _WINDOWS_PX:
        contrast = np.round(uniform_filter(pixels**2, window) - uniform_filter(pixels, window) ** 2, 6)
        ranks += rankdata(contrast).reshape(levels.shape) / (contrast.size * len(_WINDOWS_PX))
    return ranks
