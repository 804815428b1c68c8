"""The deploy graph: bytes of raw frames in, a table of particles and an image out, as one torch module."""

from typing import Literal

import torch
from torch import Tensor, nn

from streamtrack.errors import ConfigError, EngineError, PluginNotFoundError
from streamtrack_engines.backends.metadata import DeployMetadata
from streamtrack_engines.heads.head import Head
from streamtrack_engines.heads.peaks import n_tiles
from streamtrack_engines.networks.network import Network
from streamtrack_engines.parts import make_head, make_network

Precision = Literal["float32", "float16"]

_OTHERS = "take another engine back end"
_CURE = "write it anew with 'streamtrack export' of this version"
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class DeployGraph(nn.Module):
    """A trained network with everything before and after it; no shape depends on what the frame shows.

    Parameters
    ----------
    network
        Trained; the graph holds a copy whose batch norms are folded into the convolutions.
    head
        Makes the table.
    calibration
        What makes scores probabilities; the head's ``uncalibrated`` by default.
    max_detections
        Rows of the table for each tile of the frame.
    precision
        In which the network computes. What comes before and after it is float32 always: counts above 2048 and places
        in frames of that size have no exact float16.
    """

    def __init__(
        self,
        network: Network,
        head: Head,
        *,
        calibration: tuple[float, ...] | None = None,
        max_detections: int = 2048,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.dtype = _DTYPES[precision]
        self.network = network.folded().to(self.dtype)
        self.head = head
        self.calibration = head.uncalibrated if calibration is None else calibration
        self.max_detections = max_detections
        self.place_values: Tensor
        self.register_buffer("place_values", torch.tensor([[1.0], [256.0]]), persistent=False)
        self.eval()

    @property
    def image(self) -> str | None:
        """Kind of the second output: the head's image, otherwise the network's; None if neither gives one."""
        return self.head.image or self.network.image

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Find the particles of the last of some frames, and make its image where there is one.

        Parameters
        ----------
        frames
            (1, T, H, W, B) uint8, T = ``network.n_frames``, H and W at least 32: frames that follow each other, the
            current one last; a frame that is not known is all zeros. The bytes of the pixels, lowest first, B = 1 or 2:
            TensorRT has no 16-bit integers, and a view of uint16 frames as bytes costs nothing.

        Returns
        -------
        detections
            (`n_rows`, columns) float32, the head's table. A frame without any contrast has none.
        image
            (H, W) float32. The head's `picture`, all 0 for a frame without any contrast. Otherwise the denoised frame,
            counts: the signal above background that the network sees, on a flat background that gives the image the
            mean of the raw frame. Not there if neither gives an image.
        """
        if self.image is None:
            return (self.detect(frames),)
        counts = self._counts(frames)
        seen, current = self.network.see(counts), counts[:, -1:]
        if self.head.image is not None:
            found = self._to_size(self.network.find(seen), current)
            picture = self.head.picture(found, current, calibration=self.calibration)
            return self._table(found, current), torch.where(_has_contrast(current), picture, 0.0)[0, 0]
        image, found = (self._to_size(output, current) for output in self.network(seen))
        signal = self.network.image_counts(image, seen, current)
        signal = torch.where(_has_contrast(current), signal, 0.0)
        background = (current - signal).mean((-2, -1), keepdim=True)
        return self._table(found, current), (signal + background)[0, 0]

    def detect(self, frames: Tensor) -> Tensor:
        """Return the first output of `forward` only, without the work for the other."""
        counts = self._counts(frames)
        current = counts[:, -1:]
        return self._table(self._to_size(self.network.find(self.network.see(counts)), current), current)

    def n_rows(self, height: int, width: int) -> int:
        """Return how many rows the table has for frames of some size."""
        return self.max_detections * n_tiles(height) * n_tiles(width)

    def _counts(self, frames: Tensor) -> Tensor:
        """Return the pixels (1, T, H, W), float32, of frames given as bytes (1, T, H, W, B)."""
        parts = frames.to(torch.float32)
        if self.dtype == torch.float16:  # for GPUs, whose compilers make this one kernel with what follows
            low, high = parts[..., 0], parts[..., -1]  # of single bytes both are the same
            return low + high * (256 * (frames.shape[-1] - 1))
        # Picking every second byte takes a CPU seven times as long as a product of matrices, which is exact as well.
        n_bytes = frames.shape[-1]
        return (parts.reshape(-1, n_bytes) @ self.place_values[:n_bytes]).reshape(frames.shape[:-1])

    def _to_size(self, output: Tensor, current: Tensor) -> Tensor:
        """Return an output of the network without the padding, float32."""
        return output[..., : current.shape[-2], : current.shape[-1]].float()

    def _table(self, found: Tensor, current: Tensor) -> Tensor:
        table = self.head.table(found, current, k=self.max_detections, calibration=self.calibration)
        return torch.where(_has_contrast(current)[0, 0], table, 0.0)


def _has_contrast(counts: Tensor) -> Tensor:
    """Return whether a frame shows anything, (1, 1, H, W) -> bool (1, 1, 1, 1)."""
    return counts.amax((-2, -1), keepdim=True) > counts.amin((-2, -1), keepdim=True)


def from_onnx(content: bytes, name: str = "the file") -> DeployGraph:
    """Return the deploy graph that `streamtrack_engines.export.to_onnx` wrote, with the weights that the file holds.

    Parameters
    ----------
    content
        The ONNX file.
    name
        Of the file, for error messages.

    Raises
    ------
    EngineError
        The content is no such file, or lacks some of the weights.
    """
    import onnx
    from onnx import numpy_helper

    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's exceptions depend on its implementation
        raise EngineError(f"{name} is damaged or no ONNX file: {_CURE}") from error
    metadata = DeployMetadata.from_properties({each.key: each.value for each in model.metadata_props}, name)
    graph = _empty_graph(metadata, name)
    wanted = graph.state_dict()
    weights = {each.name: each for each in model.graph.initializer if each.name in wanted}
    for key, weight in wanted.items():
        if key not in weights or tuple(weights[key].dims) != weight.shape:
            raise EngineError(f"{name} lacks {key}, {tuple(weight.shape)}: {_CURE}")
        weight.copy_(torch.from_numpy(numpy_helper.to_array(weights[key]).copy()))
    return graph


def _empty_graph(metadata: DeployMetadata, name: str) -> DeployGraph:
    """Return the deploy graph that a file describes, its weights still to be set."""
    if metadata.head is None:
        raise EngineError(f"{name} was not made by streamtrack, which cannot rebuild its network: {_OTHERS}")
    try:
        head = make_head(metadata.head)
        network = make_network(metadata.network, head)
    except (ConfigError, PluginNotFoundError) as error:
        raise EngineError(f"{name} has a network that is not here ({error}): {_CURE}") from error
    if metadata.calibration and len(metadata.calibration) != len(head.uncalibrated):
        raise EngineError(f"{name} has a calibration that its head does not take: {_CURE}")
    return DeployGraph(
        network,
        head,
        calibration=metadata.calibration or head.uncalibrated,
        max_detections=metadata.max_detections,
        precision=metadata.precision,
    )
