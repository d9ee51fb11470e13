"""What does not depend on the inputs is computed once, if it is the same everywhere and small."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.graph.edit import constant_of
from pagdeploy.passes import fold_constants
from pagdeploy.pipeline import read_module
from tests.models import run_onnxruntime
from tests.passes.recognition import ops_of

HEADER = """<ir_version: 8, opset_import: ["" : %d, "pagdeploy" : 1]>
folded (float[n, 3, h, w] x) => (%s)
<float zero = {0}, float one = {1}, int64[1] k0 = {0}, int64[1] k1 = {1}, int64[1] minus = {-1},
 int64[1] far = {9223372036854775807}, int64[4] map = {1, 3, 5, 3}, int64[4] ones = {1, 1, 1, 1},
 int64[2] huge = {1073741824, 1073741824}, int64[1] three = {3}, float[3] row = {1, 2, 3},
 int64[4] corner = {0, 0, 0, 0}, int64[2] pair = {1, 0}, float[2] two = {1, 2}, float nan = {nan}>
"""


def folded(statements: str, outputs: str = "y", opset: int = 17):
    """The main graph before and after, and the number of rewrites."""
    before = onnx.parser.parse_model(f"{HEADER % (opset, outputs)}{{ {statements} }}")
    module = read_module(before)
    count = fold_constants.run(module)
    assert fold_constants.run(module) == 0, "a second run finds nothing"
    return before, ir.to_proto(module), count


GOES = {
    "the zero bias of a convolution": "a = CastLike (zero, x) b = Expand (a, three) y = Add (b, x)",
    "a kernel": "a = ConstantOfShape (map) b = Reshape (one, k1) c = Unsqueeze (corner, k0)"
    " k = ScatterND (a, c, b) y = Conv (x, k)",
    "a vector that one number fills": "a = Expand (one, three) y = Add (x, a)",
    "arithmetic": "a = Add (three, k1) b = Mul (a, a) c = Div (b, three) d = Cast <to = 1> (c)"
    " y = Add (x, d)",
    "a shape": "a = Shape (row) b = Squeeze (k0) c = Squeeze (a) d = Squeeze (k1)"
    " e = Range (b, c, d) f = Cast <to = 1> (e) y = Add (x, f)",
    "a cut that takes all": "a = Slice (x, k0, far, k1, k1) y = Relu (a)",
    "a value passed on": "a = Identity (x) b = Identity (a) y = Relu (b)",
    "a row scattered": "a = ScatterElements <axis = 0> (row, pair, two) y = Add (x, a)",
    "of several results": "a, b = Split (pair) c = Cast <to = 1> (a) y = Add (x, c)",
}


@pytest.mark.parametrize("case", GOES)
def test_constants_are_folded(case):
    before, after, count = folded(GOES[case])
    assert count > 0
    assert len(after.graph.node) == 1
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 5, 3), np.float32)}
    expected, found = run_onnxruntime(before, feeds), run_onnxruntime(after, feeds)
    np.testing.assert_array_equal(expected[0], found[0])


STAYS = {
    "random numbers": ("RandomUniform", "y = RandomUniform <shape = [3], seed = 1.0> ()"),
    "what depends on the input": ("Shape", "y = Shape (x)"),
    "more than fits": ("Expand", "y = Expand (one, huge)"),
    "more than fits, filled": ("ConstantOfShape", "y = ConstantOfShape (huge)"),
    "more than fits, repeated": ("Tile", "y = Tile (square, huge)"),
    "more than fits, in between": ("Mul", "a = Expand (one, huge) y = Mul (a, a)"),
    "a map that one number fills": ("ConstantOfShape", "a = ConstantOfShape (map) y = Add (x, a)"),
    "a number below zero, divided": ("Div", "y = Div (minus, three)"),
    "a division by zero": ("Div", "y = Div (three, k0)"),
    "NaN as a whole number": ("Cast", "y = Cast <to = 7> (nan)"),
    "a number that does not fit": ("Cast", "y = Cast <to = 2> (minus)"),
    "places named twice": ("ScatterND", "y = ScatterND (row, twice, two)"),
    "elements named twice": (
        "ScatterElements",
        "y = ScatterElements <axis = 0> (two, pair11, two)",
    ),
    "a place without a number": ("ScatterND", "y = ScatterND (row, number, one)"),
    "an operator of ours": ("PAGGate", "y = pagdeploy.PAGGate (column)"),
    "a cut with a step": ("Slice", "y = Slice (x, k0, far, k1, three)"),
    "a cut from the second": ("Slice", "y = Slice (x, k1, far, k1, k1)"),
    "an exponential": ("Exp", "y = Exp (row)"),
}
MORE = """, float[1, 1] square = {1}, float[1, 3, 1, 1] column = {1, 2, 3},
 int64[2, 1] twice = {1, 1}, int64[2] pair11 = {1, 1},
 int64 number = {0}>"""


@pytest.mark.parametrize("case", STAYS)
def test_what_is_not_folded(case):
    op_type, text = STAYS[case]
    header = (HEADER % (17, "z")).rstrip().removesuffix(">") + MORE
    module = read_module(onnx.parser.parse_model(f"{header}{{ {text} z = NonZero (y) }}"))
    assert fold_constants.run(module) == 0
    assert ops_of(ir.to_proto(module))[op_type] == 1


def test_outputs_stay_computed():
    _, after, count = folded("a = Add (three, k1) y = Mul (a, a)")
    assert count == 1 and [node.op_type for node in after.graph.node] == ["Mul"]


def test_what_is_all_constants_is_bounded_together():
    """Each result alone would do; so many of them would make a large file of a small one."""
    body = " ".join(f"a{i} = Expand (row, wide) b{i} = Add (a{i}, s{i})" for i in range(80))
    inits = ", ".join(f"float s{i} = {{{i}}}" for i in range(80))
    reads = " ".join(f"c{i} = Add ({'x' if not i else f'c{i - 1}'}, b{i})" for i in range(80))
    header = (HEADER % (17, "c79")).rstrip().removesuffix(">")
    text = f"{header}, int64[2] wide = {{21845, 3}}, {inits}>{{ {body} {reads} }}"
    module = read_module(onnx.parser.parse_model(text))
    fold_constants.run(module)
    made = sum(np.prod(v.shape.numpy()) for v in module.graph.initializers.values())
    assert 2**20 < made < 2**23
    assert any(node.op_type == "Expand" for node in module.graph)


def test_a_value_that_a_caller_may_override_is_none():
    before = onnx.parser.parse_model(
        HEADER.replace("x) =>", "x, float[3] row) =>") % (17, "y")
        + "{ a = Neg (row) y = Add (x, a) }"
    )
    assert any(value.name == "row" for value in before.graph.input)
    module = read_module(before)
    assert fold_constants.run(module) == 0


def test_subgraphs_read_what_was_folded():
    text = (
        "c = Cast <to = 9> (flag) a = Neg (row)"
        " y = If (c) <then_branch = yes () => (float[n, 3, h, w] p) { p = Add (x, a) },"
        " else_branch = no () => (float[n, 3, h, w] q) { q = Sub (x, a) }>"
    )
    header = (HEADER % (17, "y")).replace("x) =>", "x, float flag) =>")
    before = onnx.parser.parse_model(f"{header}{{ {text} }}")
    module = read_module(before)
    assert fold_constants.run(module) == 1
    after = ir.to_proto(module)
    for flag in (0, 1):
        feeds = {"x": np.ones((1, 3, 2, 3), np.float32), "flag": np.array(flag, np.float32)}
        one, other = run_onnxruntime(before, feeds)[0], run_onnxruntime(after, feeds)[0]
        np.testing.assert_array_equal(one, other)


def test_what_says_which_branch_is_taken_stays_computed():
    """onnxruntime looks into a branch that it knows, and refuses there what it else takes."""
    take = [helper.make_node(op, ["x"], ["z"]) for op in ("Relu", "Neg")]
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    then, other = (helper.make_graph([node], node.op_type, [], [result]) for node in take)
    nodes = [
        helper.make_node("Size", ["row"], ["s"]),
        helper.make_node("Add", ["s", "one"], ["t"]),
        helper.make_node("Greater", ["t", "one"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    constants = [
        numpy_helper.from_array(np.ones(3, np.float32), "row"),
        numpy_helper.from_array(np.array(1), "one"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    module = read_module(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )
    assert fold_constants.run(module) == 0
    assert [node.op_type for node in module.graph] == ["Size", "Add", "Greater", "If"]


def test_a_cast_like_keeps_names_and_types():
    before, after, count = folded("t = Greater (x, zero) m = CastLike (t, x) y = Mul (x, m)")
    (cast,) = [node for node in after.graph.node if node.op_type == "Cast"]
    assert count == 1 and list(cast.output) == ["m"]
    assert helper.get_node_attr_value(cast, "to") == TensorProto.FLOAT
    feeds = {"x": np.array([-1, 0, 2], np.float32).reshape(1, 3, 1, 1)}
    assert run_onnxruntime(before, feeds)[0].tolist() == run_onnxruntime(after, feeds)[0].tolist()


def test_an_identity_behind_which_our_ops_name_their_scores_stays():
    _, after, count = folded("l = Identity (x) y = pagdeploy.PAGGate (l)")
    assert count == 0 and ops_of(after)["Identity"] == 1


ARRAYS = [
    np.array(value, dtype)
    for value, dtype in (
        (2, "f"),
        ([1, -2, 3], "f"),
        ([[1], [2]], "f"),
        ([5, 0, 7], "i8"),
        (3, "i8"),
        ([True, False, True], "?"),
    )
]
UNARY = ["Abs", "Neg", "Floor", "Ceil", "Not", "Flatten", "Transpose", "Shape", "Identity"]
BINARY = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Equal",
    "Less",
    "Greater",
    "And",
    "Or",
    "Max",
    "Min",
    "Expand",
]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_folding_is_what_the_runtime_computes(data):
    """Random expressions of constants, kept if the checker and onnxruntime accept them."""
    tensors = [numpy_helper.from_array(array, f"c{i}") for i, array in enumerate(ARRAYS)]
    names, nodes = [tensor.name for tensor in tensors], []
    for step in range(data.draw(st.integers(1, 6))):
        pair = data.draw(st.booleans())
        op = data.draw(st.sampled_from(BINARY if pair else UNARY))
        inputs = [data.draw(st.sampled_from(names)) for _ in range(1 + pair)]
        nodes.append(helper.make_node(op, inputs, [f"v{step}"], name=f"n{step}"))
        model = _model(nodes, tensors)
        if model is None:
            nodes.pop()
        else:
            names.append(f"v{step}")
    if not nodes:
        return
    before = _model(nodes, tensors)
    try:
        expected = run_onnxruntime(before, {"x": np.ones(1, np.float32)})
    except Exception:
        return  # it cannot be run; whatever is left of it cannot be, either
    module = read_module(before)
    fold_constants.run(module)
    found = run_onnxruntime(ir.to_proto(module), {"x": np.ones(1, np.float32)})
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def _model(nodes, tensors) -> onnx.ModelProto | None:
    """A model that reads the last value through an operator that is not folded."""
    last = helper.make_node("NonZero", [nodes[-1].output[0]], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    outputs = [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="z")]
    nodes = [*nodes, last, helper.make_node("Exp", ["x"], ["z"])]
    graph = helper.make_graph(nodes, "g", [x], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return None
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    return model


def test_constants_of_weights_are_folded_at_their_size():
    """A weight is no larger behind a Transpose, however large it is."""
    weight = np.arange(2**18, dtype=np.float32).reshape(2**9, 2**9)
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2**9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2**9])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    module = read_module(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )
    assert fold_constants.run(module) == 1
    (product,) = module.graph
    np.testing.assert_array_equal(constant_of(product.inputs[1]), weight.T)
