"""Write on each node of ours which TensorRT plugin it is.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    plugin (float[n, k, h, w] logits) => (int32[n, 1, h, w] selection)
    {
        selection = pagdeploy.PAGGate (logits)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    plugin (float[n, k, h, w] logits) => (int32[n, 1, h, w] selection)
    {
        selection = pagdeploy.PAGGate <plugin_namespace: string = "pagdeploy",
            plugin_version: string = "1"> (logits)
    }

The parser goes by these attributes alone before TensorRT 10.10, and a node that names its namespace
becomes the plugin even where a function of the same name is at hand.
"""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.ops import DOMAIN

PLUGIN_VERSION = "1"


def run(model: ir.Model) -> int:
    """Mark every node of our domain, subgraphs included."""
    count = 0
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == DOMAIN and "plugin_namespace" not in node.attributes:
            node.attributes.add(ir.AttrString("plugin_namespace", DOMAIN))
            node.attributes.add(ir.AttrString("plugin_version", PLUGIN_VERSION))
            count += 1
    return count
