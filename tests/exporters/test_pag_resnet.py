"""PAG-ResNet has the published gates, strides and dilations, and a dense twin of equal names."""

from __future__ import annotations

import pytest
import torch

from pagdeploy.exporters.models import pag_resnet
from pagdeploy.exporters.models.pag_resnet import PAGResNet
from pagdeploy.exporters.modules import MultiPool, PAGGate, PerforatedConv2d
from pagdeploy.exporters.norms import ChaAtten

GATE_CHANNELS = {
    "res2_1": 64, "res2_2": 256, "res2_3": 256,
    "res3_1": 256, "res3_2": 512, "res3_3": 512, "res3_4": 512,
    "res4_1": 512, "res4_2": 1024, "res4_3": 1024, "res4_4": 1024, "res4_5": 1024, "res4_6": 1024,
    "res5_1": 1024, "res5_3": 2048,
}  # fmt: skip


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return pag_resnet.resnet50()


def tiny(**options):
    torch.manual_seed(0)
    return PAGResNet((1, 1, 1, 2), 4, **options)


def test_fifteen_gates_where_the_paper_has_them(published):
    gates = published.gates()
    assert {name: gate.head.in_channels for name, gate in gates.items()} == GATE_CHANNELS
    assert all(gate.head.out_channels == 2 for gate in gates.values())
    assert all(gate.head.bias is not None for gate in gates.values())
    assert [n for n, g in gates.items() if g.head.stride != (1, 1)] == ["res3_1"]


def test_one_multi_pool_in_the_second_last_block(published):
    pools = {n: m for n, m in published.named_modules() if isinstance(m, MultiPool)}
    assert list(pools) == ["res5_2.conv2"]
    pool = pools["res5_2.conv2"]
    assert pool.dilations == (10, 8, 6, 4, 2, 1, 0)
    assert {name: conv.branch for name, conv in pool.branches.items()} == {
        "dilation10": 0, "dilation8": 1, "dilation6": 2, "dilation4": 3, "dilation2": 4,
        "dilation1": 5,
    }  # fmt: skip
    shapes = [m.weight.shape for m in pool.gate.head.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [tuple(s) for s in shapes] == [(128, 512, 1, 1), (32, 128, 3, 3), (7, 32, 1, 1)]


def test_the_stride_sits_on_the_first_1x1(published):
    dilations = {2: 1, 3: 1, 4: 2, 5: 4}
    for names in published.stages:
        for name in names:
            block = published.get_submodule(name)
            expected = 2 if name == "res3_1" else 1
            assert block.conv1[0].stride == (expected, expected), name
            if isinstance(block.conv2, PerforatedConv2d):
                assert block.conv2.stride == (1, 1), name
                dilation = dilations[int(name[3])]
                assert block.conv2.dilation == block.conv2.padding == (dilation,) * 2, name


def test_output_stride_is_eight(published):
    x = torch.empty(1, 3, 64, 96, device="meta")
    seen = {}
    hooks = [
        published.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output.shape})
        )
        for name in ("res2_3", "res3_4", "res4_6", "res5_3")
    ]
    outputs = published.eval()(x)
    for hook in hooks:
        hook.remove()
    assert {n: tuple(s) for n, s in seen.items()} == {
        "res2_3": (1, 256, 16, 24),
        "res3_4": (1, 512, 8, 12),
        "res4_6": (1, 1024, 8, 12),
        "res5_3": (1, 2048, 8, 12),
    }
    channels = [(task, tuple(y.shape)) for task, y in zip(published.tasks, outputs, strict=True)]
    assert channels == [
        ("segmentation", (1, 40, 64, 96)),
        ("boundary", (1, 1, 64, 96)),
        ("depth", (1, 1, 64, 96)),
        ("normals", (1, 3, 64, 96)),
    ]


def test_resnet101_has_more_gates_in_stage_four():
    with torch.device("meta"):
        deep = pag_resnet.resnet101({"depth": 1})
    assert len(deep.gates()) == 32
    assert sum(name.startswith("res4") for name in deep.gates()) == 23


@pytest.mark.parametrize("gated", [True, False])
def test_heads_say_what_they_promise(gated):
    model = tiny(gated=gated).eval()
    image = torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        outputs = dict(zip(model.tasks, model(image), strict=True))
    assert all(y.shape[0] == 2 and y.shape[2:] == image.shape[2:] for y in outputs.values())
    assert (outputs["depth"] > 0).all()
    length = outputs["normals"].square().sum(1).sqrt()
    torch.testing.assert_close(length, torch.ones_like(length), rtol=0, atol=1e-2)


def test_tasks_are_chosen_and_ordered_by_the_caller():
    model = tiny(tasks={"depth": 1, "segmentation": 7}).eval()
    depth, segmentation = model(torch.rand(1, 3, 32, 32))
    assert depth.shape[1] == 1
    assert segmentation.shape[1] == 7


def test_the_dense_twin_has_no_decision_and_shares_its_names():
    gated, dense = tiny(), tiny(gated=False)
    assert not any(isinstance(m, PAGGate) for m in dense.modules())
    assert dense.gates() == {}
    only_dense = set(dense.state_dict()) - set(gated.state_dict())
    assert all(name.startswith("res5_1.conv2.") for name in only_dense), "MultiPool's 3x3 only"
    only_gated = set(gated.state_dict()) - set(dense.state_dict())
    assert all(".gate." in n or ".conv2.branches." in n for n in only_gated)
    plain = set(tiny(multi_pool=False).state_dict()) - set(dense.state_dict())
    assert plain
    assert all(".gate." in name for name in plain)


def test_load_dense_starts_the_gated_network_as_its_twin():
    dense, gated = tiny(gated=False).eval(), tiny().eval()
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    gated.load_dense(dense.state_dict())
    for gate in gated.gates().values():
        always_compute(gate)
    pool = gated.get_submodule("res5_1.conv2")
    with torch.no_grad():
        pool.gate.head[-1].weight.zero_()
        pool.gate.head[-1].bias.copy_(torch.eye(7)[5])  # the block's own dilation, 1
    dense.get_submodule("res5_1.conv2").dilation = (1, 1)
    dense.get_submodule("res5_1.conv2").padding = (1, 1)
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        for a, b in zip(gated(image), dense(image), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_load_dense_names_what_is_absent():
    state = tiny(gated=False).state_dict()
    del state["res3_1.conv1.0.weight"]
    with pytest.raises(KeyError, match=r"res3_1\.conv1\.0\.weight"):
        tiny().load_dense(state)


def test_a_gate_that_always_skips_passes_x_through():
    model = tiny().eval()
    block = model.get_submodule("res2_1")
    with torch.no_grad():
        block.gate.head.weight.zero_()
        block.gate.head.bias.copy_(torch.tensor([1.0, 0.0]))
    i = torch.randn(1, 4, 8, 8)
    x = block.conv1(i).relu()
    expected = (block.shortcut(i) + block.conv3(x)).relu()
    torch.testing.assert_close(block(i), expected)


def test_channel_attention_replaces_every_batch_norm_but_the_decision_heads():
    model = tiny(norm="cha_atten").eval()
    norms = {n for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert all(name.startswith("res5_1.conv2.gate.head.") for name in norms)
    assert any(isinstance(m, ChaAtten) for m in model.modules())
    assert all(torch.isfinite(y).all() for y in model(torch.rand(1, 3, 32, 32)))


def test_training_reaches_every_gate():
    model = tiny().train()
    model.set_temperature(0.5)
    sum(y.square().mean() for y in model(torch.rand(2, 3, 32, 32))).backward()
    gates = [m for m in model.modules() if isinstance(m, PAGGate)]
    assert len(gates) == 5
    for gate in gates:
        assert gate.temperature == 0.5
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gate.parameters())


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"unknown tasks \['flow'\]"):
        tiny(tasks={"flow": 2})
    with pytest.raises(ValueError, match=r"four positive numbers, got \(1, 1\)"):
        PAGResNet((1, 1))


def always_compute(gate):
    """Make a binary gate choose the convolution at every pixel."""
    with torch.no_grad():
        gate.head.weight.zero_()
        gate.head.bias.copy_(torch.tensor([0.0, 1.0]))
