from collections.abc import Callable

import pytest
import written_tables


@pytest.fixture
def run() -> Callable:
    """Return what writes results into a folder, made if need be, and reads the Parquet tables back."""
    return written_tables.write_tables


@pytest.fixture
def assert_tables_are_of() -> Callable:
    """Return what compares the Parquet tables of a folder with results."""
    return written_tables.assert_tables_are_of
