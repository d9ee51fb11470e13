"""Emulated half precision rounds as numpy does, where onnxruntime itself would not."""

from __future__ import annotations

import logging

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper

from pagdeploy.graph.text import parse, picture
from pagdeploy.passes import emulate_half
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.conftest import gated_model
from tests.models import run_onnxruntime

DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
NUMBERS = {"float16": 10, "bfloat16": 16}
X = np.random.default_rng(0).standard_normal((1, 2, 5, 6), np.float32) * 3


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as the pass leaves it."""
    module = ir.from_proto(model)
    emulate_half.run(module)
    return ir.to_proto(module)


def model(half: str, body: str) -> onnx.ModelProto:
    """A model from x to y through the body; `HALF` is the number of the type."""
    return onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 22]>'
        f"m (float[n, 2, h, w] x) => (float[n, 2, h, w] y) {{ {body} }}".replace(
            "HALF", str(NUMBERS[half])
        )
    )


@pytest.mark.parametrize("half", DTYPES)
def test_every_result_is_rounded(half):
    body = """
    a = Cast <to = HALF> (x)
    b = Mul (a, a)
    c = Add (b, a)
    d = LeakyRelu <alpha = 0.3> (c)
    y = Cast <to = 1> (d)
    """
    dtype = DTYPES[half]

    def rounded(array: np.ndarray) -> np.ndarray:
        return array.astype(dtype).astype(np.float32)

    a = rounded(X)
    c = rounded(rounded(a * a) + a)
    expected = rounded(np.where(c < 0, c * np.float32(0.3), c))
    emulated = emulate(model(half, body))
    np.testing.assert_array_equal(run_onnxruntime(emulated, {"x": X})[0], expected)
    assert len(emulate(emulated).graph.node) == len(emulated.graph.node), "once is enough"


@pytest.mark.parametrize("half", DTYPES)
def test_what_only_moves_values_is_not_rounded_again(half):
    body = """
    a = Cast <to = HALF> (x)
    t = Transpose <perm = [0, 1, 3, 2]> (a)
    r = Relu (t)
    u = Transpose <perm = [0, 1, 3, 2]> (r)
    y = Cast <to = 1> (u)
    """
    emulated = emulate(model(half, body))
    casts = [node.attribute[0].i for node in emulated.graph.node if node.op_type == "Cast"]
    assert casts == [NUMBERS[half], TensorProto.FLOAT, TensorProto.FLOAT]
    expected = np.maximum(X.astype(DTYPES[half]).astype(np.float32), 0)
    np.testing.assert_array_equal(run_onnxruntime(emulated, {"x": X})[0], expected)


def test_an_overflow_between_two_operators_shows():
    body = "a = Cast <to = 10> (x) b = Conv (a, w) c = Conv (b, v) y = Cast <to = 1> (c)"
    overflowing = model("float16", body)
    for name, value in (("w", 300), ("v", 0.001)):
        weight = np.full((2, 2, 1, 1), value, np.float16)
        overflowing.graph.initializer.append(numpy_helper.from_array(weight, name))
    feed = {"x": np.full((1, 2, 2, 2), 300, np.float32)}
    assert np.isinf(run_onnxruntime(emulate(overflowing), feed)[0]).all()


@pytest.mark.parametrize("lowering", ["gather", "dense", "plugin"])
def test_nothing_of_16_bits_is_left_but_casts(lowering):
    lowered = lower(gated_model(), lowering, precision=Precision("bf16"), emulated=True)
    emulated = onnx.shape_inference.infer_shapes(lowered, strict_mode=True)
    assert emulated.opset_import[0].version == 17, "float32 needs no later one"
    assert all(t.data_type != TensorProto.BFLOAT16 for t in emulated.graph.initializer)
    half = {
        value.name
        for value in emulated.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16
    }
    assert half
    touching = {n.op_type for n in emulated.graph.node if half & {*n.input, *n.output}}
    assert touching == {"Cast"}


def test_inputs_and_outputs_of_16_bits_keep_their_type():
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> m (float16[n] x) => (float16[n] y, float16[n] z)'
        "{ y = Exp (x) z = Neg (x) }"
    )
    before = ir.to_proto(parse(text))
    after = emulate(before)
    assert [(v.name, v.type) for v in after.graph.input] == [
        (v.name, v.type) for v in before.graph.input
    ]
    feed = {"x": np.array([0.1, 3, 10], np.float16)}
    y, z = run_onnxruntime(after, feed)
    assert y.dtype == z.dtype == np.float16
    np.testing.assert_array_equal(y, np.exp(feed["x"].astype(np.float32)).astype(np.float16))
    np.testing.assert_array_equal(z, -feed["x"])


BRANCHES = """<ir_version: 10, opset_import: ["" : 22]>
    m (float[n, 2, h, w] x, bool outer, bool inner) => (float[n, 2, h, w] y) {
        a = Cast <to = HALF> (x)
        b = If (outer) <
            then_branch = on () => (HALFTYPE[n, 2, h, w] r) <HALFTYPE third = {THIRD}> {
                c = Mul (a, third)
                r = If (inner) <
                    then_branch = all () => (HALFTYPE[n, 2, h, w] s) { s = Mul (c, c) },
                    else_branch = some () => (HALFTYPE[n, 2, h, w] s) { s = Cast <to = HALF> (x) }
                >
            },
            else_branch = off () => (HALFTYPE[n, 2, h, w] o) { o = Relu (a) }
        >
        e = Add (b, a)
        y = Cast <to = 1> (e)
    }"""


@pytest.mark.parametrize("half", DTYPES)
@pytest.mark.parametrize("typed", [True, False], ids=["typed", "untyped"])
def test_every_result_in_a_branch_is_rounded(half, typed):
    dtype = DTYPES[half]
    third = np.array(1 / 3, dtype)
    text = BRANCHES.replace("HALFTYPE", half).replace("HALF", str(NUMBERS[half]))
    proto = onnx.parser.parse_model(text.replace("THIRD", str(int(third.view(np.uint16)))))
    emulated = emulate(onnx.shape_inference.infer_shapes(proto) if typed else proto)
    left = [
        tensor.data_type for node in emulated.graph.node for at in node.attribute
        for tensor in at.g.initializer
    ]  # fmt: skip
    assert left == [TensorProto.FLOAT]

    def rounded(array: np.ndarray) -> np.ndarray:
        return array.astype(dtype).astype(np.float32)

    a, c = rounded(X), rounded(rounded(X) * np.float32(third))
    for outer, inner, expected in (
        (True, True, rounded(rounded(c * c) + a)),
        (True, False, rounded(a + a)),
        (False, True, rounded(np.maximum(a, 0) + a)),
    ):
        feed = {"x": X, "outer": np.array(outer), "inner": np.array(inner)}
        np.testing.assert_array_equal(run_onnxruntime(emulated, feed)[0], expected)
    assert picture(ir.from_proto(emulate(emulated))) == picture(ir.from_proto(emulated))


def test_loops_of_16_bits_are_left_alone_and_told(caplog):
    text = """<ir_version: 8, opset_import: ["" : 17]>
    m (int64 trips, bool go, float16[n] x) => (float16[n] y) {
        y = Loop (trips, go, x) <body = b (int64 i, bool c, float16[n] s) =>
            (bool d, float16[n] t) { d = Identity (c) t = Neg (s) }>
    }"""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    before = picture(model)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        assert emulate_half.run(model) == 0
    assert "(Loop) stays: half precision inside of its subgraph is not emulated" in caplog.text
    assert picture(model) == before


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_one_decision_an_image_rules_is_emulated(precision):
    """It lies in the branches of an If, of which one holds another."""
    text = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    m (float[n, 2, h, w] x, float[n, 2, 1, 1] l) => (float[n, 2, h, w] y) {
        s = pagdeploy.PAGGate (l)
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
            dilations = [1, 1], group = 1, branch = 1, mode = 1, activation = 1, alpha = 0.0>
            (x, s, w, b, x)
    }"""
    portable = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (2, 2, 1, 1)), ("b", (2,))):
        array = rng.standard_normal(shape, np.float32)
        portable.graph.initializer.append(numpy_helper.from_array(array, name))
    asked = Precision(precision)
    gather = lower(portable, "gather", precision=asked, emulated=True)
    dense = lower(portable, "dense", precision=asked, emulated=True)
    assert "If" in {node.op_type for node in gather.graph.node}
    x = rng.standard_normal((3, 2, 5, 6), np.float32)
    for on in ([0, 0, 0], [1, 0, 1], [1, 1, 1]):
        logits = np.stack([np.zeros(3), np.array(on) - 0.5], 1).astype(np.float32)[:, :, None, None]
        found, expected = (run_onnxruntime(m, {"x": x, "l": logits})[0] for m in (gather, dense))
        np.testing.assert_array_equal(found, expected)


def test_a_float32_model_is_as_it_was():
    lowered = lower(gated_model(), "dense")
    assert picture(ir.from_proto(emulate(lowered))) == picture(ir.from_proto(lowered))
