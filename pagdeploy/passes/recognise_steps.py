"""Make one comparison of what signs, steps and several comparisons of one score say together.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    step (float[n, 1, h, w] g) => (float[n, 1, h, w] m)
    {
        sign = Sign (g)
        m = Relu (sign)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    step (float[n, 1, h, w] g) => (float[n, 1, h, w] m)
    <float zero = {0}>
    {
        above = Greater (g, zero)
        m = Cast <to: int = 1> (above)
    }

A score is below a threshold, equal to it, or above it. What is computed of that alone, with the
graph's own operators, has three values; if the middle one is that of one of its neighbours, a
comparison says the same: `relu(sign(g))`, `heaviside(g, 0)`, `heaviside(g, 1)`,
`ceil((sign(g) + 1) / 2)`. With three different values, such as `sign(g)` itself or
`heaviside(g, 0.5)`, it stays, and also where equality is what decides. What a NaN makes of it is
not kept.

A choice may leave some of the cases as the score itself, until another one replaces them, too:
`p[p < 0.5] = 0; p[p >= 0.5] = 1`, or two `masked_fill`. What is left of a score on one side of its
threshold lies on one side of every number beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, constant_of, drop_dead, explain
from pagdeploy.graph.mask_tables import ELEMENTWISE, PixelTable, aligned, uniform
from pagdeploy.graph.masks import COMPARISONS
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import same_sizes
from pagdeploy.ops.derive import MIN_OPSET

Array = npt.NDArray[Any]
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_CASES = np.array([-1, 0, 1])  # below, equal, above


@dataclass(frozen=True)
class _Score:
    """What is compared with what."""

    value: ir.Value
    threshold: float


@dataclass(frozen=True, eq=False)
class _Replaced:
    """A score of which some of the three cases became numbers.

    Attributes:
        score: What it was.
        numbers: In each case, (3,).
        own: Where it is the score still, and no number, (3,).
    """

    score: _Score
    numbers: Array
    own: npt.NDArray[np.bool_]


def run(model: ir.Model) -> int:
    """Rewrite every step that is no plain comparison yet; returns how many."""
    if model.opset_imports.get("", 1) < MIN_OPSET:
        return 0
    kinds = ("Equal", "Sign", "Where")
    if not any(node.op_type in kinds and not node.domain for node in model.graph):
        return 0  # comparisons of one score alone are masks already
    steps = _Steps(model)
    for node in model.graph:
        if not node.domain and len(node.outputs) == 1:
            steps.visit(node)
    return steps.rewrite()


class _Steps:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._sizes = ShapeBook(model)
        self._tables: dict[ir.Value, PixelTable[_Score]] = {}
        self._replaced: dict[ir.Value, _Replaced] = {}
        self._plain: dict[ir.Value, ir.Value] = {}  # what is made of one comparison, and of which

    def visit(self, node: ir.Node) -> None:
        """Note the three values of what a node makes, if it has three."""
        out = node.outputs[0]
        source = self._source(node)
        if source is not None:
            score, rows = source
            sizes = self._sizes.of(score.value)
            if sizes is not None and same_sizes(sizes, self._sizes.of(out)):
                self._tables[out] = PixelTable("x" * len(sizes), (score,), rows[None])
                replaced = any(v and _unnamed(v) in self._replaced for v in node.inputs)
                if node.op_type in COMPARISONS and not replaced:
                    self._plain[out] = out
            return
        if node.op_type not in ELEMENTWISE or self._chosen(node):
            return
        operands: list[PixelTable[_Score] | Array] = []
        for value in node.inputs:
            known = None if value is None else self._operand(value)
            if known is None:
                return
            operands.append(known)
        tables = [operand for operand in operands if isinstance(operand, PixelTable)]
        if not tables or any(table.decisions != tables[0].decisions for table in tables):
            return
        result = aligned(node, operands)
        if result is None or len(result.rows) != 1:
            return
        self._tables[out] = result
        origins = {self._plain.get(value) for value in node.inputs if value in self._tables}
        origin = origins.pop()
        if not origins and origin is not None:
            self._plain[out] = origin

    def _operand(self, value: ir.Value) -> PixelTable[_Score] | Array | None:
        if value in self._tables:
            return self._tables[value]
        array = constant_of(value)
        number = None if array is None else uniform(array)
        if array is None or number is None:
            return None
        return np.asarray(number).reshape((1,) * array.ndim)

    def _chosen(self, node: ir.Node) -> bool:
        """Note a choice between a score and numbers; whether it was one."""
        condition = self._tables.get(node.inputs[0]) if node.op_type == "Where" else None  # type: ignore[arg-type]
        if condition is None:
            return False
        (score,) = condition.decisions
        out, chosen = node.outputs[0], condition.rows[0].astype(bool)
        sides = [self._cases(value, score) for value in node.inputs[1:]]
        if not same_sizes(self._sizes.of(score.value), self._sizes.of(out)):
            return False
        if any(side is None for side in sides) or out.dtype != score.value.dtype:
            return False
        over, under = (side for side in sides if side is not None)
        numbers = np.where(chosen, over.numbers, under.numbers)
        own = np.where(chosen, over.own, under.own)
        if not (over.own.any() or under.own.any()):
            return False  # as every other operator
        if own.any():
            self._replaced[out] = _Replaced(score, numbers, own)
        else:
            rows = numbers.astype(over.numbers.dtype)[None]
            self._tables[out] = PixelTable(condition.roles, (score,), rows)
        return True

    def _cases(self, value: ir.Value | None, score: _Score) -> _Replaced | None:
        """What a value is in each case of a score: numbers, or the score itself."""
        if value is None:
            return None
        if _unnamed(value) is _unnamed(score.value):
            dtype = np.float32 if value.dtype is None else value.dtype.numpy()
            limits = np.full(3, score.threshold).astype(dtype)
            return _Replaced(score, limits, _CASES != 0)
        if (known := self._replaced.get(_unnamed(value))) is not None:
            return known if known.score == score else None
        operand = self._operand(value)
        if isinstance(operand, PixelTable):
            return (
                _Replaced(score, operand.rows[0], np.zeros(3, bool))
                if operand.decisions == (score,)
                else None
            )
        if operand is None:
            return None
        return _Replaced(score, np.repeat(operand.reshape(-1), 3), np.zeros(3, bool))

    def _source(self, node: ir.Node) -> tuple[_Score, Array] | None:
        """A score, and what is said of each of its three cases."""
        first = node.inputs[0] if node.inputs else None
        if node.op_type == "Sign" and first is not None and first.dtype in _FLOATS:
            return _Score(_unnamed(first), 0.0), _CASES.astype(first.dtype.numpy())
        if node.op_type not in (*COMPARISONS, "Equal") or first is None:
            return None
        second = node.inputs[1]
        swapped = constant_of(first) is not None
        score, other = (second, first) if swapped else (first, second)
        array = constant_of(other)
        threshold = None if array is None else uniform(array)
        if score is None or score.dtype not in _FLOATS or threshold is None:
            return None
        score, limit = _unnamed(score), float(threshold)
        if score in self._tables or not np.isfinite(limit):
            return None
        found, cases = _Score(score, limit), _CASES.astype(np.float64)
        if score in self._replaced:
            found = self._replaced[score].score
            signs = _signs(self._replaced[score], limit)
            if signs is None:
                return None
            cases = signs
        zeros = np.zeros(3)
        sides = (zeros, cases) if swapped else (cases, zeros)
        return found, ELEMENTWISE[node.op_type](*sides)

    def rewrite(self) -> int:
        """Replace what others than steps read; returns how many were replaced."""
        count = 0
        for value, table in list(self._tables.items()):
            uses = [use for use in value.uses() if use.node.op_type != "Shape" or use.node.domain]
            steps = self._tables.keys() | self._replaced.keys()
            kept = all(use.node.outputs[0] in steps for use in uses)
            if value in self._plain or (kept and not value.is_graph_output()):
                continue
            below, equal, above = table.rows[0].tolist()
            if below == above or equal not in (below, above):
                continue
            count += self._replace(value, table, (below, equal, above))
        return count

    def _replace(
        self, value: ir.Value, table: PixelTable[_Score], cases: Sequence[float | bool]
    ) -> bool:
        node, (score,) = value.producer(), table.decisions
        sizes = self._sizes.of(score.value)
        if node is None or value.dtype is None or not same_sizes(sizes, self._sizes.of(value)):
            return False
        below, equal, above = cases
        dtype = value.dtype.numpy()
        put, operands = Replacement(self._model, node), list(node.inputs)
        assert score.value.dtype is not None, "it is a float"
        threshold = np.array(score.threshold, score.value.dtype.numpy())
        over = put.op("Greater" if equal == below else "GreaterOrEqual", score.value, threshold)
        if value.dtype == ir.DataType.BOOL:
            result = over if above else put.op("Not", over)
        elif (below, above) == (0, 1):
            result = put.op("Cast", over, to=int(value.dtype))
        else:
            result = put.op("Where", over, np.array(above, dtype), np.array(below, dtype))
        sign = ">" if equal == below else ">="
        explain(node, f"is a step: {score.value.name!r} {sign} {score.threshold:g}")
        put.finish(result)
        drop_dead(operands)
        return True


def _unnamed(value: ir.Value) -> ir.Value:
    """A value before it was passed on under other names."""
    node = value.producer()
    while node is not None and node.op_type == "Identity" and not node.domain:
        assert node.inputs[0] is not None, "the checker refuses an Identity of nothing"
        value = node.inputs[0]
        node = value.producer()
    return value


def _signs(replaced: _Replaced, limit: float) -> Array | None:
    """How each case compares with a number: -1, 0 or 1; None if the score may lie on both sides."""
    beyond = np.sign(limit - replaced.score.threshold)
    if np.any(replaced.own & (beyond * _CASES > 0)):
        return None
    return np.where(replaced.own, _CASES, np.sign(replaced.numbers.astype(np.float64) - limit))
