import numpy as np

from streamtrack.formats.napari import write_napari


def test_rows_are_track_frame_y_x_sorted_by_track_then_frame(awkward, tmp_path):
    write_napari(awkward, tmp_path / "a.npy")
    data = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert data.dtype == np.float64
    assert data[:, :2].tolist() == [[2, 0], [2, 1], [2, 4], [7, 4], [40, 2], [40, 5], [40, 6], [41, 3]]
    assert data[3].tolist() == [7, 4, 33.125, 44.25]


def test_a_crowd_arrives_whole(crowd, tmp_path):
    write_napari(crowd, tmp_path / "a.npy")
    data = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert sorted(data.tolist()) == data.tolist()
    assert sorted(crowd[["particle", "frame", "y", "x"]].to_numpy().tolist()) == data.tolist()
