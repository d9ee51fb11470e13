"""DynConv: ties run, the mask of the first 1x1 is the one the 3x3 reads, inactive pixels keep I."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pagdeploy.exporters.models import dynconv
from pagdeploy.exporters.models.dynconv import Bottleneck, InvertedResidual, MaskUnit, expand_mask
from pagdeploy.exporters.models.parts import Place, example_images


@pytest.mark.parametrize("pooled", [True, False])
def test_a_tie_runs(pooled):
    unit = MaskUnit(3, pooled=pooled)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.zero_()
    assert unit(torch.randn(1, 3, 4, 4)).min() == 1


def test_the_classification_score_adds_a_linear_layer_of_the_global_average():
    torch.manual_seed(0)
    unit, x = MaskUnit(3), torch.randn(2, 3, 6, 6)
    local = F.conv2d(x, unit.conv.weight, unit.conv.bias, padding=1)
    expected = local + (x.mean((2, 3)) @ unit.fc.weight.T + unit.fc.bias).view(2, 1, 1, 1)
    torch.testing.assert_close(unit.score(x), expected)
    assert MaskUnit(3, pooled=False).conv.kernel_size == (1, 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_dilated_mask_is_exactly_what_the_3x3_reads(stride):
    torch.manual_seed(0)
    mask = (torch.rand(2, 1, 6, 6) < 0.2).float()
    x = torch.ones(2, 1, 6 * stride, 6 * stride, requires_grad=True)
    y = F.conv2d(x, torch.ones(1, 1, 3, 3), stride=stride, padding=1)
    (read,) = torch.autograd.grad((y * mask).sum(), x)
    assert torch.equal(expand_mask(mask, stride), read > 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_zeroing_the_first_1x1_outside_the_dilated_mask_changes_nothing(stride):
    torch.manual_seed(0)
    place, x = Place(0, 0, 6, 4, stride), torch.randn(2, 6, 12, 12)
    plain, dilated = Bottleneck(place).eval(), Bottleneck(place, dilate=True).eval()
    dilated.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for block in (plain, dilated):
            block.masker.set_density(0.3, x)
        assert 0.2 < plain.masker(x).mean() < 0.4
        assert torch.equal(plain(x), dilated(x))


def test_inactive_pixels_show_the_shortcut():
    torch.manual_seed(0)
    block, x = Bottleneck(Place(0, 0, 16, 4, 1)).eval(), torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        block.masker.set_density(0.5, x)
        off = (block.masker(x) == 0).expand_as(x)
        assert torch.equal(block(x)[off], x.relu()[off])
        assert not torch.equal(block(x)[~off], x.relu()[~off])


def test_an_inverted_residual_has_no_last_relu_and_is_depthwise():
    torch.manual_seed(0)
    block, x = InvertedResidual(4, 4).eval(), torch.randn(2, 4, 8, 8)
    assert [conv.groups for conv in block.conv if isinstance(conv, torch.nn.Conv2d)] == [1, 24, 1]
    with torch.no_grad():
        block.masker.set_density(0.5, x)
        off = (block.masker(x) == 0).expand_as(x)
        assert torch.equal(block(x)[off], x[off])
        assert x[off].min() < 0


@pytest.mark.parametrize("shape", [(4, 8, 1), (4, 4, 2)])
def test_blocks_that_change_their_shape_are_dense(shape):
    assert InvertedResidual(*shape).masker is None


def test_the_whole_network_is_the_same_with_dilated_masks():
    with torch.no_grad():
        plain, dilated = dynconv.resnet(), dynconv.resnet(dilate=True)
        dilated.load_state_dict(plain.state_dict())
        image = example_images(2, 64)
        assert torch.equal(plain(image), dilated(image))
