"""Bounds of values that are whole numbers, where masks are counted.

How many set pixels lie in a window is a sum of zeros and ones. Such sums are exact in floating
point, and what stays between 0 and 1 of them is a mask again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of

Bounds = tuple[float, float]
_EXACT = {ir.DataType.FLOAT: 2.0**24, ir.DataType.FLOAT16: 2.0**11, ir.DataType.BFLOAT16: 2.0**8}


def bounds_of(array: npt.NDArray[np.generic] | None) -> Bounds | None:
    """The least and the largest entry, if all of them are whole numbers."""
    if array is None or not array.size or array.dtype.kind not in "iufb":
        return None
    numbers = array.astype(np.float64)
    if not np.all(np.isfinite(numbers)) or np.any(numbers != np.rint(numbers)):
        return None
    return float(numbers.min()), float(numbers.max())


def bounds_behind(node: ir.Node, inputs: Sequence[Bounds | None]) -> Bounds | None:
    """The bounds of what an operator makes of whole numbers.

    Args:
        node: The operator.
        inputs: The bounds of its operands; None for one that is missing.

    Returns:
        None if the result may be no whole number, or too large for an exact one.
    """
    found = _behind(node, inputs)
    limit = _EXACT.get(node.outputs[0].dtype or ir.DataType.UNDEFINED, 2.0**31)
    return found if found is not None and max(map(abs, found)) <= limit else None


def _behind(node: ir.Node, inputs: Sequence[Bounds | None]) -> Bounds | None:
    if node.op_type in ("Conv", "ConvTranspose"):
        return _summed(node, inputs)
    if node.op_type == "Clip":
        return _clipped(node, inputs)
    if node.op_type == "Pad":
        return _padded(node, inputs)
    if not inputs or any(each is None for each in inputs):
        return None
    known = [each for each in inputs if each is not None]
    (low, high), last = known[0], known[-1]
    if node.op_type == "Add":
        return low + last[0], high + last[1]
    if node.op_type == "Sub":
        return low - last[1], high - last[0]
    if node.op_type == "Mul":
        corners = [a * b for a, b in product(known[0], last)]
        return min(corners), max(corners)
    if node.op_type == "Neg":
        return -high, -low
    if node.op_type == "Max":
        return max(each[0] for each in known), max(each[1] for each in known)
    if node.op_type == "Min":
        return min(each[0] for each in known), min(each[1] for each in known)
    if node.op_type == "Relu":
        return max(low, 0.0), max(high, 0.0)
    if node.op_type == "Sign":
        return float(np.sign(low)), float(np.sign(high))
    return (low, high) if node.op_type in ("Identity", "Cast") else None


def _clipped(node: ir.Node, inputs: Sequence[Bounds | None]) -> Bounds | None:
    if not inputs or inputs[0] is None:
        return None
    low, high = inputs[0]
    for number, bound in enumerate(inputs[1:3]):
        if node.inputs[number + 1] is None:
            continue
        if bound is None or bound[0] != bound[1]:
            return None
        choose = min if number else max
        low, high = choose(low, bound[0]), choose(high, bound[0])
    return low, high


def _padded(node: ir.Node, inputs: Sequence[Bounds | None]) -> Bounds | None:
    """Zeros around, if nothing else is said, or what lies within already."""
    around: Bounds | None = (0.0, 0.0)
    if node.attributes.get_string("mode", "constant") != "constant":
        around = inputs[0]
    elif len(inputs) > 2 and node.inputs[2] is not None:
        around = inputs[2]
    if inputs[0] is None or around is None:
        return None
    return min(inputs[0][0], around[0]), max(inputs[0][1], around[1])


def _summed(node: ir.Node, inputs: Sequence[Bounds | None]) -> Bounds | None:
    """Of a convolution with constant whole weights: any tap may lie outside, where zeros are."""
    weight = constant_of(node.inputs[1])
    if inputs[0] is None or weight is None or weight.ndim != 4 or bounds_of(weight) is None:
        return None
    if len(inputs) > 2 and inputs[2] is None:
        return None
    low, high = min(inputs[0][0], 0.0), max(inputs[0][1], 0.0)
    taps = weight.astype(np.float64)
    parts = [taps]
    if node.op_type == "ConvTranspose":
        # Taps that are a stride apart meet in one output pixel, if they are not dilated.
        if set(node.attributes.get_ints("dilations", [1])) != {1}:
            return None
        strides = node.attributes.get_ints("strides", [1, 1])
        grid = product(range(strides[0]), range(strides[1]))
        parts = [taps[..., y :: strides[0], x :: strides[1]] for y, x in grid]
    most = max(float(np.maximum(part * low, part * high).sum()) for part in parts)
    least = min(float(np.minimum(part * low, part * high).sum()) for part in parts)
    bias = inputs[2] if len(inputs) > 2 and inputs[2] is not None else (0.0, 0.0)
    return least + bias[0], most + bias[1]
