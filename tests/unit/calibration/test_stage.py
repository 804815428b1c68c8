import numpy as np
import pytest

from streamtrack.actuators.guard import Guard
from streamtrack.calibration.stage import fit, measure_stage
from streamtrack.config import SafetyConfig
from streamtrack.errors import MicroscopeError
from streamtrack.testing.microscope import SimulatedMicroscope

SIZE = 96
UM_PER_PX = 0.2
TURNS = {
    "plain": [[1, 0], [0, 1]],
    "turned by 90": [[0, -1], [1, 0]],
    "turned by 180": [[-1, 0], [0, -1]],
    "turned by 270": [[0, 1], [-1, 0]],
    "mirrored in x": [[-1, 0], [0, 1]],
    "mirrored in y": [[1, 0], [0, -1]],
    "transposed": [[0, 1], [1, 0]],
    "transposed and mirrored": [[0, -1], [-1, 0]],
    "by 30 degrees, pixels not square": [[0.87, -0.55], [0.5, 0.95]],
}


class Sample:
    """Spots on a stage, seen by a camera that is mounted in some way; after a while they may move by themselves."""

    def __init__(self, um_per_px, *, spots=300, drift_px=0.0, jitter_px=0.0, slip=(1.0, 1.0)):
        self.microscope = SimulatedMicroscope(um_per_px=None)
        self.looks = 0
        self._inverse = np.linalg.inv(um_per_px)
        self._rng = np.random.default_rng(2)
        self._spots = self._rng.uniform(-SIZE, 2 * SIZE, (spots, 2))
        self._drift_px, self._jitter_px, self._slip = drift_px, jitter_px, np.array(slip)

    def look(self):
        """Return the image where the stage is now."""
        self.looks += 1
        places = self._spots - self._inverse @ (self._slip * self.microscope.stage_um()) + self.looks * self._drift_px
        places = places + self._rng.normal(0, 1, places.shape) * self._jitter_px
        y, x = np.mgrid[:SIZE, :SIZE]
        image = np.full((SIZE, SIZE), 50.0)
        for spot_x, spot_y in places:
            if -6 < spot_y < SIZE + 6 and -6 < spot_x < SIZE + 6:
                image += 150 * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / 4.5)
        return self._rng.poisson(image).astype(np.float64)

    def measure(self, x_um=(-50, 50), y_um=(-50, 50), pixel_um=None):
        guard = Guard(self.microscope, SafetyConfig(x_um=x_um, y_um=y_um), "armed")
        return measure_stage(guard, self.look, x_um, y_um, pixel_um)


FIRST_GUESSES_UM = [UM_PER_PX, 10 * UM_PER_PX, 0.01 * UM_PER_PX]


@pytest.mark.parametrize(
    ("turn", "pixel_um"),
    [(turn, None) for turn in TURNS.values()]
    + [(turn, um) for turn, um in zip(TURNS.values(), FIRST_GUESSES_UM, strict=False)],
)
def test_the_matrix_is_found_however_the_camera_is_mounted_and_the_stage_comes_back(turn, pixel_um):
    matrix = UM_PER_PX * np.array(turn, float)
    sample = Sample(matrix)
    sample.microscope.move_stage_um(3.0, -4.0)
    found = sample.measure(pixel_um=pixel_um)
    np.testing.assert_allclose(found.um_per_px, matrix, atol=0.02 * UM_PER_PX)
    assert found.residual_px < 0.3
    assert found.is_mirrored == (np.linalg.det(matrix) < 0)
    assert found.longest_px < 0.26 * SIZE
    assert sample.microscope.stage_um() == (3.0, -4.0)


def test_rotation_and_pixel_size_are_said():
    found = Sample(UM_PER_PX * np.array(TURNS["turned by 90"], float)).measure()
    assert found.rotation_deg == pytest.approx(90, abs=1)
    assert found.pixel_um == pytest.approx((UM_PER_PX, UM_PER_PX), rel=0.02)


def test_it_stays_within_limits_that_leave_room_on_one_side_only():
    sample = Sample(UM_PER_PX * np.eye(2))
    found = sample.measure(x_um=(0, 3), y_um=(-2.5, 0))
    np.testing.assert_allclose(found.um_per_px, UM_PER_PX * np.eye(2), atol=0.05 * UM_PER_PX)
    x, y = np.array([call[1:] for call in sample.microscope.calls]).T
    assert (x.min(), x.max()) >= (0, 1)
    assert x.max() <= 3
    assert y.min() >= -2.5
    assert y.max() <= 0


@pytest.mark.parametrize(
    ("settings", "limits", "said"),
    [
        ({}, {"x_um": (-0.5, 0.5)}, r"moves along x_um, of 0\.5 um at last, do not shift the image"),
        ({}, {"x_um": (5, 50)}, r"the stage is at x_um = 0, outside safety\.x_um: move it inside first"),
        (
            {"slip": (1.0, 0.0)},
            {},
            "moves along y_um, of 50 um at last, do not shift the image: look whether the stage",
        ),
        ({"spots": 0}, {}, "two images of the same place do not agree .* there has to be more to see"),
        ({"drift_px": 2.0}, {}, "the image moves without the stage"),
        ({"jitter_px": 20.0}, {}, "two images of the same place do not agree|the image moves without the stage"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_the_stage_comes_back(settings, limits, said):
    sample = Sample(UM_PER_PX * np.eye(2), **settings)
    with pytest.raises(MicroscopeError, match=said) as caught:
        sample.measure(**limits)
    assert len(str(caught.value).splitlines()) == 1
    assert sample.microscope.stage_um() == (0, 0)


@pytest.mark.parametrize("at", range(1, 12))
def test_the_stage_comes_back_whenever_it_is_broken_off(at):
    sample = Sample(UM_PER_PX * np.eye(2))
    sample.microscope.move_stage_um(1.0, 2.0)
    look = sample.look

    def break_off():
        if sample.looks == at:
            raise KeyboardInterrupt
        return look()

    sample.look = break_off
    with pytest.raises(KeyboardInterrupt):
        sample.measure()
    assert sample.microscope.stage_um() == (1.0, 2.0)


def test_shifts_that_no_matrix_explains_are_refused():
    moves = np.array([[10, 0], [0, 10], [-10, 0], [0, -10], [10, 10], [-10, -10]], float)
    slipping = 2 * moves + np.array([[0, 0], [0, 0], [9, 0], [0, 0], [0, 0], [0, 5]])
    with pytest.raises(MicroscopeError, match=r"the image does not follow the stage, .* px of shifts of up to"):
        fit(moves, slipping)
    with pytest.raises(MicroscopeError, match="along one line only"):
        fit(moves, moves @ [[1, 1], [1, 1]])
