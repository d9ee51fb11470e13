"""The step from opset 18 to 17 keeps the function, or refuses and names the node."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from pagdeploy.errors import UsageError
from pagdeploy.exporters.opset import to_opset17
from tests.compare import assert_close
from tests.models import run_onnxruntime

X = np.random.default_rng(0).standard_normal((2, 4, 5, 6), np.float32)


def model_of(statement, initializers=""):
    """A model of opset 18 that computes Y from X by one node."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[2, 4, 5, 6] X) => (float Y) <{initializers}> {{ {statement} }}
    """)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.node[0].name = "here"
    model.graph.node[0].metadata_props.add(key="namespace", value="res2_1")
    return onnx.shape_inference.infer_shapes(model)


def converted(model):
    graph = ir.from_proto(model)
    to_opset17(graph)
    return ir.to_proto(graph)


@pytest.mark.parametrize(
    ("statement", "initializers"),
    [
        ("Y = ReduceMean <keepdims = 1> (X, axes)", "int64[2] axes = {-1, -2}"),
        ("Y = ReduceMax <keepdims = 0> (X, axes)", "int64[1] axes = {1}"),
        ("Y = ReduceL2 (X)", ""),
        ("Y = ReduceSum (X, axes)", "int64[1] axes = {1}"),
        (
            "Y = Resize <mode = \"linear\", antialias = 0> (X, , scales)",
            "float[4] scales = {1, 1, 2, 2}",
        ),
        ("Y, Z = Split <axis = 1, num_outputs = 2> (X)", ""),
        ("Y = Pad (X, pads)", "int64[8] pads = {0, 0, 1, 0, 0, 0, 2, 3}"),
        ("Y = Pad (X, pads, value)", "int64[8] pads = {0, 0, 1, 0, 0, 0, 2, 3}, float value = {2}"),
        ("Y = Relu (X)", ""),
    ],
)  # fmt: skip
def test_the_function_stays(statement, initializers):
    old = model_of(statement, initializers)
    new = converted(old)
    assert {o.domain: o.version for o in new.opset_import} == {"": 17}
    onnx.checker.check_model(new, full_check=True)
    assert_close(run_onnxruntime(new, {"X": X})[0], run_onnxruntime(old, {"X": X})[0], 0)
    assert new.graph.node[0].name == "here"
    assert new.graph.node[0].metadata_props[0].value == "res2_1"


@pytest.mark.parametrize(
    ("statement", "initializers", "why"),
    [
        (
            "Y = ReduceMean <noop_with_empty_axes = 1> (X)", "",
            "it does nothing where no axes are given",
        ),
        (
            "Y = Resize <antialias = 1, mode = \"linear\"> (X, , scales)",
            "float[4] scales = {1, 1, 2, 2}",
            "antialias, axes and aspect-ratio policies came with opset 18",
        ),
        (
            "Y, Z = Split <axis = 3, num_outputs = 4> (X)", "",
            "its parts are of unequal or unknown size",
        ),
        (
            "Y = Pad (X, pads, , axes)", "int64[2] pads = {1, 1}, int64[1] axes = {2}",
            "it pads only some axes",
        ),
        ("Y = Mish (X)", "", "this form of the operator exists only since opset 18"),
    ],
)  # fmt: skip
def test_what_opset_17_cannot_say_is_refused(statement, initializers, why):
    model = model_of(statement, initializers)
    with pytest.raises(UsageError) as caught:
        converted(model)
    op_type = model.graph.node[0].op_type
    assert str(caught.value) == (
        f"The node 'here' ({op_type}) cannot be written at opset 17: {why}. "
        "Export at opset 18 or later, or change the model there."
    )


def test_axes_known_only_at_run_time_are_refused():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[2, 3] X, int64[1] axes) => (float[N, M] Y) { Y = ReduceMean (X, axes) }
    """)
    with pytest.raises(UsageError, match="its axes are known only at run time"):
        converted(model)


def test_scatter_with_a_new_reduction_is_refused():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[4] X, int64[2] at, float[2] new) => (float[4] Y) {
            Y = ScatterElements <reduction = "max"> (X, at, new)
        }
    """)
    with pytest.raises(UsageError, match="it reduces by max"):
        converted(model)


def test_subgraphs_are_converted_too():
    old = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (bool c, float[2, 4, 5, 6] X) => (float[2, 1, 5, 6] Y) <int64[1] axes = {1}> {
            Y = If (c) <
                then_branch = t () => (float[2, 1, 5, 6] A) { A = ReduceMean (X, axes) },
                else_branch = e () => (float[2, 1, 5, 6] B) { B = ReduceMin (X, axes) }
            >
        }
    """)
    new = converted(old)
    onnx.checker.check_model(new, full_check=True)
    for c in (np.array(True), np.array(False)):
        feed = {"X": X, "c": c}
        assert_close(run_onnxruntime(new, feed)[0], run_onnxruntime(old, feed)[0], 0)


def test_another_opset_is_a_mistake_of_the_caller():
    model = model_of("Y = Relu (X)")
    model.opset_import[0].version = 20
    with pytest.raises(ValueError, match="needs a model of opset 18"):
        converted(model)
