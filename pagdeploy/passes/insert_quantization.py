"""Quantize the operands of convolutions and matrix products to int8, by explicit Q/DQ pairs.

Before, where a calibration saw `a` between -127/32 and 127/32:
    <ir_version: 8, opset_import: ["" : 17]>
    quantize (float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <float[1, 1, 1, 1] first = {1}, float[2, 1, 1, 1] w = {127, -254}, float[2] b = {1, 2},
     float[1, 2, 1, 1] last = {1, 2}>
    {
        a = Conv (x, first)
        c = Conv (a, w, b)
        y = Conv (c, last)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    quantize (float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <float[1, 1, 1, 1] first = {1}, int8[2, 1, 1, 1] w = {127, -127}, float[2] b = {1, 2},
     float[1, 2, 1, 1] last = {1, 2}, float step = {0.03125}, int8 zero = {0},
     float[2] steps = {1, 2}, int8[2] zeros = {0, 0}>
    {
        a = Conv (x, first)
        a8 = QuantizeLinear (a, step, zero)
        aq = DequantizeLinear (a8, step, zero)
        wq = DequantizeLinear <axis = 0> (w, steps, zeros)
        c = Conv (aq, wq, b)
        y = Conv (c, last)
    }

As TensorRT wants it: symmetric, one scale per activation, one per output channel of a weight, and
biases, sums and activations in float32. These stay float32: gates and what leads to them, what
the user names, and the first and the last layers. They are cheap, of few input or few output
channels, and an eighth more decisions of the trained example flipped with the first ones in int8.

For integer kernels (`pagdeploy.precision`) what is never negative is uint8, of 255 steps; a base
has the scale of the result that shows it; biases are whole numbers of the step of their sums; and
all readers read the rounded value, so that no float32 copy is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.errors import UsageError
from pagdeploy.graph.edit import (
    FreshNames,
    constant_of,
    initializer,
    insert_behind,
    nodes_of,
    skip,
)
from pagdeploy.graph.islands import CONTRACTIONS, gate_heads, matching_nodes
from pagdeploy.ops import DOMAIN
from pagdeploy.passes.gathering.regions import is_non_negative
from pagdeploy.passes.quantize_bias import LARGEST_BIAS, units_of_sums
from pagdeploy.precision import Precision, Ranges

Array = npt.NDArray[np.generic]
_STEPS = 127  # int8 without -128, so that a number and its negative are rounded alike
# Where a weight stands among the inputs, and its axis of output channels.
_WEIGHTS = {
    ("Conv", ""): (1, 0),
    ("PerforatedConv", DOMAIN): (2, 0),
    ("Gemm", ""): (1, 1),
    ("MatMul", ""): (1, 1),
}


def run(model: ir.Model, precision: Precision | None = None) -> int:
    """Quantize what the precision's ranges cover; returns the number of nodes.

    Raises:
        UsageError: the ranges belong to another model, or a pattern of `keep_fp32` matches no
            node.
    """
    if precision is None or precision.name != "int8" or precision.ranges is None:
        return 0
    _require_known(model, precision.ranges)
    named = dict.fromkeys(_first_layers(model), "it reads an input")
    named |= dict.fromkeys(_last_layers(model), "it makes an output")
    named |= dict.fromkeys(gate_heads(model), "a gate decides on it")
    named |= dict.fromkeys(matching_nodes(model, precision.keep_fp32), "--keep-fp32 names it")
    quantizer = _Quantizer(model, precision)
    chosen = []
    for node in [node for node in model.graph if (node.op_type, node.domain) in _WEIGHTS]:
        why = named.get(node) or quantizer.obstacle(node)
        if why:
            skip(node, f"in float32, {why}")
        else:
            chosen.append(node)
    quantizer.scale([node.inputs[0] for node in chosen])
    for node in chosen:
        quantizer.quantize(node)
    return len(chosen)


def _require_known(model: ir.Model, ranges: Ranges) -> None:
    values = {value.name for node in model.graph for value in node.outputs}
    if not values & set(ranges):
        raise UsageError(
            "The calibration knows no value of this model.",
            remedy="Calibrate again with --calibration-data.",
        )


def _first_layers(model: ir.Model) -> set[ir.Node]:
    """Contractions that no other contraction lies in front of, on some way from an input."""
    raw = set(model.graph.inputs)
    found = set()
    for node in model.graph:
        if raw.isdisjoint(node.inputs):
            continue
        if node.op_type in CONTRACTIONS:
            if node.inputs[0] in raw:  # not a selection alone
                found.add(node)
        elif node.op_type not in ("Shape", "Size"):
            raw.update(node.outputs)
    return found


def _last_layers(model: ir.Model) -> set[ir.Node]:
    """Contractions that no other contraction lies behind, on some way to an output."""
    shown = set(model.graph.outputs)
    found = set()
    for node in reversed(list(model.graph)):
        if shown.isdisjoint(node.outputs):
            continue
        if node.op_type in CONTRACTIONS:
            found.add(node)
        else:
            shown.update(value for value in node.inputs if value is not None)
    return found


class _Quantizer:
    """The rewrite; each activation is quantized once, whoever reads it."""

    def __init__(self, model: ir.Model, precision: Precision) -> None:
        self.model, self.integers = model, precision.integer_kernels
        self.ranges = precision.ranges or {}
        self.quantized: dict[ir.Value, ir.Value] = {}
        self.operands: dict[ir.Value, tuple[Array, Array]] = {}  # scale and zero point
        self.names = FreshNames(model.graph)

    def obstacle(self, node: ir.Node) -> str | None:
        x, w = node.inputs[0], node.inputs[_WEIGHTS[node.op_type, node.domain][0]]
        weight = constant_of(w)
        if weight is None:
            return "its weights are computed"
        if weight.dtype != np.float32 or x is None or x.dtype not in (None, ir.DataType.FLOAT):
            return "it does not compute in float32"
        if not np.isfinite(weight).all():
            return "its weights are not finite"
        if node.op_type in ("Gemm", "MatMul") and (
            weight.ndim != 2 or node.attributes.get_int("transA", 0) == 1
        ):
            return "its operands are no rows and one matrix"
        if x.name not in self.ranges:
            return "the calibration did not see its input"
        return None

    def scale(self, values: Iterable[ir.Value | None]) -> None:
        """Choose the scales of the activations that are to be quantized."""
        stages = {value: [value] for value in values if value is not None}
        if self.integers:
            for node in nodes_of(self.model, "PerforatedConv"):
                # What passes through unchanged is not rounded again.
                if node.inputs[4] is None:
                    continue
                base, output = stages.get(node.inputs[4]), stages.get(node.outputs[0])
                if base is not None and output is not None and base is not output:
                    base += output
                    stages.update(dict.fromkeys(output, base))
        for value, stage in stages.items():
            seen = [self.ranges[each.name or ""] for each in stage]
            largest = np.array(max(max(-low, high) for low, high in seen), np.float32)
            if self.integers and all(is_non_negative(each) for each in stage):
                self.operands[value] = _step(largest, 255), np.zeros((), np.uint8)
            else:
                self.operands[value] = _step(largest), np.zeros((), np.int8)

    def quantize(self, node: ir.Node) -> None:
        index, axis = _WEIGHTS[node.op_type, node.domain]
        if node.attributes.get_int("transB", 0):
            axis = 0
        x, w = node.inputs[0], node.inputs[index]
        assert x is not None and w is not None, "obstacle refuses missing operands"
        node.replace_input_with(0, self._activation(x))
        node.replace_input_with(index, self._weight(node, w, axis))
        if self.integers and len(node.inputs) > index + 1:
            self._round_bias(node, index + 1)

    def _activation(self, x: ir.Value) -> ir.Value:
        if x in self.quantized.values():
            return x  # somebody else's rounded value, which all read
        if x not in self.quantized:
            operands = [initializer(self.model, array) for array in self.operands[x]]
            narrow = _node("QuantizeLinear", [x, *operands], operands[1].dtype)
            wide = _node("DequantizeLinear", [narrow.outputs[0], *operands], ir.DataType.FLOAT)
            insert_behind(self.model.graph, x, narrow, wide)
            for result, suffix in ((narrow, "quantized"), (wide, "dequantized")):
                result.name = f"{x.name}/{result.op_type}"
                result.outputs[0].name = self.names.like(f"{x.name}.{suffix}")
                result.outputs[0].shape = x.shape
            if self.integers:
                _read_rounded(x, wide.outputs[0], narrow)
            self.quantized[x] = wide.outputs[0]
        return self.quantized[x]

    def _weight(self, node: ir.Node, w: ir.Value, axis: int) -> ir.Value:
        weight = constant_of(w)
        assert weight is not None, "obstacle refuses computed weights"
        others = tuple(a for a in range(weight.ndim) if a != axis)
        steps = _step(np.abs(weight).max(axis=others, keepdims=True).astype(np.float32))
        narrow: npt.NDArray[np.int8] = np.round(weight.astype(np.float32) / steps).astype(np.int8)
        operands = [
            initializer(self.model, narrow),
            initializer(self.model, steps.ravel()),
            initializer(self.model, np.zeros(steps.size, np.int8)),
        ]
        dequantize = _node("DequantizeLinear", operands, ir.DataType.FLOAT, axis=axis)
        result = dequantize.outputs[0]
        result.name = self.names.like(f"{node.name}/{w.name}")
        result.shape = ir.Shape(weight.shape)
        dequantize.name = f"{result.name}/DequantizeLinear"
        self.model.graph.insert_before(node, dequantize)
        return result

    def _round_bias(self, node: ir.Node, index: int) -> None:
        """Round a bias to whole units of the sums, so that `quantize_bias` changes no number."""
        bias = constant_of(node.inputs[index])
        units = units_of_sums(node.inputs[0], node.inputs[index - 1])
        if bias is None or bias.dtype != np.float32 or bias.ndim != 1 or units is None:
            return
        whole = np.rint(bias.astype(np.float64) / units)
        if np.all(np.abs(whole) <= LARGEST_BIAS):  # NaN is not
            rounded = (whole * units).astype(np.float32)
            node.replace_input_with(index, initializer(self.model, rounded))


def _read_rounded(x: ir.Value, rounded: ir.Value, quantize: ir.Node) -> None:
    """Let everyone read the rounded value, so that no float32 copy has to be kept."""
    for reader, index in [(use.node, use.idx) for use in x.uses()]:
        if reader is not quantize and reader.op_type not in ("Shape", "Size"):
            reader.replace_input_with(index, rounded)


def _step(largest: npt.NDArray[np.float32], steps: int = _STEPS) -> npt.NDArray[np.float32]:
    """Distance between neighbouring quantized numbers; anything but 0 is right where all are 0.

    As good as 0 is what has no normal step: processors that flush denormals divide by zero then.
    """
    step = largest / np.float32(steps)
    normal = step >= np.finfo(np.float32).smallest_normal
    return np.where(normal, step, np.float32(1)).astype(np.float32)


def _node(
    op_type: str, operands: Iterable[ir.Value], dtype: ir.DataType | None, **attributes: int
) -> ir.Node:
    node = ir.node(op_type, list(operands), attributes)
    assert dtype is not None, "constants have a type"
    node.outputs[0].type = ir.TensorType(dtype)
    return node
