"""Lower PerforatedConv to a dense convolution and a choice: what every runtime understands.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    dense (float[n, 1, h, w] x, int32[n, 1, h, w] s, float[n, 2, h, w] base)
        => (float[n, 2, h, w] y)
    <float[2, 1, 1, 1] w = {1, 2}, float[2] b = {3, 4}>
    {
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 1, alpha = 0.0> (x, s, w, b, base)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    dense (float[n, 1, h, w] x, int32[n, 1, h, w] s, float[n, 2, h, w] base)
        => (float[n, 2, h, w] y)
    <float[2, 1, 1, 1] w = {1, 2}, float[2] b = {3, 4}, int32 branch = {1}>
    {
        active = Equal (s, branch)
        c = Conv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
            dilations = [1, 1], group = 1> (x, w, b)
        a = Relu (c)
        y = Where (active, a, base)
    }

Where, not Mul: a NaN or an infinity at an inactive pixel stays unseen. Where nobody reads inactive
pixels (`passes.infer_perforation`), there is nothing to choose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.choice import record
from pagdeploy.graph.edit import Nodes, Operand, Replacement, is_zero, nodes_of
from pagdeploy.graph.perforate import UNREAD
from pagdeploy.ops import Activation, Mode

_GEOMETRY = ("kernel_shape", "strides", "pads", "dilations", "group")


def run(model: ir.Model) -> int:
    """Lower every PerforatedConv."""
    count = 0
    for node in nodes_of(model, "PerforatedConv"):
        put = Replacement(model, node)
        put.finish(compute(put, node, node.inputs))
        record(model, node, "dense")
        count += 1
    return count


def compute(
    put: Nodes, node: ir.Node, operands: Sequence[Operand | None], *, masked: bool = True
) -> ir.Value:
    """What a PerforatedConv says of these operands, computed at every pixel.

    Args:
        put: Where nodes go.
        node: The convolution.
        operands: In place of its own.
        masked: False where every pixel counts as active.
    """
    x, selection, w, b, base = operands
    geometry = {name: node.attributes[name].value for name in _GEOMETRY}
    c = put.op("Conv", x, w, b, **geometry)  # (N, Co, Ho, Wo)
    if node.attributes.get_int("mode") == Mode.REPLACE:
        c = activate(put, c, node)
        seen = masked and UNREAD not in node.metadata_props
        return choose_active(put, node, selection, c, base) if seen else c
    if masked:
        c = choose_active(put, node, selection, c, zero_like(put, node.inputs[0]))
    return activate(put, c if is_zero(node.inputs[4]) else put.op("Add", base, c), node)


def choose_active(
    put: Nodes,
    node: ir.Node,
    selection: Operand | None,
    active: ir.Value,
    otherwise: Operand | None,
) -> ir.Value:
    """One value at the active pixels of a PerforatedConv, and another one elsewhere."""
    branch = np.array(node.attributes.get_int("branch"), np.int32)
    return put.op("Where", put.op("Equal", selection, branch), active, otherwise)


def zero_like(put: Nodes, value: ir.Value | None) -> ir.Value:
    """A scalar zero of the value's dtype."""
    assert value is not None, "check_model refuses a node without its inputs"
    if value.dtype is not None:
        return put.constant(np.zeros((), value.dtype.numpy()))
    return put.op("CastLike", np.zeros((), np.float32), value)


def activate(put: Nodes, value: ir.Value, node: ir.Node) -> ir.Value:
    """The activation that a PerforatedConv's attributes name."""
    activation = node.attributes.get_int("activation")
    if activation == Activation.NONE:
        return value
    if activation == Activation.RELU:
        return put.op("Relu", value)
    if activation == Activation.RELU6:
        x = node.inputs[0]
        if x is None or x.dtype is None:
            low, high = (put.op("CastLike", np.full((), v, np.float32), value) for v in (0, 6))
            return put.op("Clip", value, low, high)
        dtype = x.dtype.numpy()  # values made by a pass do not know theirs
        return put.op("Clip", value, np.zeros((), dtype), np.full((), 6, dtype))
    return put.op("LeakyRelu", value, alpha=node.attributes.get_float("alpha"))
