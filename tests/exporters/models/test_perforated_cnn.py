"""PerforatedCNN: which positions are kept, and skipped ones copy the nearest kept one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from pagdeploy.exporters.models import perforated_cnn
from pagdeploy.exporters.models.parts import example_images
from pagdeploy.exporters.models.perforated_cnn import (
    Perforated,
    grid,
    impact,
    nearest,
    structure,
    uniform,
)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("mask", [uniform, structure])
@pytest.mark.parametrize("rate", [1.0, 0.5, 1 / 3, 0.05])
def test_the_kept_share_is_the_rate_rounded_down_and_sorted(mask, rate):
    kept = mask(12, 15, rate, generator())
    assert len(kept) == int(rate * 180)
    assert torch.equal(kept, kept.unique())


def test_uniform_depends_on_the_seed_and_covers_the_map():
    kept = uniform(20, 20, 0.5, generator())
    assert not torch.equal(kept, uniform(20, 20, 0.5, torch.Generator().manual_seed(1)))
    assert (torch.bincount(kept // 200) > 60).all(), "about half of each half"


@pytest.mark.parametrize("rate", [0.25, 0.1])
def test_a_grid_is_a_product_of_evenly_spaced_axes(rate):
    kept = grid(24, 30, rate, generator())
    rows, columns = (kept // 30).unique(), (kept % 30).unique()
    assert torch.equal(kept, (rows[:, None] * 30 + columns).flatten())
    for axis, size in ((rows, 24), (columns, 30)):
        assert len(axis) == round(size * rate**0.5)
        steps = axis.diff()
        assert steps.max() - steps.min() <= 1
        assert axis.min() >= 0
        assert axis.max() < size


def test_structure_keeps_what_most_pooling_windows_read():
    # A 3x3 pooling of stride 2 and padding 1 reads odd rows and columns twice, the others once.
    kept = structure(8, 8, 9 / 64, generator())
    assert set(((kept // 8) % 2).tolist()) == set(((kept % 8) % 2).tolist()) == {1}
    assert len(kept) == 9


def test_impact_keeps_the_positions_that_move_the_loss_most():
    activation = torch.zeros(2, 3, 4, 5)
    activation[:, :, 1, 2], activation[:, :, 3, 4], activation[:, :, 0, 0] = 1, 2, 5
    gradient = torch.ones_like(activation)
    gradient[:, :, 0, 0] = 0.01
    gradient[1, :, 1, 2] = -1  # the sign does not cancel
    assert impact(activation, gradient, 2 / 20).tolist() == [7, 19]


def test_each_position_takes_its_nearest_kept_one():
    kept = uniform(11, 13, 0.15, generator())
    index = nearest(kept, 11, 13, generator())
    assert torch.equal(kept[index[kept]], kept), "a kept position is its own"
    positions = torch.stack([torch.arange(143) // 13, torch.arange(143) % 13], 1).float()
    distances = torch.cdist(positions, positions[kept])
    chosen = distances.gather(1, index[:, None])[:, 0]
    torch.testing.assert_close(chosen, distances.amin(1))


def test_ties_are_broken_at_random():
    index = nearest(torch.tensor([0, 2]), 1, 3, generator())
    seen = {
        int(nearest(torch.tensor([0, 2]), 1, 3, torch.Generator().manual_seed(s))[1])
        for s in range(20)
    }
    assert index[0] == 0
    assert index[2] == 1
    assert seen == {0, 1}


def test_a_map_with_one_kept_position_is_that_value():
    index = nearest(torch.tensor([17]), 6, 7, generator())
    assert torch.equal(index, torch.zeros(42, dtype=torch.int64))


@pytest.mark.parametrize("im2col", [False, True])
def test_skipped_outputs_are_the_nearest_computed_one(im2col):
    torch.manual_seed(0)
    kept = grid(9, 10, 0.2, generator())
    index = nearest(kept, 9, 10, generator())
    layer, x = Perforated(3, 4, kept, index, im2col=im2col).eval(), torch.randn(2, 3, 9, 10)
    dense = F.relu(layer.conv(x)).flatten(2)
    torch.testing.assert_close(layer(x).flatten(2), dense[:, :, kept[index]])


def test_both_ways_to_compute_agree_and_rate_one_is_dense():
    image = example_images(1, 32)
    with torch.no_grad():
        make = partial(perforated_cnn.vgg, size=32, mask=uniform)
        torch.testing.assert_close(make()(image), make(im2col=True)(image))
        full = make(rate=1.0)
        dense = image
        for layer in full.features:
            dense = F.relu(layer.conv(dense)) if isinstance(layer, Perforated) else layer(dense)
        torch.testing.assert_close(full(image), full.head(dense.mean((2, 3))))


def test_impact_masks_replace_all_masks_and_concentrate():
    model = perforated_cnn.vgg(size=32)
    images = example_images(4, 32)
    layers = [layer for layer in model.features if isinstance(layer, Perforated)]
    before = [layer.kept for layer in layers]
    perforated_cnn.perforate_by_impact(model, images, torch.tensor([0, 1, 2, 3]), 0.25)
    for layer, old, pixels in zip(layers, before, (1024, 256), strict=True):
        assert len(layer.kept) == pixels // 4
        assert layer.kept.tolist() != old.tolist()
        assert len(layer.index) == pixels
    assert torch.isfinite(model(images)).all()


def test_maps_of_another_size_are_refused():
    with pytest.raises(ValueError, match="the index is for 1024 positions, got 40x40"):
        perforated_cnn.vgg(size=32)(example_images(1, 40))
