"""detectSpot on whole frames says of each pixel what the paper's network says of the patch around it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamtrack_engines.networks.detectspot import PATCH_PX, REACH_PX, DetectSpot, patch_form


@pytest.fixture(autouse=True)
def _one_thread(one_torch_thread):
    """In all tests of this file."""


def network(**settings):
    torch.manual_seed(3)
    made = DetectSpot(**settings, head_bias=(0.0, 0.0)).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.01 * torch.randn_like(weight)  # no bias is 0
    return made


def seen(shape=(33, 41)):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(1, 1, *shape)).astype(np.float32))


def test_it_has_the_layers_of_the_papers_table():
    made = network()
    assert sum(weight.numel() for weight in made.parameters()) == 903_378
    patch, shapes = torch.zeros(1, 1, PATCH_PX, PATCH_PX), []
    for layer in made.trunk:
        patch = layer(patch)
        shapes.append((patch.shape[2], patch.shape[1]))
    assert shapes[::3] == [(21, 32), (14, 64), (9, 80)]
    assert shapes[2::3] == [(20, 32), (13, 64), (8, 80)]
    assert [layer.out_features for layer in patch_form(made) if hasattr(layer, "out_features")] == [128, 128, 2]


@torch.inference_mode()
def test_each_pixel_scores_what_its_patch_scores():
    made, frame = network(), seen()
    dense = torch.softmax(made.find(frame), 1)[0]
    patches = F.unfold(F.pad(frame, (REACH_PX,) * 4, mode="reflect"), PATCH_PX)[0].T
    scores = torch.softmax(patch_form(made)(patches.reshape(-1, 1, PATCH_PX, PATCH_PX)), 1)
    assert scores.std(0).min() > 0.01
    torch.testing.assert_close(dense, scores.T.reshape(dense.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("stride", [2, 3, 4])
@torch.inference_mode()
def test_a_stride_looks_at_some_patches_and_interpolates_between_them(stride):
    frame = seen((34, 41))
    every, some = network().find(frame), network(stride=stride).find(frame)
    assert some.shape == every.shape
    torch.testing.assert_close(some[..., ::stride, ::stride], every[..., ::stride, ::stride], rtol=0, atol=1e-5)
    between = (some[..., : 2 * stride : stride, 0].sum(-1)) / 2
    if stride % 2 == 0:
        torch.testing.assert_close(some[..., stride // 2, 0], between)


def test_in_training_patches_that_were_not_looked_at_are_unknown():
    made, frame = network(stride=3), seen((40, 40))
    made.forget.p = 0.0
    wanted = network().find(frame)
    starts = set()
    for step in range(6):
        torch.manual_seed(step)
        found = made.train().find(frame)
        known = found[0, 0].isfinite()
        rows, columns = np.nonzero(known.numpy())
        starts.add((rows.min(), columns.min()))
        assert known[rows.min() :: 3, columns.min() :: 3].all()
        assert known.sum() == len(set(rows)) * len(set(columns))
        torch.testing.assert_close(found[..., known], wanted[..., known], rtol=0, atol=1e-5)
    assert len(starts) > 1


def test_half_of_what_the_dense_layers_say_is_forgotten_in_training():
    made, frame = network(), seen((32, 32))
    assert not torch.equal(made.train().find(frame), made.find(frame))
    assert torch.equal(made.eval().find(frame), made.find(frame))
