"""Batch norms are folded where that is the same function; elsewhere the pass says why not."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from pagdeploy.graph.text import picture
from pagdeploy.passes import fold_batch_norm
from tests.models import run_onnxruntime

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
fold (float[n, 2, h, w] x) => (float[n, 2, h, w] y)
<float[2, 2, 1, 1] w = {1, 2, -3, 4}, float[2] b = {1, -1}, float[2] gamma = {2, 3},
 float[2] beta = {5, 7}, float[2] mean = {1, 2}, float[2] var = {4, 9}>
{
    c = Conv <kernel_shape = [1, 1]> (x, w, b)
    y = BatchNormalization <epsilon = 0.5> (c, gamma, beta, mean, var)
}
"""
X = np.random.default_rng(0).standard_normal((2, 2, 3, 5), np.float32)


def folded(text: str) -> tuple[onnx.ModelProto, onnx.ModelProto, int]:
    """The model as it was, as the pass leaves it, and the number of rewrites."""
    before = onnx.parser.parse_model(text)
    model = ir.from_proto(before)
    rewrites = fold_batch_norm.run(model)
    return before, ir.to_proto(model), rewrites


@pytest.mark.parametrize("convolution", ["(x, w, b)", "(x, w)"])
def test_folded_model_computes_the_same(convolution):
    before, after, rewrites = folded(MODEL.replace("(x, w, b)", convolution))
    assert rewrites == 1
    assert [node.op_type for node in after.graph.node] == ["Conv"]
    one, other = (run_onnxruntime(model, {"x": X})[0] for model in (before, after))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_weights_that_another_convolution_shares_are_not_changed():
    text = MODEL.replace("y = Batch", "z = Conv (x, w, b) t = Batch").replace(
        "var)\n", "var) y = Add (z, t)\n"
    )
    before, after, rewrites = folded(text)
    assert rewrites == 1
    one, other = (run_onnxruntime(model, {"x": X})[0] for model in (before, after))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


ESCAPES = {
    "not a convolution": (
        "c = Conv <kernel_shape = [1, 1]> (x, w, b)",
        "c = Relu (x)",
        "its input is not a convolution",
    ),
    "second reader": (
        "y = Batch",
        "d = Relu (c) unread = Add (d, c) y = Batch",
        "the convolution's output is read elsewhere",
    ),
    "graph output": (
        "(float[n, 2, h, w] y)",
        "(float[n, 2, h, w] y, float[n, 2, h, w] c)",
        "the convolution's output is read elsewhere",
    ),
    "training mode": (
        "y = BatchNormalization <epsilon = 0.5>",
        "y, m2, v2 = BatchNormalization <epsilon = 0.5, training_mode = 1>",
        "it is in training mode",
    ),
    "computed weights": (
        "c = Conv <kernel_shape = [1, 1]> (x, w, b)",
        "v = Abs (w) c = Conv <kernel_shape = [1, 1]> (x, v, b)",
        "the convolution's weights are computed",
    ),
    "computed parameters": (
        "y = BatchNormalization <epsilon = 0.5> (c, gamma",
        "g2 = Abs (gamma) y = BatchNormalization <epsilon = 0.5> (c, g2",
        "its parameters are computed",
    ),
    "weights that a caller may override": (
        "(float[n, 2, h, w] x)",
        "(float[n, 2, h, w] x, float[2, 2, 1, 1] w)",
        "the convolution's weights are computed",
    ),
    "zero variance": (
        "var = {4, 9}>\n{\n    c = Conv <kernel_shape = [1, 1]> (x, w, b)\n"
        "    y = BatchNormalization <epsilon = 0.5>",
        "var = {0, 9}>\n{\n    c = Conv <kernel_shape = [1, 1]> (x, w, b)\n"
        "    y = BatchNormalization <epsilon = 0.0>",
        "the folded weights would not be finite",
    ),
    "convolution in another graph": (
        "y = BatchNormalization <epsilon = 0.5> (c, gamma, beta, mean, var)",
        "yes = Constant <value_int = 1> () b1 = Cast <to = 9> (yes)"
        "y = If (b1) <then_branch = t () => (float[n, 2, h, w] t1)"
        "{ t1 = BatchNormalization (c, gamma, beta, mean, var) },"
        "else_branch = e () => (float[n, 2, h, w] e1) { e1 = Identity (x) }>",
        "the convolution lies in another graph",
    ),
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_what_cannot_be_folded_is_left_alone_and_told(escape, caplog):
    old, new, why = ESCAPES[escape]
    assert old in MODEL
    text = MODEL.replace(old, new)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        before, after, rewrites = folded(text)
    assert rewrites == 0
    assert f"(BatchNormalization) stays: {why}" in caplog.text
    assert picture(ir.from_proto(before)) == picture(ir.from_proto(after))
