"""Choose among branches by Where, or weigh them one by one, rather than in a stack.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    stacked (float[2, 3, 4, 5] x, float[2, 2, 4, 5] logits) => (float[2, 3, 4, 5] y)
    <int64[1] front = {0}, int64[5] full = {1, 2, 3, 4, 5}>
    {
        a = Relu (x)
        a1 = Unsqueeze (a, front)
        x1 = Unsqueeze (x, front)
        stack = Concat <axis: int = 0> (a1, x1)
        index = ArgMax <axis: int = 1> (logits)
        index1 = Unsqueeze (index, front)
        indices = Expand (index1, full)
        taken = GatherElements <axis: int = 0> (stack, indices)
        y = Squeeze (taken, front)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    stacked (float[2, 3, 4, 5] x, float[2, 2, 4, 5] logits) => (float[2, 3, 4, 5] y)
    <int64[1] front = {0}, int64 first = {0}>
    {
        a = Relu (x)
        index = ArgMax <axis: int = 1> (logits)
        index1 = Unsqueeze (index, front)
        flat = Squeeze (index1, front)
        chosen = Equal (flat, first)
        y = Where (chosen, a, x)
    }

A sum over the branches of a stack times one-hot weights, by ReduceSum or Einsum, becomes a sum of
products. All terms but one are zero then, so that their order does not matter. Weights that may
choose several branches stay, and so does an index that no decision is known to make. An Einsum that
sums nothing, such as nchw,nhw->nchw of a map and a mask, becomes a product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, constant_of, drop_dead, explain
from pagdeploy.graph.masks import Masks, Table
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import axes_of
from pagdeploy.ops.derive import MIN_OPSET


def run(model: ir.Model) -> int:
    """Rewrite every stack that a decision chooses from; returns how many."""
    if model.opset_imports.get("", 1) < MIN_OPSET:
        return 0
    kinds = {"GatherElements", "ReduceSum", "Einsum"}
    nodes = [node for node in model.graph if node.op_type in kinds and not node.domain]
    if not nodes:
        return 0
    unstacking = _Unstacking(model)
    return sum(unstacking.rewrite(node) for node in nodes)


class _Unstacking:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._sizes = ShapeBook(model)
        self._masks = Masks(model, self._sizes)

    def rewrite(self, node: ir.Node) -> bool:
        """Whether a node was rewritten."""
        operands = list(node.inputs)
        if self._multiplied(node):
            explain(node, "is a product with a mask")
            return True
        done = {"GatherElements": self._gathered, "ReduceSum": self._summed}.get(
            node.op_type, self._contracted
        )(node)
        if done:
            explain(node, "chooses among branches: each is taken by itself")
            drop_dead(operands)
        return done

    def _stack(self, value: ir.Value | None) -> tuple[int, list[ir.Value]] | None:
        """The axis of the branches and the branches, of a stack."""
        node = None if value is None else value.producer()
        sizes = self._sizes.of(value)
        if node is None or node.op_type != "Concat" or node.domain or sizes is None:
            return None
        axis, branches = node.attributes.get_int("axis") % len(sizes), []
        for part in node.inputs:
            producer = None if part is None else part.producer()
            if producer is None or producer.op_type != "Unsqueeze" or producer.domain:
                return None
            if axes_of(producer, len(sizes)) != [axis] or producer.inputs[0] is None:
                return None
            branches.append(producer.inputs[0])
        return axis, branches

    def _gathered(self, node: ir.Node) -> bool:
        stack, whole, table = self._stack(node.inputs[0]), node.inputs[1], None
        sizes, places = self._sizes.of(node.inputs[0]), self._sizes.of(whole)
        if stack is None or sizes is None or places is None:
            return False
        axis, branches = stack
        table = self._masks.table(whole)
        if node.attributes.get_int("axis", 0) % len(sizes) != axis or table is None:
            return False
        fits = all(
            a.same(b) for n, (a, b) in enumerate(zip(sizes, places, strict=True)) if n != axis
        )
        numbers = table.rows.astype(np.int64)
        inside = bool(np.all((numbers >= 0) & (numbers < len(branches))))
        if len(numbers) != 1 or not fits or not places[axis].is_one or not inside:
            return False
        assert whole is not None, "it has a table"
        index = self._narrow(whole, table)
        last, kept = _last(node, axis, len(sizes), kept=True)
        put = Replacement(self._model, last)
        flat = put.op("Squeeze", index, np.array([axis], np.int64))
        result = branches[-1]
        for number in range(len(branches) - 2, -1, -1):
            dtype = (index.dtype or ir.DataType.INT64).numpy()
            chosen = put.op("Equal", flat, np.array(number, dtype))
            result = put.op("Where", chosen, branches[number], result)
        put.finish(put.op("Unsqueeze", result, np.array([axis], np.int64)) if kept else result)
        drop_dead(node.outputs)
        return True

    def _narrow(self, index: ir.Value, table: Table) -> ir.Value:
        """The index before it was repeated along axes in which it does not change."""
        node = index.producer()
        if node is None or node.op_type not in ("Expand", "Mod"):
            return index
        inner = node.inputs[0]
        known = self._masks.table(inner)
        same = known is not None and known.roles == table.roles
        if inner is None or known is None or not same or not np.array_equal(known.rows, table.rows):
            return index
        return self._narrow(inner, table)

    def _one_hot(self, value: ir.Value | None, axis: int, count: int) -> Table | None:
        """The table of weights of which at most one differs from zero."""
        table = self._masks.table(value)
        if table is None or len(table.roles) <= axis or table.roles[axis] != "c":
            return None
        alone = len(set(table.decisions)) == 1 and len(table.rows) == count
        return table if alone and np.all((table.rows != 0).sum(0) <= 1) else None

    def _summed(self, node: ir.Node) -> bool:
        product = None if node.inputs[0] is None else node.inputs[0].producer()
        if product is None or product.op_type != "Mul" or product.domain:
            return False
        out = self._sizes.of(product.outputs[0])
        for stacked, weights in (product.inputs, product.inputs[::-1]):
            stack, sizes = self._stack(stacked), self._sizes.of(stacked)
            if stack is None or out is None or sizes is None or len(out) != len(sizes):
                continue
            axis, branches = stack
            table = self._one_hot(weights, axis, len(branches))
            if axes_of(node, len(out)) != [axis] or table is None or len(table.roles) != len(out):
                continue
            if not all(
                a.same(b) for n, (a, b) in enumerate(zip(out, sizes, strict=True)) if n != axis
            ):
                continue
            kept = bool(node.attributes.get_int("keepdims", 1))
            last, kept = _last(node, axis, len(sizes), kept=kept)
            put = Replacement(self._model, last)
            terms = [
                put.op("Mul", branch, self._weight(put, weights, axis, number))
                for number, branch in enumerate(branches)
            ]
            total = _sum(put, terms)
            put.finish(put.op("Unsqueeze", total, np.array([axis], np.int64)) if kept else total)
            drop_dead(node.outputs)
            return True
        return False

    def _weight(
        self, put: Replacement, weights: ir.Value | None, axis: int, number: int
    ) -> ir.Value:
        return put.op("Gather", weights, np.array(number, np.int64), axis=axis)

    def _multiplied(self, node: ir.Node) -> bool:
        """Einsum that sums nothing and multiplies by a mask, such as nchw,nhw->nchw."""
        names, out = _equation(node) if node.op_type == "Einsum" else ((), "")
        ordered = all([each for each in out if each in name] == list(name) for name in names)
        whole = set(out) == set("".join(names)) and len(set(out)) == len(out)
        if len(names) != 2 or not ordered or not whole:
            return False
        if not any(self._masks.table(value) for value in node.inputs):
            return False
        put = Replacement(self._model, node)
        left, right = (_spread(put, *each, out) for each in zip(node.inputs, names, strict=True))
        put.finish(put.op("Mul", left, right))
        return True

    def _contracted(self, node: ir.Node) -> bool:
        """Einsum of a stack and weights, such as nkchw,nkhw->nchw."""
        names, out = _equation(node)
        if len(names) != 2:
            return False
        for first, second in ((0, 1), (1, 0)):
            stack = self._stack(node.inputs[first])
            wide, narrow = names[first], names[second]
            if stack is None or len(set(wide)) != len(wide) or len(set(narrow)) != len(narrow):
                continue
            axis, branches = stack
            letter = wide[axis]
            rest = narrow.replace(letter, "")
            if letter not in narrow or wide.replace(letter, "") != out:
                continue
            if [each for each in out if each in rest] != list(rest):
                continue
            where, weights = narrow.index(letter), node.inputs[second]
            if self._one_hot(weights, where, len(branches)) is None:
                continue
            put = Replacement(self._model, node)
            missing = [n for n, each in enumerate(out) if each not in rest]
            terms = []
            for number, branch in enumerate(branches):
                weight = self._weight(put, weights, where, number)
                if missing:
                    weight = put.op("Unsqueeze", weight, np.array(missing, np.int64))
                terms.append(put.op("Mul", branch, weight))
            put.finish(_sum(put, terms))
            return True
        return False


def _equation(node: ir.Node) -> tuple[Sequence[str], str]:
    """The axes of both operands and of the result of an Einsum; none if it is of another kind."""
    equation = node.attributes.get_string("equation").replace(" ", "")
    operands, _, out = equation.partition("->")
    names = operands.split(",")
    return (names, out) if out and len(names) == 2 and "." not in equation else ((), "")


def _spread(put: Replacement, value: ir.Value | None, name: str, out: str) -> ir.Value:
    """An operand of an Einsum with an axis for each of the result's."""
    assert value is not None, "the checker refuses an Einsum of nothing"
    missing = [axis for axis, each in enumerate(out) if each not in name]
    return put.op("Unsqueeze", value, np.array(missing, np.int64)) if missing else value


def _sum(put: Replacement, terms: Sequence[ir.Value]) -> ir.Value:
    result = terms[0]
    for term in terms[1:]:
        result = put.op("Add", result, term)
    return result


def _last(node: ir.Node, axis: int, rank: int, *, kept: bool) -> tuple[ir.Node, bool]:
    """The node to replace, and whether its result has the axis of the one branch.

    Args:
        node: Chooses among the branches.
        axis: Theirs.
        rank: Of the stack.
        kept: Whether the node's result has it; if so, the only reader may remove it.
    """
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    if not kept or output.is_graph_output() or len(readers) != 1:
        return node, kept
    removed = _removes(readers[0], axis, rank)
    return (readers[0], False) if removed else (node, True)


def _removes(node: ir.Node, axis: int, rank: int) -> bool:
    """Whether a node takes the only entry of an axis."""
    if node.domain:
        return False
    if node.op_type == "Squeeze":
        return axes_of(node, rank) == [axis]
    index = constant_of(node.inputs[1]) if node.op_type == "Gather" else None
    along = node.attributes.get_int("axis", 0) % rank == axis
    return along and index is not None and index.ndim == 0
