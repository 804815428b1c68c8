"""Simulated cells and nuclei, made on the fly: `streamtrack.simulation.cells`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.simulation.cells import CellRanges, draw_cells
from streamtrack_engines.training_data.truth import Truth

_STEP_PX = 4  # of the scene's coarse parts
_EXAMPLE_DIAMETER_PX = 12.0  # some fit into the smallest frame


@dataclass(frozen=True, slots=True)
class Cells(CellRanges):
    """Simulated crops of cells: ellipses with texture, touching, out of focus, among debris and in uneven light.

    What a crop may look like is said by the ranges of `streamtrack.simulation.cells.CellRanges`.

    Parameters
    ----------
    held_out_diameter_px
        Diameters of the cells on which the training is evaluated.
    beyond_px
        How far beyond a crop cells are told of, px: a head that counts needs three times its ``spread_px``.
    """

    held_out_diameter_px: tuple[float, ...] = (8.0, 16.0, 28.0, 44.0)
    beyond_px: float = 0.0

    def __post_init__(self) -> None:
        """Refuse ranges that nothing can be drawn from."""
        for each in fields(self):
            value = getattr(self, each.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if each.name == "beyond_px":
                reason = None if value >= 0 else "it must be 0 or more"
            elif each.name.endswith("_fraction"):
                reason = None if 0 <= value <= 1 else "a share lies between 0 and 1"
            elif min(numbers) <= 0:
                reason = "all numbers must be above 0"
            else:
                reason = None if list(numbers) == sorted(numbers) else "the second number must not be smaller"
            if reason:
                raise ConfigError(f"training data 'cells': {each.name} = {value}: {reason}")

    def batch(self, rng: np.random.Generator, n: int, size_px: int, n_before: int) -> Truth:
        """Return ``n`` crops, each of a scene of its own that stands still and ends `beyond_px` outside of it."""
        margin = _STEP_PX * ceil(self.beyond_px / _STEP_PX)
        scenes = [draw_cells(rng, size_px + 2 * margin, self) for _ in range(n)]
        shown = slice(margin, margin + size_px)
        noisy = np.stack([[scene.expose(rng)[shown, shown] for _ in range(n_before + 1)] for scene in scenes])
        cells = np.concatenate([scene.cells - (margin, margin, 0) for scene in scenes]).astype(np.float32)
        crop = np.repeat(np.arange(n, dtype=np.float32), [len(scene.cells) for scene in scenes])
        return Truth(noisy, np.column_stack((crop, cells[:, :2])), known={"radius_px": cells[:, 2]})

    def held_out(self, seed: int, n: int, size_px: int, n_before: int) -> Iterator[tuple[str, Truth]]:
        """Yield clear cells, one lot for each diameter."""
        for diameter in self.held_out_diameter_px:
            yield f"{diameter:g}px", self._of(diameter).batch(np.random.default_rng(seed), n, size_px, n_before)

    def example(self, n_frames: int, height: int, width: int) -> NDArray[np.float32]:
        """Return a movie of clear cells."""
        clear = replace(self._of(_EXAMPLE_DIAMETER_PX), contrast=(30.0, 30.0), small_fraction=0.0)
        crops = clear.batch(np.random.default_rng(0), 1, max(height, width), n_frames - 1)
        return np.ascontiguousarray(crops.noisy[0, :, :height, :width])

    def _of(self, diameter_px: float) -> "Cells":
        return replace(
            self, diameter_px=(diameter_px, diameter_px), contrast=(5.0, 50.0), covered=(0.1, 0.5), empty_fraction=0.0
        )
