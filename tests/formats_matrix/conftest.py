"""Counts what came of the combinations, and says so at the end."""

from collections import Counter

import pytest

_COUNTS = pytest.StashKey[Counter[str]]()


@pytest.fixture
def counts(request):
    return request.config.stash.setdefault(_COUNTS, Counter())


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash.get(_COUNTS, Counter())
    if counts:
        said = ", ".join(f"{counts[key]} {key}" for key in ("right", "refused in one line", "wrong"))
        terminalreporter.write_line(f"formats: {sum(counts.values())} combinations tried, {said}")
