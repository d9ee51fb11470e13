"""Drop what nothing reads: nodes, initializers and opset imports.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    drop (float[n, c, h, w] x) => (float[n, c, h, w] y)
    <float[1] unread = {1}>
    {
        dead = Relu (x)
        y = Sigmoid (x)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    drop (float[n, c, h, w] x) => (float[n, c, h, w] y)
    {
        y = Sigmoid (x)
    }
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common


def run(model: ir.Model) -> int:
    """Remove unused nodes, initializers and opset imports; returns how many went away."""

    def size() -> int:
        graph = model.graph
        return len(graph) + len(graph.initializers) + len(model.opset_imports)

    before = size()
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    return before - size()
