"""Cast what computes in 16 bits: types and casts in the graph, not a wish to the builder.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    cast (float[n, 1, h, w] x) => (float[n, 1, h, w] y, int32[n, 1, h, w] s)
    <float[1, 1, 1, 1] w = {1}, float[1] b = {2}, float[2, 1, 1, 1] g = {1, 3}>
    {
        f = Conv (x, w, b)
        logits = Conv (f, g)
        s = pagdeploy.PAGGate (logits)
        y = Relu (f)
    }

After, where 15360 and 16384 are the bits of 1 and 2 in float16:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    cast (float[n, 1, h, w] x) => (float[n, 1, h, w] y, int32[n, 1, h, w] s)
    <float16[1, 1, 1, 1] w = {15360}, float16[1] b = {16384}, float[2, 1, 1, 1] g = {1, 3}>
    {
        x16 = Cast <to = 10> (x)
        f16 = Conv (x16, w, b)
        f = Cast <to = 1> (f16)
        logits = Conv (f, g)
        s = pagdeploy.PAGGate (logits)
        y16 = Relu (f16)
        y = Cast <to = 1> (y16)
    }

Inputs and outputs of the graph keep their types. These stay float32: gates and what leads to them
(`graph.islands`), so that the argmax sees exact scores of the rounded features; operators whose
results leave the range of 16 bits or lose small terms; comparisons; what reads a constant that
would become zero; operators that have no such type at the opset that the file is written at, or
whose results do not take it from an operand; nodes with subgraphs, and all that is inside; what the
user names; and cheap nodes between two float32 ones, where casts would only cost.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.errors import UsageError
from pagdeploy.graph.edit import FreshNames, constant_of, insert_cast, skip
from pagdeploy.graph.islands import CONTRACTIONS, gate_heads, matching_nodes
from pagdeploy.graph.types import infer_missing_types, is_float, type_variables
from pagdeploy.ops.derive import register_schemas
from pagdeploy.precision import Precision

_SUM = "a long sum loses its small terms"
_RANGE = "its result may leave the range"
_DECISION = "it decides, and rounding would decide otherwise"
_UNSAFE = {
    **dict.fromkeys(
        (
            "ReduceSum ReduceMean ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
            "ReduceLogSumExp CumSum GlobalAveragePool GlobalLpPool InstanceNormalization "
            "LayerNormalization GroupNormalization LpNormalization "
            "MeanVarianceNormalization LRN"
        ).split(),
        _SUM,
    ),
    **dict.fromkeys(
        "BatchNormalization Exp Log Pow Reciprocal Softmax LogSoftmax Softplus".split(), _RANGE
    ),
    **dict.fromkeys(
        "Ceil Floor Round Sign Mod OneHot TopK".split(), _DECISION
    ),
}  # fmt: skip
# Smallest numbers of full precision.
_SMALLEST = {ir.DataType.FLOAT16: 2.0**-14, ir.DataType.BFLOAT16: 2.0**-126}
# What reads a value in whichever type it comes: a cast in front of them would change nothing.
_ANY_TYPE = frozenset({"Cast", "Shape", "Size"})
_MAKES_ITS_TYPE = ("to", "dtype", "value", "value_float", "value_floats")
SUFFIX = ".half"  # of a value's 16-bit form, where the name itself belongs to the float32 one


def run(model: ir.Model, precision: Precision = Precision("fp16")) -> int:  # noqa: B008
    """Cast every node that may compute in half precision; returns how many now do.

    Raises:
        UsageError: a weight is too large for the type, or a pattern of `keep_fp32` matches no
            node.
    """
    if not precision.is_half:
        return 0
    register_schemas()
    half = ir.DataType[precision.dtype.upper()]
    infer_missing_types(model)
    ports = _choose(model, half, precision)
    if ports:
        _Casts(model, half, ports).run()
    return len(ports)


class _Ports:
    """The inputs and outputs of one node that change their type together."""

    def __init__(self, inputs: set[int], outputs: set[int]) -> None:
        self.inputs, self.outputs = inputs, outputs


def _choose(model: ir.Model, half: ir.DataType, precision: Precision) -> dict[ir.Node, _Ports]:
    """The nodes that compute in half precision; says of the others why they do not."""
    named = dict.fromkeys(gate_heads(model), "a gate decides on it")
    named |= dict.fromkeys(matching_nodes(model, precision.keep_fp32), "--keep-fp32 names it")
    ports: dict[ir.Node, _Ports] = {}
    reasons: dict[ir.Node, str] = {}
    for node in model.graph:
        if not any(is_float(value) for value in node.outputs):
            continue  # nothing to cast: shapes, indices, decisions
        opset = max(model.opset_imports.get(node.domain, 1), 1 if node.domain else precision.opset)
        found = named.get(node) or _danger(node) or _half_ports(node, half, opset)
        if isinstance(found, str):
            reasons[node] = found
        else:
            ports[node] = found
    for node in _between_float32(model, ports):
        del ports[node]
        reasons[node] = "its neighbours do"
    for node, why in reasons.items():
        skip(node, f"in float32, {why}")
    return ports


def _danger(node: ir.Node) -> str | None:
    """Why half precision would change what the node says by more than its rounding."""
    if any(isinstance(a.value, ir.Graph) for a in node.attributes.values()):
        return "it holds a subgraph"
    if node.domain == "" and node.op_type in _UNSAFE:
        return _UNSAFE[node.op_type]
    if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
        return _RANGE  # a square
    if node.op_type == "Div" and constant_of(node.inputs[1]) is None:
        return _RANGE
    if node.op_type == "ConstantOfShape" or any(a in node.attributes for a in _MAKES_ITS_TYPE):
        return "it makes values of a given type"
    return None


def _half_ports(node: ir.Node, half: ir.DataType, opset: int) -> _Ports | str:
    """The ports whose type variable a float32 output has; or why the type cannot change.

    The operator's schema must allow the type, an operand bind each of these variables, and
    whatever else they tie together be known as float32, too.
    """
    variables = type_variables(node, opset)
    if variables is None:
        return "its operator has no schema"
    narrowed = {name for i, name in variables.outputs.items() if is_float(node.outputs[i])}
    inputs = {i for i, name in variables.inputs.items() if name in narrowed}
    outputs = {i for i, name in variables.outputs.items() if name in narrowed}
    if not all(f"tensor({half.name.lower()})" in variables.allowed.get(n, ()) for n in narrowed):
        return f"at opset {opset} it has no {half.name.lower()}"
    if {variables.inputs[i] for i in inputs} != narrowed:
        return "no operand gives its results their type"
    if not all(map(is_float, [node.inputs[i] for i in inputs])):
        return "the type of an operand is unknown"
    if not all(map(is_float, [node.outputs[i] for i in outputs])):
        return "the type of a result is unknown"
    return _flushed(node, inputs, half) or _Ports(inputs, outputs)


def _flushed(node: ir.Node, inputs: set[int], half: ir.DataType) -> str | None:
    """Why a constant would lose what it is there for, such as an epsilon that becomes zero."""
    attributes = [a for a in node.attributes.values() if a.type == ir.AttributeType.FLOAT]
    constants = [(a.name, np.array(a.as_float())) for a in attributes]
    for value in (node.inputs[index] for index in sorted(inputs)):
        array = constant_of(value)
        if value is not None and array is not None:
            constants.append((value.name or "", array))
    for name, array in constants:
        sizes = np.abs(array[array != 0])
        tiny = sizes < _SMALLEST[half]
        # Beside larger weights tiny ones hardly count, but nothing is divided by zero.
        if (tiny.all() and tiny.size) or (tiny.any() and node.op_type == "Div"):
            return f"{half.name.lower()} would flush its constant {name!r}"
    return None


def _between_float32(model: ir.Model, ports: dict[ir.Node, _Ports]) -> set[ir.Node]:
    """Cheap nodes that feed float32 only and read some: the largest such set."""
    found = {node for node in ports if node.op_type not in CONTRACTIONS}

    def is_float32(node: ir.Node | None) -> bool:
        return node not in ports or node in found

    def stays(node: ir.Node) -> bool:
        computed = [v for v in node.inputs if v is not None and constant_of(v) is None]
        reads = any(is_float32(value.producer()) for value in computed)
        return reads and all(is_float32(u.node) for value in node.outputs for u in value.uses())

    while removed := {node for node in found if not stays(node)}:
        found -= removed
    return found


class _Casts:
    """The rewrite: types of the chosen ports, and one cast per value and direction."""

    def __init__(self, model: ir.Model, half: ir.DataType, ports: dict[ir.Node, _Ports]) -> None:
        self.graph, self.half, self.ports = model.graph, half, ports
        self.narrowed: dict[ir.Value, ir.Value] = {}
        self.names = FreshNames(model.graph)

    def run(self) -> None:
        made = dict.fromkeys(n.outputs[i] for n, ports in self.ports.items() for i in ports.outputs)
        for value in made:
            value.type = ir.TensorType(self.half)
            self._widen_where_float32_is_read(value)
        for node, ports in self.ports.items():
            for index in ports.inputs:
                operand = node.inputs[index]
                if operand is not None and operand not in made:
                    node.replace_input_with(index, self._narrow(node, operand))

    def _reads_half(self, node: ir.Node, index: int) -> bool:
        if node in self.ports:
            return index in self.ports[node].inputs
        return node.domain == "" and node.op_type in _ANY_TYPE

    def _widen_where_float32_is_read(self, value: ir.Value) -> None:
        uses = [use for use in value.uses() if not self._reads_half(*use)]
        positions = [i for i, output in enumerate(self.graph.outputs) if output is value]
        if not uses and not positions:
            return
        name = self.names.like(f"{value.name}.float32")
        wide = insert_cast(self.graph, value, ir.DataType.FLOAT, name)
        if positions:  # the name belongs to the interface
            wide.name, value.name = value.name, self._half_name(value)
        for index in positions:
            self.graph.outputs[index] = wide
        for node, index in uses:
            node.replace_input_with(index, wide)

    def _narrow(self, node: ir.Node, value: ir.Value) -> ir.Value:
        if value not in self.narrowed:
            array = constant_of(value)
            self.narrowed[value] = (
                insert_cast(self.graph, value, self.half, self._half_name(value))
                if array is None
                else self._narrow_weight(node, value, array)
            )
        return self.narrowed[value]

    def _half_name(self, value: ir.Value) -> str:
        return self.names.like(f"{value.name}{SUFFIX}")

    def _narrow_weight(
        self, node: ir.Node, value: ir.Value, array: npt.NDArray[np.generic]
    ) -> ir.Value:
        dtype, name = self.half.numpy(), str(value.name)
        with np.errstate(over="ignore"):
            cast = array.astype(dtype)
        if not np.array_equal(np.isfinite(cast), np.isfinite(array)):
            finite = array[np.isfinite(array)].astype(np.float32)
            raise UsageError(
                f"The weight {name!r} reaches {np.abs(finite).max():.3g}, which"
                f" {self.half.name.lower()} cannot hold.",
                remedy=f"Keep its node in float32: --keep-fp32 '^{re.escape(node.name or '')}$'",
            )
        in_place = (
            value.is_initializer()
            and not value.is_graph_output()
            and all(self._reads_half(*use) for use in value.uses())
        )
        tensor = ir.tensor(cast, name=name if in_place else self._half_name(value))
        narrow = ir.Value(
            name=tensor.name,
            type=ir.TensorType(self.half),
            shape=ir.Shape(cast.shape),
            const_value=tensor,
        )
        if in_place:
            del self.graph.initializers[name]
        self.graph.register_initializer(narrow)
        return narrow
