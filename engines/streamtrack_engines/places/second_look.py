"""Where particles are, by a network that looks at a crop round each: spots, rings, and particles in bright field.

DeepTrack 2 (Midtvedt et al., Appl. Phys. Rev. 8 (2021) 011310, IV.2) localises so what no model of a point describes.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamtrack.types import Detections, Pixels
from streamtrack_engines.classify.measure import patches_at
from streamtrack_engines.gaussian_fits import SAME_PX
from streamtrack_engines.localise import LEAST_ERROR_PX
from streamtrack_engines.places.file import CropFile

Floats = NDArray[np.float64]

_AGAIN_PX = 0.7
"""A particle farther from the middle of its crop is looked at again, in the middle of another one."""

_BORDER = 0.25
"""Nearer to the border than this share of the crop's side, places stay: too much of the crop is not there."""


class CropPlaces:
    """Looks again, at crops of the frame, at what a network found.

    Parameters
    ----------
    weights
        ``"spots"``, ``"particles"``, or the path of an ``.onnx`` file of ``streamtrack train``.
    threads
        CPU threads; one per core if None.
    is_dark
        They are darker than what is around.

    Raises
    ------
    EngineError
        The weights are missing, damaged, or of something else.
    """

    def __init__(self, weights: str, threads: int | None = None, *, is_dark: bool = False) -> None:
        self._file = CropFile(weights, threads)
        size_px = self._file.metadata.crop_px
        self._reach, self._border_px = np.arange(size_px) - size_px // 2, _BORDER * size_px
        self._most_px = 1.5 * float(self._file.metadata.recipe["data"]["offset_px"])
        self._sign = np.float32(-1 if is_dark else 1)

    def prepare(self, shape: tuple[int, int]) -> None:
        """Warm up."""
        size_px = len(self._reach)
        self._file.said(np.zeros((2, size_px, size_px), np.float32))

    def localised(self, pixels: Pixels, found: Detections) -> Detections:
        """Return detections with the places and errors of this network where it is surer, and each particle once.

        Parameters
        ----------
        pixels
            The frame, (H, W), all finite.
        found
            Positions in px of this frame. Of several of one particle the one with the highest score stays.
        """
        if not len(found):
            return found
        first = np.column_stack((found.y, found.x)).astype(np.float64)
        places, error = self._looked_at(pixels, first)
        again = np.flatnonzero(np.abs(places - first.round()).max(1) > _AGAIN_PX)
        places[again], error[again] = self._looked_at(pixels, places[again])
        last = np.array(pixels.shape) - 1
        is_inside = ((first >= self._border_px) & (first <= last - self._border_px)).all(1)
        is_near = np.hypot(*(places - first).T) <= self._most_px
        is_better = is_inside & is_near & (error < found.sigma)
        y, x = np.where(is_better[:, None], places, first).astype(np.float32).T
        sigma = np.where(is_better, error.clip(LEAST_ERROR_PX), found.sigma).astype(np.float32)
        return _each_once(replace(found, y=y.copy(), x=x.copy(), sigma=sigma), is_better)

    def _looked_at(self, pixels: Pixels, places: Floats) -> tuple[Floats, Floats]:
        """Return what the network says of places (N, 2), px: where, (N, 2), and the error along each axis, (N,)."""
        middle = places.round()
        said = self._file.said(self._sign * patches_at(pixels, middle[:, 0], middle[:, 1], self._reach)).astype(
            np.float64
        )
        n = said.shape[1] // 2
        limits = (0, 0), np.array(pixels.shape) - 1.0
        return (middle + said[:, :2]).clip(*limits), np.sqrt(np.exp(2 * said[:, n : n + 2]).mean(1))


def _each_once(found: Detections, is_moved: NDArray[np.bool_]) -> Detections:
    """Return detections without those that were moved onto another of a higher score."""
    keep = np.ones(len(found), np.bool_)
    rows = np.flatnonzero(is_moved)
    if len(rows) > 1:
        pairs = rows[cKDTree(np.column_stack((found.y, found.x))[rows]).query_pairs(SAME_PX, output_type="ndarray")]
        for one, other in sorted(pairs.tolist()):
            if keep[one] and keep[other]:
                keep[other if found.score[one] >= found.score[other] else one] = False
    if keep.all():
        return found
    y, x, score, mass, sigma = (each[keep] for each in (found.y, found.x, found.score, found.mass, found.sigma))
    return replace(
        found, y=y, x=x, score=score, mass=mass, sigma=sigma, extra={k: v[keep] for k, v in found.extra.items()}
    )
