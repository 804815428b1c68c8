from itertools import count

import pytest

from streamtrack_engines.training import data, loop


@pytest.fixture(autouse=True)
def _one_thread(one_torch_thread):
    """In all tests of this folder."""


@pytest.fixture
def crops_made_here(monkeypatch):
    """Trainings make their crops themselves: to start a process for it takes longer than a few steps."""

    def batches(recipe, source, network, first_step, device):
        yield from (data.make_batch(recipe, network, step, device) for step in count(first_step))

    monkeypatch.setattr(loop, "batches", batches)
