"""Write the biases of quantized products in the units of their sums, int32.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    bias (float[n, 2] x) => (float[n, 2] y)
    <float step = {0.5}, uint8 zero = {0}, int8[2, 2] w = {1, 2, 3, 4}, float[2] steps = {1, 0.5},
     int8[2] zeros = {0, 0}, float[2] b = {1.5, -2}>
    {
        x8 = QuantizeLinear (x, step, zero)
        xq = DequantizeLinear (x8, step, zero)
        wq = DequantizeLinear <axis = 1> (w, steps, zeros)
        y = Gemm (xq, wq, b)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    bias (float[n, 2] x) => (float[n, 2] y)
    <float step = {0.5}, uint8 zero = {0}, int8[2, 2] w = {1, 2, 3, 4}, float[2] steps = {1, 0.5},
     int8[2] zeros = {0, 0}, int32[2] b = {3, -8}, float[2] sums = {0.5, 0.25},
     int32[2] none = {0, 0}>
    {
        x8 = QuantizeLinear (x, step, zero)
        xq = DequantizeLinear (x8, step, zero)
        wq = DequantizeLinear <axis = 1> (w, steps, zeros)
        bq = DequantizeLinear <axis = 0> (b, sums, none)
        y = Gemm (xq, wq, bq)
    }

onnxruntime multiplies integers only if all operands are quantized. A sum has the step of x times
that of w. `insert_quantization` has rounded biases to whole numbers of it, so that they say the
same in the portable model; one that int32 does not hold stays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of, initializer, skip
from pagdeploy.precision import Precision

LARGEST_BIAS = 2**30  # the sum of the products still has to fit in


def run(model: ir.Model, precision: Precision | None = None) -> int:
    """Write the biases of Conv and Gemm so, if the precision is int8 for integer kernels."""
    if precision is None or not precision.integer_kernels:
        return 0
    count = 0
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type in ("Conv", "Gemm") and not node.domain and len(node.inputs) == 3:
            count += _narrow(model, node)
    return count


def _narrow(model: ir.Model, node: ir.Node) -> int:
    get = node.attributes
    if (
        get.get_float("alpha", 1.0) != 1
        or get.get_float("beta", 1.0) != 1
        or get.get_int("transA", 0) == 1
    ):
        return 0
    bias, steps = constant_of(node.inputs[2]), units_of_sums(*node.inputs[:2])
    if bias is None or bias.dtype != np.float32 or bias.ndim != 1 or steps is None:
        return 0
    if steps.size not in (1, bias.size):
        return 0  # one number for all channels, which have steps of their own
    steps = np.broadcast_to(steps, bias.shape)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        narrow = np.rint(bias.astype(np.float64) / steps)
    if not np.all(np.abs(narrow) <= LARGEST_BIAS):  # NaN is not
        skip(node, "its bias is too large for int32")
        return 0
    operands = [narrow.astype(np.int32), steps, np.zeros(bias.shape, np.int32)]
    values = [initializer(model, np.ascontiguousarray(array)) for array in operands]
    wide = ir.node("DequantizeLinear", values, {"axis": 0}, name=f"{node.name}/bias")
    (result,) = wide.outputs
    result.name, result.shape = f"{node.name}/bias", ir.Shape(bias.shape)
    result.type = ir.TensorType(ir.DataType.FLOAT)
    graph = node.graph
    assert graph is not None, "it was found in a graph"
    graph.insert_before(node, wide)
    node.replace_input_with(2, result)
    return 1


def units_of_sums(x: ir.Value | None, w: ir.Value | None) -> npt.NDArray[np.float32] | None:
    """The step of x times that of w, (1,) or (Co,); None if they are not dequantized so."""
    product = np.ones(1, np.float32)
    for value in (x, w):
        maker = None if value is None else value.producer()
        if maker is None or maker.op_type != "DequantizeLinear" or maker.domain:
            return None
        step = constant_of(maker.inputs[1])
        if step is None or step.dtype != np.float32 or step.ndim > 1:
            return None
        product = product * step.reshape(-1).astype(np.float32)
    smallest = np.finfo(np.float32).smallest_normal
    return product if np.all(product >= smallest) and np.all(np.isfinite(product)) else None
