"""Settled networks: batch norms take the moments that reach them, gates the wanted density."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pagdeploy.exporters.models.dynconv import MaskUnit
from pagdeploy.exporters.models.parts import (
    Place,
    ResidualNet,
    bottleneck,
    centre,
    example_images,
    seeded,
    settle,
    shortcut,
)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_centre_puts_the_wanted_share_above_zero(density):
    score = 3 + 5 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    scale, shift = centre(score, density)
    settled = score * scale + shift
    assert ((settled > 0).float().mean() - density).abs() < 0.01
    assert torch.isclose(settled.std(), torch.ones(()))


def test_settle_fits_norms_and_gates_in_the_order_of_the_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), MaskUnit(4))
    images = example_images(4, 24)
    settle(model, [images], 0.3)
    assert not model.training
    with torch.no_grad():
        conv = model[0](images)
        assert torch.allclose(model[1].running_mean, conv.mean((0, 2, 3)), atol=1e-6)
        assert torch.allclose(model[1].running_var, conv.var((0, 2, 3)), atol=1e-6)
        assert (model(images).mean() - 0.3).abs() < 0.01, "the gate saw the settled norm"


def test_gates_alone_can_be_moved():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), MaskUnit(4))
    images = example_images(4, 24)
    before = {name: value.clone() for name, value in model[1].state_dict().items()}
    settle(model, [images], 0.8, norms=False)
    assert all(torch.equal(value, before[name]) for name, value in model[1].state_dict().items())
    with torch.no_grad():
        assert (model(images).mean() - 0.8).abs() < 0.01


def test_seeded_repeats_itself_and_leaves_the_random_state():
    before = torch.random.get_rng_state()
    first, second = (
        seeded(lambda: nn.Conv2d(3, 2, 1), 0.5, [example_images(1, 8)], seed=7) for _ in "ab"
    )
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_example_images_differ_and_stay_in_range():
    images = example_images(4, 32)
    assert images.shape == (4, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.mean((2, 3)).std(0).min() > 0.02, "each image has its own tint"


def test_residual_net_has_the_layout_of_a_resnet():
    places = []

    def block(place):
        places.append(place)
        return nn.Sequential(bottleneck(place)) if place.order else shortcut(place)

    with torch.device("meta"):
        model = ResidualNet(block, (3, 4, 6, 3))
        logits = model.eval()(torch.empty(2, 3, 64, 64))
    assert logits.shape == (2, 1000)
    assert [p.stride for p in places if p.order == 0] == [1, 2, 2, 2]
    assert all(p.stride == 1 for p in places if p.order)
    assert places[0] == Place(0, 0, 64, 64, 1)
    assert places[3] == Place(1, 0, 256, 128, 2)
    assert places[-1] == Place(3, 2, 2048, 512, 1)
