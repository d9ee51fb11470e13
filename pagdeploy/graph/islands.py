"""The parts of a graph that stay float32, whatever the rest is cast to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from pagdeploy.errors import UsageError
from pagdeploy.graph.edit import constant_of
from pagdeploy.ops import DOMAIN

CONTRACTIONS = frozenset(
    {"Conv", "ConvTranspose", "Einsum", "Gemm", "GRU", "LSTM", "MatMul", "PerforatedConv", "RNN"}
)
"""Where the arithmetic is: sums of products over channels, taps or steps."""

# The deepest released gate head, MultiPool's, has three convolutions. What is deeper is a policy
# network of its own, whose first layers are rounded no worse than the features that others read.
_DEPTH = 3


def gate_heads(model: ir.Model) -> set[ir.Node]:
    """The gates, and what only they read: the nodes between shared features and a hard argmax.

    Whatever computes the logits belongs to it, also if somebody else reads them. Further back, a
    node belongs to it if nothing but heads read it, up to three convolutions deep.
    """
    depths: dict[ir.Node, int] = {}
    for node in reversed(list(model.graph)):
        if _is_gate(node):
            depths[node] = 0
            continue
        readers = [use.node for output in node.outputs for use in output.uses()]
        asked = [reader for reader in readers if reader.op_type != "Shape"]
        inside = [reader for reader in asked if reader in depths]
        makes_logits = any(_is_gate(reader) for reader in inside)
        if not makes_logits and (not inside or len(inside) < len(asked)):
            continue
        depth = max(depths[reader] for reader in inside) + (node.op_type in CONTRACTIONS)
        if makes_logits or depth <= _DEPTH:
            depths[node] = depth
    return set(depths)


def _is_gate(node: ir.Node) -> bool:
    return node.op_type == "PAGGate" and node.domain == DOMAIN


def matching_nodes(model: ir.Model, patterns: Sequence[str]) -> set[ir.Node]:
    """The nodes of the main graph that one of the patterns is found in.

    A pattern is looked for in the name of the node, of its outputs and of its weights: exporters
    number the nodes, and only the weights are named after the user's modules.

    Raises:
        UsageError: a pattern is found nowhere; the message names what comes close.
    """
    found: set[ir.Node] = set()
    for pattern in patterns:
        matched = {
            node for node in model.graph if any(re.search(pattern, name) for name in names_of(node))
        }
        if not matched:
            known = dict.fromkeys(name for node in model.graph for name in names_of(node))
            near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4)
            raise UsageError(
                f"The pattern {pattern!r} matches no node.",
                remedy=f"Close to it are {', '.join(near)}."
                if near
                else "Nodes go by the names in the ONNX file, of their outputs and weights, too.",
            )
        found |= matched
    return found


def names_of(node: ir.Node) -> Iterator[str]:
    """The names that a user may know a node by."""
    weights = [value for value in node.inputs if constant_of(value) is not None]
    for named in (node, *node.outputs, *weights):
        if named is not None and named.name:
            yield named.name
