"""BlockDrop, ConvNet-AIG and SkipNet: one decision per image, and what a skipped block shows."""

from __future__ import annotations

import onnxruntime
import pytest
import torch

from pagdeploy.exporters.models import blockdrop, convnet_aig, skipnet
from pagdeploy.exporters.models.convnet_aig import ImageGate
from pagdeploy.exporters.models.parts import example_images


@pytest.fixture(scope="module")
def images():
    return example_images(8, 64, seed=3)


def one_image(network, x, policy):
    """BlockDrop as its authors run a single image: blocks that are dropped are not computed."""
    x = network.stem(x)
    for block, action in zip(network.blocks, policy, strict=True):
        skipped = block.ds(x)
        x = (skipped + block.branch(x)).relu() if action == 1 else skipped
    return network.classify(x)


def test_blockdrop_runs_each_image_under_its_own_policy(images):
    network = blockdrop.resnet((2, 2))
    with torch.no_grad():
        policies, logits = network.policy(images), network(images)
        assert len(policies.unique(dim=0)) > 1, "the images ask for different policies"
        for image, policy, expected in zip(images, policies, logits, strict=True):
            actual = one_image(network, image[None], policy)[0]
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_blockdrop_decides_at_half_size_and_a_tie_runs():
    network = blockdrop.resnet()
    seen = []
    network.policy.features.register_forward_pre_hook(lambda m, a: seen.append(a[0].shape))
    with torch.no_grad():
        network.policy.features.head.weight.zero_()
        network.policy.features.head.bias.copy_(torch.tensor([0.0, -1.0, 1.0]))
        policy = network.policy(torch.rand(1, 3, 64, 64))
    assert seen == [(1, 3, 32, 32)]
    assert policy.tolist() == [[1, 0, 1]]


def test_blockdrop_drops_to_the_downsampled_input_without_a_relu(images):
    network = blockdrop.resnet()
    with torch.no_grad():
        dropped = network.run(images, torch.zeros(8, 3))
        x = network.stem(images)
        for block in network.blocks:
            x = block.ds(x)
        assert x.min() < 0
        torch.testing.assert_close(dropped, network.classify(x))


def test_aig_skips_a_tie_and_channel_one_runs():
    gate, x = ImageGate(3).eval(), torch.randn(2, 3, 4, 4)
    for bias, expected in (([0.0, 0.0], 0), ([0.0, 1.0], 1), ([1.0, 0.0], 0)):
        with torch.no_grad():
            gate.fc2.weight.zero_()
            gate.fc2.bias.copy_(torch.tensor(bias))
            weights = gate(x)
        assert weights.shape == (2, 2, 1, 1)
        assert (weights[:, 1] == expected).all()
        assert (weights.sum(1) == 1).all()


def test_aig_skips_to_the_activated_shortcut_per_image(images):
    network = convnet_aig.resnet()
    block = network.blocks[0]
    with torch.no_grad():
        x = network.stem(images)
        run = block.gate(x)[:, 1].flatten() > 0.5
        y, skipped = block(x), block.shortcut(x).relu()
        computed = (block.shortcut(x) + block.branch(x)).relu()
    assert run.any()
    assert not run.all()
    assert torch.equal(y[~run], skipped[~run])
    assert torch.equal(y[run], computed[run])


def test_aig_samples_in_evaluation_only_if_asked_for(images):
    with torch.no_grad():
        for noise in (False, True):
            network = convnet_aig.resnet(noise=noise)
            outputs = {tuple(network(images).flatten().tolist()) for _ in range(4)}
            assert (len(outputs) > 1) is noise
        weights = network.blocks[0].gate(network.stem(images))
    assert torch.allclose(weights, weights.round(), atol=1e-6), "hard, up to the residue"


def test_skipnet_skips_a_tie():
    gate = skipnet.resnet().gates[0]
    state = torch.zeros(1, 2, skipnet.HIDDEN)
    with torch.no_grad():
        gate.controller.proj.weight.zero_()
        for bias, expected in ((0.0, 0.0), (1e-3, 1.0)):
            gate.controller.proj.bias.fill_(bias)
            mask, _, _ = gate(torch.randn(2, 32, 4, 4), state, state)
            assert mask.shape == (2, 1, 1, 1)
            torch.testing.assert_close(mask, torch.full_like(mask, expected))


@pytest.mark.parametrize("residue", [False, True])
def test_skipnet_shows_the_previous_map_where_it_skips(images, residue):
    network = skipnet.resnet((2, 2), residue=residue)
    masks = []
    for gate in network.gates:
        gate.register_forward_hook(lambda m, a, output: masks.append(output[0].flatten().round()))
    with torch.no_grad():
        logits = network(images)
        assert len(torch.stack(masks, 1).unique(dim=0)) > 1, "the images differ in their paths"
        for index, expected in enumerate(logits):
            x = network.blocks[0](network.stem(images[index : index + 1]))
            for block, mask in zip(list(network.blocks)[1:], masks, strict=True):
                x = block(x) if mask[index] == 1 else block.ds(x)
            actual = network.classify(x)[0]
            torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_skipnet_carries_one_recurrent_state_through_all_gates(images):
    network = skipnet.resnet((2, 2))
    states, seen = [], []
    for gate in network.gates:
        gate.register_forward_pre_hook(lambda m, a: seen.append(a[1:]))
        gate.register_forward_hook(lambda m, a, output: states.append(output[1:]))
    with torch.no_grad():
        network(images)
    assert len({id(gate.controller) for gate in network.gates}) == 1
    assert not seen[0][0].any()
    for before, after in zip(states, seen[1:], strict=False):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert before[0].any()


@pytest.mark.parametrize("family", [blockdrop, convnet_aig, skipnet], ids=lambda f: f.__name__[26:])
def test_a_single_image_computes_only_the_blocks_that_run(family, images):
    masked, single = family.resnet((2, 2)), family.resnet((2, 2), one_image=True)
    computed = []
    for block in single.blocks:
        block.branch.register_forward_hook(lambda m, a, output: computed.append(m))
    counts = set()
    with torch.no_grad():
        for image in images:
            computed.clear()
            actual = single(image[None])
            counts.add(len(computed))
            torch.testing.assert_close(actual, masked(image[None]), rtol=1e-3, atol=1e-4)
    assert min(counts) < 4, "some image skips"
    assert max(counts) > 0, "some image runs"


@pytest.mark.slow
def test_a_single_image_is_exported_with_one_if_per_block(images, quiet):
    model = blockdrop.resnet(one_image=True)
    program = torch.onnx.export(model, (images[:1],), dynamo=True, verbose=False, opset_version=18)
    proto = program.model_proto
    assert sum(node.op_type == "If" for node in proto.graph.node) == 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    with torch.no_grad():
        for image in images:
            (actual,) = session.run(None, {name: image[None].numpy()})
            torch.testing.assert_close(
                torch.from_numpy(actual), model(image[None]), rtol=1e-3, atol=1e-4
            )
