"""Compute equal things once: the mask of a selection, its pixel list, a layout change.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    share (float[n, c, h, w] x) => (float[n, c, h, w] y)
    {
        a = Relu (x)
        b = Relu (x)
        y = Add (a, b)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    share (float[n, c, h, w] x) => (float[n, c, h, w] y)
    {
        a = Relu (x)
        y = Add (a, a)
    }
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common


def run(model: ir.Model) -> int:
    """Merge equal nodes; returns how many went away."""
    before = len(model.graph)
    common.CommonSubexpressionEliminationPass()(model)
    return before - len(model.graph)
