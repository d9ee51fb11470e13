"""Values that one model holds in float32 and another in eight bits, by the same name.

A compiler moves QuantizeLinear up to where a value is made and DequantizeLinear down to where it is
used, so that less is moved and products see integers. What is left under the value's name is its
integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagdeploy.graph.cut import CHANNELS_LAST, read_by

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Rounding:
    """How a model rounds a value to eight bits.

    Attributes:
        rounded: Name of the float value behind QuantizeLinear and DequantizeLinear.
        scale: One number, float32.
        zero: One number, of the integers' type.
    """

    rounded: str
    scale: onnx.TensorProto
    zero: onnx.TensorProto


def held_as_integers(
    reference: onnx.ModelProto, other: onnx.ModelProto
) -> dict[str, Rounding | None]:
    """Values of the other model that are integers of eight bits, and floats in the reference.

    Args:
        reference: That rounds values by QuantizeLinear and DequantizeLinear.
        other: A lowering of it.

    Returns:
        How the reference rounds each, by name; None if it does not, or in another type, or if a
        subgraph of the other model reads it.
    """
    import onnx

    integers = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    known = {v.name: v.type.tensor_type.elem_type for v in other.graph.value_info}
    roundings = _roundings(reference)
    inner = {name for node in other.graph.node for name in {*read_by(node)} - {*node.input}}
    found: dict[str, Rounding | None] = {}
    made = {name for node in reference.graph.node for name in node.output}
    for name in (name for node in other.graph.node for name in node.output if name in made):
        dtype = known.get(name) or known.get(name + CHANNELS_LAST)
        if dtype not in integers:
            continue
        rounding = roundings.get(name)
        fits = rounding is not None and rounding.zero.data_type == dtype and name not in inner
        found[name] = rounding if fits else None
    return found


def with_floats(model: onnx.ModelProto, roundings: Mapping[str, Rounding]) -> onnx.ModelProto:
    """A copy that computes some values in float32, where it holds their integers alone.

    What read the integers reads them rounded again from the float value, so that the graph can be
    cut there; rounding what was rounded so already changes nothing.

    Args:
        model: Its main graph is looked at.
        roundings: By name of the value.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in roundings:
                node.input[index] = f"{name}.integers"
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in roundings:
                continue
            node.output[index] = made = f"{name}.made"
            constants: list[str] = []
            for part in (roundings[name].scale, roundings[name].zero):
                held = graph.initializer.add()
                held.CopyFrom(part)
                held.name = f"{name}.{'zero' if constants else 'scale'}"
                constants.append(held.name)
            make = onnx.helper.make_node
            nodes.append(make("DequantizeLinear", [made, *constants], [name]))
            nodes.append(make("QuantizeLinear", [name, *constants], [f"{name}.integers"]))
    for value in graph.value_info:
        if value.name in roundings:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


def _roundings(model: onnx.ModelProto) -> dict[str, Rounding]:
    """Of each value that is rounded by constants, per tensor."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    widened = {n.input[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    found = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.output[0] not in widened:
            continue
        if len(node.input) == 3 and all(name in constants for name in node.input[1:]):
            scale, zero = (constants[name] for name in node.input[1:])
            if not scale.dims:
                rounded = widened[node.output[0]].output[0]
                found[node.input[0]] = Rounding(rounded, scale, zero)
    return found
