"""Changes of layout by the library's own ops, and the activation in front of one as a part of it.

onnxruntime keeps a layout of its own between its convolutions and has one step from that to
channels last and back. Where it can take that step, its Transpose stays.
"""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.graph.edit import Nodes, Replacement, constant_of
from pagdeploy.ops.native import CPU_DOMAIN
from pagdeploy.passes.native.sums import activation_of

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_LEAST_CHANNELS = 16  # a vector of the widest kind: below it most of a tile would be an edge
# What onnxruntime computes in its own layout if all that it reads has that.
_KEEP_LAYOUT = frozenset("Add Clip Concat LeakyRelu MaxPool AveragePool Mul Relu Sigmoid".split())


def last_of(shape: ir.Shape | None) -> ir.Shape | None:
    """The shape of a map, channels last."""
    if shape is None or len(shape) != 4:
        return None
    return ir.Shape([shape[axis] for axis in _TO_LAST])


def channels_last(put: Nodes, value: ir.Value, last: dict[ir.Value, ir.Value]) -> ir.Value:
    """The map channels last: of `last`, or transposed and put there."""
    if value not in last:
        twin = last[value] = put.op("Transpose", value, perm=list(_TO_LAST))
        twin.type, twin.shape = value.type, last_of(value.shape)
    return last[value]


def change(model: ir.Model) -> int:
    """Replace the transposes between channels first and last that pay; returns how many."""
    count, blocked = 0, _blocked(model.graph)
    for node in list(model.graph):
        if node.op_type != "Transpose" or node.domain:
            continue
        perm = tuple(node.attributes.get_ints("perm", ()))
        if perm == _TO_LAST and _is_wide(node, 1) and _may_come_last(node, blocked):
            _to_last(model, node)
        elif perm == _TO_FIRST and _is_wide(node, 3) and _may_come_first(node):
            put = Replacement(model, node)
            put.finish(_typed(put.op("ToChannelsFirst", node.inputs[0], domain=CPU_DOMAIN), node))
        else:
            continue
        count += 1
    return count


def _to_last(model: ir.Model, node: ir.Node) -> None:
    (source,) = node.inputs
    assert source is not None, "a Transpose has an input"
    before = source.producer()
    activation = None if before is None else activation_of(before)
    alone = len(source.uses()) == 1 and not source.is_graph_output()
    put = Replacement(model, node)
    if before is None or activation is None or not alone:
        result = put.op("ToChannelsLast", source, domain=CPU_DOMAIN, activation=0, alpha=0.0)
        put.finish(_typed(result, node))
        return
    result = put.op(
        "ToChannelsLast", before.inputs[0], domain=CPU_DOMAIN,
        activation=int(activation), alpha=0.0,
    )  # fmt: skip
    put.finish(_typed(result, node))
    model.graph.remove(before, safe=True)


def _typed(result: ir.Value, node: ir.Node) -> ir.Value:
    result.type, result.shape = node.outputs[0].type, node.outputs[0].shape
    return result


def _is_wide(node: ir.Node, axis: int) -> bool:
    """Whether a Transpose moves float32 maps of enough channels."""
    (source,) = node.inputs
    if source is None or source.dtype != ir.DataType.FLOAT or source.shape is None:
        return False
    if len(source.shape) != 4:
        return False
    channels = source.shape[axis]
    return isinstance(channels, int) and channels >= _LEAST_CHANNELS


def _may_come_last(node: ir.Node, blocked: set[ir.Value]) -> bool:
    """Whether neither another Transpose nor onnxruntime's own layout is in front."""
    (source,) = node.inputs
    assert source is not None, "a Transpose has an input"
    before = source.producer()
    turned = before is not None and before.op_type == "Transpose" and not before.domain
    return source not in blocked and not turned


def _may_come_first(node: ir.Node) -> bool:
    """Whether no reader is another Transpose, nor a convolution of onnxruntime's."""
    readers = [use.node for use in node.outputs[0].uses()]
    return not any(r.op_type in ("Conv", "Transpose") and not r.domain for r in readers)


def _blocked(graph: ir.Graph) -> set[ir.Value]:
    """The values that onnxruntime holds in its own layout."""
    found: set[ir.Value] = set()
    for node in graph:
        if node.domain:
            continue
        maps = [value for value in node.inputs if value is not None and constant_of(value) is None]
        keeps = node.op_type in _KEEP_LAYOUT and maps and found.issuperset(maps)
        if node.op_type == "Conv" or keeps:
            found.update(node.outputs)
    return found
