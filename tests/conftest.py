"""Fixtures shared by all tests."""

import gc
import itertools
import math
import os
from fnmatch import fnmatch
from pathlib import Path

import pytest

from streamtrack import files
from streamtrack.garbage import frozen_gc

LAB_PACKAGE = Path(__file__).parent / "lab_package"


@pytest.fixture
def lab_plugins(monkeypatch):
    """Install the plug-in package of a lab: found through its entry points, as any other."""
    monkeypatch.syspath_prepend(LAB_PACKAGE)


@pytest.fixture
def sharing_violation(monkeypatch):
    """Return a function after which files behave as on Windows while a reader has them open.

    They can be read and written, but neither replaced nor moved nor deleted, and no folder that holds one can be moved.
    ``names`` are patterns of file names; with ``times`` the reader lets go after so many attempts.
    """

    def hold(*names, times=math.inf):
        attempts = itertools.count()

        def refuse(path, dir_fd):
            inside = [each.name for each in Path(path).rglob("*")] if Path(path).is_dir() else []
            held = [each for each in (Path(path).name, *inside) for name in names if fnmatch(each, name)]
            if held and (dir_fd is not None or os.path.lexists(path)) and next(attempts) < times:
                raise PermissionError(13, "it is being used by another process", str(path), 5)

        def refusing(call):
            def checked(*paths, dir_fd=None):
                for path in paths:
                    refuse(path, dir_fd)
                return call(*paths, **({} if dir_fd is None else {"dir_fd": dir_fd}))

            return checked

        for name in ("replace", "rename", "unlink", "remove"):
            monkeypatch.setattr(os, name, refusing(getattr(os, name)))
        monkeypatch.setattr(files, "PATIENCE_S", 0.3)

    return hold


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real data that lies beside the project in development and CI."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real movies of ../shared/data, which are not part of the repository")
    return folder


@pytest.fixture(scope="module")
def one_torch_thread():
    """Such small tensors are quicker with one thread, and much quicker where other processes want the cores too."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def no_pairs():
    """A network that was never trained is always at the edge of seeing two; rounding would decide. See test_peaks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamtrack_engines.heads.presence._PAIR_SUM", 99.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _frozen():
    """Keep the collector away from all tests and libraries: each run would look through them, for half a second."""
    with frozen_gc():
        yield


@pytest.fixture(scope="module", autouse=True)
def _collected(_frozen):
    """What modules leave is garbage, and would fill the memory; the libraries that they brought need no second look."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def engines_as_elsewhere():
    """Let runs take what a run in a process of its own takes: for comparison with one."""
    from streamtrack_engines.backends import selection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "ORDER", _ORDER[0])
        yield


_ORDER: list[tuple[str, ...]] = []


@pytest.fixture(scope="session", autouse=True)
def _onnxruntime_first():
    """Let runs take ONNX Runtime, as where there is no OpenVINO: that compiles the graphs for seconds in each run."""
    from streamtrack_engines.backends import selection

    _ORDER.append(selection.ORDER)
    others = tuple(name for name in selection.ORDER if name != "onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "ORDER", ("onnxruntime", *others))
        yield
