"""Deploy graphs of networks that were never trained but find much, files of them, and frames for them."""

import numpy as np
import torch
from networks import denodet, untrained
from torch import nn

from streamtrack.testing.engines import example_frame
from streamtrack_engines.backends.metadata import DeployMetadata
from streamtrack_engines.deploy import DeployGraph
from streamtrack_engines.export import ExportSettings, describe, to_onnx
from streamtrack_engines.heads.calibration import Calibration
from streamtrack_engines.heads.presence import Presence

K = 256
CALIBRATION = Calibration(slope=1.1, sparse=0.0, shift=0.2)
SETTINGS = ExportSettings(threshold=0.4, max_detections=K)
FIXED = (64, 96, "uint16")

EXPORTED = {"any": ({}, None), "fixed": ({}, FIXED), "single": ({"n_frames": 1, "norm": "instance"}, FIXED)}
"""Of each file that tests share: its network's settings, and the only frame that it takes."""


def lively_network(seed=0, **settings):
    """A DENODET that was never trained, with statistics of its own and a head that finds something everywhere."""
    torch.manual_seed(seed)
    network = denodet(**settings)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(std=0.1)
                layer.running_var.uniform_(0.5, 2.0)
            if isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d):
                layer.weight.uniform_(0.5, 2.0)
                layer.bias.normal_(std=0.1)
        network.found_head.weight[0] *= 6  # from pixel to pixel it changes its mind
        network.found_head.bias[0] = -4.0
    return network


def graph_of(network):
    return DeployGraph(network, Presence(), calibration=CALIBRATION, max_detections=K)


def metadata_of(network=None, **settings) -> DeployMetadata:
    return describe(untrained(network or denodet(), CALIBRATION, **settings), SETTINGS)


def exported(name):
    """Return the ONNX file `name` of `EXPORTED`; takes fifteen seconds."""
    settings, fixed = EXPORTED[name]
    network = lively_network(**settings)
    return to_onnx(graph_of(network), metadata_of(network, **settings), fixed)


def movie(shape=(64, 96), dtype="uint8"):
    """Three frames of the same spots, each with noise of its own, (T, H, W)."""
    return np.stack([example_frame(shape, dtype, seed) for seed in range(3)])


def still(frame):
    """The frame with nothing known before it."""
    return np.stack([np.zeros_like(frame), np.zeros_like(frame), frame])


def as_input(frames):
    return frames.view(np.uint8).reshape(1, *frames.shape, frames.itemsize)


def run_torch(graph, frames):
    with torch.inference_mode():
        detections, denoised = graph(torch.from_numpy(as_input(frames).copy()))
    return detections.numpy(), denoised.numpy()
