import pytest


@pytest.fixture(scope="module")
def one_torch_thread():
    """Such small tensors are quicker with one thread, and much quicker where other processes want the cores too."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
