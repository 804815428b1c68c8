"""The plug-in in napari itself: its manifest, its readers, and a window that is looked at."""

import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture
def plugins(napari):
    import npe2

    manager = npe2.PluginManager.instance()
    manager.discover()
    return manager


def test_npe2_finds_the_plugin_and_has_nothing_against_it(plugins):
    assert plugins.get_manifest("streamtrack").display_name == "streamtrack"
    command = [sys.executable, "-m", "npe2", "validate", "streamtrack", "--imports"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_runs_folder_is_read_and_others_are_left_to_others(plugins, run_folder, tmp_path):
    from npe2.io_utils import _read

    asked = {"stack": False, "plugin_name": "streamtrack"}
    layers, reader = _read([str(run_folder)], return_reader=True, **asked)
    assert reader.command == "streamtrack.get_reader"
    assert [kind for _, _, kind in layers] == ["image", "image", "points", "tracks"]
    with pytest.raises(ValueError, match="refused"):
        _read([str(tmp_path)], **asked)


def test_the_viewer_shows_everything_of_a_run(viewer_model, run_folder):
    from streamtrack.napari.run_layers import RunLayers
    from streamtrack.napari.viewer import ShownRun

    ShownRun(viewer_model, RunLayers(run_folder)).look()
    layers = viewer_model.layers
    assert [layer.name for layer in layers] == ["raw", "denoised", "detections", "tracks"]
    assert viewer_model.dims.range[0].stop == pytest.approx(0.05 * 11)
    assert {str(unit) for unit in layers["tracks"].units} == {"second", "micrometer"}
    viewer_model.dims.set_current_step(0, 3)
    for name in layers["tracks"].properties_to_color_by:
        layers["tracks"].color_by = name
        assert np.isfinite(layers["tracks"].track_colors).all(), name
