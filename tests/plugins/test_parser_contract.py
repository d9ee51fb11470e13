"""What NVIDIA's own ONNX parser looks up for our nodes, and how it hands over attributes.

The parser is the one of the TensorRT-RTX wheels: it parses without a GPU. A creator written in
Python stands in for ours and records what it is asked for.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pagdeploy.ops import PERFORATED_CONV
from tests.plugins.conftest import Child, wheels

pytestmark = pytest.mark.trt

PROGRAM = """
import json, sys
import numpy as np
import tensorrt_rtx_bindings as trt


class Recorder(trt.IPluginCreatorV3One):
    def __init__(self, name, space, fields):
        super().__init__()
        self.name, self.plugin_version, self.plugin_namespace = name, "1", space
        none = np.array([], np.int32)
        self.field_names = trt.PluginFieldCollection(
            [trt.PluginField(field, none, trt.PluginFieldType.INT32) for field in fields])

    def create_plugin(self, layer, fields, phase):
        seen.append({
            "name": self.name, "space": self.plugin_namespace, "layer": layer,
            "phase": phase.name,
            "fields": {f.name: [f.type.name, f.data.tolist()] for f in fields},
        })
        return None


path, spaces, fields = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
registry = trt.get_plugin_registry()
recorders = []
for space in spaces:
    for name in ("PAGGate", "PerforatedConv"):
        own = fields if name == "PerforatedConv" else []
        recorders.append(Recorder(name, space, own))
        assert registry.register_creator(recorders[-1], space)
seen = []
logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
parsed = parser.parse(open(path, "rb").read())
print(json.dumps({"parsed": parsed, "seen": seen}))
"""

ATTRIBUTES: dict[str, int | float | list[int]] = {
    "kernel_shape": [3, 5], "strides": [2, 1], "pads": [1, 2, 3, 4], "dilations": [7, 8],
    "group": 2, "branch": 3, "mode": 1, "activation": 3, "alpha": 0.25,
}  # fmt: skip


def model(path: Path, op: str, space: str | None, function: bool = False) -> Path:
    """Write a model of one node of ours."""
    plugin = {} if space is None else {"plugin_namespace": space, "plugin_version": "1"}
    inputs = {"logits": [1, 4, 6, 6]}
    if op == "PerforatedConv":
        plugin |= ATTRIBUTES
        inputs = {"X": [1, 4, 9, 9], "W": [4, 2, 3, 5], "B": [4], "base": [1, 1, 1, 1]}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    if op == "PerforatedConv":
        info = helper.make_tensor_value_info("selection", TensorProto.INT32, [1, 1, 1, 1])
        values.insert(1, info)
    names = [value.name for value in values]
    node = helper.make_node(op, names, ["y"], name="layer", domain="pagdeploy", **plugin)
    output = helper.make_tensor_value_info("y", TensorProto.INT64, None)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("pagdeploy", 1)]
    body = helper.make_node("ArgMax", ["logits"], ["y"], axis=1)
    functions = [helper.make_function("pagdeploy", op, ["logits"], ["y"], [body], opsets[:1])]
    graph = helper.make_graph([node], "g", values, [output])
    made = helper.make_model(
        graph, opset_imports=opsets, functions=functions if function else [], ir_version=8
    )
    onnx.save(made, path)
    return path


def parse(child: Child, path: Path, spaces: list[str]) -> dict:
    """Parse with stand-ins registered in the namespaces; the fields are the op table's."""
    fields = [attribute.name for attribute in PERFORATED_CONV.attributes]
    answer = child(wheels("rtx"), PROGRAM, str(path), json.dumps(spaces), json.dumps(fields))
    return json.loads(answer.splitlines()[-1])


def test_attributes_arrive_as_the_plugin_reads_them(child: Child, tmp_path: Path) -> None:
    assert list(ATTRIBUTES) == [attribute.name for attribute in PERFORATED_CONV.attributes]
    path = model(tmp_path / "m.onnx", "PerforatedConv", "pagdeploy")
    (call,) = parse(child, path, ["pagdeploy", ""])["seen"]
    assert call["layer"] == "layer"
    assert call["phase"] == "BUILD"
    expected = {}
    for name, value in ATTRIBUTES.items():
        kind = "FLOAT32" if isinstance(value, float) else "INT32"
        expected[name] = [kind, value if isinstance(value, list) else [value]]
    assert call["fields"] == expected


@pytest.mark.parametrize("op", ["PAGGate", "PerforatedConv"])
@pytest.mark.parametrize(
    ("written", "registered", "found"),
    [
        ("pagdeploy", ["pagdeploy", ""], "pagdeploy"),  # the form that the compiler writes
        (None, ["pagdeploy", ""], ""),
        (None, ["pagdeploy"], "pagdeploy"),  # through the node's domain: TensorRT 10.10 and later
        ("", ["pagdeploy", ""], ""),
        ("pagdeploy", [""], None),
    ],
)
def test_node_finds_its_creator(
    op: str,
    written: str | None,
    registered: list[str],
    found: str | None,
    child: Child,
    tmp_path: Path,
) -> None:
    seen = parse(child, model(tmp_path / "m.onnx", op, written), registered)["seen"]
    assert [(call["name"], call["space"]) for call in seen] == (
        [] if found is None else [(op, found)]
    )


@pytest.mark.parametrize(("written", "plugin"), [("pagdeploy", True), (None, False)])
def test_function_body_wins_unless_the_node_names_the_namespace(
    written: str | None, plugin: bool, child: Child, tmp_path: Path
) -> None:
    path = model(tmp_path / "m.onnx", "PAGGate", written, function=True)
    answer = parse(child, path, ["pagdeploy", ""])
    assert bool(answer["seen"]) == plugin
    assert answer["parsed"] != plugin  # the stand-in makes no plugin, a body parses
