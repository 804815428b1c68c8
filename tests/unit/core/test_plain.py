import enum
import json
import math
import threading

import numpy as np
import pytest

from streamtrack.plain import plain, plain_number


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (0.25, 0.25),
        (True, True),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (np.bool_(True), True),
        (np.array(3, np.int16), 3),
        (Level.HIGH, 3),
        (10**400, 10**400),
    ],
)
def test_numbers_of_every_kind_become_numbers_of_python(value, expected):
    number = plain_number(value)
    assert number == expected
    assert type(number) is type(expected)


@pytest.mark.parametrize("value", [math.nan, -math.inf, np.float32("nan"), np.array(np.inf)])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="is not a finite number"):
        plain_number(value)


@pytest.mark.parametrize("value", ["5", None, 1j, np.zeros(1), threading.Lock(), [1], np.datetime64("2026-01-01")])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="is not a number"):
        plain_number(value)


def test_a_copy_is_json_whatever_it_holds():
    value = {
        "n": np.int32(3),
        5: (np.float32(0.5), math.nan),
        "a": np.array([[1.0, np.nan]]),
        "s": {np.str_("x")},
        "lock": threading.Lock,
        "level": Level.HIGH,
    }
    copied = plain(value)
    assert json.loads(json.dumps(copied, allow_nan=False)) == copied
    assert copied["5"] == [0.5, None]
    assert (copied["n"], copied["a"], copied["s"], copied["level"]) == (3, [[1.0, None]], ["x"], 3)
