"""The exported file is one node per gate and convolution, and the same function as the model."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from pagdeploy.exporters.factory import load_factory
from pagdeploy.exporters.from_torch import export
from pagdeploy.exporters.models.pag_resnet import PAGResNet
from pagdeploy.exporters.modules import PAGGate, PerforatedConv2d
from pagdeploy.ops import DOMAIN, OPS
from tests.compare import assert_close
from tests.models import run_onnxruntime

GATES = ["res2_1.gate", "res3_1.gate", "res4_1.gate", "res5_1.conv2.gate", "res5_2.gate"]
BRANCHES = [f"res5_1.conv2.branches.dilation{d}" for d in (10, 8, 6, 4, 2, 1)]
CONVS = ["res2_1.conv2", "res3_1.conv2", "res4_1.conv2", *BRANCHES, "res5_2.conv2"]
BOUND = 1e-4


def tiny():
    """A small PAG-ResNet in evaluation mode whose gates choose every branch somewhere."""
    torch.manual_seed(0)
    model = PAGResNet((1, 1, 1, 2), 4)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    model.eval()

    def center(module, inputs, logits):
        head = module[-1] if isinstance(module, nn.Sequential) else module
        median = logits.permute(1, 0, 2, 3).flatten(1).median(1).values
        head.bias -= median
        return logits - median[:, None, None]

    gates = [module for module in model.modules() if isinstance(module, PAGGate)]
    hooks = [gate.head.register_forward_hook(center) for gate in gates]
    with torch.no_grad():
        model(torch.rand(2, 3, 96, 96))
    for hook in hooks:
        hook.remove()
    return model


def exported(folder, opset):
    model, path = tiny(), folder / f"m{opset}.onnx"
    names = list(model.tasks)
    proto = export(model, (torch.rand(1, 3, 64, 64),), path, output_names=names, opset=opset)
    return model, proto, path


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    """The model, its ONNX form at opset 17, and the file."""
    return exported(tmp_path_factory.mktemp("portable"), 17)


def nodes_of(proto, op_type):
    return [node for node in proto.graph.node if node.op_type == op_type]


def with_selections(proto):
    """A copy of the model whose selections are outputs too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    infos = {info.name: info for info in copy.graph.value_info}
    copy.graph.output.extend(infos[n.output[0]] for n in nodes_of(copy, "PAGGate"))
    return copy


def expected_of(model, image):
    """Every output and every selection of the torch model, by name."""
    found = {}
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: found.update({f"{name}.selection": output})
        )
        for name, module in model.named_modules()
        if isinstance(module, PAGGate)
    ]
    with torch.no_grad():
        found.update(zip(model.tasks, model(image), strict=True))
    for hook in hooks:
        hook.remove()
    return {name: value.numpy() for name, value in found.items()}


def require_equal(proto, model, image):
    names = [output.name for output in proto.graph.output]
    actual = dict(zip(names, run_onnxruntime(proto, {"image": image.numpy()}), strict=True))
    expected = expected_of(model, image)
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert_close(actual[name], value, 0 if name.endswith(".selection") else BOUND)


def test_one_node_per_call_named_after_its_module(portable):
    _, proto, _ = portable
    assert [node.name for node in nodes_of(proto, "PAGGate")] == GATES
    assert [node.name for node in nodes_of(proto, "PerforatedConv")] == CONVS
    for gate in nodes_of(proto, "PAGGate"):
        assert list(gate.input) == [f"{gate.name}.logits"]
        assert list(gate.output) == [f"{gate.name}.selection"]
    names = [node.name for node in proto.graph.node]
    assert all(names)
    assert len(names) == len(set(names))


def test_no_batch_norm_and_no_weight_arithmetic_is_left(portable):
    _, proto, _ = portable
    constants = {tensor.name for tensor in proto.graph.initializer}
    assert not nodes_of(proto, "BatchNormalization")
    for node in nodes_of(proto, "PerforatedConv"):
        assert {node.input[2], node.input[3]} <= constants


def test_every_input_and_attribute_is_written(portable):
    _, proto, _ = portable
    for node in proto.graph.node:
        if node.domain == DOMAIN:
            op = OPS[node.op_type]
            assert len(node.input) == len(op.inputs)
            assert all(node.input)
            assert {a.name for a in node.attribute} == {a.name for a in op.attributes}


def test_the_file_is_what_was_returned_and_valid(portable):
    _, proto, path = portable
    loaded = onnx.load(path)
    assert loaded == proto
    onnx.checker.check_model(loaded, full_check=True, check_custom_domain=True)
    onnx.shape_inference.infer_shapes(loaded, check_type=True, strict_mode=True)
    assert list(path.parent.iterdir()) == [path], "one file, nothing beside it"


def test_versions_and_bodies(portable):
    _, proto, _ = portable
    assert proto.ir_version == 8
    assert {o.domain: o.version for o in proto.opset_import} == {"": 17, DOMAIN: 1}
    assert sorted(f.name for f in proto.functions) == ["PAGGate", "PerforatedConv"]
    for function in proto.functions:
        assert {o.domain: o.version for o in function.opset_import} == {"": 17}
        assert not function.overload
    assert proto.producer_name == "pagdeploy"
    metadata = {p.key: p.value for p in proto.metadata_props}
    assert metadata.pop("pagdeploy.version") == proto.producer_version
    assert metadata.pop("pagdeploy.ops_version") == "1"
    assert json.loads(metadata.pop("pagdeploy.example_shapes")) == {"image": [1, 3, 64, 64]}
    assert not metadata


def test_sizes_are_named(portable):
    _, proto, _ = portable
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*proto.graph.input, *proto.graph.output]
    }
    assert shapes == {
        "image": ["batch", 3, "height", "width"],
        "segmentation": ["batch", 40, "height", "width"],
        "boundary": ["batch", 1, "height", "width"],
        "depth": ["batch", 1, "height", "width"],
        "normals": ["batch", 3, "height", "width"],
    }


def test_local_paths_are_gone_and_module_names_stay(portable):
    _, _, path = portable
    data = path.read_bytes()
    for trace in (b".py", b"stack_trace", b"fx_node", str(Path.home()).encode(), b"site-packages"):
        assert trace not in data, trace
    assert b"PerforatedConv2d" in data
    assert b"res5_1.conv2" in data


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 65, 97), (3, 40, 33)])
def test_onnxruntime_equals_torch(portable, shape):
    model, proto, _ = portable
    n, h, w = shape
    image = torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(n))
    selections = expected_of(model, image)
    for name in GATES:
        assert len(np.unique(selections[f"{name}.selection"])) > 1, f"{name} decides nothing"
    require_equal(with_selections(proto), model, image)


def test_onnx_reference_equals_torch(portable):
    model, proto, _ = portable
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    proto = with_selections(proto)
    names = [output.name for output in proto.graph.output]
    actual = ReferenceEvaluator(proto).run(None, {"image": image.numpy()})
    for name, value in zip(names, actual, strict=True):
        bound = 0 if name.endswith(".selection") else BOUND
        assert_close(value, expected_of(model, image)[name], bound)


@pytest.mark.parametrize(("opset", "ir_version"), [(18, 8), (20, 9)])
def test_newer_opsets(tmp_path, opset, ir_version):
    model, proto, _ = exported(tmp_path, opset)
    assert proto.ir_version == ir_version
    assert {o.domain: o.version for o in proto.opset_import} == {"": opset, DOMAIN: 1}
    assert all(f.opset_import[0].version == opset for f in proto.functions)
    assert [n.name for n in proto.graph.node if n.domain] == sorted(
        GATES + CONVS, key=lambda name: [n.name for n in proto.graph.node].index(name)
    )
    require_equal(with_selections(proto), model, torch.rand(2, 3, 65, 47))


def test_a_bare_runtime_runs_the_file(portable, tmp_path):
    model, proto, _ = portable
    script = Path(__file__).parents[1] / "portable" / "run_stock.py"
    image = torch.rand(2, 3, 65, 47, generator=torch.Generator().manual_seed(2))
    onnx.save(with_selections(proto), tmp_path / "m.onnx")
    np.savez(tmp_path / "inputs.npz", image=image.numpy())
    expected = expected_of(model, image)

    def run():
        np.savez(tmp_path / "expected.npz", **expected)
        files = [tmp_path / name for name in ("m.onnx", "inputs.npz", "expected.npz")]
        return subprocess.run([sys.executable, script, *files], capture_output=True, text=True)

    good = run()
    assert good.returncode == 0, good.stdout + good.stderr
    assert f"onnxruntime {onnxruntime.__version__}: 0 of 9 outputs are wrong" in good.stdout
    expected["depth"][1, 0, 3, 4] *= 1.01
    expected["res2_1.gate.selection"][0, 0, 0, 0] += 1
    bad = run()
    assert bad.returncode == 1
    assert re.search(r"^depth: relative error", bad.stdout, re.MULTILINE)
    assert "res2_1.gate.selection: 1 of" in bad.stdout


class Block(nn.Module):
    """A gate, a convolution called twice, one without bias and base, and one per-image value."""

    def __init__(self):
        super().__init__()
        self.gate = PAGGate(nn.Conv2d(4, 2, 1))
        self.first = PerforatedConv2d(4, 4, 3, padding=1, bias=False)
        self.second = PerforatedConv2d(
            4, 6, 3, padding=1, mode="add", activation="leaky_relu", alpha=0.2,
            norm=nn.BatchNorm2d(6),
        )  # fmt: skip

    def forward(self, x):
        selection = self.gate(x)
        x = self.first(x, selection)
        return {"features": self.second(self.first(x, selection, x), selection), "map": selection}


def test_absent_bias_and_base_become_zeros_and_calls_are_numbered(capfd):
    model = Block().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps = []
    level = logging.getLogger("torch").level
    proto = export(model, (torch.rand(1, 4, 8, 8),), progress=steps.append)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch").level == level
    assert len(steps) == 4
    nodes = {node.name: node for node in proto.graph.node}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    first, again, second = nodes["first"], nodes["first#1"], nodes["second"]
    for node in (first, again):
        assert constants[node.input[3]].shape == (4,)
        assert not constants[node.input[3]].any()
    for node in (first, second):
        assert constants[node.input[4]].shape == (1, 1, 1, 1)
        assert not constants[node.input[4]].any()
    assert again.input[4] not in constants
    assert nodes["gate"].output[0] == "map", "an output keeps its own name"
    assert {name for name in model.state_dict()} == set(before), "the caller's model was folded"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    x = torch.rand(2, 4, 7, 9)
    features, chosen = run_onnxruntime(proto, {"x": x.numpy()})
    with torch.no_grad():
        assert_close(features, model(x)["features"].numpy(), BOUND)
        assert_close(chosen, model(x)["map"].numpy(), 0)


def test_a_model_just_trained_can_be_exported():
    model = Block().train()
    model(torch.rand(1, 4, 8, 8))["features"].sum().backward()
    assert not model.gate.mask.is_leaf
    assert nodes_of(export(model.eval(), (torch.rand(1, 4, 8, 8),)), "PAGGate")


def test_half_precision_gets_half_precision_zeros():
    proto = export(Block().eval().half(), (torch.rand(1, 4, 8, 8).half(),))
    types = {tensor.data_type for tensor in proto.graph.initializer}
    assert types == {onnx.TensorProto.FLOAT16}


def test_a_saved_program_gives_the_same_nodes(tmp_path):
    model, dynamic = Block().eval(), torch.export.Dim.DYNAMIC
    x = torch.rand(2, 4, 8, 8)
    axes = {0: dynamic, 2: dynamic, 3: dynamic}
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=(axes,)), tmp_path / "m.pt2")
    proto = export(load_factory(str(tmp_path / "m.pt2")))
    assert [n.name for n in proto.graph.node if n.domain] == ["gate", "first", "first#1", "second"]
    constants = {tensor.name for tensor in proto.graph.initializer}
    assert set(nodes_of(proto, "PerforatedConv")[2].input[2:]) <= constants, "the norm is folded"
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 4, "height", "width"]
    x = torch.rand(1, 4, 5, 6)
    with torch.no_grad():
        features = model(x)["features"].numpy()
    assert_close(run_onnxruntime(proto, {"x": x.numpy()})[0], features, BOUND)
