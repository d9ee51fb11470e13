"""Attaching function bodies: what makes one file that every stock runtime runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagdeploy.ops import DOMAIN, OPS
from pagdeploy.ops.derive import function_body

if TYPE_CHECKING:
    import onnx


def attach_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the body of every op of ours that the model uses, at the model's own opset.

    Bodies that the model already has are replaced by the op table's: a model whose bodies say
    something else is not a reference.

    Args:
        model: With every attribute and input of our nodes written out.

    Raises:
        IncompatibleArtifact: the model's opset is older than the bodies are written for.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    others = [function for function in model.functions if function.domain != DOMAIN]
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    used = _ops_used(model.graph)
    del copy.functions[:]
    copy.functions.extend(others)
    copy.functions.extend(function_body(op, opset) for op in OPS.values() if op.name in used)
    return copy


def _ops_used(graph: onnx.GraphProto) -> set[str]:
    used = {node.op_type for node in graph.node if node.domain == DOMAIN}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                used |= _ops_used(attribute.g)
            for inner in attribute.graphs:
                used |= _ops_used(inner)
    return used
