import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial import cKDTree

from streamtrack.errors import ConfigError
from streamtrack.simulation import Movie, MovieSettings, ground_truth
from streamtrack.simulation.render import add_spots
from streamtrack.simulation.scenarios import SCENARIOS

NAMES = ("vesicle", "receptor", "microtubule")


def small(scenario, **settings):
    return MovieSettings(**{"scenario": scenario, "frames": 12, "height_px": 96, "width_px": 150, **settings})


def in_frame(movie, frame):
    return movie.tracks[movie.tracks.frame == frame]


def test_background_is_pure_poisson_of_mean_16():
    movie = Movie(MovieSettings("receptor", density=0, frames=4))
    pixels = np.stack([movie.noisy(k) for k in range(4)]).astype(float)
    assert pixels.mean() == pytest.approx(16, abs=0.02)
    assert pixels.var() == pytest.approx(16, abs=0.12)
    assert stats.skew(pixels, axis=None) == pytest.approx(0.25, abs=0.012)
    assert (movie.clean(0) == 16).all()
    assert movie.tracks.empty


def test_background_is_independent_from_pixel_to_pixel_and_frame_to_frame():
    movie = Movie(MovieSettings("vesicle", density=0, frames=4))
    one, two = (movie.noisy(k).astype(float) - 16 for k in (0, 1))
    for other in (two[:, :-1], one[:, 1:], np.roll(one, 1, axis=0)[:, :-1]):
        assert abs(np.corrcoef(one[:, :-1].ravel(), other.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("scenario", NAMES)
def test_noise_is_poisson_on_the_particles_too(scenario):
    movie = Movie(small(scenario, snr=7, density=2000, height_px=256, width_px=256))
    clean, noisy = (np.stack([draw(k) for k in range(12)]).astype(float) for draw in (movie.clean, movie.noisy))
    for low, high in ((16.5, 25), (25, 40), (40, 200)):
        level = (clean > low) & (clean <= high)
        deviation = noisy[level] - clean[level]
        assert deviation.mean() == pytest.approx(0, abs=0.1)
        assert np.mean(deviation**2 / clean[level]) == pytest.approx(1, abs=0.03)


def measured_amplitudes(movie, scenario, isolation_px):
    """Fit the height of each particle that has no neighbour, in the noisy frames, at its true position."""
    amplitudes = []
    for frame in range(len(movie)):
        table, image = in_frame(movie, frame), movie.noisy(frame) - 16.0
        nearest = cKDTree(table[["y", "x"]]).query(table[["y", "x"]], k=2)[0][:, 1]
        for y, x, heading in table.loc[nearest > isolation_px, ["y", "x", "heading"]].to_numpy():
            shape = np.zeros(image.shape, np.float32)
            add_spots(shape, *np.array([[y], [x], [1.0], [heading]]), SCENARIOS[scenario].profile)
            amplitudes.append((shape * image).sum() / (shape * shape).sum())
    return np.array(amplitudes)


@pytest.mark.parametrize(("snr", "amplitude"), [(1, 4.5), (2, 10.2), (4, 25.9), (7, 61.7)])
def test_amplitude_in_the_noisy_frames_follows_from_the_snr(snr, amplitude):
    movie = Movie(small("receptor", snr=snr, density=600, frames=60))
    fitted = measured_amplitudes(movie, "receptor", isolation_px=14)
    assert len(fitted) > 500
    assert fitted.mean() == pytest.approx(amplitude, abs=4 * fitted.std() / len(fitted) ** 0.5)
    assert fitted.mean() == pytest.approx(amplitude, rel=0.1)


def test_comets_differ_in_brightness_and_keep_it():
    tracks = Movie(MovieSettings("microtubule", snr=7, density=400)).tracks
    amplitude = tracks.groupby("particle").amplitude
    assert amplitude.nunique().max() == 1
    per_track = amplitude.first()
    assert 27 <= per_track.min() < 31
    assert 57 < per_track.max() <= 60
    assert per_track.median() == pytest.approx(48, abs=1)
    assert per_track.mean() == pytest.approx(47.1, abs=1)


def test_comets_point_along_their_motion():
    tracks = Movie(small("microtubule", density=800)).tracks.sort_values(["particle", "frame"])
    step = tracks.groupby("particle")[["y", "x"]].diff()
    moved = step.y.notna()
    off = np.angle(np.exp(1j * (np.arctan2(step.y, step.x) - tracks.heading)))[moved]
    np.testing.assert_allclose(off, 0, atol=1e-6)


@pytest.mark.parametrize("scenario", NAMES)
def test_all_light_comes_from_particles_of_the_ground_truth(scenario):
    movie = Movie(small(scenario, density=250))
    for frame in range(len(movie)):
        dark = np.ones((96, 150), bool)
        near = np.rint(in_frame(movie, frame)[["y", "x"]].to_numpy()).astype(int)
        dark[near[:, 0].clip(0, 95), near[:, 1].clip(0, 149)] = False
        far = ndimage.distance_transform_edt(dark) > SCENARIOS[scenario].profile.reach_px + 1
        assert far.any()
        assert (movie.clean(frame)[far] == 16).all()


@pytest.mark.parametrize("scenario", NAMES)
def test_every_particle_of_the_ground_truth_is_in_the_image(scenario):
    movie = Movie(small(scenario, density=800, snr=7))
    for frame in range(len(movie)):
        table = in_frame(movie, frame)
        pixel = np.rint(table[["y", "x"]].to_numpy()).astype(int).clip(0, [95, 149])
        light = movie.clean(frame)[pixel[:, 0], pixel[:, 1]] - 16
        assert (light > 0.7 * table.amplitude).all()


@pytest.mark.parametrize("scenario", NAMES)
def test_frames_can_be_drawn_in_any_order_and_again(scenario):
    settings = small(scenario, density=300)
    forwards = [Movie(settings).noisy(k) for k in range(12)]
    movie = Movie(settings)
    for frame in (11, 3, 0, 3):
        np.testing.assert_array_equal(movie.noisy(frame), forwards[frame])
    assert not np.array_equal(forwards[0], forwards[1])


def test_seed_decides_tracks_and_noise():
    one, two = (Movie(small("vesicle", seed=seed)) for seed in (1, 2))
    assert not one.tracks.equals(two.tracks)
    empty = [Movie(small("vesicle", density=0, seed=seed)).noisy(0) for seed in (1, 2)]
    assert not np.array_equal(*empty)


def test_ground_truth_is_that_of_the_movie():
    settings = small("receptor")
    truth = ground_truth(settings)
    assert list(truth.columns) == ["frame", "particle", "y", "x"]
    assert truth.frame.is_monotonic_increasing
    assert truth.equals(Movie(settings).tracks[["frame", "particle", "y", "x"]])


@pytest.mark.parametrize(("snr", "dtype"), [(1, np.uint8), (7, np.uint8), (9, np.uint16)])
def test_dtype_follows_from_the_amplitude(snr, dtype):
    movie = Movie(small("receptor", snr=snr, density=3000))
    assert movie.dtype == dtype
    image = movie.noisy(5)
    assert image.dtype == dtype
    assert image.shape == (96, 150)
    assert image.max() < np.iinfo(dtype).max


def test_bright_heaps_saturate_and_do_not_wrap_around():
    movie = Movie(small("vesicle", snr=7, density=100_000))
    saturated = movie.clean(3) > 400
    assert saturated.any()
    assert (movie.noisy(3)[saturated] == 255).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scenario": "virus"}, "scenario = 'virus' .* 'vesicle', 'receptor' or 'microtubule'"),
        ({"snr": 0.0}, "snr = 0.0 .* greater than 0"),
        ({"snr": float("nan")}, "snr = nan"),
        ({"density": -1.0}, "density = -1.0 .* or equal to 0"),
        ({"density": float("inf")}, "density = inf"),
        ({"frames": 3}, "frames = 3 .* or equal to 4"),
        ({"height_px": 31}, "height_px = 31 .* or equal to 32"),
        ({"width_px": 0}, "width_px = 0 .* or equal to 32"),
        ({"seed": -1}, "seed = -1 .* or equal to 0"),
    ],
)
def test_impossible_settings_are_refused_in_one_line_with_the_cure(wrong, message):
    with pytest.raises(ConfigError, match=message) as caught:
        small(**{"scenario": "vesicle", **wrong})
    assert "\n" not in str(caught.value)
