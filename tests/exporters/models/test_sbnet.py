"""SBNet: the mask is reduced to blocks, and whole blocks run or rest."""

from __future__ import annotations

import pytest
import torch

from pagdeploy.exporters.models import sbnet
from pagdeploy.exporters.models.parts import example_images
from pagdeploy.exporters.models.sbnet import Unit, reduce_mask


def test_a_block_is_active_where_the_pooled_mask_exceeds_the_tolerance():
    mask = torch.zeros(1, 1, 6, 4)
    mask[0, 0, 0, 0] = 1
    mask[0, 0, 2:4, 2:4] = 0.5
    by_maximum = reduce_mask(mask, 2, average=False, tolerance=0.5)
    by_average = reduce_mask(mask, 2, average=True, tolerance=0.25)
    assert by_maximum[0, 0].tolist() == [[True, False], [False, False], [False, False]]
    assert by_average[0, 0].tolist() == [[False, False], [False, True], [False, False]], (
        "0.25 rests"
    )


def test_blocks_that_stick_out_are_cut():
    model = sbnet.resnet((1,), block=4)
    mask = torch.zeros(1, 1, 10, 7)
    mask[0, 0, 9, 6] = 1
    active = model.active(mask)
    expected = torch.zeros(1, 1, 10, 7, dtype=torch.bool)
    expected[:, :, 8:, 4:] = True
    assert torch.equal(active, expected)


def test_resting_pixels_keep_their_input_and_active_ones_are_dense():
    torch.manual_seed(0)
    unit, x = Unit(8, 2).eval(), torch.randn(1, 8, 8, 8)
    active = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    active[:, :, :4, 4:] = True
    with torch.no_grad():
        y, dense = unit(x, active), x + unit.branch(x)
    on = active.expand_as(x)
    assert torch.equal(y[~on], x[~on])
    assert torch.equal(y[on], dense[on])


def test_the_mask_follows_the_maps_down(monkeypatch):
    model = sbnet.resnet((1, 1))
    shapes = []
    for stage in model.stages:
        stage[0].register_forward_pre_hook(lambda m, a: shapes.append((a[0].shape[2:], a[1].shape)))
    with torch.no_grad():
        model(example_images(1, 42), sbnet.example_mask(1, 42))
    assert [(tuple(x), tuple(mask[2:])) for x, mask in shapes] == [((21, 21),) * 2, ((11, 11),) * 2]


def test_an_empty_mask_rests_everywhere_and_a_full_one_nowhere():
    model = sbnet.resnet((1, 1))
    image = example_images(1, 32)
    seen = []
    for stage in model.stages:
        stage[0].register_forward_hook(lambda m, a, output: seen.append(torch.equal(output, a[0])))
    with torch.no_grad():
        model(image, torch.zeros(1, 1, 32, 32))
        model(image, torch.ones(1, 1, 32, 32))
    assert seen == [True, True, False, False]


@pytest.mark.parametrize(("density", "share"), [(0.1, 1 / 16), (0.3, 4 / 16), (1.0, 1.0)])
def test_example_masks_have_their_density_in_whole_blocks_and_move(density, share):
    mask = sbnet.example_mask(3, 64, density)
    assert (mask.mean((1, 2, 3)) == share).all()
    assert reduce_mask(mask, 16, average=False, tolerance=0.0).float().mean() == share
    assert density == 1 or not torch.equal(mask[0], mask[1])
