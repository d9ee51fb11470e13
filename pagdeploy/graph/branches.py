"""What an expression with masks in it says for one branch: 1 * f + 0 * x is f."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Nodes, constant_of
from pagdeploy.graph.masks import Decision, Masks
from pagdeploy.graph.perforate import readers_of
from pagdeploy.ops import Activation


@dataclass(frozen=True)
class Number:
    """The same number everywhere."""

    number: float


@dataclass(frozen=True)
class Is:
    """A value of the graph."""

    value: ir.Value


@dataclass(frozen=True)
class Sum:
    """One term plus another."""

    left: Term
    right: Term


@dataclass(frozen=True)
class Activated:
    """An activation of PerforatedConv behind a term."""

    kind: Activation
    alpha: float
    inner: Term


Term = Number | Is | Sum | Activated
ZERO = Number(0.0)


class Branches:
    """Expressions of the main graph, branch by branch.

    Looks through an operator only if nobody outside of the expression reads what it makes: only
    then does it go away with the expression that it is a part of.
    """

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._inside: dict[ir.Value, frozenset[ir.Value]] = {}

    def inside(self, root: ir.Value) -> frozenset[ir.Value]:
        """The values that only an expression reads, its root aside, and what they are made of."""
        if root not in self._inside:
            self._inside[root] = frozenset(_read_only_by(root))
        return self._inside[root]

    def forget(self) -> None:
        """The graph has changed."""
        self._inside.clear()

    def decisions(self, root: ir.Value) -> list[Decision]:
        """The decisions that choose within an expression, the nearest first."""
        found: dict[Decision, None] = {}
        pending = [root]
        while pending:
            value = pending.pop(0)
            table = self._masks.pixel_mask(value)
            if table is not None:
                found.setdefault(table.decisions[0])
            elif value is root or value in self.inside(root):
                node = value.producer()
                if node is not None and not node.domain and node.op_type in _TRANSPARENT:
                    pending += [operand for operand in node.inputs if operand is not None]
        return list(found)

    def term(self, root: ir.Value, decision: Decision, branch: int) -> Term:
        """What `root` is where `decision` says `branch`; exact for finite values."""
        return self._term(root, decision, branch, root)

    def _term(self, value: ir.Value, decision: Decision, branch: int, root: ir.Value) -> Term:
        table = self._masks.pixel_mask(value)
        if table is not None and table.decisions[0] == decision:
            return Number(float(table.rows[0, branch]))
        if value is not root and value not in self.inside(root):
            return self._leaf(value)
        node = value.producer()
        if node is None or node.domain or node.op_type not in _TRANSPARENT:
            return self._leaf(value)

        def of(index: int) -> Term:
            operand = node.inputs[index]
            assert operand is not None, "the checker refuses a node without operands"
            return self._term(operand, decision, branch, root)

        if node.op_type == "Where":
            condition = of(0)
            return of(1 if condition.number else 2) if isinstance(condition, Number) else Is(value)
        if node.op_type in ("Identity", "Relu", "Clip", "LeakyRelu"):
            inner = of(0)
            activation = activation_of(node)
            if activation is None:
                return inner if node.op_type == "Identity" else Is(value)
            return ZERO if inner == ZERO else Activated(*activation, inner)
        return _combined(node.op_type, of(0), of(1)) or Is(value)

    def _leaf(self, value: ir.Value) -> Term:
        number = self._masks.scalar(value)
        return Is(value) if number is None else Number(float(number))


def _combined(op_type: str, left: Term, right: Term) -> Term | None:
    """A product or sum with a 0 or a 1 in it; None if it does not become simpler."""
    if op_type == "Mul":
        if ZERO in (left, right):
            return ZERO
        one = Number(1.0)
        return right if left == one else left if right == one else None
    if right == ZERO:
        return left
    if op_type == "Sub":
        return None
    if left == ZERO:
        return right
    return None if isinstance(left, Number) or isinstance(right, Number) else Sum(left, right)


def activation_of(node: ir.Node) -> tuple[Activation, float] | None:
    """The activation that a node is, and its slope, if a PerforatedConv can have it."""
    if node.domain:
        return None
    if node.op_type == "Relu":
        return Activation.RELU, 0.0
    if node.op_type == "LeakyRelu":
        return Activation.LEAKY_RELU, node.attributes.get_float("alpha", 0.01)
    if node.op_type == "Clip":
        bounds = [constant_of(value) for value in node.inputs[1:]]
        limits = [None if bound is None else float(bound.reshape(-1)[0]) for bound in bounds]
        return (Activation.RELU6, 0.0) if limits == [0.0, 6.0] else None
    return None


def peeled(term: Term) -> tuple[Activation, float, Term]:
    """A term without its activation."""
    if isinstance(term, Activated):
        return term.kind, term.alpha, term.inner
    return Activation.NONE, 0.0, term


def mentions(term: Term, value: ir.Value) -> bool:
    """Whether a value occurs in a term."""
    if isinstance(term, Sum):
        return mentions(term.left, value) or mentions(term.right, value)
    if isinstance(term, Activated):
        return mentions(term.inner, value)
    return isinstance(term, Is) and term.value is value


def written(put: Nodes, term: Term, dtype: np.dtype) -> ir.Value:
    """Nodes that compute a term; a number becomes one that broadcasts, (1, 1, 1, 1)."""
    if isinstance(term, Is):
        return term.value
    if isinstance(term, Number):
        return put.constant(np.full((1, 1, 1, 1), term.number, dtype))
    if isinstance(term, Sum):
        return put.op("Add", written(put, term.left, dtype), written(put, term.right, dtype))
    inner = written(put, term.inner, dtype)
    if term.kind == Activation.LEAKY_RELU:
        return put.op("LeakyRelu", inner, alpha=term.alpha)
    if term.kind == Activation.RELU6:
        return put.op("Clip", inner, np.zeros((), dtype), np.full((), 6, dtype))
    return put.op("Relu", inner)


def _read_only_by(root: ir.Value) -> set[ir.Value]:
    """The values of which all readers lead to the root alone, through what is transparent."""
    found: set[ir.Value] = set()
    nodes = {root.producer()}
    pending = [value for node in nodes if node is not None for value in node.inputs]
    while pending:
        value = pending.pop()
        if value is None or value in found or value.is_graph_output():
            continue
        readers = readers_of(value)
        if not readers or any(reader not in nodes for reader in readers):
            continue  # its last reader in the expression will bring it up again
        found.add(value)
        node = value.producer()
        if node is not None and not node.domain and node.op_type in _TRANSPARENT:
            nodes.add(node)
            pending += node.inputs
    return found


_TRANSPARENT = frozenset("Add Clip Identity LeakyRelu Mul Relu Sub Where".split())
