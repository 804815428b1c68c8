import numpy as np
import pytest

from streamtrack.errors import ConfigError
from streamtrack.formats.geff import write_geff
from streamtrack.formats.napari import write_napari
from streamtrack.formats.ptc_xml import write_ptc
from streamtrack.formats.tables import write_csv, write_parquet
from streamtrack.formats.trackmate import write_trackmate
from streamtrack.formats.tracks import by_track

WRITERS = [write_csv, write_geff, write_napari, write_parquet, write_ptc, write_trackmate]


def test_rows_come_sorted_and_whole(awkward):
    tracks = by_track(awkward)
    assert tracks.index.tolist() == list(range(8))
    assert tracks["particle"].tolist() == [2, 2, 2, 7, 40, 40, 40, 41]
    assert tracks["frame"].tolist() == [0, 1, 4, 4, 2, 5, 6, 3]
    assert tracks["score"].tolist() == [0.9, 0.8, 0.7, 0.6, 1.0, 0.5, 0.4, 0.25]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.iloc[:0], "no row"),
        (lambda t: t.assign(particle=t["particle"] - 3), "particle -1"),
        (lambda t: t.assign(frame=t["frame"] - 2), "frame -2"),
        (lambda t: t.assign(frame=4), "particle 2 is twice in frame 4"),
        (lambda t: t.assign(y=t["y"].mask(t["particle"] == 7, np.nan)), "NaN or infinite"),
        (lambda t: t.assign(x=np.inf), "NaN or infinite"),
        (lambda t: t.assign(z=0.5), "3D"),
    ],
)
def test_what_is_no_table_of_tracks_is_refused_before_a_file_is_made(awkward, tmp_path, write, spoil, message):
    with pytest.raises(ConfigError, match=message) as caught:
        write(spoil(awkward), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_geff, write_napari, write_ptc, write_trackmate])
def test_detections_are_no_tracks(awkward, tmp_path, write):
    with pytest.raises(ConfigError, match="no column particle: these are detections; link them first"):
        write(awkward.drop(columns="particle"), tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_flat_z_is_no_obstacle(awkward):
    assert len(by_track(awkward.assign(z=0.0))) == 8
