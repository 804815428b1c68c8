"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

LAB_PACKAGE = Path(__file__).parent / "lab_package"


@pytest.fixture
def lab_plugins(monkeypatch):
    """Install the plug-in package of a lab: found through its entry points, as any other."""
    monkeypatch.syspath_prepend(LAB_PACKAGE)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real data that lies beside the project in development and CI."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real movies of ../shared/data, which are not part of the repository")
    return folder
