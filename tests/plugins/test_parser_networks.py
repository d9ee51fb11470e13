"""Every custom node of every network, in every precision, through NVIDIA's own ONNX parser.

A stand-in creator takes note of what the parser hands over and makes no plugin: TensorRT-RTX, whose
parser runs without a GPU, ends the process if it gets one. So each node is parsed by itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from pagdeploy.graph.read import read_model
from pagdeploy.ops import DOMAIN, OPS
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.plugins.conftest import Child, wheels

pytestmark = [pytest.mark.trt]

NETWORKS = {
    "batch norm, multi-pool": {"multi_pool": True, "norm": "batch"},
    "channel attention, blurred gates": {"multi_pool": False, "norm": "cha_atten", "blur": True},
}

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
import tensorrt_rtx_bindings as trt


class Recorder(trt.IPluginCreatorV3One):
    def __init__(self, name, fields):
        super().__init__()
        self.name, self.plugin_version, self.plugin_namespace = name, "1", "pagdeploy"
        none = np.array([], np.int32)
        self.field_names = trt.PluginFieldCollection(
            [trt.PluginField(field, none, trt.PluginFieldType.INT32) for field in fields])

    def create_plugin(self, layer, fields, phase):
        seen.append([self.name, layer, {f.name: [f.type.name, f.data.tolist()] for f in fields}])
        return None


folder, ops = Path(sys.argv[1]), json.loads(sys.argv[2])
recorders = [Recorder(name, fields) for name, fields in ops.items()]
for recorder in recorders:
    assert trt.get_plugin_registry().register_creator(recorder, "pagdeploy")
answers = []
logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
builder = trt.Builder(logger)
for path in sorted(folder.glob("*.onnx")):
    seen = []
    network = builder.create_network(1)  # strongly typed
    parser = trt.OnnxParser(network, logger)
    parser.parse(path.read_bytes())
    types = {network.get_input(i).name: network.get_input(i).dtype.name
             for i in range(network.num_inputs)}
    answers.append({"seen": seen, "types": types})
print(json.dumps(answers))
"""


@pytest.fixture(scope="module", params=[*NETWORKS, "trained rooms"])
def portable(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network as a portable file."""
    import torch

    from pagdeploy.examples.rooms.model import trained
    from pagdeploy.exporters.models.pag_resnet import PAGResNet
    from pagdeploy.verbs.export import export

    torch.manual_seed(0)
    options = NETWORKS.get(request.param)
    network = trained("gated70") if options is None else PAGResNet((1, 1, 1, 2), 8, **options)
    path = tmp_path_factory.mktemp("network") / "m.onnx"
    export(network.eval(), path, shapes={"image": [1, 3, 64, 96]})
    return path


def one_node_model(node: onnx.NodeProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The node alone, its operands as inputs of the types that the model gives them."""
    graph = model.graph
    values = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        values[tensor.name] = onnx.helper.make_tensor_value_info(
            tensor.name, tensor.data_type, list(tensor.dims)
        )
    inputs = [values[name] for name in dict.fromkeys(node.input)]
    outputs = [values[name] for name in node.output]
    alone = onnx.helper.make_graph([node], "one", inputs, outputs)
    return onnx.helper.make_model(alone, opset_imports=model.opset_import, ir_version=8)


def expected_fields(node: onnx.NodeProto) -> dict[str, list[object]]:
    """What TensorRT's PluginField holds for each attribute of the op table."""
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {
        attribute.name: [
            "FLOAT32" if attribute.kind == "float" else "INT32",
            list(values[attribute.name]) if attribute.kind == "ints" else [values[attribute.name]],
        ]
        for attribute in OPS[node.op_type].attributes
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_parser_takes_every_custom_node(
    portable: Path, precision: str, child: Child, tmp_path: Path
) -> None:
    model = lower(read_model(portable), "plugin", precision=Precision(precision))
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    assert {node.op_type for node in nodes} == {name for name, op in OPS.items() if op.has_plugin}
    assert not model.functions, "TensorRT would take a body in the plugin's place"
    for number, node in enumerate(nodes):
        (tmp_path / f"{number:03}.onnx").write_bytes(
            one_node_model(node, model).SerializeToString()
        )
    ops = {name: [a.name for a in op.attributes] for name, op in OPS.items() if op.has_plugin}
    printed = child(wheels("rtx"), PROGRAM, str(tmp_path), json.dumps(ops))
    answers = json.loads(printed.splitlines()[-1])
    half = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}[precision]
    for node, answer in zip(nodes, answers, strict=True):
        assert answer["seen"] == [[node.op_type, node.name, expected_fields(node)]]
        types = answer["types"]
        if node.op_type == "PAGGate":
            assert types[node.input[0]] == "FLOAT", "a decision must not be rounded"
        else:
            assert types[node.input[1]] == "INT32"
            assert {types[node.input[k]] for k in (0, 2, 3, 4)} == {half}
