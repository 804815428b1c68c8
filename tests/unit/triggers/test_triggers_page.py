"""The examples of docs/triggers.md work, and its table is complete."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from streamtrack import registry
from streamtrack.config import RunConfig, validate
from streamtrack.settings import GIVEN
from streamtrack.testing.triggers import frame_at, tracks_at
from streamtrack.triggers.rule import Rule
from streamtrack.types import SourceInfo

PAGE = (Path(__file__).parents[3] / "docs" / "triggers.md").read_text(encoding="utf-8")
ACTUATORS = {"laser": {"kind": "property"}, "stage": {"kind": "stage"}}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The files that the examples speak of, in the folder where streamtrack is started."""
    (own_module,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "our_rules.py").write_text(own_module)
    import matplotlib.image
    import numpy as np

    matplotlib.image.imsave(tmp_path / "cell.png", np.eye(256), cmap="gray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_an_example_runs(example):
    table = {"actuators": ACTUATORS, "sinks": [{"kind": "raw"}], "source": {"kind": "zarr"}, **tomllib.loads(example)}
    for config in validate(RunConfig, table, "example").triggers:
        rule = Rule(registry.build("triggers", config).instance, config)
        rule.prepare(SourceInfo("camera", (256, 256), "uint8"))
        if config.kind != "mode_switch":
            rule.commands(frame_at(0), tracks_at({1: (100, 100)}), 0)
        assert rule.outcome()["failures"] == 0


@pytest.mark.parametrize("kind", registry.names("triggers"))
def test_the_table_names_every_setting_with_its_default(kind):
    (row,) = re.findall(rf"^\| `{kind}` \|.*$", PAGE, re.MULTILINE)
    for name, setting in inspect.signature(registry.load("triggers", kind)).parameters.items():
        if name in GIVEN:
            continue
        if name in ("mask", "polygon_px") or (name in ("y_px", "x_px") and kind in ("count", "region")):
            assert "an area" in row
            continue
        assert f"`{name}`" in row
        if isinstance(setting.default, int | float) and not isinstance(setting.default, bool):
            assert re.search(rf"`{name}` \({setting.default:g}\)", row), name
