"""Crops with what another network says of them: for one that learns from it beside the truth.

Distillation (Hinton et al., arXiv:1503.02531): at a low signal-to-noise ratio, whether a pixel holds a particle is a
throw of dice for whoever learns, and the other network knows how the dice are loaded.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import parent_process
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack_engines.training_data.truth import TrainingData, Truth


@dataclass(frozen=True, slots=True)
class Taught:
    """Crops of ``data`` with the presence that the network of a deploy file sees in them.

    Parameters
    ----------
    data
        Makes the crops.
    teacher
        Packaged weights, or a deploy file of ours with the head ``presence``.

    Raises
    ------
    EngineError
        With the first crops: there is no such file, or its network sees another number of frames.
    """

    data: TrainingData
    teacher: str

    def batch(self, rng: np.random.Generator, n: int, size_px: int, n_before: int) -> Truth:
        """Return the crops, with ``presence``."""
        truth = self.data.batch(rng, n, size_px, n_before)
        return replace(truth, presence=_presence(self.teacher, truth.noisy))

    def held_out(self, seed: int, n: int, size_px: int, n_before: int) -> Iterable[tuple[str, Truth]]:
        """Return those of ``data``."""
        return self.data.held_out(seed, n, size_px, n_before)

    def example(self, n_frames: int, height: int, width: int) -> NDArray[np.float32]:
        """Return that of ``data``."""
        return self.data.example(n_frames, height, width)


def _presence(teacher: str, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    network = _network(teacher)
    if network.n_frames != noisy.shape[1]:
        raise EngineError(f"teacher {teacher} sees {network.n_frames} frames, the network {noisy.shape[1]}")
    in_bfloat16 = torch.cpu._is_avx512_bf16_supported()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        found = network.find(network.see(torch.from_numpy(noisy)))
        logits: NDArray[np.float32] = found[:, 0, : noisy.shape[-2], : noisy.shape[-1]].float().numpy()
    return logits


@lru_cache(1)
def _network(teacher: str) -> Any:
    import torch

    from streamtrack_engines.deploy import from_onnx
    from streamtrack_engines.heads.presence import Presence
    from streamtrack_engines.weights import read_weights

    if parent_process() is not None:  # the cores are for the process that trains
        torch.set_num_threads(1)
    graph = from_onnx(read_weights(teacher), teacher)
    if not isinstance(graph.head, Presence):
        raise EngineError(f"teacher {teacher} has another head than 'presence'")
    return graph.network.float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
