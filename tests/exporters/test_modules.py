"""The training form and the deployed form of every module are the same function."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pagdeploy.exporters import modules
from pagdeploy.exporters.modules import MultiPool, PAGGate, PerforatedConv2d
from pagdeploy.exporters.norms import ChaAtten


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def one_hot(selection, branches):
    """(N, 1, H, W) -> (N, K, H, W)."""
    return F.one_hot(selection[:, 0].long(), branches).permute(0, 3, 1, 2).float()


def scrambled(norm):
    """A norm whose folding would show any mistake."""
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_()
        norm.running_mean.normal_()
        spread = norm.running_sigma if isinstance(norm, ChaAtten) else norm.running_var
        spread.uniform_(0.5, 2.0)
    return norm


@pytest.mark.parametrize("mode", ["replace", "add"])
@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "leaky_relu"])
@pytest.mark.parametrize("with_base", [True, False])
def test_conv_in_training_equals_conv_in_evaluation(mode, activation, with_base):
    conv = PerforatedConv2d(
        4, 6, 3, padding=(2, 1), dilation=(2, 1), groups=2, branch=2, mode=mode,
        activation=activation, alpha=0.2,
    )  # fmt: skip
    x, base = 4 * torch.randn(2, 4, 7, 5), torch.randn(2, 6, 7, 5) if with_base else None
    selection = torch.randint(0, 3, (2, 1, 7, 5), dtype=torch.int32)
    trained = conv.train()(x, one_hot(selection, 3), base)
    deployed = conv.eval()(x, selection, base)
    assert (trained != 0).any()
    torch.testing.assert_close(trained, deployed, rtol=0, atol=0)


def test_inactive_pixels_never_read_the_convolution():
    conv = PerforatedConv2d(3, 3, 1).eval()
    x, base = torch.full((1, 3, 2, 2), math.nan), torch.randn(1, 3, 2, 2)
    y = conv(x, torch.zeros(1, 1, 2, 2, dtype=torch.int32), base)
    assert torch.equal(y, base)


def test_the_gate_trains_through_the_hard_decision():
    gate, conv = PAGGate(nn.Conv2d(3, 2, 1)), PerforatedConv2d(3, 3, 3, padding=1)
    x = torch.randn(2, 3, 8, 8)
    conv(x, gate(x), x).square().mean().backward()
    assert gate.head.weight.grad.abs().sum() > 0
    torch.testing.assert_close(gate.mask, one_hot(gate.mask.argmax(1, keepdim=True), 2))


def test_the_gate_decides_alike_in_training_without_noise_and_in_evaluation():
    gate = PAGGate(nn.Conv2d(3, 3, 1), blur=True)
    gate.noise = False
    x = torch.randn(2, 3, 8, 8)
    trained = gate(x).argmax(1, keepdim=True)
    deployed = gate.eval()(x)
    assert deployed.dtype == torch.int32
    assert len(deployed.unique()) == 3
    assert torch.equal(trained.int(), deployed)


def test_the_noise_changes_decisions():
    gate = PAGGate(nn.Identity())
    near_tie = torch.zeros(1, 2, 16, 16)
    assert 0.2 < float(gate(near_tie)[:, 1].mean().detach()) < 0.8


def test_a_tie_skips():
    assert PAGGate(nn.Identity()).eval()(torch.zeros(1, 2, 1, 1)).item() == 0


def test_the_blur_scales_the_bias_at_the_border():
    head = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 9.0]))
    seen = []
    gate = PAGGate(head, blur=True).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules, "pag_gate", lambda logits: seen.append(logits))
        gate(torch.zeros(1, 1, 3, 3))
    expected = torch.tensor([[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]])
    torch.testing.assert_close(seen[0][0, 1], expected)


def test_cha_atten_divides_by_sigma_without_a_root():
    norm = scrambled(ChaAtten(3)).eval()
    x = torch.randn(2, 3, 4, 5)
    mu, sigma, gamma, beta = (
        t.detach()[:, None, None]
        for t in (norm.running_mean, norm.running_sigma, norm.weight, norm.bias)
    )
    torch.testing.assert_close(norm(x), (x - mu) / (sigma + 1e-5) * gamma + beta)


def test_cha_atten_learns_the_moments_of_the_batch():
    norm = ChaAtten(2, momentum=1.0)
    x = 3 * torch.randn(4, 2, 16, 16) + 5
    y = norm(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_sigma, x.std((0, 2, 3), correction=0))


@pytest.mark.parametrize("kind", ["batch", "cha_atten"])
@pytest.mark.parametrize("bias", [True, False])
def test_folding_a_norm_is_exact(kind, bias):
    norm = scrambled(modules.make_norm(kind, 6)).double().eval()
    conv = PerforatedConv2d(4, 6, 3, padding=1, bias=bias, norm=norm, activation="relu")
    conv = conv.double().eval()
    x, base = torch.randn(2, 4, 5, 5).double(), torch.randn(2, 6, 5, 5).double()
    selection = torch.randint(0, 2, (2, 1, 5, 5), dtype=torch.int32)
    plain = F.relu(norm(F.conv2d(x, conv.weight, conv.bias, padding=1)))
    expected = torch.where(selection == 1, plain, base)
    torch.testing.assert_close(conv(x, selection, base), expected)
    conv.fold_norm_()
    assert conv.norm is None
    torch.testing.assert_close(conv(x, selection, base), expected)


def test_a_norm_without_running_statistics_cannot_be_folded():
    with pytest.raises(TypeError, match="BatchNorm2d cannot be folded into a convolution"):
        modules.affine_of(nn.BatchNorm2d(3, track_running_stats=False))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="norm 'layer' is not one of"):
        modules.make_norm("layer", 3)
    with pytest.raises(ValueError, match="unknown mode or activation: 'GELU'"):
        PerforatedConv2d(3, 3, 3, activation="gelu")
    with pytest.raises(ValueError, match="needs zero padding, given as numbers"):
        PerforatedConv2d(3, 3, 3, padding="same")


@pytest.mark.parametrize("dilations", [(10, 8, 6, 4, 2, 1, 0), (1, 2), (0, 1)])
@pytest.mark.parametrize("tied", [True, False])
def test_multi_pool_chain_equals_the_sum(dilations, tied):
    gate = PAGGate(nn.Conv2d(4, len(dilations), 1))
    gate.noise = False
    torch.nn.init.normal_(gate.head.weight)
    torch.nn.init.zeros_(gate.head.bias)  # so that every branch is chosen somewhere
    pool = MultiPool(4, dilations, gate, tied=tied)
    for conv in pool.branches.values():
        scrambled(conv.norm)
    pool.train()
    for conv in pool.branches.values():
        conv.norm.eval()  # the running statistics, in both forms
    x = torch.randn(4, 4, 9, 12)
    trained = pool(x)
    deployed = pool.eval()(x)
    torch.testing.assert_close(trained, deployed, rtol=1e-5, atol=1e-5)
    chosen = pool.gate(x)
    for index, dilation in enumerate(dilations):
        y = x if dilation == 0 else pool.branches[f"dilation{dilation}"](x)
        torch.testing.assert_close(
            torch.where(chosen == index, deployed, 0), torch.where(chosen == index, y, 0)
        )
    assert len(chosen.unique()) == len(dilations)


def test_multi_pool_refuses_a_dilation_twice():
    with pytest.raises(ValueError, match="not all different"):
        MultiPool(4, (1, 0, 1), PAGGate(nn.Conv2d(4, 3, 1)))


def mask_of_density(active, pixels=10):
    """(1, 2, 1, P) with the first pixels active."""
    computed = (torch.arange(pixels) < active).float()
    return torch.stack([1 - computed, computed])[None, :, None]


def test_sparsity_losses_by_hand():
    mask = mask_of_density(4)
    divergence = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    # The two channels' divergences are equal: each is the other's with both outcomes swapped.
    assert modules.sparsity_kl(mask, 0.7).item() == pytest.approx(2 * divergence, rel=1e-5)
    mild = 2 * math.log(1 + 0.3**2)
    assert modules.sparsity_mild(mask, 0.7).item() == pytest.approx(mild, rel=1e-5)
    assert modules.sparsity_kl(mask_of_density(7), 0.7).item() == pytest.approx(0, abs=1e-6)


def test_the_combined_loss_weighs_pixels_not_layers():
    masks = [mask_of_density(10, 10), mask_of_density(0, 30)]  # together 10 of 40
    combined = modules.sparsity_kl_combined(masks, 0.7).item()
    assert combined == pytest.approx(modules.sparsity_kl(mask_of_density(10, 40), 0.7).item())
    assert modules.sparsity_kl_combined(masks, 0.25).item() == pytest.approx(0, abs=1e-5)
