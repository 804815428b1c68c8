"""Whatever writes movies: the pixels of each file are read as they were written, with its scale, or it is one line."""

import re
from itertools import product

import numpy as np
import pytest
from format_writers import GROUPS, SIZES, movie
from more_format_writers import MORE_GROUPS

from streamtrack import registry
from streamtrack.errors import SourceError
from streamtrack.types import Frame


def outcome(case, path):
    """Return what came of a case, "wrong" with what is."""
    try:
        said = compared(case, path)
    except SourceError as error:
        lines = str(error).splitlines()
        is_right = case.refused and re.search(case.refused, lines[0]) and len(lines) == 1
        return "refused in one line" if is_right else f"wrong: {error}"
    return said or ("right" if case.refused is None else f"wrong: not refused, {case.refused}")


def compared(case, path):
    """Return what is wrong with the movies in a file, None if nothing is."""
    table = registry.source_from_text(str(path)) | dict(case.settings)
    make = registry.load("sources", table.pop("kind"))
    stored = movie(case.axes, case.dtype)[..., :: case.binned, :: case.binned]
    along = {axis: name for axis, name in (("P", "position"), ("C", "channel"), ("Z", "z")) if axis in case.axes}
    for place in product(*(range(SIZES[axis]) for axis in along)):
        source = make(**table, **dict(zip(along.values(), place, strict=True)))
        frames = list(source.frames())
        source.close()
        key = tuple(dict(zip(along, place, strict=True)).get(axis, slice(None)) for axis in case.axes)
        if lost := [item for item in frames if not isinstance(item, Frame)]:
            return f"wrong: {place}: lost {lost[0]}"
        if not np.array_equal([frame.pixels for frame in frames], stored[key].astype(source.info.dtype)):
            return f"wrong: {place}: other pixels"
    for name, value in (("pixel_size_um", case.pixel_um), ("frame_interval_s", case.interval_s)):
        if value is not None and getattr(source.info, name) != pytest.approx(value, rel=1e-3):
            return f"wrong: {name} {getattr(source.info, name)}, not {value}"
    return None


@pytest.mark.parametrize("group", GROUPS | MORE_GROUPS)
def test_what_it_writes_is_read_or_refused(group, tmp_path, counts):
    make, module = (GROUPS | MORE_GROUPS)[group]
    pytest.importorskip(module, reason=f"{module} is not installed")
    wrong = {}
    for number, case in enumerate(make()):
        (tmp_path / str(number)).mkdir()
        said = outcome(case, case.write(tmp_path / str(number)))
        counts[said.partition(":")[0]] += 1
        wrong |= {case.name: said} if said.startswith("wrong") else {}
    assert not wrong, "\n".join(f"{name}: {said}" for name, said in wrong.items())
