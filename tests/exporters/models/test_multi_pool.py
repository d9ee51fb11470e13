"""MultiPool's branches, orders and ties, and the depth-aware variant with recurrence."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from pagdeploy.exporters.models import perspective
from pagdeploy.exporters.models.multi_pool import ASCENDING, RELEASED, DilationGate, MultiPool
from pagdeploy.exporters.models.parts import example_images


def pool(dilations, **options):
    torch.manual_seed(0)
    return MultiPool(4, dilations, **options).eval()


def choose(gate, branch):
    """Make every pixel choose one branch."""
    with torch.no_grad():
        gate.scores.weight.zero_()
        gate.scores.bias.copy_(F.one_hot(torch.tensor(branch), len(gate.scores.bias)).float())


@pytest.mark.parametrize("dilations", [RELEASED, ASCENDING], ids=["released", "ascending"])
def test_each_branch_is_its_dilation_and_zero_copies(dilations):
    model, x = pool(dilations), torch.randn(1, 4, 9, 9)
    for k, dilation in enumerate(dilations):
        choose(model.gate, k)
        if dilation == 0:
            assert torch.equal(model(x), x)
            continue
        conv, norm, _ = model.branches[k]
        expected = norm(F.conv2d(x, conv.weight, padding=dilation, dilation=dilation)).relu()
        torch.testing.assert_close(model(x), expected)


def test_the_orders_are_those_of_the_released_functions():
    assert RELEASED == (10, 8, 6, 4, 2, 1, 0)
    assert ASCENDING == (0, 1, 2, 4, 6, 8, 10)


def test_the_first_branch_wins_a_tie():
    gate = DilationGate(4, 3).eval()
    with torch.no_grad():
        gate.scores.weight.zero_()
        gate.scores.bias.copy_(torch.tensor([-1.0, 2.0, 2.0]))
    weights = gate(torch.randn(1, 4, 3, 3))
    assert torch.equal(weights[0, :, 0, 0], torch.tensor([0.0, 1.0, 0.0]))


def test_tied_branches_share_one_kernel_and_untied_ones_do_not():
    for tied in (True, False):
        kernels = {
            id(b[0].weight)
            for b in pool(ASCENDING, tied=tied).branches
            if isinstance(b, torch.nn.Sequential)
        }
        assert len(kernels) == (1 if tied else 6)


def test_a_soft_gate_mixes_all_branches():
    model, x = pool((0, 1, 2), soft=True), torch.randn(1, 4, 9, 9)
    weights = model.gate(x)
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 9, 9))
    assert weights.max() < 0.99
    expected = sum(weights[:, k : k + 1] * branch(x) for k, branch in enumerate(model.branches))
    torch.testing.assert_close(model(x), expected)


def test_depth_aware_gating_is_soft_as_published_and_one_hot_when_hardened():
    image = example_images(1, 32)
    for model, hard in ((perspective.resnet(), False), (perspective.hardened(), True)):
        weights = []
        keep = partial(_append_output, weights)
        for module in (model.first, model.recurrent):
            module.gate.register_forward_hook(keep)
        with torch.no_grad():
            model(image)
        assert len(weights) == 1 + perspective.LOOPS
        assert all((set(w.unique().tolist()) == {0.0, 1.0}) is hard for w in weights)
        assert all(torch.allclose(w.sum(1), torch.ones(())) for w in weights)


def test_loops_share_parameters_and_feed_on_the_last_prediction():
    once, thrice = (perspective.resnet(loops=loops) for loops in (1, 3))
    thrice.load_state_dict(once.state_dict())
    image, joined = example_images(1, 32), []
    thrice.recurrent.register_forward_pre_hook(lambda m, a: joined.append(a[0]))
    with torch.no_grad():
        first, last = once(image), thrice(image)
    assert not torch.allclose(first, last)
    assert len(joined) == 3
    classes, branches = 5, 5
    for before, after in itertools.pairwise(joined):
        assert torch.equal(before[:, : -classes - branches], after[:, : -classes - branches])
        assert not torch.equal(before[:, -branches:], after[:, -branches:])
    torch.testing.assert_close(
        joined[1][:, -branches - classes : -branches].sum(1), torch.ones(1, 4, 4)
    )


def _append_output(found, module, arguments, output):
    found.append(output)
