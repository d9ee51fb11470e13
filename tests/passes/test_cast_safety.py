"""What a cast must not break: types that cannot follow, small constants, and names."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto

from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.models import run_onnxruntime

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def model_of(body: str, opset: int = 17, constants: str = "") -> onnx.ModelProto:
    """A model from x to y through the body; its nodes are named after their outputs."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}, "other" : 1]>'
        "m (float[1, 4, 3, 3] x) => (float[1, 4, 3, 3] y)"
        "<float[4, 4, 1, 1] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1},"
        f" int64 i = {{0}}, float[4] b = {{1, 2, 3, 4}}{constants}> {{ {body} }}"
    )
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def types_after_cast(model: onnx.ModelProto, precision: str = "fp16") -> dict[str, int]:
    """The element types of the cast model's values, which is checked."""
    lowered = lower(model, "dense", precision=Precision(precision))
    if "other" not in {node.domain for node in lowered.graph.node}:
        onnx.checker.check_model(lowered, full_check=True)
    graph = lowered.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_types_are_found_past_what_inference_does_not_know():
    body = "c = Conv (x, w) g = GroupNormalization <num_groups = 2> (c, b, b) y = Conv (g, w)"
    types = types_after_cast(model_of(body, opset=21))
    assert [types[name] for name in ("c", "g.half", "y.half")] == [HALF] * 3


def test_what_reads_a_value_of_unknown_type_stays(caplog):
    body = "c = Conv (x, w) u = other.Unknown (c) y = Conv (u, w)"
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        types = types_after_cast(model_of(body))
    assert [types[name] for name in ("c", "c.float32", "w", "w.half")] == [HALF, FLOAT, FLOAT, HALF]
    assert "y (Conv) stays: in float32, the type of an operand is unknown" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        "s = SequenceConstruct (c, c) r = SequenceAt (s, i)",
        "s = SequenceConstruct (c) r = ConcatFromSequence <axis = 1> (s)",
        "o = Optional (c) r = OptionalGetElement (o)",
        "r = RandomNormalLike (c)",
    ],
)
def test_what_takes_its_type_from_no_operand_stays(body, caplog):
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        types = types_after_cast(model_of(f"c = Conv (x, w) {body} y = Conv (r, w)"))
    assert [types[name] for name in ("c", "r", "r.half", "y.half")] == [HALF, FLOAT, HALF, HALF]
    assert "stays: in float32, no operand gives its results their type" in caplog.text


SMALL = {
    "an epsilon": "float k = {1e-9}",
    "what becomes subnormal": "float k = {3e-5}",
    "a vector of them": "float[4, 1, 1] k = {1e-9, 0, 2e-9, 3e-9}",
}


@pytest.mark.parametrize("constant", SMALL)
@pytest.mark.parametrize("body", ["r = Add (c, k)", "r = Mul (c, k)", "r = Max (c, k)"])
def test_constants_that_would_be_flushed_keep_their_node_in_float32(constant, body, caplog):
    model = model_of(f"c = Conv (x, w) {body} y = Conv (r, w)", constants=f", {SMALL[constant]}")
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        types = types_after_cast(model)
    assert [types[name] for name in ("c", "r", "k")] == [HALF, FLOAT, FLOAT]
    assert "r (" in caplog.text and "float16 would flush its constant 'k'" in caplog.text
    assert types_after_cast(model, "bf16")["k"] == TensorProto.BFLOAT16


def test_a_few_tiny_numbers_among_larger_ones_are_rounded():
    constant = ", float[4, 1, 1] k = {1e-9, 0, 1, 2}"
    body = "c = Conv (x, w) r = {} (c, k) y = Conv (r, w)"
    assert types_after_cast(model_of(body.format("Add"), constants=constant))["k"] == HALF
    assert types_after_cast(model_of(body.format("Div"), constants=constant))["k"] == FLOAT


def test_attributes_are_constants_too():
    body = "c = Conv (x, w) r = LeakyRelu <alpha = {}> (c) y = Conv (r, w)"
    assert types_after_cast(model_of(body.format(1e-9)))["r"] == FLOAT
    assert types_after_cast(model_of(body.format(0.1)))["r"] == HALF


def test_an_epsilon_does_what_it_is_there_for():
    zeros = {"x": np.zeros((1, 4, 3, 3), np.float32)}
    model = model_of("c = Conv (x, w) r = Max (c, k) y = Log (r)", constants=", float k = {1e-9}")
    for emulated in (False, True):
        lowered = lower(model, "dense", precision=Precision("fp16"), emulated=emulated)
        assert run_onnxruntime(lowered, zeros)[0] == pytest.approx(np.log(1e-9))


@pytest.mark.parametrize("emulated", [False, True])
def test_names_of_the_user_are_left_alone(emulated):
    body = "c = Conv (x, w) p = Relu (x) q = Conv (p, w) e = Exp (c) t = Add (e, q) y = Conv (t, w)"
    taken = {"p": "c.float32", "q": "x.half", "e": "c.widened", "t": "c.rounded"}
    model = model_of(body)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [taken.get(name, name) for name in names]
    lowered = lower(model, "dense", precision=Precision("fp16"), emulated=emulated)
    onnx.checker.check_model(lowered, full_check=True)
    image = {"x": np.random.default_rng(0).random((1, 4, 3, 3), np.float32)}
    exact, rounded = run_onnxruntime(model, image)[0], run_onnxruntime(lowered, image)[0]
    np.testing.assert_allclose(rounded, exact, rtol=1e-2)


def test_names_in_subgraphs_are_left_alone():
    body = """
    c = Conv (x, w) n = Size (c) many = Cast <to = 9> (n)
    r = If (many) <
        then_branch = one () => (float[1, 4, 3, 3] t) { t = Relu (c) },
        else_branch = two () => (float[1, 4, 3, 3] e) { e = Exp (c) }>
    y = Conv (r, w)
    """
    model = model_of(body)
    branch = next(node for node in model.graph.node if node.name == "r").attribute[0].g
    branch.node[0].output[0] = branch.output[0].name = "c.float32"
    assert types_after_cast(model)["c"] == HALF
