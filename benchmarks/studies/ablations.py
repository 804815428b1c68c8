"""What each part of the network is worth: the same short training with one thing changed at a time.

``python -m benchmarks.ablations [--steps 1500] [--seeds 1] [--variants a,b,...] [--out FILE.json]``

Every variant sees the same crops in the same order, starts from the same seed and takes the same number of steps, far
fewer than the shipped weights did: the figures are for comparing with each other. Scored on fresh crops of the
challenge's three scenes, density 500, each variant with its best threshold at each SNR. Rows of other variants in FILE
are kept, so that variants can be run one by one. With several seeds each figure is their mean, with its standard
deviation beside it.
"""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from benchmarks.shared.record import command_line, command_parser, some_of, write
from streamtrack.config import PluginConfig
from streamtrack.report import machine, versions
from streamtrack.simulation.crop_ranges import CropRanges
from streamtrack.simulation.crops import sample_crops
from streamtrack_engines.heads.head import Head
from streamtrack_engines.heads.heatmap import HeatMap
from streamtrack_engines.heads.presence import Presence
from streamtrack_engines.networks.denodet import Denodet
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training.checkpoint import TrainingState
from streamtrack_engines.training.data import to_batch
from streamtrack_engines.training.evaluation import find, score
from streamtrack_engines.training.recipe import Recipe
from streamtrack_engines.training.step import train_step
from streamtrack_engines.training_data.truth import Truth

SEED = 66_000
TEST_SEED = 880_000
SNRS = (1.0, 2.0, 4.0, 7.0)
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
CPU = torch.device("cpu")


class Cascaded(Denodet):
    """One network denoises each frame, another finds particles in what it shows and sees nothing else (paper, III.A).

    The first learns from the denoising loss alone.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.detector = Denodet(**settings)
        for idle in (self.detection, self.found_head, self.detector.denoising, self.detector.denoised_head):
            idle.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Denodet`."""
        clean = [self._denoised(x[:, i : i + 1]) for i in range(self.n_frames)]
        seen = torch.cat([torch.sigmoid(logit.detach()) for logit in clean], 1)
        return clean[-1], self.detector.find(seen)

    def find(self, x: Tensor) -> Tensor:
        """As in `Denodet`."""
        return self(x)[1]

    def _denoised(self, frame: Tensor) -> Tensor:
        _, clean = self._denoise(*self._encode(F.pad(frame, (0, 0, 0, 0, self.n_frames - 1, 0))))
        denoised: Tensor = self.denoised_head(clean)
        return denoised


class Variant(NamedTuple):
    """A network to train, and the head that reads it."""

    what: str
    network: Callable[[], Denodet]
    head: Callable[[], Head] = Presence


_denodet = partial(Denodet, head_bias=Presence.bias)
_printed = {"n_frames": 1, "norm": "instance", "upsampling": "bilinear", "context": False, "head_bias": HeatMap.bias}


def _without_denoising(network: Denodet) -> Denodet:
    for idle in (network.denoising, network.denoised_head):
        idle.requires_grad_(False)
    return network


VARIANTS = {
    "shipped": Variant("three frames, batch norm, both decoders on their own, context", _denodet),
    "instance norm": Variant("the paper's normalisation", lambda: _denodet(norm="instance")),
    "one frame": Variant("no frames before the current one", lambda: _denodet(n_frames=1)),
    "one frame late": Variant("the frames before and after the current one", _denodet),
    "no denoising": Variant("encoder and detection decoder alone", lambda: _without_denoising(_denodet())),
    "coupled": Variant(
        "the detection decoder sees the features of the denoising decoder", lambda: _denodet(coupled=True)
    ),
    "cascaded": Variant(
        "a second network detects in what the first has denoised", lambda: Cascaded(head_bias=Presence.bias)
    ),
    "no context": Variant("without the mean of the deepest features", lambda: _denodet(context=False)),
    "printed": Variant("DENODET as printed, joint", lambda: Denodet(**_printed, coupled=True), HeatMap),
    "printed separate": Variant(
        "as printed, detection alone in the noisy frame", lambda: _without_denoising(Denodet(**_printed)), HeatMap
    ),
    "printed cascaded": Variant(
        "as printed, a second network detects in what the first has denoised", lambda: Cascaded(**_printed), HeatMap
    ),
}


def main() -> None:
    """Train, score and record every variant that was asked for."""
    parser = command_parser(__doc__)
    parser.add_argument("--steps", type=int, default=1500, help="of training, for each variant")
    parser.add_argument("--variants", type=some_of(VARIANTS), default=[*VARIANTS], help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each variant")
    parser.add_argument("--crops", type=int, default=36, help="crops of 256x256 px to score at each SNR")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.variants:
        row = measure(name, arguments.steps, arguments.seeds, arguments.crops)
        print(json.dumps({name: row}))
        if arguments.out:
            record(arguments.out, name, row)


def record(path: Path, name: str, row: dict[str, Any]) -> None:
    """Add a variant's row to the file, or replace it."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"variants": {}}
    content |= {"command": command_line("ablations"), "machine": machine(), "versions": versions()}
    content["variants"][name] = row
    write(content, path)


def measure(name: str, steps: int, n_seeds: int, n_crops: int) -> dict[str, Any]:
    """Train one variant with some seeds and score it."""
    rows = [_trained_and_scored(name, steps, SEED + n, n_crops) for n in range(n_seeds)]
    row: dict[str, Any] = {"what": VARIANTS[name].what, "steps": steps}
    for key in rows[0]:
        values = [each[key] for each in rows]
        row[key] = values[0] if n_seeds == 1 else float(np.mean(values))
        if n_seeds > 1 and key.startswith(("f1", "rmse")):
            row[f"sd_{key}"] = float(np.std(values, ddof=1))
    return row if n_seeds == 1 else row | {"seeds": n_seeds}


def _trained_and_scored(name: str, steps: int, seed: int, n_crops: int) -> dict[str, float]:
    torch.manual_seed(seed)
    network = VARIANTS[name].network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = VARIANTS[name].head()
    n_after = int(name == "one frame late")
    began = time.monotonic()
    average = trained(network, head, steps, seed, n_after, 0.5 if network.denoised_head.weight.requires_grad else 0.0)
    row: dict[str, float] = {"parameters": sum(p.numel() for p in network.parameters() if p.requires_grad)}
    row |= {"training_s": round(time.monotonic() - began)}
    for snr in SNRS:
        row |= best_score(average, head, held_out(average.n_frames, n_after, snr, n_crops), snr)
    return row


def trained(network: Denodet, head: Head, steps: int, seed: int, n_after: int, denoising: float) -> Network:
    """Return the moving average of the network after so many steps."""
    config = PluginConfig(kind="denodet", n_frames=network.n_frames)
    recipe = Recipe(steps=steps, batch_size=8, detection_only_fraction=0, network=config, denoising=denoising)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, recipe.learning_rate, weight_decay=recipe.weight_decay)
    state = TrainingState(network, copy.deepcopy(network).eval(), head, optimizer)
    for step in track(range(steps), "training"):
        rng = np.random.default_rng((seed, step))
        truth = _truth(rng, 8, 128, CropRanges(), network.n_frames, n_after)
        train_step(recipe, state, to_batch(truth, network, CPU), step / steps)
    return state.average


def _truth(rng: np.random.Generator, n: int, size_px: int, ranges: CropRanges, n_frames: int, n_after: int) -> Truth:
    crops = sample_crops(rng, n, size_px, ranges, n_before=n_frames - 1 - n_after, n_after=n_after)
    return Truth(crops.noisy, crops.points, crops.signal)


def held_out(n_frames: int, n_after: int, snr: float, n_crops: int) -> Truth:
    """Return crops of the challenge's scenes at one SNR, density 500, the same for every variant up to the noise."""
    ranges = replace(
        CropRanges(), camera_fraction=0.0, empty_fraction=0.0, low_density_fraction=0.0, first_frame_fraction=0.0
    )
    ranges = replace(ranges, density=(500.0, 500.0), snr=(snr, snr))
    rng = np.random.default_rng((TEST_SEED, int(10 * snr)))
    return _truth(rng, n_crops, 256, ranges, n_frames, n_after)


def best_score(network: Network, head: Head, crops: Truth, snr: float) -> dict[str, float]:
    """Return the best F1 over the thresholds, with that threshold and RMSE."""
    found = find(network, head, crops, THRESHOLDS[0], CPU)
    scores = [score(found[found[:, 3] > threshold, :3], crops.points, 256) for threshold in THRESHOLDS]
    best = int(np.argmax([f1 for f1, _ in scores]))
    f1, rmse_px = scores[best]
    key = f"snr{snr:g}"
    return {f"f1_{key}": f1, f"rmse_px_{key}": rmse_px, f"threshold_{key}": THRESHOLDS[best]}


if __name__ == "__main__":
    main()
