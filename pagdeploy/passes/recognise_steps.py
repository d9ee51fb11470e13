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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, constant_of, drop_dead, explain
from pagdeploy.graph.mask_tables import ELEMENTWISE, PixelTable, aligned
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


def run(model: ir.Model) -> int:
    """Rewrite every step that is no plain comparison yet; returns how many."""
    if model.opset_imports.get("", 1) < MIN_OPSET:
        return 0
    if not any(node.op_type in ("Sign", "Equal") and not node.domain for node in model.graph):
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
        self._plain: set[ir.Value] = set()  # made of one comparison

    def visit(self, node: ir.Node) -> None:
        """Note the three values of what a node makes, if it has three."""
        out = node.outputs[0]
        source = self._source(node)
        if source is not None:
            score, rows = source
            sizes = self._sizes.of(score.value)
            if sizes is not None and same_sizes(sizes, self._sizes.of(out)):
                self._tables[out] = PixelTable("x" * len(sizes), (score,), rows[None])
                if node.op_type in COMPARISONS:
                    self._plain.add(out)
            return
        if node.op_type not in ELEMENTWISE:
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
        read = [value for value in node.inputs if value in self._tables]
        if len(read) == 1 and read[0] in self._plain:
            self._plain.add(out)

    def _operand(self, value: ir.Value) -> PixelTable[_Score] | Array | None:
        if value in self._tables:
            return self._tables[value]
        array = constant_of(value)
        return array if array is not None and array.size == 1 else None

    def _source(self, node: ir.Node) -> tuple[_Score, Array] | None:
        """A score, and what is said of each of its three cases."""
        first = node.inputs[0] if node.inputs else None
        if node.op_type == "Sign" and first is not None and first.dtype in _FLOATS:
            return _Score(first, 0.0), _CASES.astype(first.dtype.numpy())
        if node.op_type not in (*COMPARISONS, "Equal") or first is None:
            return None
        second = node.inputs[1]
        swapped = constant_of(first) is not None
        score, other = (second, first) if swapped else (first, second)
        threshold = constant_of(other)
        if score is None or score.dtype not in _FLOATS or threshold is None or threshold.size != 1:
            return None
        limit = float(threshold.ravel()[0])
        if score in self._tables or not np.isfinite(limit):
            return None
        zeros = np.zeros(3)
        sides = (zeros, _CASES) if swapped else (_CASES, zeros)
        return _Score(score, limit), ELEMENTWISE[node.op_type](*sides)

    def rewrite(self) -> int:
        """Replace what others than steps read; returns how many were replaced."""
        count = 0
        for value, table in list(self._tables.items()):
            uses = [use for use in value.uses() if use.node.op_type != "Shape" or use.node.domain]
            kept = all(use.node.outputs[0] in self._tables for use in uses)
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
