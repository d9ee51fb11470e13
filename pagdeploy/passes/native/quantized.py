"""Quantized convolutions of a graph: what their operands mean, and what lies behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of, drop_dead, initializer, is_zero
from pagdeploy.ops import Activation, Mode
from pagdeploy.passes.gathering.pixels import Geometry, same
from pagdeploy.passes.move_quantization import Units
from pagdeploy.passes.native.liveness import Where, is_conv, is_ours, where_active
from pagdeploy.passes.quantize_bias import LARGEST_BIAS, units_of_sums

_LARGEST_SUM = 2**31 - 1


@dataclass(frozen=True)
class QuantizedConv:
    """A convolution of 8-bit operands, with the nodes behind it that become its end.

    Attributes:
        conv: A Conv or a PerforatedConv.
        behind: The Add, the Relu and the QuantizeLinear behind it, as far as there are any.
        x: The DequantizeLinear that its input comes from, of a uint8 (N, C, H, W).
        weights: int8 (M, C, kh, kw).
        steps: float32 (M,) or (), of the weights.
        bias: int32 (M,), in steps of the sums.
        base: The DequantizeLinear that the base comes from; None for zeros.
        mode: What becomes of the base.
        relu: Whether the result goes through a ReLU.
        units: Of the result; None where it stays float32.
        where: The pixels that are computed; None for all, or those that are read.
        geometry: Of the convolution.
    """

    conv: ir.Node
    behind: tuple[ir.Node, ...]
    x: ir.Node
    weights: npt.NDArray[np.int8]
    steps: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]
    base: ir.Node | None
    mode: Mode
    relu: bool
    units: Units | None
    where: Where | None
    geometry: Geometry

    @property
    def last(self) -> ir.Node:
        """The node whose output is the result."""
        return (self.conv, *self.behind)[-1]


def quantized_convs(graph: ir.Graph) -> Iterator[QuantizedConv]:
    """Those that the 8-bit kernel computes, in the order of the graph."""
    for node in graph:
        if is_ours(node) or is_conv(node):
            found = _ours(node) if is_ours(node) else _plain(node)
            if found is not None:
                yield found


def dequantized(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear of uint8, with one scale, that makes a value."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    units = Units.of(node)
    return node if units is not None and units.dtype == ir.DataType.UINT8 else None


def _ours(node: ir.Node) -> QuantizedConv | None:
    activation = node.attributes.get_int("activation")
    where, base = where_active(node), node.inputs[4]
    if activation not in (Activation.NONE, Activation.RELU) or where is None:
        return None
    source = dequantized(base)
    if source is None and not is_zero(base):
        return None
    # What is added to zeros is what replaces them: no activation here changes a zero.
    mode = Mode.REPLACE if source is None else Mode(node.attributes.get_int("mode"))
    behind = _quantizes(node)
    units = Units.of(behind[-1]) if behind else None
    if mode == Mode.REPLACE and source is not None and units is not None:
        if Units.of(source) != units:
            return None  # an inactive pixel would be rounded again
    relu = activation == Activation.RELU
    return _made(node, 2, behind, source, mode, relu, units, where)


def _plain(node: ir.Node) -> QuantizedConv | None:
    behind: list[ir.Node] = []
    source, last = None, node
    add = _only_reader(last, "Add")
    if add is not None:
        (other,) = (v for v in add.inputs if v is not last.outputs[0])
        source = dequantized(other)
        given, wanted = (v.shape if v else None for v in (other, node.outputs[0]))
        if source is None or given is None or wanted is None or not same(given, wanted):
            return None
        behind.append(last := add)
    relu = _only_reader(last, "Relu")
    if relu is not None:
        behind.append(last := relu)
    behind += _quantizes(last)
    units = Units.of(behind[-1]) if behind else None  # None of an Add or a Relu
    mode = Mode.REPLACE if source is None else Mode.ADD
    return _made(node, 1, behind, source, mode, relu is not None, units, None)


def _only_reader(node: ir.Node, op_type: str) -> ir.Node | None:
    """The node of that type which alone reads a node's result, once."""
    (result,) = node.outputs
    uses = list(result.uses())
    if len(uses) != 1 or result.is_graph_output():
        return None
    reader = uses[0].node
    alike = reader.op_type == op_type and not reader.domain and reader.graph is node.graph
    return reader if alike else None


def _quantizes(node: ir.Node) -> list[ir.Node]:
    """The QuantizeLinear to uint8 that alone reads a result."""
    reader = _only_reader(node, "QuantizeLinear")
    if reader is None or reader.inputs[0] is not node.outputs[0]:
        return []
    units = Units.of(reader)
    return [reader] if units is not None and units.dtype == ir.DataType.UINT8 else []


def _made(
    node: ir.Node,
    weight_input: int,
    behind: list[ir.Node],
    base: ir.Node | None,
    mode: Mode,
    relu: bool,
    units: Units | None,
    where: Where | None,
) -> QuantizedConv | None:
    """The convolution, if all of its operands are as the kernel wants them."""
    x, w = dequantized(node.inputs[0]), node.inputs[weight_input]
    weights, steps = _weights(w)
    if x is None or weights is None or steps is None or not _is_possible(node, weights):
        return None
    bias = node.inputs[weight_input + 1] if len(node.inputs) > weight_input + 1 else None
    units_of_all = units_of_sums(node.inputs[0], w)
    whole = _whole_bias(bias, units_of_all, weights.shape[0])
    units_of_x = Units.of(x)
    assert units_of_x is not None, "dequantized() asked"
    if units_of_all is None or whole is None or not _sums_fit(weights, whole, units_of_x.zero):
        return None
    with np.errstate(over="ignore"):
        if not np.all(np.isfinite(units_of_all / np.float32(units.step if units else 1))):
            return None
    geometry = _geometry(node, weights)
    return QuantizedConv(
        node, tuple(behind), x, weights, steps, whole, base, mode, relu, units, where, geometry
    )


def _weights(
    w: ir.Value | None,
) -> tuple[npt.NDArray[np.int8] | None, npt.NDArray[np.float32] | None]:
    """int8 (M, C, kh, kw) and their steps, if they are symmetric, by output channel at most."""
    node = None if w is None else w.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.domain or len(node.inputs) < 3:
        return None, None
    weights, steps, zeros = (constant_of(operand) for operand in node.inputs[:3])
    if weights is None or steps is None or zeros is None:
        return None, None
    if weights.dtype != np.int8 or weights.ndim != 4 or steps.dtype != np.float32 or zeros.any():
        return None, None
    by_channel = steps.shape == weights.shape[:1] and node.attributes.get_int("axis", 1) == 0
    smallest = np.finfo(np.float32).smallest_normal
    if (steps.ndim and not by_channel) or not np.all((steps >= smallest) & np.isfinite(steps)):
        return None, None
    return weights.astype(np.int8, copy=False), steps.astype(np.float32, copy=False)


def _is_possible(node: ir.Node, weights: npt.NDArray[np.int8]) -> bool:
    return (
        node.attributes.get_int("group", 1) == 1
        and node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and min(_geometry(node, weights).pads) >= 0
    )


def _geometry(node: ir.Node, weights: npt.NDArray[np.int8]) -> Geometry:
    defaults = {
        "kernel_shape": weights.shape[2:], "strides": (1, 1), "pads": (0,) * 4,
        "dilations": (1, 1),
    }  # fmt: skip
    return Geometry(*(tuple(node.attributes.get_ints(name, of)) for name, of in defaults.items()))


def _whole_bias(
    bias: ir.Value | None, units: npt.NDArray[np.float32] | None, outputs: int
) -> npt.NDArray[np.int32] | None:
    """The bias in steps of the sums, int32 (M,), if it is whole numbers of them."""
    if units is None or units.size not in (1, outputs):
        return None
    if bias is None:
        return np.zeros(outputs, np.int32)
    array = constant_of(bias)
    whole = _stored_bias(bias, units) if array is None else _divided(array, units)
    if whole is None or whole.shape != (outputs,) or np.any(np.abs(whole) > LARGEST_BIAS):
        return None
    return whole.astype(np.int32)


def _stored_bias(bias: ir.Value, units: npt.NDArray[np.float32]) -> npt.NDArray[np.int64] | None:
    """Integers that are dequantized by the steps of the sums."""
    node = bias.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.domain:
        return None
    whole, steps, *zeros = (constant_of(operand) for operand in node.inputs)
    if whole is None or steps is None or any(zero is None or zero.any() for zero in zeros):
        return None
    if whole.dtype != np.int32 or not np.array_equal(steps.reshape(-1), units):
        return None
    return whole.astype(np.int64)


def _divided(
    array: npt.NDArray[np.generic], units: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64] | None:
    """The whole numbers of steps that a float32 bias is."""
    if array.dtype != np.float32 or array.ndim != 1 or units.size not in (1, array.size):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.rint(array.astype(np.float64) / units)
        exact = np.array_equal((whole * units).astype(np.float32), array)  # NaN is not
    return whole if exact else None


def _sums_fit(weights: npt.NDArray[np.int8], bias: npt.NDArray[np.int32], zero: int) -> bool:
    """Whether no sum leaves 32 bits, whatever x is."""
    largest = np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)) * max(zero, 255 - zero)
    return bool(np.all(largest + np.abs(bias.astype(np.int64)) <= _LARGEST_SUM))


def readers_of(each: QuantizedConv) -> list[tuple[ir.Node, int]]:
    """Who reads what a result means, and as which input; -1 where that is unclear."""
    result = each.last.outputs[0]
    unclear = (each.conv, -1)
    if each.units is None or result.is_graph_output():
        return [unclear]
    readers: list[tuple[ir.Node, int]] = []
    for use in result.uses():
        wide = use.node
        if Units.of(wide) != each.units or wide.op_type != "DequantizeLinear" or use.idx != 0:
            return [unclear]
        if wide.outputs[0].is_graph_output():
            return [unclear]
        readers += [(reader.node, reader.idx) for reader in wide.outputs[0].uses()]
    return readers or [unclear]


def whole_regions(found: list[QuantizedConv]) -> list[QuantizedConv]:
    """Those whose gated neighbours are among them: a row of them is not cut in two."""
    while True:
        known = {each.conv for each in found}
        kept = [each for each in found if all(node in known for node in _gated_beside(each))]
        if len(kept) == len(found):
            return found
        found = kept


def _gated_beside(each: QuantizedConv) -> Iterator[ir.Node]:
    """The PerforatedConvs that make what a gated convolution reads, read what it makes, or show
    that as it is, as the branches of one gate do.
    """
    if not is_ours(each.conv):
        return
    narrow = each.x.inputs[0]
    node = None if narrow is None else narrow.producer()
    while node is not None and node.op_type in ("QuantizeLinear", "Relu", "Clip"):
        value = node.inputs[0]
        node = None if value is None else value.producer()
    if node is not None and is_ours(node):
        yield node
    yield from (node for node, port in readers_of(each) if is_ours(node) and port == 0)
    if each.units is None:
        yield from (use.node for use in each.last.outputs[0].uses() if is_ours(use.node))


def write_unsigned(model: ir.Model) -> int:
    """Write quantized int8 as uint8, 128 steps higher; returns how many values.

    The numbers that they mean, and where they saturate, stay the same.
    """
    count = 0
    for node in model.graph:
        units = Units.of(node) if node.op_type == "QuantizeLinear" else None
        if units is None or units.dtype != ir.DataType.INT8 or "output_dtype" in node.attributes:
            continue
        (result,) = node.outputs
        uses = list(result.uses())
        alike = all(
            use.node.op_type == "DequantizeLinear"
            and Units.of(use.node) == units
            and use.idx == 0
            and use.node.graph is node.graph
            for use in uses
        )
        if result.is_graph_output() or not alike:
            continue
        zero = initializer(model, np.array(units.zero + 128, np.uint8))
        for each in (node, *(use.node for use in uses)):
            each.replace_input_with(2, zero)
        result.type = ir.TensorType(ir.DataType.UINT8)
        count += 1
    return count


def widen_weights(model: ir.Model) -> int:
    """Let the gated convolutions that are left read float32 weights; returns how many do.

    They are then computed by the float32 kernel, on the same numbers.
    """
    count = 0
    for node in model.graph:
        weights, steps = _weights(node.inputs[2]) if is_ours(node) else (None, None)
        if weights is None or steps is None:
            continue
        wide = weights.astype(np.float32) * steps.reshape(-1, 1, 1, 1)  # (M, C / group, kh, kw)
        old = node.inputs[2]
        node.replace_input_with(2, initializer(model, wide))
        drop_dead([old])
        count += 1
    return count
