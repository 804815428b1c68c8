import math
from pathlib import Path

import pytest

from streamtrack.cli.running import make_config
from streamtrack.config import RunConfig, read_toml, validate
from streamtrack.errors import ConfigError

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


@pytest.mark.parametrize(("content", "message"), [("a = [1", "not valid TOML"), (None, "cannot read")])
def test_an_unreadable_file_is_one_line(tmp_path: Path, content, message):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_toml(path)


def test_a_rule_needs_someone_to_do_it():
    rule = {"kind": "count", "do": "lazer"}
    tables = {"source": {"kind": "sim"}, "triggers": [rule], "actuators": {"laser": {"kind": "property"}}}
    with pytest.raises(ConfigError, match=r"^run.toml: no actuator or sink is called 'lazer'; did you mean 'laser'\?$"):
        validate(RunConfig, tables, "run.toml")


def test_limits_are_low_then_high():
    tables = {"source": {"kind": "sim"}, "safety": {"x_um": [5, -5]}}
    with pytest.raises(ConfigError, match=r"safety.x_um = \(5.0, -5.0\)|safety.x_um = \[5, -5\]"):
        validate(RunConfig, tables, "run.toml")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_of_any_editor_of_windows_is_read(tmp_path: Path, mark):
    path = tmp_path / "run.toml"
    path.write_bytes(mark + "[source]\r\nkind = \"zarr\"\r\npath = 'C:\\Jürgen\\new.zarr'\r\n".encode())
    assert read_toml(path) == {"source": {"kind": "zarr", "path": r"C:\Jürgen\new.zarr"}}


BACKSLASHES = "write paths with / or in 'single quotes'"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = 1".encode("utf-16"), "is in UTF-16, TOML is UTF-8: save it as UTF-8"),
        ('a = "é"'.encode("latin-1"), "is not in UTF-8, save it so: 'utf-8' codec can't decode byte 0xe9"),
        (b"a = " + b"[" * 100_000, "it is nested too deeply"),
        (b"a = " + b"9" * 5000, "Exceeds the limit"),
        (b"a = 1\0", "is not valid TOML"),
        (rb'path = "C:\Users\me.zarr"', f"Invalid hex value (at line 1, column 13); {BACKSLASHES}"),
        (rb'path = "C:\data\me.zarr"', BACKSLASHES),
        (
            rb'anything = "C:\temp\new.zarr"',
            rf"anything = 'C:\temp\new.zarr' has backslashes that TOML replaced: {BACKSLASHES}",
        ),
        (rb'source.path = "data\new.zarr"', BACKSLASHES),
        (rb'adapters = ["lib\bin"]', BACKSLASHES),
    ],
)
def test_a_file_that_is_no_toml_says_what_to_do(tmp_path: Path, content, message):
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_toml(path)
    assert str(error.value).startswith((f"{path} is ", f"{path}: "))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"ingest": {"stall_timeout_s": math.inf}}, "stall_timeout_s = inf is no finite number"),
        ({"ingest": {"stall_timeout_s": "inf"}}, "should be a finite number"),
        ({"safety": {"x_um": [-math.inf, math.inf]}}, "x_um = -inf is no finite number"),
        ({"engine": {"kind": "denodet", "threshold": math.nan}}, "threshold = nan is no finite number"),
        ({"ingest": {"capacity": "x" * 10**6}}, "xxx... is not valid"),
        ({"ingest": {"capacity": 10**5000}}, "run.toml: "),
    ],
)
def test_numbers_without_end_are_refused(data, message):
    """The report, which is plain JSON, could not hold them."""
    with pytest.raises(ConfigError) as error:
        validate(RunConfig, {"source": SOURCE, **data}, "run.toml")
    assert message in str(error.value)
    assert len(str(error.value)) < 300


def test_a_name_alone_is_a_plug_in_with_its_defaults():
    config = validate(RunConfig, {"engine": "unet", "sinks": ["tables", {"kind": "raw"}]}, "here")
    assert (config.engine.kind, [sink.kind for sink in config.sinks]) == ("unet", ["tables", "raw"])


@pytest.mark.parametrize("text", ["engine = 5", "linker = ['imm']", "[[engine]]", "source = 1"])
def test_what_is_no_table_in_a_file_is_one_line(tmp_path: Path, text):
    path = tmp_path / "run.toml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=r"run\.toml: .* give the name of a plug-in, or a table of its settings"):
        make_config(None, path, engine={"threshold": 0.5})
