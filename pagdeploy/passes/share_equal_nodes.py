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

A gate is never merged with another one, even if they decide alike: the verifier finds each by the
name of its selection. Nor is an operator that draws random numbers, nor a DequantizeLinear: when
several read one, onnxruntime copies it for each, and 1.16 forgets the axis of the copy.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from pagdeploy.graph.edit import nodes_of
from pagdeploy.ops import DOMAIN

_KEPT = (("PAGGate", DOMAIN), ("Bernoulli", ""), ("Dropout", ""), ("DequantizeLinear", ""))
_MARK = "pagdeploy_kept"  # an attribute that tells nodes apart while they are compared


def run(model: ir.Model) -> int:
    """Merge equal nodes; returns how many went away."""
    before = len(model.graph)
    kept = [node for key in _KEPT for node in nodes_of(model, *key)]
    for number, node in enumerate(kept):
        node.attributes.add(ir.AttrInt64(_MARK, number))
    common.CommonSubexpressionEliminationPass()(model)
    for node in kept:
        del node.attributes[_MARK]
    return before - len(model.graph)
