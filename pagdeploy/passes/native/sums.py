"""A sum, and the activation behind it, as the end of the convolution that makes one operand."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, constant_of
from pagdeploy.ops import Activation, Mode
from pagdeploy.ops.native import CPU_DOMAIN
from pagdeploy.passes.gathering.pixels import Geometry, same

_CONV = "PerforatedConvNhwc"


def absorb(model: ir.Model) -> int:
    """Let convolutions that compute every pixel add what an Add adds; returns how many do.

    The sum is then made while a tile is in the cache, and in place on the other operand if nobody
    else reads that, as a residual block's input: two passes over a map, and a map, are saved.
    """
    count = 0
    position = {node: number for number, node in enumerate(model.graph)}
    for add in list(model.graph):
        made = [value for value in add.inputs if _may_add(add, value)]
        if not made:
            continue
        # Of two, the later one: the nodes stay in their order.
        result = max(made, key=lambda value: position[_producer(value)])
        (base,) = (value for value in add.inputs if value is not result)
        conv, last = _producer(result), _activation_behind(add) or add
        attributes = {name: attribute.value for name, attribute in conv.attributes.items()}
        attributes["mode"] = int(Mode.ADD)
        attributes["activation"] = int(activation_of(last) or Activation.NONE)
        put = Replacement(model, last)
        total = put.op(_CONV, *conv.inputs[:3], base, domain=CPU_DOMAIN, **attributes)
        total.type, total.shape = last.outputs[0].type, last.outputs[0].shape
        put.finish(total)
        position[_producer(total)] = position[last]
        for node in (add, conv):
            if node.graph is not None:  # the last one was replaced
                model.graph.remove(node, safe=True)
        count += 1
    return count


def activation_of(node: ir.Node) -> Activation | None:
    """The activation that a node is, if the op has it."""
    if node.domain:
        return None
    if node.op_type == "Relu":
        return Activation.RELU
    if node.op_type == "Clip" and len(node.inputs) == 3:
        low, high = (constant_of(operand) for operand in node.inputs[1:])
        if low is not None and high is not None and (low.item(), high.item()) == (0, 6):
            return Activation.RELU6
    return None


def _may_add(add: ir.Node, value: ir.Value | None) -> bool:
    """Whether an operand of an Add is made for it alone, by a convolution that could add."""
    if add.op_type != "Add" or add.domain or value is None or not _is_read_once(value):
        return False
    conv = value.producer()
    if conv is None or conv.op_type != _CONV or conv.domain != CPU_DOMAIN:
        return False
    only_multiplies = (
        len(conv.inputs) == 4
        and conv.attributes.get_int("mode") == Mode.REPLACE
        and conv.attributes.get_int("activation") == Activation.NONE
    )
    # Another shape would be broadcast.
    one, other = (_shape_of(operand) for operand in add.inputs)
    return only_multiplies and one is not None and other is not None and same(one, other)


def _shape_of(value: ir.Value | None) -> Sequence[int | ir.SymbolicDim] | None:
    """The shape of a map, channels last.

    Found where the map is made: shape inference gives the height and width of each Conv's result
    names of their own, also where a convolution keeps them.
    """
    channels = None
    node = None if value is None else value.producer()
    while node is not None and node.op_type == _CONV and node.domain == CPU_DOMAIN:
        geometry, weight = Geometry.of(node), constant_of(node.inputs[1])
        assert weight is not None, "only constant weights are lowered"
        if geometry.strides != (1, 1) or geometry.grown(0) or geometry.grown(1):
            break
        channels = weight.shape[0] if channels is None else channels
        value = node.inputs[0]
        node = None if value is None else value.producer()
    if value is None or value.shape is None or len(value.shape) != 4:
        return None
    return (*value.shape[:3], value.shape[3] if channels is None else channels)


def _activation_behind(add: ir.Node) -> ir.Node | None:
    """The activation that alone reads a sum."""
    (total,) = add.outputs
    if not _is_read_once(total):
        return None
    (use,) = total.uses()
    is_one = not use.node.domain and use.idx == 0 and activation_of(use.node) is not None
    return use.node if is_one and use.node.graph is add.graph else None


def _is_read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def _producer(value: ir.Value | None) -> ir.Node:
    node = None if value is None else value.producer()
    assert node is not None, "a node makes it"
    return node
