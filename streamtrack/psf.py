"""How the image of a point changes with its height behind a cylindrical lens: measured once, kept in a file.

The widths along y and x follow the usual defocus curve (Huang et al., Science 319 (2008) 810; Kao and Verkman, Biophys.
J. 67 (1994) 1291).
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamtrack.config import read_toml, validate
from streamtrack.errors import ConfigError

CURE = "write it anew with 'streamtrack calibrate psf'"
LEAST_SQUARE = 0.05
"""Of the width over that in focus: beyond the planes that were measured a polynomial may go anywhere."""


class Defocus(BaseModel):
    """Width along one axis: ``sigma_px * sqrt(1 + u² + third u³ + fourth u⁴)`` with ``u = (z - focus_um) / depth_um``.

    Attributes
    ----------
    sigma_px
        Standard deviation in focus, of the light before pixels integrate it.
    focus_um
        Height at which the image is narrowest along the axis.
    depth_um
        Distance from there at which it is about 1.4 times as wide.
    third, fourth
        What a real lens does besides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sigma_px: Annotated[float, Field(gt=0.2, le=20)]
    focus_um: float
    depth_um: Annotated[float, Field(gt=0)]
    third: float = 0.0
    fourth: float = 0.0

    def width_px(self, z_um: ArrayLike) -> NDArray[np.float64]:
        """Return the standard deviation at some heights."""
        u = (np.asarray(z_um, np.float64) - self.focus_um) / self.depth_um
        return self.sigma_px * np.sqrt(np.maximum(1 + u**2 + self.third * u**3 + self.fourth * u**4, LEAST_SQUARE))


class AstigmaticPsf(BaseModel):
    """The image of a point: a Gaussian along y and one along x, each with a width of its own that changes with z.

    Heights are those above the plane where both widths are the same, in the direction in which the focus drive's
    numbers rise.

    Attributes
    ----------
    range_um
        Heights for which it holds.
    y, x
        Widths along the axes of the image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["astigmatic psf"] = "astigmatic psf"
    version: Literal[1] = 1
    range_um: tuple[float, float]
    y: Defocus
    x: Defocus

    @model_validator(mode="after")
    def _tells_heights(self) -> "AstigmaticPsf":
        if not self.range_um[0] < self.range_um[1]:
            raise ValueError(f"range_um = {list(self.range_um)} does not rise")
        ratio = np.log(self.y.width_px(self._heights) / self.x.width_px(self._heights))
        if np.count_nonzero(np.diff(np.sign(ratio[ratio != 0]))) != 1:
            raise ValueError("within range_um the widths along y and x have to be the same at one height only")
        return self

    @property
    def _heights(self) -> NDArray[np.float64]:
        return np.linspace(*self.range_um, 101)

    def widths_px(self, z_um: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the standard deviations along y and x at some heights."""
        return self.y.width_px(z_um), self.x.width_px(z_um)

    def table(self) -> NDArray[np.float64]:
        """Return the numbers of y and x, shape (2, 5), in the order of `Defocus`."""
        axes = self.y, self.x
        return np.array([(each.sigma_px, each.focus_um, each.depth_um, each.third, each.fourth) for each in axes])

    def toml(self) -> str:
        """Return it as a file says it."""
        lines = [f'kind = "{self.kind}"', f"version = {self.version}"]
        lines += ["# heights (um) for which it holds; sigma_px: of light, before pixels integrate it"]
        lines += [f"range_um = [{self.range_um[0]:.4g}, {self.range_um[1]:.4g}]"]
        for name, axis in (("y", self.y), ("x", self.x)):
            lines += ["", f"[{name}]", *(f"{key} = {value:.6g}" for key, value in axis.model_dump().items())]
        return "\n".join(lines) + "\n"


STANDARD = AstigmaticPsf(
    range_um=(-0.8, 0.8),
    y=Defocus(sigma_px=1.3, focus_um=0.25, depth_um=0.45),
    x=Defocus(sigma_px=1.3, focus_um=-0.25, depth_um=0.45),
)
"""As of an oil objective and pixels of 0.1 um, for simulations."""


def read_psf(path: Path) -> AstigmaticPsf:
    """Read a file of ``streamtrack calibrate psf``; raises ConfigError where it is none."""
    content = read_toml(path)
    if content.get("kind") != "astigmatic psf":
        raise ConfigError(f"{path} is no calibration of a PSF: {CURE}")
    return validate(AstigmaticPsf, content, str(path))
