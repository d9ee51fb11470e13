"""Move data as the 8 bits it is quantized to: DequantizeLinear goes down, QuantizeLinear up.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    move (float[n, 2] x, float[1, 2] u) => (float[n, 2] y)
    <float step = {0.5}, uint8 zero = {0}, float[1, 2] nothing = {0, 0}, int64[3] rows = {1, 0, 1},
     int64[1, 1] place = {2}, float[2, 2] w = {1, 2, 3, 4}>
    {
        x8 = QuantizeLinear (x, step, zero)
        xq = DequantizeLinear (x8, step, zero)
        table = Concat <axis = 0> (nothing, xq)
        taken = Gather <axis = 0> (table, rows)
        placed = ScatterND (taken, place, u)
        y8 = QuantizeLinear (placed, step, zero)
        yq = DequantizeLinear (y8, step, zero)
        y = MatMul (yq, w)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    move (float[n, 2] x, float[1, 2] u) => (float[n, 2] y)
    <float step = {0.5}, uint8 zero = {0}, uint8[1, 2] nothing = {0, 0}, int64[3] rows = {1, 0, 1},
     int64[1, 1] place = {2}, float[2, 2] w = {1, 2, 3, 4}>
    {
        x8 = QuantizeLinear (x, step, zero)
        table = Concat <axis = 0> (nothing, x8)
        taken = Gather <axis = 0> (table, rows)
        u8 = QuantizeLinear (u, step, zero)
        placed = ScatterND (taken, place, u8)
        yq = DequantizeLinear (placed, step, zero)
        y = MatMul (yq, w)
    }

With one scale and zero point for all of a tensor, both work number by number, so they commute with
whatever only moves numbers. Each law holds bit for bit:

    move(dequantize(q))       = dequantize(move(q))
    quantize(move(x))         = move(quantize(x))
    quantize(dequantize(q))   = q, with the same scale and zero point
    size(dequantize(q))       = size(q)

A constant among what is moved, such as a row of zeros, moves along if 8 bits hold it exactly. What
remains is DequantizeLinear right in front of a product and QuantizeLinear right behind it, which
is where runtimes look for a product of integers, and a quarter of the bytes to gather and scatter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of, drop_dead, initializer
from pagdeploy.precision import Precision

# Operators that only move the numbers of one input; their other inputs say where to.
_MOVES_FIRST = frozenset(
    "Expand Flatten Gather GatherElements GatherND Identity Reshape Slice Split Squeeze Tile"
    " Transpose Unsqueeze".split()
)
# Of several inputs: which ones they move. All of them must be in the same units.
_MOVES = {"Concat": slice(0, None), "ScatterND": slice(0, 3, 2), "Where": slice(1, 3)}
_PAIR = ("QuantizeLinear", "DequantizeLinear")
_SIZES = ("Shape", "Size")
_NARROW = (ir.DataType.INT8, ir.DataType.UINT8)


@dataclass(frozen=True)
class Units:
    """What an integer means: (q - zero) * step."""

    step: float
    zero: int
    dtype: ir.DataType

    @classmethod
    def of(cls, node: ir.Node | None) -> Units | None:
        """Of a QuantizeLinear or DequantizeLinear with scalars: one step and one zero for all."""
        if node is None or node.domain or node.op_type not in _PAIR or len(node.inputs) < 3:
            return None
        step, zero = (constant_of(operand) for operand in node.inputs[1:3])
        if step is None or zero is None or step.ndim or zero.ndim:
            return None
        dtype = ir.DataType.from_numpy(zero.dtype)
        if step.dtype != np.float32 or dtype not in _NARROW or not _is_sound(float(step.item())):
            return None
        return cls(float(step.item()), int(zero.item()), dtype)

    def narrow(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic] | None:
        """The integers that mean exactly these numbers; None if there are none."""
        if array.dtype != np.float32:
            return None
        limits = np.iinfo(self.dtype.numpy())
        steps = np.rint(array.astype(np.float64) / self.step) + self.zero
        if not np.all((steps >= limits.min) & (steps <= limits.max)):  # NaN is neither
            return None
        wide = (steps - self.zero).astype(np.float32) * np.float32(self.step)
        # Bit for bit: a negative zero is none of these numbers.
        same = np.array_equal(wide.view(np.int32), array.view(np.int32))
        return steps.astype(self.dtype.numpy()) if same else None


def _is_sound(step: float) -> bool:
    """Whether the largest integer times the step, over the step, rounds to itself."""
    info = np.finfo(np.float32)
    return float(info.smallest_normal) <= step <= float(info.max) / 256


def _moved(node: ir.Node) -> list[int]:
    """The inputs whose numbers a node moves; none if it does more."""
    if node.domain or node.attributes.get_string("reduction", "none") != "none":
        return []  # a ScatterND may also add
    if node.op_type in _MOVES_FIRST:
        return [0]
    return list(range(len(node.inputs)))[_MOVES.get(node.op_type, slice(0))]


def _runs(node: ir.Node, units: Units) -> bool:
    """Whether onnxruntime from 1.16 on can move such integers."""
    return node.op_type != "Where" or units.dtype == ir.DataType.UINT8


def run(model: ir.Model, precision: Precision | None = None) -> int:
    """Move until nothing moves any more, if integers are to be moved; returns how many moves."""
    if precision is None or not precision.integer_kernels:
        return 0
    mover = _Mover(model)
    count = 0
    while moved := mover.sweep():
        count += moved
    return count


class _Mover:
    """The laws, applied to the nodes of every graph of a model."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model

    def sweep(self) -> int:
        """Apply a law wherever one applies now."""
        count = 0
        for node in list(ir.traversal.RecursiveGraphIterator(self.model.graph)):
            if node.graph is None or node.domain:
                continue  # removed meanwhile
            if node.op_type in _SIZES:
                count += self._look_behind(node)
            elif node.op_type == "QuantizeLinear":
                count += self._cancel(node) or self._quantize_before(node)
            elif _moved(node):
                count += self._dequantize_behind(node)
        return count

    def _look_behind(self, node: ir.Node) -> int:
        """The size of what is dequantized is that of the integers."""
        x = node.inputs[0]
        wide = None if x is None else x.producer()
        if wide is None or wide.op_type != "DequantizeLinear" or wide.domain:
            return 0
        node.replace_input_with(0, wide.inputs[0])
        drop_dead([x])
        return 1

    def _cancel(self, node: ir.Node) -> int:
        """Integers that are dequantized and quantized again are the same integers."""
        x, units = node.inputs[0], Units.of(node)
        wide = None if x is None else x.producer()
        if units is None or wide is None or wide.op_type != "DequantizeLinear":
            return 0
        narrow, result = wide.inputs[0], node.outputs[0]
        if Units.of(wide) != units or narrow is None or result.is_graph_output():
            return 0
        ir.convenience.replace_all_uses_with(result, narrow)
        drop_dead([result])
        return 1

    def _dequantize_behind(self, node: ir.Node) -> int:
        """Dequantize what a node has moved instead of what it moves."""
        ports = _moved(node)
        makers = [value.producer() for value in (node.inputs[port] for port in ports) if value]
        wides = [maker for maker in makers if maker and maker.op_type == "DequantizeLinear"]
        units = Units.of(wides[0]) if wides else None
        if units is None or not _runs(node, units):
            return 0
        narrows = [self._integers(node.inputs[port], units) for port in ports]
        if any(narrow is None for narrow in narrows):
            return 0
        old = [node.inputs[port] for port in ports]
        for port, narrow in zip(ports, narrows, strict=True):
            node.replace_input_with(port, narrow)
        for value in node.outputs:
            self._insert(value, wides[0])
        drop_dead(old)
        return 1

    def _integers(self, value: ir.Value | None, units: Units) -> ir.Value | None:
        """The integers that a value is made of, if it is made of some in these units."""
        if value is None:
            return None
        array = constant_of(value)
        if array is not None:
            steps = units.narrow(array)
            return None if steps is None else initializer(self.model, steps)
        maker = value.producer()
        if maker is None or maker.op_type != "DequantizeLinear" or Units.of(maker) != units:
            return None
        return maker.inputs[0]

    def _insert(self, value: ir.Value, wide: ir.Node) -> None:
        """Let a node give integers, and a DequantizeLinear behind it what it gave before."""
        maker = value.producer()
        assert maker is not None and maker.graph is not None, "it was made by a node"
        narrow = wide.inputs[0]
        assert narrow is not None, "a DequantizeLinear has an input"
        behind = ir.node("DequantizeLinear", [value, *wide.inputs[1:]])
        behind.name = f"{value.name}/DequantizeLinear"
        (result,) = behind.outputs
        maker.graph.insert_after(maker, behind)
        ir.convenience.replace_all_uses_with(value, result, replace_graph_outputs=True)
        behind.replace_input_with(0, value)
        result.type, result.shape, result.name = value.type, value.shape, value.name
        units = Units.of(wide)
        assert units is not None, "only what has one step is moved"
        value.name, value.type = f"{value.name}.narrow", ir.TensorType(units.dtype)

    def _quantize_before(self, node: ir.Node) -> int:
        """Quantize what a node moves instead of what it has moved."""
        x, units = node.inputs[0], Units.of(node)
        maker = None if x is None else x.producer()
        if units is None or x is None or maker is None or maker.graph is not node.graph:
            return 0
        readers = [use.node for use in x.uses() if use.node.op_type not in _SIZES]
        if (
            len(maker.outputs) != 1
            or x.is_graph_output()
            or node.outputs[0].is_graph_output()
            or any(Units.of(reader) != units for reader in readers)
            or any(reader.op_type != "QuantizeLinear" for reader in readers)
        ):
            return 0
        ports = _moved(maker)
        if not ports or not _runs(maker, units) or not _pays(maker):
            return 0
        graph = maker.graph
        assert graph is not None, "it was found in a graph"
        for port in ports:
            maker.replace_input_with(port, self._quantized(maker, port, node, units))
        for reader in readers:
            ir.convenience.replace_all_uses_with(reader.outputs[0], x)
            graph_of = reader.graph
            assert graph_of is not None, "it was found in a graph"
            graph_of.remove(reader, safe=True)
        x.type = ir.TensorType(units.dtype)
        return 1

    def _quantized(self, maker: ir.Node, port: int, node: ir.Node, units: Units) -> ir.Value:
        value = maker.inputs[port]
        assert value is not None and maker.graph is not None, "it is moved"
        integers = self._integers(value, units)
        if integers is not None:
            return integers
        before = ir.node("QuantizeLinear", [value, *node.inputs[1:]])
        (result,) = before.outputs
        before.name = f"{maker.name}/QuantizeLinear_{port}"
        result.name = f"{maker.outputs[0].name}.{port}.quantized"
        result.type, result.shape = ir.TensorType(units.dtype), value.shape
        maker.graph.insert_before(maker, before)
        return result


def _pays(maker: ir.Node) -> bool:
    """Whether to quantize before a node: not a table of which few rows are taken."""
    data = maker.inputs[0]
    source = None if data is None else data.producer()
    takes_some = maker.op_type.startswith("Gather") or maker.op_type == "Slice"
    return not takes_some or (source is not None and bool(_moved(source)))
