import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Such small tensors are quicker with one thread, and much quicker where other processes want the cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
