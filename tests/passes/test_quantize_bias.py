"""Biases in the units of the sums: how far they are rounded, and which stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from pagdeploy.graph.edit import constant_of
from pagdeploy.passes import quantize_bias
from pagdeploy.precision import Precision

INTEGERS = Precision("int8", ranges={"a": (-1.0, 1.0)}, integer_kernels=True)


def gemm(bias: list[float], product: str = "Gemm (xq, wq, b)", step: float = 0.5) -> ir.Model:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        m (uint8[2, 2] x) => (float[2, 2] y) <uint8 zero = {{0}}, int8[2] zeros = {{0, 0}},
        int8[2, 2] w = {{1, 2, 3, 4}}, float[2] steps = {{1, 0.5}}> {{
        xq = DequantizeLinear (x, step, zero)
        wq = DequantizeLinear <axis = 1> (w, steps, zeros)
        y = {product} }}""")
    for name, array in (("b", bias), ("step", step)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(array, np.float32), name))
    return ir.from_proto(model)


def test_a_bias_is_off_by_half_a_unit_at_most():
    bias = np.random.default_rng(0).standard_normal(2).astype(np.float32)
    model = gemm(bias.tolist(), step=0.01)
    assert quantize_bias.run(model, INTEGERS) == 1
    wide = model.graph[-1].inputs[2].producer()
    narrow, steps, zeros = (constant_of(value) for value in wide.inputs)
    assert (narrow.dtype, zeros.dtype, wide.attributes.get_int("axis")) == (np.int32, np.int32, 0)
    np.testing.assert_allclose(steps, [0.01, 0.005], rtol=1e-6)
    assert np.all(np.abs(narrow * steps - bias) <= steps / 2 * 1.0001) and narrow.any()
    assert quantize_bias.run(model, INTEGERS) == 0, "it is rounded once"


@pytest.mark.parametrize(
    "model",
    [
        gemm([1e30, 1]),
        gemm([np.nan, 1]),
        gemm([np.inf, 1]),
        gemm([1, 1], "Gemm <beta = 0.5> (xq, wq, b)"),
        gemm([1, 1], "Gemm <alpha = 0.5> (xq, wq, b)"),
        gemm([1, 1], "Gemm <transA = 1> (xq, wq, b)"),
        gemm([1, 1], "Gemm (xq, xq, b)", step=1e-30),
        gemm([1, 1], "Gemm (wq, wq, wq)"),
        gemm([1, 1], "Add (xq, b)"),
    ],
)
def test_other_biases_stay(model):
    assert quantize_bias.run(model, INTEGERS) == 0


def test_other_precisions_are_left_alone():
    model = gemm([1, 2])
    assert quantize_bias.run(model) == 0
    assert quantize_bias.run(model, Precision("int8", ranges={"a": (-1.0, 1.0)})) == 0


def test_one_number_for_channels_of_several_units_stays():
    assert quantize_bias.run(gemm([1.5]), INTEGERS) == 0
