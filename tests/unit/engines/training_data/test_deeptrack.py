from pathlib import Path

import numpy as np
import pytest

from streamtrack.errors import ConfigError
from streamtrack_engines.training_data.deeptrack import DeepTrack
from streamtrack_engines.training_data.truth import seeded

pytest.importorskip("deeptrack", reason="needs the extra deeptrack")
EXAMPLES = Path(__file__).parents[4] / "examples" / "deeptrack"
SPOTS = """
import deeptrack as dt
import numpy as np

def pipeline():
    particle = dt.PointParticle(position=lambda: np.random.uniform(-4, 68, 2), position_unit="pixel", intensity=1000)
    sample = particle ^ 6
    optics = dt.Fluorescence(NA=0.7, wavelength=500e-9, resolution=1e-6, magnification=10, output_region=(0, 0, 64, 64))
    return (optics(sample) >> dt.Add(10)) & sample

def image_alone():
    return dt.Value(np.eye(64))

def flat():
    return dt.Value(np.ones((64, 64)))

def field():
    return dt.Value(np.eye(64) * 1j)

def broken():
    return dt.Lambda(lambda: lambda image: image.nothing)(dt.Value(np.eye(64)))

number = 5
"""


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    path = tmp_path_factory.mktemp("deeptrack") / "spots.py"
    path.write_text(SPOTS, encoding="utf-8")
    return path


def test_a_batch_belongs_to_its_seed_and_leaves_other_randomness_alone(spots):
    data = DeepTrack(path=spots)
    np.random.seed(3)
    first = np.random.random()
    np.random.seed(3)
    one, other = (seeded(data, (1, 2), 2, 48, 1) for _ in range(2))
    assert np.random.random() == first
    assert one.noisy.shape == (2, 2, 48, 48)
    np.testing.assert_array_equal(one.noisy, other.noisy)
    np.testing.assert_array_equal(one.points, other.points)


@pytest.mark.parametrize("size_px", [48, 64, 100])
def test_particles_are_where_it_is_bright_also_where_images_are_put_together(spots, size_px):
    data = DeepTrack(path=spots)
    truth = seeded(data, (5,), 12, size_px, 0)
    crop, y, x = truth.points.T
    assert max(y.max(), x.max()) <= size_px + 1
    assert min(y.min(), x.min()) >= -2
    clear = (truth.points[:, 1:] > 3).all(1) & (truth.points[:, 1:] < size_px - 4).all(1)
    apart = [(np.hypot(y[crop == c] - b, x[crop == c] - a) < 10).sum() == 1 for c, b, a in truth.points]
    offsets = []
    for c, b, a in truth.points[clear & np.array(apart)]:
        row, column = round(b), round(a)
        part = truth.noisy[int(c), 0, row - 3 : row + 4, column - 3 : column + 4] - 10 * data.scale
        rows, columns = np.mgrid[row - 3 : row + 4, column - 3 : column + 4]
        if part.shape == (7, 7):
            offsets.append(((part * rows).sum() / part.sum() - b, (part * columns).sum() / part.sum() - a))
    assert len(offsets) > 8
    np.testing.assert_allclose(np.mean(offsets, axis=0), 0, atol=0.1)  # 0 is the middle of a pixel
    assert np.median(np.abs(offsets)) < 0.1


def test_the_examples_give_counts(tmp_path):
    for name, n_spots in (("particles.py", (6, 21)), ("holograms.py", (0, 4))):
        data = DeepTrack(path=EXAMPLES / name)
        truth = dict(data.held_out(0, 2, 96, 0))["pipeline"]
        assert n_spots[0] <= len(truth.points) / 2 <= n_spots[1]
        assert 50 < np.ptp(truth.noisy) < 2000
        assert data.example(2, 96, 128).shape == (2, 96, 128)


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("nothing", "has no function nothing"),
        ("number", "has no function number"),
        ("image_alone", None),
        ("flat", "each of one grey level"),
        ("field", "complex field"),
        ("broken", "broken: .*nothing"),
    ],
)
def test_what_is_no_such_pipeline_is_said(spots, pipeline, said):
    if said is None:
        assert not len(seeded(DeepTrack(path=spots, pipeline=pipeline), (0,), 1, 64, 0).points)
    else:
        with pytest.raises(ConfigError, match=said):
            DeepTrack(path=spots, pipeline=pipeline)


def test_a_file_that_is_not_there_or_no_python_is_said(tmp_path):
    (tmp_path / "bad.py").write_text("def pipeline(:", encoding="utf-8")
    for name in ("none.py", "bad.py"):
        with pytest.raises(ConfigError, match=name):
            DeepTrack(path=tmp_path / name)
