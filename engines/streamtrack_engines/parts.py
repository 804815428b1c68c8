"""Network, head and training data by name, as recipes and deploy files give them."""

from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack_engines.heads.head import Head
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import TrainingData


def make_head(config: PluginConfig) -> Head:
    """Return a head; raises ConfigError or PluginNotFoundError."""
    head: Head = registry.build("heads", config).instance
    return head


def make_network(config: PluginConfig, head: Head) -> Network:
    """Return a network with random weights and the channels that a head reads; raises as `make_head`."""
    settings = registry.check_settings("networks", config)
    network: Network = registry.load("networks", config.kind)(**settings, head_bias=head.bias)
    return network


def make_data(config: PluginConfig) -> TrainingData:
    """Return the training data; raises as `make_head`."""
    data: TrainingData = registry.build("training_data", config).instance
    return data
