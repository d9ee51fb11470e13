"""The gates of a model: finding them, showing their decisions, forcing their decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagdeploy.ops import DOMAIN

if TYPE_CHECKING:
    import onnx

_ARRANGE = frozenset("Cast Identity Slice Split Squeeze Unsqueeze".split())

OWN = ".own"  # suffix of a gate's own decision where another one is forced in its place


@dataclass(frozen=True)
class Gate:
    """A PAGGate node of a portable model.

    Attributes:
        name: Of the node.
        logits: Name of its input value, (N, K, H, W).
        selection: Name of its output value, int32 (N, 1, H, W).
    """

    name: str
    logits: str
    selection: str


def gates_of(model: onnx.ModelProto) -> list[Gate]:
    """The gates of the main graph, in order; gates inside of subgraphs are not listed."""
    return [
        Gate(node.name or node.output[0], node.input[0], node.output[0])
        for node in model.graph.node
        if node.domain == DOMAIN and node.op_type == "PAGGate"
    ]


def thresholds_of(model: onnx.ModelProto, gates: Sequence[Gate]) -> dict[str, float]:
    """Magnitude of the constant that a gate's logits are the distances to, by the gate's name.

    A comparison p > c has the logits c - p and p - c: c. What is added to all branches alike
    decides nothing, and counts as 0, as do gates that compare no constant.
    """
    import numpy as np
    from onnx import numpy_helper

    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }

    def number(name: str) -> float:
        array = numpy_helper.to_array(constants[name]) if name in constants else np.zeros(0)
        one = array.size == 1 and array.dtype.kind in "fiu" and np.isfinite(array).all()
        return float(array.reshape(-1)[0]) if one else 0.0

    def added(name: str) -> float:
        """The constant that a value has in it."""
        sign = 1.0
        while (node := makers.get(name)) is not None and node.op_type in _ARRANGE | {"Neg"}:
            sign *= -1 if node.op_type == "Neg" else 1
            name = node.input[0]
        if node is None or node.op_type != "Sub":
            return 0.0
        return sign * (number(node.input[0]) - number(node.input[1]))

    found = {}
    for gate in gates:
        node = makers.get(gate.logits)
        while node is not None and node.op_type in _ARRANGE:
            node = makers.get(node.input[0])
        joined = node is not None and node.op_type == "Concat"
        parts = [added(name) for name in node.input] if node is not None and joined else [0.0]
        found[gate.name] = (max(parts) - min(parts)) / 2
    return found


def expose(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy whose outputs include the named values of the main graph, where it has them."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {name for node in model.graph.node for name in node.output}
    outputs = {value.name for value in model.graph.output}
    known = {value.name: value for value in model.graph.value_info}
    for name in names:
        if name in present and name not in outputs:
            outputs.add(name)
            copy.graph.output.append(known.get(name, onnx.ValueInfoProto(name=name)))
    return copy


def force_selections(model: onnx.ModelProto, selections: Sequence[str]) -> onnx.ModelProto:
    """A copy that takes the named selections as int32 inputs of the same names.

    What the gate itself decides becomes an output, under the selection's name with `OWN` behind
    it. So a flip of one gate cannot reach the next, and each is judged by itself.
    """
    import onnx

    return _force(model, selections, onnx.TensorProto.INT32)


def force_logits(model: onnx.ModelProto, logits: Sequence[str]) -> onnx.ModelProto:
    """A copy that takes the named logits as inputs of the same names and dtype.

    With the selections forced too, it shows how each gate decides on logits of our choosing.
    """
    import onnx

    return _force(model, logits, onnx.TensorProto.FLOAT)


def _force(model: onnx.ModelProto, names: Sequence[str], elem_type: int) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    produced = {name: node for node in copy.graph.node for name in node.output}
    shown = {value.name for value in copy.graph.output}
    typed = {
        value.name: value.type.tensor_type.elem_type
        for value in (*copy.graph.value_info, *copy.graph.output)
        if value.type.tensor_type.elem_type
    }
    for name in names:
        if name not in produced:
            continue
        node = produced[name]
        for index, output in enumerate(node.output):
            if output == name:
                node.output[index] = name + OWN
        dtype = typed.get(name, elem_type)
        axes = [f"{name}.{axis}" for axis in "nchw"]
        copy.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, axes))
        if name + OWN not in shown:
            own = onnx.helper.make_tensor_value_info(name + OWN, dtype, None)
            copy.graph.output.append(own)
    del copy.graph.value_info[:]  # shapes of the old graph must not bind the new one
    return copy
