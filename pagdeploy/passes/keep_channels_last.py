"""Hand feature maps from one gathering region to the next without a change of their layout.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    stage (int32[1] s, float[n, h, w, c] x) => (float[n, h, w, c] z)
    {
        is_dense = Cast <to = 9> (s)
        y = If (is_dense) <
            then_branch = dense () => (float[n, c, h, w] d) {
                first = Transpose <perm = [0, 3, 1, 2]> (x)
                d = Relu (first)
            },
            else_branch = gather () => (float[n, c, h, w] g) {
                r = Relu (x)
                g = Transpose <perm = [0, 3, 1, 2]> (r)
            }
        >
        last = Transpose <perm = [0, 2, 3, 1]> (y)
        z = Abs (last)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    stage (int32[1] s, float[n, h, w, c] x) => (float[n, h, w, c] z)
    {
        is_dense = Cast <to = 9> (s)
        last = If (is_dense) <
            then_branch = dense () => (float[n, h, w, c] e) {
                first = Transpose <perm = [0, 3, 1, 2]> (x)
                d = Relu (first)
                e = Transpose <perm = [0, 2, 3, 1]> (d)
            },
            else_branch = gather () => (float[n, h, w, c] r) { r = Relu (x) }
        >
        z = Abs (last)
    }

Other readers of such a map change its layout themselves, and only if they run: a dense branch, in
its branch. Activations in between are computed channels last, and so is a sum in a branch if one
summand came so. A gate's 1x1 convolution, which makes a few channels of many, becomes a product of
rows, so that only its logits are moved.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, nodes_of, weights_of
from pagdeploy.passes.gathering.pixels import FIRST, LAST, ints, is_transpose
from pagdeploy.passes.gathering.regions import is_elementwise, is_pointwise
from pagdeploy.passes.gathering.rows import Product

_FEW = 4  # times fewer channels than before: then moving the result is cheap


def run(model: ir.Model) -> int:
    """Remove changes of layout; returns how many."""
    for node in [node for node in model.graph if node.op_type == "If"]:
        _hand_over(model.graph, node)
    count, pending = 0, [node for node in model.graph if is_transpose(node, FIRST)]
    while pending:
        count += _keep(model, pending.pop(), pending)
    for node in [node for node in nodes_of(model, "Transpose", "") if is_transpose(node, LAST)]:
        count += _move_up(node)
    return count


def _hand_over(graph: ir.Graph, node: ir.Node) -> None:
    """Let an If give its result channels last, if a branch has it so and somebody wants it so."""
    branches = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    if len(node.outputs) != 1 or not any(_inside(branch) for branch in branches):
        return
    (y,) = node.outputs
    if not _wanted_last(y):
        return
    for branch in branches:
        if inside := _inside(branch):
            moved = branch.outputs[0].producer()
            branch.outputs[0] = inside
            if moved is not None and not moved.outputs[0].uses():
                branch.remove(moved, safe=True)
        else:
            result = branch.outputs[0]
            branch.append(_transpose(result, LAST, f"{result.name}/last"))
            branch.outputs[0] = branch[-1].outputs[0]
    _change_behind(graph, node)


def _wanted_last(value: ir.Value) -> bool:
    """Whether somebody wants a map channels last, perhaps behind activations."""
    return any(
        is_transpose(use.node, LAST)
        or (is_elementwise(use.node) and _wanted_last(use.node.outputs[0]))
        for use in value.uses()
    )


def _change_behind(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """Give a node's readers channels first of what it now makes channels last."""
    (y,) = node.outputs
    first = _transpose(y, FIRST, f"{y.name}/first")
    graph.insert_after(node, first)
    ir.convenience.replace_all_uses_with(y, first.outputs[0], replace_graph_outputs=True)
    first.replace_input_with(0, y)
    result = first.outputs[0]
    result.type, result.shape, result.name = y.type, y.shape, y.name
    y.name = f"{y.name}/last"
    y.shape = None if y.shape is None else ir.Shape([y.shape[axis] for axis in LAST])
    return first


def _inside(branch: ir.Graph) -> ir.Value | None:
    """The branch's result channels last, if that is what it is made of."""
    producer = branch.outputs[0].producer()
    if producer is None or not is_transpose(producer, FIRST):
        return None
    inside = producer.inputs[0]
    maker = None if inside is None else inside.producer()
    return inside if maker is not None and maker.graph is branch else None


def _keep(model: ir.Model, first: ir.Node, pending: list[ir.Node]) -> int:
    """Serve the readers of a map that came channels last; returns how many need no change.

    Args:
        model: Owns it.
        first: Its change of layout.
        pending: Gets those that are still to be looked at.
    """
    (last,), (value,) = first.inputs, first.outputs
    assert last is not None, "a Transpose has an input"
    count, own = 0, dict[ir.Graph, ir.Value]()
    for reader in list(dict.fromkeys(use.node for use in value.uses())):
        (result, *_), graph = reader.outputs, reader.graph
        assert graph is not None, "a reader lies in a graph"
        if is_transpose(reader, LAST) and (not result.is_graph_output() or _may_end(graph, last)):
            if result.is_graph_output():
                last.name, result.name = result.name, last.name
                last.type, last.shape = result.type, result.shape
            ir.convenience.replace_all_uses_with(result, last, replace_graph_outputs=True)
            graph.remove(reader, safe=True)
            count += 1
        elif reader.op_type == "Shape" and (axis := _one_axis(reader)) is not None:
            reader.replace_input_with(0, last)
            place = LAST.index(axis)
            reader.attributes["start"] = ir.AttrInt64("start", place)
            reader.attributes["end"] = ir.AttrInt64("end", place + 1)
        elif is_elementwise(reader) and graph is model.graph and _wanted_last(result):
            reader.replace_input_with(0, last)
            pending.append(_change_behind(graph, reader))
            count += 1
        elif _makes_few(reader) and graph is model.graph:
            _multiply_rows(model, reader, last)
            count += 1
        elif graph is not model.graph:
            if graph not in own:
                transpose = _transpose(last, FIRST, f"{graph.name}/{value.name}")
                graph.insert_before(graph[0], transpose)
                own[graph] = transpose.outputs[0]
            for index, operand in enumerate(reader.inputs):
                if operand is value:
                    reader.replace_input_with(index, own[graph])
    if not value.uses() and not value.is_graph_output():
        model.graph.remove(first, safe=True)
    return count


def _may_end(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether a value may become an output of a graph under another name."""
    node = value.producer()
    return node is not None and node.graph is graph and not value.is_graph_output()


def _move_up(last: ir.Node) -> int:
    """Add channels last if a summand comes so; returns 1 if it is done.

    A dense branch then changes the layout right at its convolutions only, where onnxruntime lays
    out their operands anyway.
    """
    behind = [last]  # the sum
    while (node := _maker(behind[0])) is not None and is_elementwise(node):
        behind.insert(0, node)
    if node is None or node.op_type != "Add" or node.domain:
        return 0
    makers = [None if value is None else value.producer() for value in node.inputs]
    came_last = [is_transpose(maker, FIRST) for maker in makers]
    have_four_axes = [maker is not None and maker.op_type == "Conv" for maker in makers]
    if not any(came_last) or not all(map(any, zip(came_last, have_four_axes, strict=True))):
        return 0
    graph = node.graph
    assert graph is not None, "it lies beside what reads it"
    for index, maker in enumerate(makers):
        assert maker is not None, "a Conv or a Transpose"
        if came_last[index]:
            node.replace_input_with(index, maker.inputs[0])
        else:
            (summand,) = maker.outputs
            transpose = _transpose(summand, LAST, f"{summand.name}/last")
            graph.insert_before(node, transpose)
            node.replace_input_with(index, transpose.outputs[0])
    for moved in (node, *behind[:-1]):
        (value,) = moved.outputs
        value.shape = None if value.shape is None else ir.Shape([value.shape[a] for a in LAST])
    (y,), (result,) = last.outputs, moved.outputs
    ir.convenience.replace_all_uses_with(y, result, replace_graph_outputs=True)
    graph.remove(last, safe=True)
    result.name, y.name = y.name, result.name
    return 1


def _maker(reader: ir.Node) -> ir.Node | None:
    """What makes a node's first operand for this node alone, in its graph."""
    value = reader.inputs[0]
    node = None if value is None else value.producer()
    if value is None or node is None or node.graph is not reader.graph:
        return None
    return node if len(value.uses()) == 1 and not value.is_graph_output() else None


def _one_axis(node: ir.Node) -> int | None:
    """The axis that a Shape reads, if it is one."""
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", 4)
    return start if 0 <= start == end - 1 < 4 else None


def _makes_few(node: ir.Node) -> bool:
    """Whether a node is a 1x1 convolution that leaves few channels."""
    if node.op_type != "Conv" or node.domain or node.attributes.get_int("group", 1) != 1:
        return False
    constants = [weights_of(operand) for operand in node.inputs[1:]]
    weight = constants[0]
    return (
        weight is not None
        and all(constant is not None for constant in constants)
        and is_pointwise(node)
        and _FEW * weight.shape[0] <= weight.shape[1]
    )


def _multiply_rows(model: ir.Model, node: ir.Node, last: ir.Value) -> None:
    put, product = Replacement(model, node), Product.of(node)
    rows = put.op("Reshape", last, ints(-1, product.channels))
    size = put.op("Shape", last, start=0, end=3)
    full = put.op("Concat", size, ints(product.out), axis=0)
    result = put.op("Reshape", product(put, rows), full)  # (N, H, W, Co)
    put.finish(put.op("Transpose", result, perm=list(FIRST)))


def _transpose(value: ir.Value, perm: Sequence[int], name: str) -> ir.Node:
    node = ir.node("Transpose", [value], {"perm": list(perm)}, name=f"{name}/Transpose")
    node.outputs[0].name = name
    return node
