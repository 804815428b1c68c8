"""What the doctor says about Micro-Manager."""

import importlib.util
import shutil
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from streamtrack_drivers.micromanager import diagnostics


def test_all_is_looked_at_in_a_few_seconds():
    found = {finding.topic: finding for finding in diagnostics.findings()}
    assert {"Micro-Manager core", "pycromanager", "running Micro-Manager"} <= set(found)
    for finding in found.values():
        assert finding.detail
        assert finding.state == "ok" or finding.cure
        assert "\n" not in finding.detail + finding.cure


def test_the_core_and_its_demo_camera_work():
    pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
    pytest.importorskip("mm_test_adapters", reason="needs the demo camera of mm-test-adapters")
    found = {finding.topic: finding for finding in diagnostics.findings()}
    assert found["Micro-Manager core"].state == "ok"
    assert "MMCore version" in found["Micro-Manager core"].detail
    assert found["demo camera"].state == "ok"
    assert "512 x 512" in found["demo camera"].detail


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    def not_found(name, package=None):
        return None if name.startswith("pymmcore") else importlib.util.spec_from_loader(name, None)

    monkeypatch.setattr(diagnostics.importlib.util, "find_spec", not_found)
    core = diagnostics.findings()[0]
    assert core.state == "missing"
    assert core.cure == 'pip install ".[micromanager]"'


def test_adapters_that_do_not_fit_are_broken(tmp_path):
    pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
    finding = diagnostics.demo_camera([tmp_path])
    assert finding.state == "broken"
    assert "DemoCamera" in finding.detail
    assert finding.cure


@pytest.mark.skipif(sys.platform == "win32", reason="builds the library as Unix names it")
def test_adapters_of_another_interface_and_the_core_are_named_with_their_numbers(tmp_path):
    pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
    compiler = shutil.which("cc") or pytest.skip("needs a C compiler")
    source = tmp_path / "adapter.c"
    source.write_text("long GetDeviceInterfaceVersion(void) { return 41; }", encoding="utf-8")
    library = tmp_path / "libmmgr_dal_DemoCamera.so.0"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    needed = version("pymmcore").split(".")[3]
    cure = diagnostics.demo_camera([tmp_path]).cure
    assert f"the core needs adapters with device interface {needed}" in cure
    assert f"those in {tmp_path} have 41" in cure


def test_the_interface_of_the_adapters_is_named():
    pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
    pytest.importorskip("mm_test_adapters", reason="needs the demo camera of mm-test-adapters")
    found = {finding.topic: finding for finding in diagnostics.findings()}
    assert f"(device interface {version('pymmcore').split('.')[3]})" in found["device adapters"].detail


def test_the_first_folder_that_fits_is_taken(tmp_path):
    pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
    folder = Path(pytest.importorskip("mm_test_adapters").device_adapter_path())
    assert diagnostics.demo_camera([tmp_path, folder]).state == "ok"


def test_a_server_that_listens_is_found():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert diagnostics.bridge("127.0.0.1", port).state == "ok"
    finding = diagnostics.bridge("127.0.0.1", port)
    assert finding.state == "missing"
    assert "Run pycro-manager server" in finding.cure
