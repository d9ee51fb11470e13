"""The parts of a graph that stay float32, whatever the rest is cast to."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from pagdeploy.errors import UsageError
from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.search import search
from pagdeploy.ops import DOMAIN

CONTRACTIONS = frozenset(
    "Conv ConvTranspose Einsum Gemm GRU LSTM MatMul PerforatedConv RNN SegAwareConv".split()
)
"""Where the arithmetic is: sums of products over channels, taps or steps."""

# The deepest released gate head, MultiPool's, has three convolutions. What is deeper is a policy
# network of its own, whose first layers are rounded no worse than the features that others read.
_DEPTH = 3
_COMPARABLE = 200  # characters: how close two names are takes the square of their length


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
        UsageError: a pattern is found nowhere, and the message names what comes close; or the
            search takes too long.
    """
    known = {node: set(names_of(node)) for node in model.graph} if patterns else {}
    names = list(dict.fromkeys(name for own in known.values() for name in own))
    found = search(patterns, names)
    for pattern, matched in zip(patterns, found, strict=True):
        if not matched:
            short = [name for name in names if len(name) <= _COMPARABLE]
            near = difflib.get_close_matches(pattern[:_COMPARABLE], short, n=3, cutoff=0.4)
            raise UsageError(
                f"The pattern {pattern!r} matches no node.",
                remedy=f"Close to it are {', '.join(near)}."
                if near
                else "Nodes go by the names in the ONNX file, of their outputs and weights, too.",
            )
    return {node for node, own in known.items() if any(own & matched for matched in found)}


def names_of(node: ir.Node) -> Iterator[str]:
    """The names that a user may know a node by."""
    weights = [value for value in node.inputs if constant_of(value) is not None]
    for named in (node, *node.outputs, *weights):
        if named is not None and named.name:
            yield named.name
