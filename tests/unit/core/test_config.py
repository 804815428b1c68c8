from pathlib import Path

import pytest

from streamtrack.config import PluginConfig, RunConfig, read_toml, source_from_text, validate
from streamtrack.errors import ConfigError, PluginNotFoundError
from streamtrack.registry import build, load, names

SOURCE = {"kind": "zarr", "path": "movie.zarr"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": SOURCE, "enigne": {"kind": "denodet"}}, "unknown key 'enigne'; did you mean 'engine'?"),
        ({"source": SOURCE, "ingest": {"capacty": 3}}, "unknown key 'ingest.capacty'; did you mean 'capacity'?"),
        ({"source": SOURCE, "ingest": {"capacity": 0}}, "ingest.capacity = 0 is not valid: input should be greater"),
        ({"source": SOURCE, "ingest": {"policy": "drop"}}, "ingest.policy = 'drop' is not valid"),
        ({"sorce": SOURCE}, "unknown key 'sorce'; did you mean 'source'?"),
        ({"source": {"path": "movie.zarr"}}, "'source.kind' is missing"),
        ({"source": SOURCE, "sinks": [{"kind": "tables"}] * 2}, "a sink may be named once only"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(data, message):
    with pytest.raises(ConfigError) as error:
        validate(RunConfig, data, "run.toml")
    assert str(error.value).startswith("run.toml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("sim:vesicle", {"kind": "sim", "scenario": "vesicle"}),
        ("sim:receptor?snr=2&seed=7", {"kind": "sim", "scenario": "receptor", "snr": "2", "seed": "7"}),
        ("movie.ome.zarr", {"kind": "zarr", "path": "movie.ome.zarr"}),
        (r"C:\data\movie.zarr", {"kind": "zarr", "path": r"C:\data\movie.zarr"}),
        ("movie.OME.TIF", {"kind": "tiff", "path": "movie.OME.TIF"}),
    ],
)
def test_what_a_user_types_becomes_a_source(text, table):
    assert source_from_text(text) == table


@pytest.mark.parametrize(("content", "message"), [("a = [1", "not valid TOML"), (None, "cannot read")])
def test_an_unreadable_file_is_one_line(tmp_path: Path, content, message):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_toml(path)


def test_shipped_plugins_are_listed():
    assert {"sim", "tiff", "zarr"} <= set(names("sources"))
    assert {"imm", "trackpy"} <= set(names("linkers"))
    assert {"tables", "overview"} <= set(names("sinks"))
    assert {"train", "export"} <= set(names("commands"))
    assert "denodet" in names("engines")


@pytest.mark.usefixtures("lab_plugins")
def test_a_plugin_is_built_from_checked_settings():
    plugin = build("sources", PluginConfig(kind="lab-camera", frames="12"))
    assert plugin.instance.info.n_frames == 12
    assert plugin.settings["live"] is False, "defaults are part of the record"


@pytest.mark.usefixtures("lab_plugins")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame": 3}, "source 'lab-camera': unknown key 'frame'; did you mean 'frames'?"),
        ({"frames": "many"}, "source 'lab-camera': frames = 'many' is not valid"),
    ],
)
def test_a_wrong_setting_names_the_plugin(settings, message):
    with pytest.raises(ConfigError) as error:
        build("sources", PluginConfig(kind="lab-camera", **settings))
    assert message in str(error.value)


@pytest.mark.usefixtures("lab_plugins")
def test_a_missing_dependency_names_the_extra():
    with pytest.raises(PluginNotFoundError, match=r"needs torch: pip install 'streamtrack\[train\]'"):
        load("sources", "needs-torch")


def test_an_unknown_plugin_lists_the_known_ones():
    with pytest.raises(PluginNotFoundError, match=r"unknown source 'zar'; did you mean 'zarr'\? \(known: .*tiff"):
        load("sources", "zar")


def test_a_rule_needs_someone_to_do_it():
    rule = {"kind": "count", "do": "lazer"}
    tables = {"source": {"kind": "sim"}, "triggers": [rule], "actuators": {"laser": {"kind": "property"}}}
    with pytest.raises(ConfigError, match=r"^run.toml: no actuator or sink is called 'lazer'; did you mean 'laser'\?$"):
        validate(RunConfig, tables, "run.toml")


def test_limits_are_low_then_high():
    tables = {"source": {"kind": "sim"}, "safety": {"x_um": [5, -5]}}
    with pytest.raises(ConfigError, match=r"safety.x_um = \(5.0, -5.0\)|safety.x_um = \[5, -5\]"):
        validate(RunConfig, tables, "run.toml")
