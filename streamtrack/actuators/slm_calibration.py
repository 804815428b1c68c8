"""Where a pixel of the camera's image is on a spatial light modulator: measured once, kept in a file."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.files import write_durably
from streamtrack.types import SourceInfo

KIND = "streamtrack SLM calibration"
CURE = "run 'streamtrack calibrate slm RUN.toml' again"
SAME = ("roi", "binning")
"""What a source says of its camera that has to be as it was."""


@dataclass(frozen=True, slots=True, eq=False)
class SlmCalibration:
    """How the camera's image lies on a modulator.

    Attributes
    ----------
    device
        The modulator.
    slm_shape, camera_shape
        Height and width, px.
    camera_to_slm
        Shape (2, 3): ``camera_to_slm @ (x, y, 1)`` is where (x, y) of the image is on the modulator, x and y, px.
    residual_px
        What it left of the spots that it was measured with, root mean square, camera px.
    camera
        What the source said of `SAME`.
    """

    device: str
    slm_shape: tuple[int, int]
    camera_shape: tuple[int, int]
    camera_to_slm: NDArray[np.float64]
    residual_px: float
    camera: Mapping[str, Any]

    def check(self, device: str, slm_shape: tuple[int, int], source: SourceInfo) -> None:
        """Raise ConfigError where it is another modulator's, or the camera's image is not as it was."""
        known = source.details.get("shape") is None  # 'check' looks through no camera
        pairs = [("device", self.device, device), ("size of the SLM", self.slm_shape, tuple(slm_shape))]
        pairs += [("size of the image", self.camera_shape, tuple(source.shape))] if known else []
        pairs += [(name, self.camera[name], source.details[name]) for name in SAME if self._is_said(name, source)]
        for what, was, now in pairs:
            if was != now:
                raise ConfigError(f"the SLM was calibrated with another {what}, {was} and not {now}: {CURE}")

    def pattern(self, y: float, x: float, radius_px: float, inner_px: float, intensity: int) -> NDArray[np.uint8]:
        """Return a disc, or a ring, around a place of the camera's image: shape `slm_shape`, uint8.

        Distances are px of the camera; a pixel of the modulator is lit if its centre is within.
        """
        height, width = self.slm_shape
        linear, offset = self.camera_to_slm[:, :2], self.camera_to_slm[:, 2]
        pattern = np.zeros(self.slm_shape, np.uint8)
        middle = linear @ (x, y) + offset
        reach = radius_px * np.hypot(linear[:, 0], linear[:, 1])
        low = np.clip(np.floor(middle - reach), 0, (width, height)).astype(int)
        high = np.clip(np.ceil(middle + reach) + 1, 0, (width, height)).astype(int)
        column, row = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        away = np.linalg.inv(linear) @ (np.stack((column.ravel(), row.ravel())) - middle[:, None])
        distance_px = np.hypot(*away).reshape(column.shape)
        lit = (distance_px <= radius_px) & (distance_px >= inner_px)
        pattern[low[1] : high[1], low[0] : high[0]][lit] = intensity
        return pattern

    def write(self, path: Path) -> None:
        """Write it down; raises ConfigError."""
        content = {
            "kind": KIND,
            "version": 1,
            "device": self.device,
            "slm_shape": list(self.slm_shape),
            "camera_shape": list(self.camera_shape),
            "camera_to_slm": self.camera_to_slm.tolist(),
            "residual_px": self.residual_px,
            "camera": dict(self.camera),
        }
        with foreign_errors(ConfigError, f"cannot write {path}"):
            write_durably(path, json.dumps(content, indent=1).encode())

    def _is_said(self, name: str, source: SourceInfo) -> bool:
        return self.camera.get(name) is not None and source.details.get(name) is not None


def read(path: Path) -> SlmCalibration:
    """Read a calibration; raises ConfigError where the file is none."""
    with foreign_errors(ConfigError, f"cannot read the calibration {path}"):
        text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        if content["kind"] != KIND or content["version"] != 1:
            raise ValueError
        matrix = np.array(content["camera_to_slm"], np.float64)
        slm_shape, camera_shape = (tuple(map(int, content[name])) for name in ("slm_shape", "camera_shape"))
        found = SlmCalibration(
            str(content["device"]),
            (slm_shape[0], slm_shape[1]),
            (camera_shape[0], camera_shape[1]),
            matrix,
            float(content["residual_px"]),
            dict(content["camera"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):
        raise ConfigError(f"{path} is no calibration of an SLM: {CURE}") from None
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all() or not abs(np.linalg.det(matrix[:, :2])) > 0:
        raise ConfigError(f"{path}: camera_to_slm is no affine transform: {CURE}")
    if min(*slm_shape, *camera_shape) < 1 or not math.isfinite(found.residual_px):
        raise ConfigError(f"{path} is no calibration of an SLM: {CURE}")
    return found
