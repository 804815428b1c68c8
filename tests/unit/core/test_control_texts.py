"""What is written down of requests is short and plain, whatever was asked for."""

import json

import pytest

from streamtrack.control.requests import LONGEST_KEPT, Asked, Changes, Request
from streamtrack.plain import plain


@pytest.mark.parametrize("wanted", [[[[[]]]], "x" * 60_000, "\ud800", 10**4000, {"a": 1}, True, 0.5, None])
def test_what_was_wanted_is_kept_short(wanted):
    for _ in range(900 if isinstance(wanted, list) else 0):
        wanted = [wanted]
    changes = Changes()
    changes.refuse(Request(Asked("mark", wanted, "page"), lambda last: None), {"frame": 0}, "no")
    (line,) = changes.outcome()["changes"]
    text = json.dumps(plain(line))
    assert len(text.encode()) < 2 * LONGEST_KEPT + 500
    assert line["wanted"] == wanted or isinstance(line["wanted"], str)
