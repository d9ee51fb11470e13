"""Lower PAGGate to standard ONNX: the argmax of the logits, as int32.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    gate (float[n, k, h, w] logits) => (int32[n, 1, h, w] selection)
    {
        selection = pagdeploy.PAGGate (logits)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    gate (float[n, k, h, w] logits) => (int32[n, 1, h, w] selection)
    {
        index = ArgMax <axis: int = 1, keepdims: int = 1, select_last_index: int = 0> (logits)
        selection = Cast <to: int = 6> (index)
    }
"""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, nodes_of


def run(model: ir.Model) -> int:
    """Lower every gate; the selection keeps its name, by which the verifier finds it."""
    count = 0
    for node in nodes_of(model, "PAGGate"):
        (logits,) = node.inputs
        assert logits is not None, "the checker refuses a gate without logits"
        put = Replacement(model, node)
        index = put.op("ArgMax", logits, axis=1, keepdims=1, select_last_index=0)
        put.finish(put.op("Cast", index, to=int(ir.DataType.INT32)))
        count += 1
    return count
