"""Every system: its counts are true of its arithmetic, and stock tools export and run it."""

from __future__ import annotations

import io

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pagdeploy.exporters.models import catalogue, sact, sbnet
from pagdeploy.exporters.models.catalogue import SYSTEMS
from pagdeploy.exporters.models.parts import Gate, example_images, settle

TELLING = ("PAG (3x3 gated)", "DynConv", "SACT", "BlockDrop")
every_system = pytest.mark.parametrize("system", SYSTEMS, ids=catalogue.names())


def masks_of(model, inputs):
    """Hard decisions of one pass: (N, ...) arrays of "run", one per decision that is taken."""
    found = {}

    def gate(module, arguments, output):
        output = output[0] if isinstance(output, tuple) else output
        if (
            isinstance(module, sact.HaltingProbability)
            or not ((output - output.round()).abs() < 1e-6).all()
        ):
            return
        if output.ndim == 2:
            found.update({(len(found), k): output[:, k] for k in range(output.shape[1])})
        elif output.shape[1] == 2:
            found[len(found)] = output[:, 1]
        else:
            found[len(found)] = output

    def unit(module, arguments, output):
        if len(arguments) > 1:
            found[id(arguments[1])] = arguments[1].float()

    keep = []  # ids stay unique only while what they name lives
    hooks = []
    for module in model.modules():
        if isinstance(module, Gate):
            hooks.append(module.register_forward_hook(gate))
        elif isinstance(module, sact.Unit | sbnet.Unit):
            hooks.append(module.register_forward_pre_hook(lambda m, a: keep.append(a)))
            hooks.append(module.register_forward_hook(unit))
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()
    return list(found.values())


@every_system
def test_gates_are_as_many_as_said_and_near_their_density(system):
    model = system.factory()
    assert not model.training
    masks = masks_of(model, system.inputs(48, system.size))
    assert len(masks) == system.gates
    if masks:
        shares = torch.stack([share for mask in masks for share in shares_of(mask)])
        assert abs(shares.mean() - system.published_density) < 0.12
        assert shares.min() > 0.02
        assert shares.max() < 0.98


def shares_of(mask):
    """Share of "run" of a mask; of each branch, if the mask is one-hot."""
    return mask.mean((0, 2, 3)) if mask.ndim == 4 else [mask.mean()]


@pytest.fixture
def smooth(monkeypatch):
    """Networks without kinks: where a gradient is zero then, a mask is the reason."""

    def average(x, kernel, stride=None, padding=0, *_, ceil_mode=False, **__):
        return F.avg_pool2d(x, kernel, stride, padding, ceil_mode)

    convolve = F.conv2d

    def read_all(x, weight, bias=None, stride=1, *rest):
        """A strided 1x1 ignores pixels whatever the gates say: let it read their average."""
        if weight.shape[2:] == (1, 1) and max(stride) > 1:
            x, stride = F.avg_pool2d(x, stride), 1
        return convolve(x, weight, bias, stride, *rest)

    monkeypatch.setattr(F, "conv2d", read_all)
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.softplus(x))
    monkeypatch.setattr(F, "hardtanh", lambda x, *_: F.softplus(x))
    monkeypatch.setattr(F, "max_pool2d", average)


def unread_share(probe, activations):
    """Share of pixels of each activation, (N, C, H, W), that `probe` does not depend on."""
    gradients = torch.autograd.grad(probe, activations)
    return [float((gradient == 0).all(1).float().mean()) for gradient in gradients]


@every_system
def test_perforable_convolutions_are_those_whose_pixels_nobody_reads(system, smooth):
    model = system.factory()
    inputs = system.inputs(16, system.size)
    if isinstance(model, sbnet.SBNet):
        inputs = inputs[0], sbnet.example_mask(16, system.size, 0.1)
    settle(model, inputs, 0.1)  # sparse enough for a mask that is dilated by 3x3 to have holes
    deciding = {id(part) for m in model.modules() if isinstance(m, Gate) for part in m.modules()}
    names, activations = [], []

    def keep(name):
        def hook(module, arguments, output):
            names.append(name)
            activations.append(output)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and id(module) not in deciding:
            module.register_forward_hook(keep(name))
    output = model(*inputs)
    output = output[0] if isinstance(output, tuple) else output
    torch.manual_seed(0)
    shares = unread_share((output * torch.randn_like(output)).sum(), activations)
    perforable = [name for name, share in zip(names, shares, strict=True) if share > 0.05]
    assert len(perforable) == system.perforable, perforable


def run(proto, inputs):
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    feed = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return session.run(None, feed)


def assert_equal_to_torch(proto, model, inputs):
    model_proto = onnx.load_model_from_string(proto)
    assert {node.domain for node in model_proto.graph.node} == {""}
    assert not model_proto.functions
    with torch.no_grad():
        expected = model(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for a, b in zip(run(proto, inputs), expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(system, marks=[] if system.name in TELLING else pytest.mark.slow)
        for system in SYSTEMS
    ],
    ids=catalogue.names(),
)
def test_the_exporter_writes_plain_onnx_that_runs(system, quiet):
    model, inputs = system.factory(), system.inputs(2, system.size)
    program = torch.onnx.export(model, inputs, dynamo=True, verbose=False, opset_version=18)
    assert_equal_to_torch(program.model_proto.SerializeToString(), model, inputs)


@every_system
def test_the_legacy_exporter_writes_plain_onnx_that_runs(system, quiet):
    model, inputs = system.factory(), system.inputs(2, system.size)
    file = io.BytesIO()
    torch.onnx.export(model, inputs, file, dynamo=False, opset_version=17)
    assert_equal_to_torch(file.getvalue(), model, inputs)


@pytest.mark.slow
@every_system
def test_the_published_size_runs_and_decides(system):
    model = system.full_size()
    inputs = system.inputs(1, system.full_size_side)
    masks = masks_of(model, inputs)
    assert len(masks) == system.full_gates
    with torch.no_grad():
        output = model(*inputs)
    output = output[0] if isinstance(output, tuple) else output
    assert torch.isfinite(output).all()
    assert 1e-3 < output.std() < 1e3


def test_names_are_unique_and_found():
    assert len(set(catalogue.names())) == len(SYSTEMS)
    assert catalogue.find("DynConv") is SYSTEMS[catalogue.names().index("DynConv")]
    with pytest.raises(KeyError, match="no system is called 'PAGNet'; there are PAG"):
        catalogue.find("PAGNet")


def test_inputs_are_fresh_images():
    (images,) = catalogue.find("DynConv").inputs(2, 32)
    assert images.shape == (2, 3, 32, 32)
    assert not torch.equal(images, example_images(2, 32)), "not those that settled the network"
