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

Where, not Mul: a NaN or an infinity at an inactive pixel stays unseen.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, is_zero, nodes_of
from pagdeploy.ops import Activation, Mode

_GEOMETRY = ("kernel_shape", "strides", "pads", "dilations", "group")


def run(model: ir.Model) -> int:
    """Lower every PerforatedConv."""
    count = 0
    for node in nodes_of(model, "PerforatedConv"):
        _lower(model, node)
        count += 1
    return count


def _lower(model: ir.Model, node: ir.Node) -> None:
    x, selection, w, b, base = node.inputs
    assert x and selection and w and b and base, "check_model refuses a node without its inputs"
    put = Replacement(model, node)
    branch = np.array(node.attributes.get_int("branch"), np.int32)
    active = put.op("Equal", selection, branch)
    geometry = {name: node.attributes[name].value for name in _GEOMETRY}
    c = put.op("Conv", x, w, b, **geometry)  # (N, Co, Ho, Wo)
    if node.attributes.get_int("mode") == Mode.ADD:
        kept = put.op("Where", active, c, zero_like(put, x))
        total = kept if is_zero(base) else put.op("Add", base, kept)
        put.finish(activate(put, total, node))
    else:
        put.finish(put.op("Where", active, activate(put, c, node), base))


def zero_like(put: Replacement, value: ir.Value) -> ir.Value:
    """A scalar zero of the value's dtype."""
    if value.dtype is not None:
        return put.constant(np.zeros((), value.dtype.numpy()))
    return put.op("CastLike", np.zeros((), np.float32), value)


def activate(put: Replacement, value: ir.Value, node: ir.Node) -> ir.Value:
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
