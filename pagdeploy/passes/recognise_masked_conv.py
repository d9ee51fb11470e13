"""Make a PerforatedConv of a convolution that a mask lets through.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    masked (float[n, 2, h, w] x, float[n, 2, h, w] logits) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}, int32 branch = {1}, float one = {1}>
    {
        selection = pagdeploy.PAGGate (logits)
        runs = Equal (selection, branch)
        m = Cast <to: int = 1> (runs)
        c = Conv <kernel_shape: ints = [1, 1]> (x, w, b)
        a = Relu (c)
        taken = Mul (m, a)
        rest = Sub (one, m)
        kept = Mul (rest, x)
        y = Add (taken, kept)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    masked (float[n, 2, h, w] x, float[n, 2, h, w] logits) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
    {
        selection = pagdeploy.PAGGate (logits)
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 1, alpha = 0.0> (x, selection, w, b, x)
    }

No list of patterns: an expression of products, choices, sums and activations is evaluated once for
every branch of its decision, with the mask's values put in (`graph.branches`), and the results are
compared.

    branch k: act(conv), every other one: v             -> replace over base v
    one convolution a branch, as in MultiPool           -> a chain of replace over one selection
    branch k: act(v + conv), every other one: act(v)    -> add to base v

That is the same function for finite numbers. A product with 0 is taken for 0, so that a NaN or an
infinity at a pixel that a mask rules out is gone; and a zero may have another sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.branches import (
    ZERO,
    Branches,
    Is,
    Number,
    Sum,
    Term,
    mentions,
    peeled,
    written,
)
from pagdeploy.graph.edit import Replacement, drop_dead, explain, skip
from pagdeploy.graph.mask_reasons import rules_like_a_mask, why_no_mask
from pagdeploy.graph.masks import Decision, Masks, Origin
from pagdeploy.graph.perforate import Perforable, misfit, perforable, readers_of, selection_of
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import same_grid, same_sizes
from pagdeploy.ops import DOMAIN, VERSION, Activation, Mode
from pagdeploy.ops.derive import MIN_OPSET

_ROOTS = frozenset({"Add", "Clip", "LeakyRelu", "Mul", "Relu", "Where"})


def run(model: ir.Model) -> int:
    """Rewrite every masked convolution of the main graph; returns how many."""
    if model.opset_imports.get("", 1) < MIN_OPSET:
        return 0
    recogniser = _Recogniser(model)
    count = sum(
        recogniser.rewrite(node)
        for node in reversed(list(model.graph))  # a larger expression before its parts
        if node.op_type in _ROOTS and not node.domain
    )
    recogniser.tell()
    if count:
        model.opset_imports[DOMAIN] = VERSION
    return count


@dataclass(frozen=True)
class _Step:
    """One convolution of the result, and the branch that it is computed for."""

    conv: Perforable
    branch: int
    mode: Mode
    activation: Activation
    alpha: float


class _Recogniser:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._sizes = ShapeBook(model)
        self._masks = Masks(model, self._sizes)
        self._branches = Branches(self._masks)
        self._refused: dict[ir.Node, str] = {}

    def rewrite(self, node: ir.Node) -> int:
        """Rewrite the expression that ends in a node; returns how many convolutions that were."""
        if node.graph is not self._model.graph:  # it went away with a larger expression
            return 0
        for decision in self._branches.decisions(node.outputs[0]):
            found = self._match(node, decision)
            if isinstance(found, str):
                self._refused[node] = found
            elif found is not None:
                self._replace(node, decision, *found)
                return len(found[0])
        return 0

    def tell(self) -> None:
        """Say why expressions with masks in them are still there."""
        for node, why in self._refused.items():
            if node.graph is self._model.graph:
                skip(node, why)
        for node in self._model.graph:
            if node.op_type in ("Mul", "Where") and not node.domain and node not in self._refused:
                self._tell_of_unknown_mask(node)

    def _tell_of_unknown_mask(self, node: ir.Node) -> None:
        first, *others = node.inputs
        pairs = [(first, other) for other in others]
        if node.op_type == "Mul":
            pairs.append((others[0], first))
        for mask, other in pairs:
            if rules_like_a_mask(mask, other, self._masks, self._sizes):
                assert mask is not None, "it is one"
                skip(node, why_no_mask(mask, self._masks))
                return

    def _match(self, node: ir.Node, decision: Decision) -> tuple[list[_Step], Term] | str | None:
        """The convolutions and the base that an expression consists of; or why it does not."""
        root = node.outputs[0]
        terms = [self._branches.term(root, decision, k) for k in range(decision.branches)]
        if all(term == terms[0] for term in terms):
            return None
        if decision.origin is Origin.WRITTEN_OUT:
            return "its mask is not that of a gate"
        found = self._sum(root, terms) or self._chain(root, terms)
        if isinstance(found, str):
            return found
        steps, base = found
        output = self._sizes.of(steps[0].conv.node.outputs[0])
        if not all(
            same_sizes(self._sizes.of(value), output)
            for value in (root, *(step.conv.node.outputs[0] for step in steps))
        ):
            return "the convolution and the result are not provably of one size"
        if why := misfit(decision, self._sizes, output):
            return why
        if isinstance(base, Is) and not same_sizes(self._sizes.of(base.value), output):
            return "what inactive pixels show is not provably of the result's size"
        if not isinstance(base, Is | Number):
            return "what inactive pixels show is computed from several maps"
        for step in steps:
            behind = [*self._way(step.conv.node.outputs[0], root), root]
            if any(mentions(base, value) for value in behind):
                return "what inactive pixels show depends on the convolution"
        return found

    def _sum(self, root: ir.Value, terms: Sequence[Term]) -> tuple[list[_Step], Term] | None:
        """act(base + conv) in one branch, act(base) in all the others."""
        for branch, term in enumerate(terms):
            others = [other for k, other in enumerate(terms) if k != branch]
            activation, alpha, inner = peeled(term)
            same = (activation, alpha)
            if not isinstance(inner, Sum) or any(other != others[0] for other in others):
                continue
            kind, slope, base = peeled(others[0]) if same[0] else (*same, others[0])
            for left, right in ((inner.left, inner.right), (inner.right, inner.left)):
                conv = self._convolution(root, right)
                if left == base and (kind, slope) == same and isinstance(conv, Perforable):
                    return [_Step(conv, branch, Mode.ADD, activation, alpha)], base
        return None

    def _chain(self, root: ir.Value, terms: Sequence[Term]) -> tuple[list[_Step], Term] | str:
        """act(conv) in some branches, one and the same term in the others."""
        why = "no branch is a single convolution"
        steps: list[_Step] = []
        rest: list[Term] = []
        for branch, term in enumerate(terms):
            activation, alpha, inner = peeled(term)
            conv = self._convolution(root, inner)
            if isinstance(conv, Perforable) and _occurs_once(inner, terms):
                steps.append(_Step(conv, branch, Mode.REPLACE, activation, alpha))
                continue
            if isinstance(conv, str):
                why = conv
            if term not in rest:
                rest.append(term)
        if not steps:
            return why
        if len(rest) > 1:
            return "more than one branch is no single convolution"
        return steps, rest[0] if rest else ZERO

    def _convolution(self, root: ir.Value, term: Term) -> Perforable | str | None:
        """The convolution that a term is, if only this expression reads it; else why not."""
        if not isinstance(term, Is) or term.value is root:
            return None
        node = term.value.producer()
        if node is None or node.domain or node.graph is not self._model.graph:
            return None
        if node.op_type == "ConvTranspose":
            return "a transposed convolution is never perforated"
        if node.op_type != "Conv":
            return None
        if term.value not in self._branches.inside(root):
            return f"the convolution {node.name!r} is read elsewhere, too"
        resized = not same_grid(self._sizes.of(node.inputs[0]), self._sizes.of(term.value))
        if resized and any(_is_measured(value) for value in self._way(term.value, root)):
            return f"the size of the convolution {node.name!r} is read"
        return perforable(node, self._sizes)

    def _way(self, value: ir.Value, root: ir.Value) -> list[ir.Value]:
        """The values from one to the root of its expression, without the root."""
        inside, pending = self._branches.inside(root), [value]
        values: dict[ir.Value, None] = {}
        while pending:
            current = pending.pop()
            if current in inside and current not in values:
                values[current] = None
                pending += [reader.outputs[0] for reader in readers_of(current)]
        return list(values)

    def _replace(
        self, node: ir.Node, decision: Decision, steps: Sequence[_Step], base: Term
    ) -> None:
        for step in steps:
            for value in self._way(step.conv.node.outputs[0], node.outputs[0]):
                step.conv.ask_input_for_size(self._model, value)
        put = Replacement(self._model, node)
        selection = selection_of(put, decision)
        dtype: np.dtype = steps[0].conv.dtype
        y = None if base == ZERO else written(put, base, dtype)
        for step in steps:
            y = step.conv.perforated(
                put, selection, step.branch, y, step.mode, step.activation, step.alpha
            )
            explain(
                step.conv.node,
                f"is masked by {decision.value.name!r}, branch {step.branch}:"
                f" {step.mode.name.lower()}",
            )
        assert y is not None, "there is a step"
        operands = list(node.inputs)
        put.finish(y)
        drop_dead(operands)
        self._branches.forget()


def _is_measured(value: ir.Value) -> bool:
    return len(readers_of(value)) < len(value.uses())


def _occurs_once(inner: Term, terms: Sequence[Term]) -> bool:
    return isinstance(inner, Is) and sum(mentions(term, inner.value) for term in terms) == 1
