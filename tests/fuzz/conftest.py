"""Damage to files, the same for a seed, and what has to come of it: a result, or one line; no traceback, no hang.

``@pytest.mark.inputs(40)`` runs a test for 40 seeds, and for 400 more under the marker ``slow``.
"""

import json
import random
import time

import pytest

from streamtrack.errors import StreamtrackError

LONGEST_S = 30
"""Of one input; a machine may be loaded."""


def pytest_configure(config):
    config.addinivalue_line("markers", "inputs(n): runs with n seeds, and ten times as many under the marker slow")


def pytest_generate_tests(metafunc):
    if marker := metafunc.definition.get_closest_marker("inputs"):
        (n,) = marker.args
        few, many = range(n), range(n, 11 * n)
        metafunc.parametrize("seed", [*few, *(pytest.param(seed, marks=pytest.mark.slow) for seed in many)])


@pytest.fixture
def rng(seed):
    return random.Random(seed)


@pytest.fixture
def damage(rng):
    """Damages a file in place, and returns in which way."""

    def run(path):
        content = path.read_bytes()
        name = rng.choice([*DAMAGES, "gone"])
        path.unlink()
        if name != "gone":
            path.write_bytes(DAMAGES[name](content, rng))
        return name

    return run


@pytest.fixture
def outcome():
    """Calls something, and returns its result or the error of one line that it ended with."""

    def run(call):
        start_s = time.monotonic()
        try:
            result = call()
        except StreamtrackError as error:
            result = error
        assert len(str(result).splitlines()) == 1 or not isinstance(result, StreamtrackError)
        assert time.monotonic() - start_s < LONGEST_S
        return result

    return run


def replaced(content, rng, new):
    start = rng.randrange(len(content) + 1)
    return content[:start] + new + content[start + len(new) :]


def flipped(content, rng):
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def without_a_piece(content, rng):
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 64) :]


def with_a_piece_twice(content, rng):
    start, length = rng.randrange(len(content)), rng.choice([1, 16, 256, 4096])
    return content[: start + length] + content[start:]


def with_an_extreme_number(content, rng):
    ones = b"\xff" * rng.choice([1, 2, 4, 8])
    return replaced(
        content, rng, rng.choice([ones, ones[:-1] + b"\x7f", b"9" * 8, b"-1", b"1e999", b"NaN", b"\0\0\0\0"])
    )


HOSTILE = [None, True, -1, 2**31, 2**63, 2**100, 1e308, "", "x", "\ud800", "../..", "/", "\0", "é" * 300, [], {}, [[]]]
HOSTILE += [
    [None] * 3,
    [0, 0, 0],
    [2**40] * 3,
    {"a": 1},
    [{}],
    "NaN",
    float("nan"),
    float("inf"),
    "|O",
    "<u2",
    "object",
]


def with_another_value(content, rng):
    """Change one value of a JSON text; of others, a bit."""
    try:
        document = json.loads(content)
    except ValueError:
        return flipped(content, rng)
    place, key = rng.choice([*places(document)] or [({}, "")])
    place[key] = rng.choice(HOSTILE)
    return json.dumps(document).encode()


def places(value):
    """Yield each container in a JSON document with each of its keys."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


DAMAGES = {
    "another value": with_another_value,
    "empty": lambda content, rng: b"",
    "cut off": lambda content, rng: content[: rng.randrange(len(content))],
    "longer": lambda content, rng: content + rng.randbytes(rng.choice([1, 100, 100_000])),
    "flipped": flipped,
    "foreign": lambda content, rng: replaced(content, rng, rng.randbytes(rng.choice([4, 64, 1024]))),
    "zeros": lambda content, rng: replaced(content, rng, bytes(rng.choice([16, 512]))),
    "without a piece": without_a_piece,
    "a piece twice": with_a_piece_twice,
    "extreme": with_an_extreme_number,
}
