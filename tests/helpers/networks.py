"""Networks and heads that were never trained."""

from streamtrack.config import PluginConfig
from streamtrack_engines.export import Trained
from streamtrack_engines.heads.presence import Presence
from streamtrack_engines.networks.compact import CompactDenodet
from streamtrack_engines.networks.denodet import Denodet
from streamtrack_engines.networks.local_denodet import LocalDenodet
from streamtrack_engines.networks.unet import UNet
from streamtrack_engines.training.recipe import Recipe


def denodet(**settings):
    return Denodet(**settings, head_bias=Presence.bias)


def compact(**settings):
    return CompactDenodet(**settings, head_bias=Presence.bias)


def local_denodet(**settings):
    return LocalDenodet(**settings, head_bias=Presence.bias)


def unet(**settings):
    return UNet(**settings, head_bias=Presence.bias)


def untrained(network, calibration=(1.0, 0.0, 0.0), *, kind="denodet", steps=1, **settings):
    """What an export takes, for a network of a kind with its settings."""
    recipe = Recipe(steps=steps, network=PluginConfig(kind=kind, **settings))
    return Trained(network, Presence(), tuple(calibration), recipe, steps, "0" * 64)
