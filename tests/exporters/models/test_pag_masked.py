"""The two readings of PAG's gated block, and the gate's rules."""

from __future__ import annotations

import pytest
import torch

from pagdeploy.exporters.models import multi_pool, pag_masked
from pagdeploy.exporters.models.pag_masked import Bottleneck, PixelGate
from pagdeploy.exporters.models.parts import Place


def block(reading):
    torch.manual_seed(0)
    return Bottleneck(Place(0, 0, 6, 4, 1), reading=reading).eval()


def force(gate, scores):
    """Make a gate's scores the same at every pixel."""
    with torch.no_grad():
        gate.conv.weight.zero_()
        gate.conv.bias.copy_(torch.tensor(scores))


def test_a_tie_passes():
    gate = PixelGate(3)
    force(gate, [0.5, 0.5])
    assert torch.equal(
        gate(torch.randn(1, 3, 2, 2)), torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    )


def test_weights_are_one_hot_and_channel_one_computes():
    gate = PixelGate(3)
    x = torch.randn(2, 3, 8, 8)
    weights = gate(x)
    assert torch.equal(weights.sum(1), torch.ones(2, 8, 8))
    scores = gate.score(x)
    assert torch.equal(weights[:, 1] > 0.5, scores[:, 1] > scores[:, 0])
    assert 0 < weights[:, 1].mean() < 1


def test_blur_is_a_box_on_the_scores_with_zero_padding():
    gate = PixelGate(3, blur=True)
    force(gate, [0.0, 9.0])
    with torch.no_grad():
        computing = gate.score(torch.zeros(1, 3, 5, 5))[0, 1]
    corner_edge_inner = torch.stack([computing[0, 0], computing[0, 2], computing[2, 2]])
    torch.testing.assert_close(corner_edge_inner, torch.tensor([4.0, 6.0, 9.0]))


def test_both_readings_agree_where_all_is_computed():
    blocks = [block(reading) for reading in ("convolution", "residual")]
    x = torch.randn(1, 6, 7, 7)
    for part in blocks:
        force(part.gate, [0.0, 1.0])
    torch.testing.assert_close(blocks[0](x), blocks[1](x))


def test_where_nothing_is_computed_one_passes_x_and_the_other_the_input():
    x = torch.randn(1, 6, 7, 7)
    convolution, residual = block("convolution"), block("residual")
    force(convolution.gate, [1.0, 0.0])
    force(residual.gate, [1.0, 0.0])
    inner = convolution.conv1(x).relu()
    expected = (convolution.shortcut(x) + convolution.conv3(inner)).relu()
    torch.testing.assert_close(convolution(x), expected)
    torch.testing.assert_close(residual(x), residual.shortcut(x).relu())
    assert not torch.allclose(convolution(x), residual(x))


def test_readings_differ_at_every_skipped_pixel_and_only_there():
    convolution, residual = block("convolution"), block("residual")
    residual.load_state_dict(convolution.state_dict())
    x = torch.randn(2, 6, 16, 16)
    with torch.no_grad():
        for part in (convolution, residual):
            part.gate.set_density(0.6, x)
            part.gate.conv.load_state_dict(convolution.gate.conv.state_dict())
        computed = convolution.gate(x)[:, 1] > 0.5
        a, b = convolution(x), residual(x)
    # The last 1x1 sees one pixel, so that a computed pixel has one and the same value.
    assert torch.allclose(a.movedim(1, -1)[computed], b.movedim(1, -1)[computed], atol=1e-6)
    # But for pixels that the last ReLU makes zero in both.
    assert ((a - b).abs().amax(1)[~computed] > 1e-4).float().mean() > 0.9


def test_a_soft_gate_mixes_both_branches():
    gate, x = PixelGate(3, soft=True), torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(gate(x), gate.score(x).softmax(1))
    assert 0 < gate(x).min() < gate(x).max() < 1


def test_an_unknown_reading_is_refused():
    with pytest.raises(ValueError, match="'whole' is neither"):
        pag_masked.resnet(reading="whole")


def test_the_released_network_has_fifteen_gates_and_multi_pool_second_last(monkeypatch):
    monkeypatch.setattr(pag_masked, "seeded", lambda make, density, inputs: make())
    with torch.device("meta"):
        model = pag_masked.resnet50()
    gates = [m for m in model.modules() if isinstance(m, PixelGate)]
    assert [gate.conv.in_channels for gate in gates] == [64, 256, 256, 256, 512, 512, 512, 512] + [
        1024
    ] * 5 + [1024, 2048]
    assert [i for i, b in enumerate(model.blocks) if isinstance(b, multi_pool.Block)] == [14]
    assert [g.conv.stride[0] for g in gates].index(2) == 3
    assert sum(g.conv.stride[0] == 2 for g in gates) == 1
