"""Polarized self-attention: three definitions, written out."""

from __future__ import annotations

import pytest
import torch

from pagdeploy.exporters.models import psa
from pagdeploy.exporters.models.psa import DEFINITIONS, PolarizedSelfAttention


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(2, 16, 5, 6)


def attention(definition):
    torch.manual_seed(0)
    return PolarizedSelfAttention(16, definition).eval()


def per_pixel(conv, x):
    """A 1x1 convolution as a product: (N, C, H, W) -> (N, Co, H W)."""
    return torch.einsum("oc,nchw->nohw", conv.weight[:, :, 0, 0], x).flatten(2)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_the_channel_branch_averages_v_by_the_softmax_of_q_over_positions(definition, x):
    model = attention(definition)
    q = per_pixel(model.channel_q, x)[:, 0].softmax(1)
    z = torch.einsum("ncp,np->nc", per_pixel(model.channel_v, x), q)
    expected = torch.sigmoid(model.up(z[:, :, None, None]))
    torch.testing.assert_close(model.channel_weights(x), expected)
    assert expected.shape == (2, 16, 1, 1)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_the_spatial_branch_has_its_softmax_in_another_place(definition, x):
    model = attention(definition)
    q, v = per_pixel(model.spatial_q, x).mean(2), per_pixel(model.spatial_v, x)
    if definition == "paper":
        context = torch.einsum("nc,ncp->np", q.softmax(1), v)
    elif definition == "sequential":
        context = torch.einsum("nc,ncp->np", q, v.softmax(2))
    else:
        context = torch.einsum("nc,ncp->np", q, v).softmax(1)
    expected = torch.sigmoid(context).view(2, 1, 5, 6)
    torch.testing.assert_close(model.spatial_weights(x), expected)


def test_the_parallel_spatial_mask_is_close_to_one_half(x):
    # sigmoid(softmax over 30 positions): half precision would lose its steps on large maps.
    weights = attention("parallel").spatial_weights(x)
    torch.testing.assert_close(torch.logit(weights).flatten(1).sum(1), torch.ones(2))
    assert ((weights - 0.5).abs() < 0.25).all()


def test_outputs_are_summed_or_chained(x):
    for definition in DEFINITIONS:
        model = attention(definition)
        channel = x * model.channel_weights(x)
        if definition == "sequential":
            expected = channel * model.spatial_weights(channel)
        else:
            expected = channel + x * model.spatial_weights(x)
        torch.testing.assert_close(model(x), expected)


def test_only_the_sequential_channel_branch_has_biases():
    for definition in DEFINITIONS:
        biased = [
            n
            for n, m in attention(definition).named_modules()
            if isinstance(m, torch.nn.Conv2d) and m.bias is not None
        ]
        assert biased == (["up.0", "up.3"] if definition == "sequential" else [])


def test_an_unknown_definition_is_refused():
    with pytest.raises(ValueError, match=r"'p' is not one of \('parallel'"):
        PolarizedSelfAttention(8, "p")


def test_the_published_host_has_attention_in_every_basic_block(monkeypatch):
    monkeypatch.setattr(psa, "seeded", lambda make, density, inputs: make())
    with torch.device("meta"):
        model = psa.hrnet_w48().eval()
        scores = model(torch.empty(1, 3, 64, 96))
    assert scores.shape == (1, 19, 16, 24)
    attentions = [m for m in model.modules() if isinstance(m, PolarizedSelfAttention)]
    assert len(attentions) == 4 * (1 * 2 + 4 * 3 + 3 * 4)
    assert {m.channel_q.in_channels for m in attentions} == {48, 96, 192, 384}
