"""Segmentation-aware convolution: distances, three kinds of weights, written out per pixel."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pagdeploy.exporters.models import segaware
from pagdeploy.exporters.models.segaware import (
    FAR,
    SegAwareConv2d,
    bilateral_filter,
    embedding_distance,
)


def window(kernel, dilation):
    """Row and column offsets in the order of the window."""
    reach = range(-(kernel // 2), kernel // 2 + 1)
    return [(dy * dilation, dx * dilation) for dy in reach for dx in reach]


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (5, 1)])
def test_distances_are_those_of_the_window_to_its_centre(norm, kernel, dilation):
    torch.manual_seed(0)
    e = torch.randn(1, 4, 6, 7)
    distance = embedding_distance(e, kernel, dilation, norm=norm)
    assert distance.shape == (1, kernel * kernel, 6, 7)
    for k, (dy, dx) in enumerate(window(kernel, dilation)):
        for y, x in ((0, 0), (3, 4), (5, 6), (2, 1)):
            expected = torch.zeros(())
            if 0 <= y + dy < 6 and 0 <= x + dx < 7:
                difference = e[0, :, y + dy, x + dx] - e[0, :, y, x]
                expected = difference.abs().sum() if norm == 1 else 0.5 * difference.square().sum()
            torch.testing.assert_close(distance[0, k, y, x], expected)


def test_bounds_and_centre_can_be_removed():
    e = torch.randn(1, 2, 4, 4)
    plain = embedding_distance(e, 3)
    bounds = embedding_distance(e, 3, remove_bounds=True)
    center = embedding_distance(e, 3, remove_center=True)
    assert plain[0, 0, 0, 0] == 0, "outside the image the distance is zero"
    assert bounds[0, 0, 0, 0] == FAR
    assert torch.equal(bounds[:, :, 1:3, 1:3], plain[:, :, 1:3, 1:3])
    assert (center[:, 4] == FAR).all()
    assert torch.equal(center[:, :4], plain[:, :4])


def conv(**options):
    torch.manual_seed(0)
    layer = SegAwareConv2d(3, 2, **options)
    with torch.no_grad():
        layer.scale.fill_(0.7)
    return layer


def test_equal_embeddings_make_the_plain_form_a_convolution():
    layer, x = conv(dilation=2), torch.randn(1, 3, 8, 9)
    distance = embedding_distance(torch.ones(1, 4, 8, 9), 3, 2)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=2, dilation=2)
    torch.testing.assert_close(layer(x, distance), expected)


@pytest.mark.parametrize("normalized", [False, True])
def test_each_neighbour_counts_by_its_weight(normalized):
    layer, x, e = conv(normalized=normalized), torch.randn(2, 3, 6, 6), torch.randn(2, 4, 6, 6)
    distance = embedding_distance(e, 3)
    y, padded = layer(x, distance), F.pad(x, (1, 1, 1, 1))
    d = distance[1, :, 2, 0]
    weights = (-0.7 * d).softmax(0) if normalized else torch.exp(-0.7 * d)
    patch = padded[1, :, 2:5, 0:3].flatten(1)
    expected = (layer.weight.flatten(2) * patch * weights).sum((1, 2)) + layer.bias
    torch.testing.assert_close(y[1, :, 2, 0], expected)


def test_normalised_weights_sum_to_one_and_plain_ones_do_not():
    distance = embedding_distance(torch.randn(1, 4, 6, 6), 3)
    torch.testing.assert_close(conv(normalized=True).weights(distance).sum(1), torch.ones(1, 6, 6))
    total = conv().weights(distance).sum(1)
    assert total.min() >= 1, "the centre alone has weight 1"
    assert total.max() > 1.5


def test_a_negative_lambda_counts_by_its_size_in_the_plain_form():
    layer, distance = conv(), embedding_distance(torch.randn(1, 4, 4, 4), 3)
    positive = layer.weights(distance)
    with torch.no_grad():
        layer.scale.neg_()
    assert torch.equal(layer.weights(distance), positive)


def test_layers_of_one_resolution_share_their_lambda():
    model = segaware.vgg(((4, 4), (8, 8)))
    scales = [[id(conv.scale) for conv in stage] for stage in model.stages]
    assert [len(set(stage)) for stage in scales] == [1, 1]
    assert scales[0][0] != scales[1][0]
    alone = SegAwareConv2d(1, 1, scale=nn.Parameter(torch.zeros(())))
    assert alone.scale.item() == 0, "a given lambda of zero is kept"
    assert SegAwareConv2d(1, 1).scale.item() == pytest.approx(0.1)


def test_the_bilateral_filter_smooths_within_segments_only():
    x = torch.randn(1, 2, 12, 12)
    segment = torch.zeros(1, 1, 12, 12)
    segment[:, :, :, 6:] = 10
    y = bilateral_filter(x, segment)
    torch.testing.assert_close(y[0, :, 6, 2], x[0, :, 2:11, 0:6].mean((1, 2)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        y[0, :, 0, 11], x[0, :, 0:5, 7:12].mean((1, 2)), rtol=1e-3, atol=1e-4
    )
    ones = bilateral_filter(torch.ones(1, 1, 12, 12), segment)
    torch.testing.assert_close(ones, torch.ones_like(ones), rtol=0, atol=1e-3)
