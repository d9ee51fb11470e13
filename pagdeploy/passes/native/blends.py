"""Blends: act(v + conv) where a gate is on and v itself where it is off, as one convolution.

A `PerforatedConv` shows act(v) where it is inactive, which is v only if v has no sign. Authors who
multiply a whole block by its mask, and add the rest times what the block reads, show v whatever its
sign; the library's op can do that, too (`inactive`).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pagdeploy.graph.branches import Branches, Is, Sum, Term, peeled
from pagdeploy.graph.edit import Replacement, drop_dead, is_zero
from pagdeploy.graph.masks import Decision, Masks, Origin
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import same_sizes
from pagdeploy.ops import Activation, Mode
from pagdeploy.passes.native.liveness import is_ours, obstacle

_ROOTS = frozenset({"Add", "Where"})


@dataclass(frozen=True)
class Blend:
    """An expression that a convolution can end with.

    Attributes:
        root: The node that makes its value.
        conv: The PerforatedConv that only it reads.
        base: v.
        activation: Behind the sum.
        alpha: Slope of a leaky relu.
    """

    root: ir.Node
    conv: ir.Node
    base: ir.Value
    activation: Activation
    alpha: float


def blends_of(model: ir.Model) -> list[Blend]:
    """The blends of the main graph that the library computes, the last one first."""
    candidates = [node for node in model.graph if node.op_type in _ROOTS and not node.domain]
    if not any(is_ours(node) for node in model.graph):
        return []
    sizes = ShapeBook(model)
    branches = Branches(Masks(model, sizes))
    found: list[Blend] = []
    taken: set[ir.Node] = set()
    for root in reversed(candidates):
        for decision in branches.decisions(root.outputs[0]):
            blend = _blend(root, decision, branches, sizes)
            if blend is not None and blend.conv not in taken:
                found.append(blend)
                taken.add(blend.conv)
                break
    return found


def fuse(model: ir.Model) -> set[ir.Node]:
    """Make each blend one PerforatedConv; returns those, whose inactive pixels show the base.

    That is not what the op says of them, so they must be lowered at once.
    """
    made: set[ir.Node] = set()
    for blend in blends_of(model):
        conv, root = blend.conv, blend.root
        attributes = {name: attribute.value for name, attribute in conv.attributes.items()}
        attributes |= {
            "mode": int(Mode.ADD), "activation": int(blend.activation), "alpha": blend.alpha,
        }  # fmt: skip
        operands = list(root.inputs)
        put = Replacement(model, root)
        result = put.op(
            "PerforatedConv", *conv.inputs[:4], blend.base, domain=conv.domain, **attributes
        )
        result.type, result.shape = root.outputs[0].type, root.outputs[0].shape
        node = result.producer()
        assert node is not None, "a node was just made"
        node.name = conv.name
        put.finish(result)
        drop_dead(operands)
        made.add(node)
    return made


def _blend(root: ir.Node, decision: Decision, branches: Branches, sizes: ShapeBook) -> Blend | None:
    if decision.origin is not Origin.GATE:
        return None
    value = root.outputs[0]
    terms = [branches.term(value, decision, k) for k in range(decision.branches)]
    for branch, term in enumerate(terms):
        others = [other for k, other in enumerate(terms) if k != branch]
        activation, alpha, inner = peeled(term)
        base = others[0]
        if not isinstance(inner, Sum) or not isinstance(base, Is):
            continue
        if any(other != base for other in others):
            continue
        for left, right in ((inner.left, inner.right), (inner.right, inner.left)):
            conv = _convolution(right, decision, branch)
            if left != base or conv is None or conv.outputs[0] not in branches.inside(value):
                continue
            given = [sizes.of(each) for each in (value, base.value, conv.outputs[0])]
            if all(same_sizes(given[0], size) for size in given[1:]):
                return Blend(root, conv, base.value, activation, alpha)
    return None


def _convolution(term: Term, decision: Decision, branch: int) -> ir.Node | None:
    """The bare convolution that a term is, computed for that branch of the decision alone."""
    node = term.value.producer() if isinstance(term, Is) else None
    if node is None or not is_ours(node) or obstacle(node, 2, 3):
        return None
    bare = (
        node.attributes.get_int("mode") == Mode.REPLACE
        and node.attributes.get_int("activation") == Activation.NONE
        and is_zero(node.inputs[4])
    )
    ruled = node.attributes.get_int("branch") == branch and _is_of(node.inputs[1], decision)
    return node if bare and ruled else None


def _is_of(selection: ir.Value | None, decision: Decision) -> bool:
    """Whether a selection is a decision, or repeats one for every pixel."""
    node = None if selection is None else selection.producer()
    if node is not None and node.op_type == "Expand" and not node.domain:
        selection = node.inputs[0]
    return selection is decision.value
