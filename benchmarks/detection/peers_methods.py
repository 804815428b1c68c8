"""What is timed side by side: detectors of the field, DENODET as torch runs it, and ours on every back end.

All compute on as many threads as ours takes by default. Each turns a frame into candidates with a strength.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from scipy.ndimage import gaussian_laplace, laplace
from torch import nn

from benchmarks.detection.detectors import UFISH_WEIGHTS, Candidates, peaks, peer
from streamtrack.config import PluginConfig
from streamtrack.errors import EngineError
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.simulation import MovieSettings
from streamtrack.types import Detections, Pixels
from streamtrack_engines.backends.selection import ORDER, BackendName
from streamtrack_engines.deploy import DeployGraph, from_onnx
from streamtrack_engines.engine import DenodetEngine
from streamtrack_engines.networks.local_denodet import LocalDenodet
from streamtrack_engines.weights import read_weights

LOG_SIGMA_PX = 1.5
LEAST_STRENGTH = 0.3
"""In counts: of scikit-image's detector, so that it does not spend its time on noise that no threshold would keep."""


ON_CPUS: tuple[BackendName, ...] = ("onnxruntime", "openvino")


class NotHere(Exception):
    """A method cannot run on this machine; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One way from a frame to candidates.

    Attributes
    ----------
    find
        Called with frames that follow each other.
    threshold
        The method's own; None for the best on the frames that are scored, an oracle that no user has.
    has_weights
        False where a network with random weights stands in: its speed is right, what it finds is not.
    details
        Settings and versions, for the record.
    """

    find: Callable[[Pixels], Candidates]
    threshold: float | None = None
    has_weights: bool = True
    details: dict[str, Any] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None


def open_method(name: str, settings: MovieSettings, threads: int) -> Method:
    """Return a method, warmed up by nothing yet; raises NotHere."""
    return METHODS[name](settings, threads)


def _trackpy(settings: MovieSettings, threads: int) -> Method:
    import trackpy

    return Method(peer("trackpy", settings), details={"version": trackpy.__version__, "threads": 1})


def _scikit_image(settings: MovieSettings, threads: int) -> Method:
    """Laplacian of Gaussians at the one scale that fits: more scales take more time and find no more."""
    if find_spec("skimage") is None:
        raise NotHere("scikit-image is not installed")
    import skimage
    from skimage.feature import blob_log

    def find(pixels: Pixels) -> Candidates:
        image = pixels.astype(np.float32)
        blobs = blob_log(image, LOG_SIGMA_PX, LOG_SIGMA_PX, 1, threshold=LEAST_STRENGTH)
        places = blobs[:, :2].astype(np.intp)
        strength = -gaussian_laplace(image, LOG_SIGMA_PX)[places[:, 0], places[:, 1]]
        return Candidates.strongest(places.astype(np.float64), strength)

    return Method(find, details={"version": skimage.__version__, "sigma_px": LOG_SIGMA_PX, "threads": 1})


def _ufish(settings: MovieSettings, threads: int) -> Method:
    """U-FISH's network and scaling of the frame; its peaks of the Laplacian, moved to the top of a parabola."""
    spec = find_spec("ufish")
    if spec is None or spec.origin is None:
        raise NotHere("ufish is not installed (pip install --no-deps ufish brings its weights)")
    from ufish.utils.img import scale_image

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    path = Path(spec.origin).parent / UFISH_WEIGHTS
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def find(pixels: Pixels) -> Candidates:
        enhanced = session.run(None, {name: scale_image(pixels).astype(np.float32)[None, None]})[0][0, 0]
        return peaks(-laplace(enhanced), 1)

    return Method(find, details={"onnxruntime": ort.__version__, "threads": threads})


def _torch_eager(settings: MovieSettings, threads: int, *, folded: bool, channels_last: bool) -> Method:
    """DENODET operation by operation in torch, float32, with the peak table that ours has, too.

    Parameters
    ----------
    folded
        With the shipped weights, in which the batch norms are part of the convolutions. Otherwise as it was trained,
        with random weights.
    """
    try:
        graph = from_onnx(read_weights(DenodetEngine.default_weights))
    except EngineError as error:
        raise NotHere(str(error)) from error
    if not folded:
        graph.network = _random_network(graph)
    if channels_last:
        graph.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.set_num_threads(threads)
    history = np.zeros((graph.network.n_frames, settings.height_px, settings.width_px), np.uint16)

    def find(pixels: Pixels) -> Candidates:
        history[:-1] = history[1:].copy()
        history[-1] = pixels
        frames = torch.from_numpy(history.view(np.uint8).reshape(1, *history.shape, 2))
        with torch.inference_mode():
            table = graph.detect(frames).numpy()
        return Candidates.strongest(table[:, :2], table[:, 2])

    details = {"torch": torch.__version__, "threads": threads}
    return Method(find, _own_threshold(), folded, details)


def _random_network(graph: DeployGraph) -> nn.Module:
    torch.manual_seed(0)
    return LocalDenodet(n_frames=graph.network.n_frames, head_bias=graph.head.bias).eval()


def _own_threshold() -> float:
    engine = DenodetEngine(backend="onnxruntime")
    engine.close()
    return float(engine.info["threshold"])


def _ours(settings: MovieSettings, threads: int, *, backend: BackendName, kind: str = "denodet") -> Method:
    table = {"kind": kind, "backend": backend, "threads": threads}
    try:
        engine: Engine = build("engines", PluginConfig.model_validate(table)).instance
        engine.prepare((settings.height_px, settings.width_px), "uint16")
    except EngineError as error:
        raise NotHere(str(error)) from error

    def find(pixels: Pixels) -> Candidates:
        found = engine.detect(pixels, denoise=False)[0]
        return as_candidates(found)

    return Method(find, float(engine.info["threshold"]), details=dict(engine.info), close=engine.close)


def as_candidates(found: Detections) -> Candidates:
    return Candidates(np.stack([found.y, found.x], axis=1).astype(np.float64), found.score.astype(np.float64))


METHODS: dict[str, Callable[[MovieSettings, int], Method]] = {
    "trackpy": _trackpy,
    "scikit_image_log": _scikit_image,
    "ufish": _ufish,
    "torch_eager": partial(_torch_eager, folded=True, channels_last=False),
    "torch_eager_channels_last": partial(_torch_eager, folded=True, channels_last=True),
    "torch_eager_as_trained": partial(_torch_eager, folded=False, channels_last=False),
    "torch_eager_as_trained_channels_last": partial(_torch_eager, folded=False, channels_last=True),
    **{f"unet_{backend}": partial(_ours, backend=backend, kind="unet") for backend in ON_CPUS},
    **{f"ours_{backend}": partial(_ours, backend=backend) for backend in ORDER},
}


@contextmanager
def opened(settings: MovieSettings, threads: int) -> Iterator[tuple[dict[str, Method], dict[str, str]]]:
    """Open all that can run here; give them by name, and why the others cannot."""
    methods: dict[str, Method] = {}
    absent: dict[str, str] = {}
    try:
        for name in METHODS:
            try:
                methods[name] = open_method(name, settings, threads)
            except NotHere as reason:
                absent[name] = str(reason)
        yield methods, absent
    finally:
        for method in methods.values():
            method.close()
