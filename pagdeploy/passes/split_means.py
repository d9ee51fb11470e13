"""Take the mean over each channel of a map that came channels last, one axis after the other.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    means (float[n, h, w, c] x) => (float[n, c, 1, 1] y)
    {
        first = Transpose <perm = [0, 3, 1, 2]> (x)
        y = ReduceMean <axes = [2, 3]> (first)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    means (float[n, h, w, c] x) => (float[n, c, 1, 1] y)
    {
        rows = ReduceMean <axes = [2], keepdims = 1> (x)
        last = ReduceMean <axes = [1], keepdims = 1> (rows)
        y = Transpose <perm = [0, 3, 1, 2]> (last)
    }

onnxruntime moves such a Transpose behind the mean by itself, and then takes it over both axes at
once, for which it needs ten times as long and more. All rows are of one width, so that the mean of
their means is the mean. Of 16 bits it would be rounded once more, and stays.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, drop_dead
from pagdeploy.graph.images import is_mean
from pagdeploy.ops.native import CPU_DOMAIN
from pagdeploy.passes.gathering.pixels import FIRST, is_transpose

_AXES_ARE_INPUTS = 18  # from this opset on


def run(model: ir.Model) -> int:
    """Split the means over height and width; returns how many."""
    count = 0
    for node in list(model.graph):
        first = node.inputs[0].producer() if is_mean(node) and node.inputs[0] else None
        if first is not None and _comes_last(first):
            _split(model, node, first)
            count += 1
    return count


def _comes_last(node: ir.Node) -> bool:
    """Whether a node puts the channels of a map first that came channels last."""
    ours = node.domain == CPU_DOMAIN and node.op_type == "ToChannelsFirst"
    return ours or is_transpose(node, FIRST)


def _split(model: ir.Model, node: ir.Node, first: ir.Node) -> None:
    put, (last,), operands = Replacement(model, node), first.inputs, list(node.inputs)
    keeps = node.attributes.get_int("keepdims", 1)
    assert last is not None, "a change of layout has an input"
    mean = last  # (N, H, W, C)
    for axis in (2, 1):
        if model.opset_imports[""] < _AXES_ARE_INPUTS:
            mean = put.op("ReduceMean", mean, axes=[axis], keepdims=keeps)
        else:
            mean = put.op("ReduceMean", mean, np.array([axis], np.int64), keepdims=keeps)
    put.finish(put.op("Transpose", mean, perm=list(FIRST)) if keeps else mean)
    drop_dead(operands)
