"""The command line, run in the process of the tests; and files that the tests' processes share."""

import os
import subprocess
import sys

import pytest

from streamtrack.cli import main


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the command line in this process; returns exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["streamtrack", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        return ending.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Return a function giving the path of a file of `deploy_graphs.EXPORTED`: one of pytest's processes makes it."""
    pytest.importorskip("torch")
    import deploy_graphs
    from filelock import FileLock  # comes with torch

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def path_of(name):
        path = folder / f"{name}.onnx"
        with FileLock(path.with_suffix(".lock"), timeout=240), pytest.MonkeyPatch.context() as patch:
            patch.setattr("streamtrack_engines.heads.presence._PAIR_SUM", 99.0)  # as the fixture `no_pairs` does
            if not path.exists():
                path.write_bytes(deploy_graphs.exported(name))
        return path

    return path_of


@pytest.fixture
def disk(tmp_path):
    """Return a function that makes a disk of a size, or gives it another one."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("makes a small file system, which Linux lets root do")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def of_size(size):
        options = f"size={size}" + ",remount" * bool(mounted)
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if made.returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(size)
        return folder

    yield of_size
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # the last file may still be being closed
