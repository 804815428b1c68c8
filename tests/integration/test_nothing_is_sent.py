"""ONNX Runtime and OpenVINO tell their makers of each start, unless they are kept from it."""

import os
import subprocess
import sys

import pytest

RUN = """
import sys
from streamtrack_engines.engine import DenodetEngine
for backend in ("onnxruntime", "openvino"):
    engine = DenodetEngine(backend=backend, threads=1)
    engine.prepare((64, 64), "uint8")
    engine.close()
assert sys.modules.get("openvino") and not sys.modules.get("openvino_telemetry")
"""


@pytest.mark.skipif(
    sys.platform == "win32", reason="there Windows collects what is sent, and nothing of it is in files"
)
def test_no_number_that_stands_for_the_computer_is_made_up(tmp_path):
    pytest.importorskip("openvino")
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(tmp_path))
    kept = {
        name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("ORT_")
    }  # else none is
    subprocess.run([sys.executable, "-c", RUN], env=kept | places, check=True)
    assert [path for path in tmp_path.rglob("*") if "icrosoft" in path.name or "intel" in path.name] == []
