"""Strip the function bodies of our ops, which a lowered model or a plugin build no longer needs.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    strip (float[n, k, h, w] logits) => (int32[n, 1, h, w] selection)
    {
        selection = pagdeploy.PAGGate (logits)
    }
    <domain: "pagdeploy", opset_import: ["" : 17]>
    PAGGate (logits) => (selection)
    {
        index = ArgMax <axis: int = 1, keepdims: int = 1> (logits)
        selection = Cast <to: int = 6> (index)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    strip (float[n, k, h, w] logits) => (int32[n, 1, h, w] selection)
    {
        selection = pagdeploy.PAGGate (logits)
    }

A TensorRT parser that finds a body under a plugin's name takes the body, so it must never see one.
"""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.ops import DOMAIN


def run(model: ir.Model) -> int:
    """Remove every function of our domain."""
    ours = [key for key in model.functions if key[0] == DOMAIN]
    for key in ours:
        del model.functions[key]
    return len(ours)
