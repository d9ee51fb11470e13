"""What the parser made of a model is held to the model; NVIDIA's own parser is asked."""

from __future__ import annotations

import json

import pytest

from pagdeploy.engines.nvidia.log import last_error
from tests.conftest import gated_model
from tests.plugins.conftest import Child, child, wheels

__all__ = ["child"]  # the fixture

PROGRAM = """
import json, sys
import onnx
import tensorrt_rtx_bindings as trt
from pagdeploy.engines.nvidia.log import make_log
from pagdeploy.engines.nvidia.network import parse_network
from pagdeploy.errors import PagdeployError

model = onnx.load(sys.argv[1])
log = make_log(trt)
builder = trt.Builder(log)
try:
    network = parse_network(trt, builder, log, model.SerializeToString())
    print(json.dumps({"layers": network.num_layers}))
except PagdeployError as problem:
    print(json.dumps({"error": str(problem), "code": problem.exit_code}))
"""


def parse(child: Child, model, tmp_path) -> dict:
    import onnx

    onnx.save(model, tmp_path / "m.onnx")
    return json.loads(child(wheels("rtx"), PROGRAM, str(tmp_path / "m.onnx")).splitlines()[-1])


@pytest.mark.trt
def test_a_node_that_is_no_plugin_is_refused(child, tmp_path):
    """The portable model parses through its bodies, every pixel computed: right, and no faster."""
    model = gated_model()
    for function in model.functions:  # attribute references are lost in the parser; see below
        if function.name == "PerforatedConv":
            model.functions.remove(function)
            break
    del model.graph.node[-1]
    answer = parse(child, model, tmp_path)
    assert answer["code"] == 5
    assert "finds no plugin for the node PerforatedConv 'node a'" in answer["error"]
    assert "build with --lowering dense, which needs none." in answer["error"]


@pytest.mark.trt
def test_a_body_in_a_plugins_place_is_refused(child, tmp_path):
    import onnx

    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
        g (float[1, 2, 8, 8] l) => (int32[1, 1, 8, 8] s) { s = pagdeploy.PAGGate (l) }"""
    )
    from pagdeploy.ops.bodies import attach_bodies

    model.graph.node[0].name = "gate"
    answer = parse(child, attach_bodies(model), tmp_path)
    assert answer["code"] == 5
    assert answer["error"].startswith(
        "The node 'gate' did not become a plugin layer in TensorRT-RT"
    )


@pytest.mark.trt
def test_a_standard_operator_that_it_lacks_is_named(child, tmp_path):
    import onnx

    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 8, 8] x) => (int64[4, m] y) { y = NonZero (x) }"""
    )
    model.graph.node[0].name = "search"
    answer = parse(child, model, tmp_path)
    assert answer["code"] == 5 and "refuses NonZero 'search' (" in answer["error"]


@pytest.mark.trt
@pytest.mark.parametrize("written", ["FLOAT", "FLOAT16"])
def test_types_are_those_of_the_model(written, child, tmp_path):
    import onnx

    kind = onnx.TensorProto.DataType.Value(written)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 8, 8] x) => (float[1, 2, 8, 8] y)
        {{ a = Cast <to = {kind}> (x)
           b = Relu (a)
           y = Cast <to = 1> (b) }}"""
    )
    shape = [1, 2, 8, 8]
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("b", kind, shape))
    assert "layers" in parse(child, model, tmp_path)
    other = 11 - kind  # the one of the two that it is not
    model.graph.value_info[0].CopyFrom(onnx.helper.make_tensor_value_info("b", other, shape))
    answer = parse(child, model, tmp_path)
    assert answer["code"] == 5
    name = onnx.TensorProto.DataType.Name(other)
    assert f"computes 'b' in {written}, not in {name}." in answer["error"]


def test_the_last_error_is_told_without_its_place():
    class Log:
        errors = (
            "IBuilder::build: Error Code 4: API Usage Error (No output. In validate at /x.cpp:3)\n",
        )

    assert last_error(Log(), "nothing") == "API Usage Error (No output. In validate at /x.cpp:3)"
    Log.errors = ()
    assert last_error(Log(), "nothing") == "nothing"
    Log.errors = ("\n",)
    assert last_error(Log(), "nothing") == "nothing"
