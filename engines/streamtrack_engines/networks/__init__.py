"""Neural networks."""

from collections.abc import Mapping
from typing import Literal

from streamtrack_engines.networks.compact import CompactDenodet
from streamtrack_engines.networks.denodet import Denodet, Norm
from streamtrack_engines.networks.network import Network

__all__ = ["NETWORKS", "Kind", "Network", "make_network"]

Kind = Literal["full", "compact"]
NETWORKS: Mapping[Kind, type[Network]] = {"full": Denodet, "compact": CompactDenodet}


def make_network(kind: Kind = "full", n_frames: int = 3, norm: Norm = "batch") -> Network:
    """Return a network with random weights, as the ``[network]`` of a recipe describes it.

    Raises ValueError if there is no such network.
    """
    if kind == "full":
        return Denodet(n_frames, norm)
    if kind == "compact" and norm == "batch":
        return CompactDenodet(n_frames)
    raise ValueError(f"there is no network {kind!r} with {norm} norm")
