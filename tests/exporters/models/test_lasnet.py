"""LASNet: channel 0 runs, a tie runs, patches are nearest upsampled, a layer is one decision."""

from __future__ import annotations

import pytest
import torch

from pagdeploy.exporters.models import lasnet
from pagdeploy.exporters.models.lasnet import LAYER, Bottleneck, SpatialMasker
from pagdeploy.exporters.models.parts import Place, example_images


def test_channel_zero_runs_and_a_tie_runs():
    masker = SpatialMasker(3, 2)
    for bias, expected in (([1.0, 0.0], 1), ([0.0, 0.0], 1), ([0.0, 1.0], 0)):
        with torch.no_grad():
            masker.conv.weight.zero_()
            masker.conv.bias.copy_(torch.tensor(bias))
        mask = masker(torch.randn(2, 3, 8, 8))
        assert mask.shape == (2, 1, 2, 2)
        assert (mask == expected).all()


def test_the_score_pools_each_patch():
    torch.manual_seed(0)
    masker, x = SpatialMasker(3, 4), torch.randn(1, 3, 8, 8)
    patch = x[:, :, 2:4, 4:6].mean((2, 3), keepdim=True)
    torch.testing.assert_close(masker.score(x)[:, :, 1:2, 2:3], masker.conv(patch))
    assert masker.score(x[:, :, :4, :4]).shape == (1, 2, 4, 4), "no pooling at its own size"


def test_the_mask_is_constant_on_each_patch_of_the_output():
    torch.manual_seed(0)
    block = Bottleneck(Place(1, 0, 6, 4, 2), output_size=8, granularity=4).eval()
    x = torch.randn(4, 6, 16, 16)
    with torch.no_grad():
        block.masker.set_density(0.5, x)
        coarse = block.masker(x)
        kept = (block(x) == block.downsample(x).relu()).all(1)  # (N, 8, 8)
    assert coarse.shape == (4, 1, 2, 2)
    assert torch.equal(kept.view(4, 2, 4, 2, 4).all(4).all(2), coarse[:, 0] == 0)
    assert coarse.unique().tolist() == [0, 1]


def test_a_layer_decides_once_per_image():
    torch.manual_seed(0)
    block = Bottleneck(Place(0, 0, 6, 4, 1), output_size=8, granularity=LAYER).eval()
    x = torch.randn(8, 6, 8, 8)
    with torch.no_grad():
        block.masker.set_density(0.5, x)
        mask = block.masker(x)
        skipped = (block(x) == block.downsample(x).relu()).flatten(1).all(1)
    assert mask.shape == (8, 1, 1, 1)
    assert torch.equal(skipped, mask.flatten() == 0)
    assert 0 < mask.sum() < 8


def test_the_published_network_pools_to_its_granularity(monkeypatch):
    monkeypatch.setattr(lasnet, "seeded", lambda make, density, inputs: make())
    with torch.device("meta"):
        sizes = [block.masker.size for block in lasnet.resnet101().blocks]
    assert sizes == [14] * 3 + [7] * 4 + [7] * 23 + [7] * 3


def test_images_of_one_size_get_masks_of_one_size():
    model, seen = lasnet.resnet(), []
    for block in model.blocks:
        block.masker.register_forward_hook(lambda m, a, output: seen.append(tuple(output.shape)))
    with torch.no_grad():
        model(example_images(2, 64))
    assert seen == [(2, 1, 4, 4)] * 3


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"made for maps of side 16, got \(20, 20\)"):
        lasnet.resnet()(example_images(1, 80))
