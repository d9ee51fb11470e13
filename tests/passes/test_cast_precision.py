"""Half precision: which types the graph has then, what it computes, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.errors import BuildFailed, UsageError
from pagdeploy.graph.text import parse, picture
from pagdeploy.passes import cast_precision
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.compare import scale_free_error
from tests.conftest import gated_model
from tests.models import model_of, run_onnxruntime

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
X = np.random.default_rng(0).standard_normal((2, 2, 5, 6), np.float32)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type that the file states for each value."""
    graph = model.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def computes_in(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of each node's first output, by the name of the node."""
    types = element_types(model)
    return {node.name: types[node.output[0]] for node in model.graph.node}


def cast(body: str, precision: str = "fp16", keep: Iterable[str] = ()) -> onnx.ModelProto:
    """A model from x to y through the body, cast."""
    model = portable(body)
    return lower(model, "dense", precision=Precision(precision, tuple(keep)))


def portable(body: str) -> onnx.ModelProto:
    """A model from x to y through the body; its nodes are named after their outputs."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'
        "m (float[n, 2, h, w] x) => (float[n, 2, h, w] y)"
        "<float[2, 2, 1, 1] w = {1, 2, -3, 4}, float[2] b = {1, -1}, int64[1] axis = {1},"
        f" float small = {{0.001}}> {{ {body} }}"
    )
    for node in model.graph.node:
        node.name = node.output[0]
    return model


@pytest.mark.parametrize("lowering", ["gather", "dense", "plugin"])
@pytest.mark.parametrize(("precision", "half"), [("fp16", HALF), ("bf16", BFLOAT)])
def test_all_but_the_gates_is_of_16_bits(lowering, precision, half):
    lowered = lower(gated_model(), lowering, precision=Precision(precision))
    types = element_types(lowered)
    heads = {"l1", "l2", "scores", "x.float32"}
    for node in lowered.graph.node:
        floats = {types[name] for name in [*node.input, *node.output] if types[name] in (1, 10, 16)}
        if node.op_type in ("ArgMax", "PAGGate") or heads & set(node.output):
            assert FLOAT in floats, node.name
        elif node.op_type != "Cast":
            assert floats <= {half}, node.name
    assert {v.name: types[v.name] for v in lowered.graph.output} == {"y": FLOAT}
    assert types["image"] == types["l1"] == types["l2"] == types["gate1"] == FLOAT
    weights = [t.name for t in lowered.graph.initializer if t.data_type == FLOAT]
    assert set(weights) <= {"gate1", "gate2"}, "only what the gates decide by"


def test_the_file_is_valid_onnx_at_the_opset_that_has_the_type():
    for precision, opset, version in (("fp16", 17, 8), ("bf16", 22, 10)):
        lowered = lower(gated_model(), "dense", precision=Precision(precision))
        onnx.checker.check_model(lowered, full_check=True)
        assert (lowered.opset_import[0].version, lowered.ir_version) == (opset, version)


DANGERS = {
    "a sum over space": "r = ReduceMean <axes = [2]> (c) ",
    "a softmax": "r = Softmax (c)",
    "a square": "r = Mul (c, c)",
    "a power": "r = Pow (c, small)",
    "a computed divisor": "a = Abs (c) d = Add (a, small) r = Div (c, d)",
    "a rounding": "r = Round (c)",
}


@pytest.mark.parametrize("danger", DANGERS)
def test_what_half_precision_would_spoil_stays_float32(danger):
    model = cast(f"c = Conv (x, w, b) {DANGERS[danger]} last = Conv (r, w) y = Relu (last)")
    types = computes_in(model)
    assert [types[name] for name in ("c", "r", "last")] == [HALF, FLOAT, HALF]


def test_cheap_nodes_between_float32_ones_stay():
    body = "s = Softmax (x) a = Add (s, small) n = Neg (a) l = Log (n) y = Conv (l, w)"
    types = computes_in(cast(body))
    assert [types[name] for name in "sanl"] == [FLOAT] * 4
    types = computes_in(cast(body.replace("l = Log", "l = Sqrt")))
    assert [types[name] for name in "sanl"] == [FLOAT, HALF, HALF, HALF]


def test_a_value_is_cast_once_in_each_direction():
    body = """
    c = Conv (x, w, b)
    s = Softmax (c)
    e = Exp (c)
    d = Conv (s, w)
    f = Conv (s, w, b)
    t = Add (d, f)
    y = Add (t, e)
    """
    model = cast(body)
    casts = [(n.input[0], n.attribute[0].i) for n in model.graph.node if n.op_type == "Cast"]
    assert sorted(casts) == [("c", FLOAT), ("s", HALF), ("t", FLOAT), ("x", HALF)]


def test_shapes_and_casts_read_a_value_as_it_is():
    body = """
    c = Conv (x, w)
    i = Cast <to = 7> (c)
    s = Shape (c)
    f = Cast <to = 1> (i)
    r = Reshape (f, s)
    y = Conv (r, w)
    """
    model = cast(body)
    inputs = {node.name: list(node.input) for node in model.graph.node}
    assert inputs["i"] == inputs["s"] == ["c"]
    assert element_types(model)["c"] == HALF


def test_what_lies_in_a_subgraph_stays_float32_and_may_read_what_is_outside(caplog):
    body = """
    c = Conv (x, w, b)
    size = Size (c)
    many = Cast <to = 9> (size)
    r = If (many) <
        then_branch = one () => (float[n, 2, h, w] t) { t = Relu (c) },
        else_branch = two () => (float[n, 2, h, w] e) { e = Conv (c, w) }>
    y = Conv (r, w)
    """
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        model = cast(body)
    assert "r (If) stays: in float32, it holds a subgraph" in caplog.text
    assert computes_in(model)["c"] == HALF
    whole = run_onnxruntime(portable(body), {"x": X})[0]
    emulated = lower(portable(body), "dense", precision=Precision("fp16"), emulated=True)
    assert scale_free_error(run_onnxruntime(emulated, {"x": X})[0], whole) < 2e-3


def test_named_nodes_stay_float32(caplog):
    body = "c = Conv (x, w, b) d = Conv (c, w) y = Conv (d, w)"
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        types = computes_in(cast(body, keep=["^d$"]))
    assert [types[name] for name in "cd"] == [HALF, FLOAT]
    assert "d (Conv) stays: in float32, --keep-fp32 names it" in caplog.text
    with pytest.raises(UsageError, match="The pattern 'dd' matches no node"):
        cast(body, keep=["dd"])


def test_a_weight_that_overflows_is_named_and_may_be_kept():
    body = "c = Conv (x, w, b) y = Mul (c, large)"
    model = portable(body)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(-1e5), "large"))
    with pytest.raises(UsageError, match=r"'large' reaches 1e\+05, .* --keep-fp32 '\^y\$'"):
        lower(model, "dense", precision=Precision("fp16"))
    kept = lower(model, "dense", precision=Precision("fp16", ("^y$",)))
    assert [computes_in(kept)[name] for name in "cy"] == [HALF, FLOAT]
    wide = lower(model, "dense", precision=Precision("bf16"))
    assert element_types(wide)["large"] == BFLOAT


def test_infinite_weights_are_meant():
    model = portable("c = Conv (x, w, b) y = Max (c, low)")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(-np.inf), "low"))
    lowered = lower(model, "dense", precision=Precision("fp16"))
    assert element_types(lowered)["low"] == HALF


def test_a_weight_that_float32_reads_too_is_kept_beside():
    model = cast(
        "c = Conv (x, w, b) s = Softmax (c) k = Conv (s, w, b) y = Add (k, b2)".replace(
            "b2", "small"
        ),
        keep=["^k$"],
    )
    types = element_types(model)
    assert {name: types[name] for name in types if name.startswith("w")} == {
        "w": FLOAT,
        "w.half": HALF,
    }


def test_a_weight_that_is_an_output_keeps_its_type():
    model = portable("y = Conv (x, w, b)")
    model.graph.output.append(helper.make_tensor_value_info("b", FLOAT, [2]))
    lowered = lower(model, "dense", precision=Precision("fp16"))
    onnx.checker.check_model(lowered, full_check=True)
    types = element_types(lowered)
    assert {name: types[name] for name in ("w", "b", "b.half")} == {
        "w": HALF, "b": FLOAT, "b.half": HALF,
    }  # fmt: skip


@pytest.mark.parametrize(("precision", "half", "opset"), [("fp16", HALF, 17), ("bf16", BFLOAT, 22)])
def test_operators_without_the_type_stay(precision, half, opset, caplog):
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        types = computes_in(cast("c = Conv (x, w, b) e = Celu (c) y = Conv (e, w)", precision))
    assert [types[name] for name in "cey"] == [half, FLOAT, half]
    dtype = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    assert f"e (Celu) stays: in float32, at opset {opset} it has no {dtype}" in caplog.text


def test_a_model_that_is_of_16_bits_already_is_left_alone():
    model = parse(
        '<ir_version: 8, opset_import: ["" : 17]> m (float16[n] x) => (float16[n] y) '
        "{ a = Neg (x) y = Exp (a) }"
    )
    before = picture(model)
    assert cast_precision.run(model) == 0
    assert picture(model) == before


def test_a_model_that_cannot_reach_the_opset_of_bfloat16_is_refused():
    model = portable("y = NoSuchOperator (x)")
    with pytest.raises(BuildFailed, match="cannot be written at opset 22, which bf16 needs"):
        lower(model, "dense", precision=Precision("bf16"))


STEPS = {
    "Conv": 1, "Relu": 1, "Neg": 1, "Add": 2, "Mul": 2, "Softmax": 1, "Identity": 1, "Concat": 2,
    "Clip": 1, "Sigmoid": 1, "AveragePool": 1, "ReduceMean": 1, "Max": 2, "Abs": 1,
}  # fmt: skip
ATTRIBUTES = {
    "Concat": {"axis": 2},
    "Softmax": {"axis": 1},
    "ReduceMean": {"axes": [2], "keepdims": 1},
    "AveragePool": {"kernel_shape": [1, 1]},
}


@st.composite
def networks(draw) -> onnx.ModelProto:
    """A random network over x, of operators with broadcasting shapes, with several outputs."""
    values, nodes = ["x"], []
    for index in range(draw(st.integers(1, 9))):
        op_type = draw(st.sampled_from(sorted(STEPS)))
        inputs = [draw(st.sampled_from(values)) for _ in range(STEPS[op_type])]
        if op_type in ("Add", "Mul", "Max"):  # sizes differ after a Concat
            # A row of squares would double the relative error each time.
            inputs[1] = (
                "x_mean" if op_type == "Mul" else draw(st.sampled_from(["x_mean", *inputs[:1]]))
            )
        if op_type == "Conv":
            inputs += ["w", "b"]
        if op_type == "Concat":
            inputs[1] = inputs[0]
        nodes.append(
            helper.make_node(op_type, inputs, [f"v{index}"], **ATTRIBUTES.get(op_type, {}))
        )
        values.append(f"v{index}")
    nodes.insert(0, helper.make_node("ReduceMean", ["x"], ["x_mean"], axes=[2, 3], keepdims=1))
    outputs = sorted(set(draw(st.lists(st.sampled_from(values[1:]), max_size=2)) + values[-1:]))
    weights = {
        "w": np.array([[0.5, -0.25], [0.75, 0.5]], "f4")[:, :, None, None],
        "b": np.ones(2, "f4"),
    }
    return model_of(
        nodes,
        {"x": (FLOAT, ["n", 2, "h", "w"])},
        {name: (FLOAT, None) for name in outputs},
        initializers=[numpy_helper.from_array(array, name) for name, array in weights.items()],
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.sampled_from(["fp16", "bf16"]))
def test_random_networks_are_cast_to_the_same_function(model, precision):
    lowered = lower(model, "dense", precision=Precision(precision))
    onnx.checker.check_model(lowered, full_check=True)
    types = element_types(lowered)
    round_trips = [
        node.name
        for node in lowered.graph.node
        if node.op_type == "Cast"
        for source in lowered.graph.node
        if source.op_type == "Cast" and source.output[0] == node.input[0]
    ]
    assert round_trips == []
    names = [value.name for value in model.graph.output]
    assert [(v.name, types[v.name]) for v in lowered.graph.output] == [(n, FLOAT) for n in names]
    exact = run_onnxruntime(model, {"x": X})
    emulated = lower(model, "dense", precision=Precision(precision), emulated=True)
    for one, other in zip(run_onnxruntime(emulated, {"x": X}), exact, strict=True):
        assert one.dtype == other.dtype
        # Ten roundings in a row, and sums that cancel to a tenth of their terms.
        assert scale_free_error(one, other) < {"fp16": 1e-2, "bf16": 8e-2}[precision]
