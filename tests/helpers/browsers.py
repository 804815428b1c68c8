"""The browser that tests drive, where there is one."""

from contextlib import contextmanager

import pytest

browser = pytest.importorskip("benchmarks.shared.browser", reason="needs the extra 'view'")


@contextmanager
def tab(profile):
    try:
        browser.program()
    except browser.NoBrowser as error:
        pytest.skip(str(error))
    with browser.tab(profile) as tab:
        yield tab
