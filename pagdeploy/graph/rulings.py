"""Which convolutions each gate rules, and for which of its branches they compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.masks import Decision, Masks, Origin
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.ops import DOMAIN

if TYPE_CHECKING:
    import onnx

# What is larger where each operand is larger, or where the first one is.
_RISING = frozenset({"Add", "And", "Cast", "Identity", "Max", "Min", "Mul", "Or", "Sum"})
_RISING_IN_FIRST = frozenset(
    "AveragePool Clip MaxPool Pad Relu Reshape Resize Slice Squeeze Unsqueeze".split()
)
_WEIGHTED = frozenset({"Conv", "ConvTranspose"})
_LARGER = frozenset({"Greater", "GreaterOrEqual"})
_SMALLER = frozenset({"Less", "LessOrEqual"})


@dataclass(frozen=True)
class Ruling:
    """A PerforatedConv that a gate rules.

    Attributes:
        node: The convolution.
        branches: Of the gate, for which it computes; None if that cannot be said in general.
        derived: Whether a mask made of the gate's stands in between: dilated, resized or joined
            with others.
    """

    node: ir.Node
    branches: frozenset[int] | None
    derived: bool


def rulings_of(model: ir.Model) -> dict[ir.Node, list[Ruling]]:
    """For every gate of the main graph the convolutions that it rules, in order.

    Args:
        model: In our ops, its shapes inferred.
    """
    masks = Masks(model, ShapeBook(model))
    gates = [n for n in model.graph if n.domain == DOMAIN and n.op_type == "PAGGate"]
    found: dict[ir.Node, list[Ruling]] = {gate: [] for gate in gates}
    for node in model.graph:
        if node.domain != DOMAIN or node.op_type != "PerforatedConv":
            continue
        table = masks.pixel_mask(node.inputs[1])
        if table is None:
            continue
        decision = table.decisions[0]
        active = table.rows[0] == node.attributes.get_int("branch")
        for gate in gates:
            selection = gate.outputs[0]
            if decision.origin is Origin.GATE and decision.value is selection:
                found[gate].append(Ruling(node, _where(active), derived=False))
            elif decision.origin is Origin.DERIVED and _is_behind(masks, decision, selection):
                # Its two values, in order: a mask that is set is the larger one.
                high = bool(active[np.argmax(table.rows[0])])
                walk = _Walk(masks, selection)
                rising = bool(table.rows[0, -1] >= table.rows[0, 0])
                branches = walk.branches(decision.value, high=high == rising)
                found[gate].append(Ruling(node, branches, derived=True))
    return found


def computing_branches(model: onnx.ModelProto) -> dict[str, list[int]]:
    """For each selection of the main graph the branches for which a convolution computes."""
    import onnx

    from pagdeploy.ops.derive import register_schemas

    register_schemas()  # so that shapes are inferred through our nodes
    module = ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))
    return {
        str(gate.outputs[0].name): sorted(
            frozenset[int]().union(*(ruling.branches or () for ruling in rulings))
        )
        for gate, rulings in rulings_of(module).items()
    }


def _is_behind(masks: Masks, decision: Decision, selection: ir.Value) -> bool:
    return any(source.value is selection for source in masks.behind(decision))


class _Walk:
    """For which branches of one gate a mask made of its decisions tends to be set."""

    def __init__(self, masks: Masks, selection: ir.Value) -> None:
        self._masks, self._selection = masks, selection

    def branches(self, value: ir.Value, *, high: bool) -> frozenset[int] | None:
        """The branches that make a value larger, or smaller; empty if none matters."""
        table = self._masks.table(value)
        decided = () if table is None else table.decisions
        if table is not None and all(each.value is self._selection for each in decided):
            if len(table.rows) != 1 or table.rows.min() == table.rows.max():
                return None
            row = table.rows[0]
            return _where(row == (row.max() if high else row.min()))
        node = value.producer()
        if node is None or node.domain:
            return frozenset()
        if node.op_type == "PAGGate":
            return frozenset()
        union: frozenset[int] = frozenset()
        for operand, direction in self._operands(node):
            if operand is None or not self._depends(operand):
                continue
            if direction == 0:
                return None
            part = self.branches(operand, high=high if direction > 0 else not high)
            if part is None:
                return None
            union |= part
        return union

    def _operands(self, node: ir.Node) -> Iterator[tuple[ir.Value | None, int]]:
        """The operands, and whether the result rises with each (1), falls (-1), or neither (0)."""
        for index, operand in enumerate(node.inputs):
            if node.op_type in _RISING or (node.op_type in _RISING_IN_FIRST and index == 0):
                yield operand, 1
            elif node.op_type in ("Not", "Neg"):
                yield operand, -1
            elif node.op_type in _LARGER or node.op_type == "Sub":
                yield operand, 1 if index == 0 else -1
            elif node.op_type in _SMALLER:
                yield operand, -1 if index == 0 else 1
            elif node.op_type in _WEIGHTED and index == 0:
                weights = constant_of(node.inputs[1])
                positive = weights is not None and bool(np.all(weights >= 0))  # type: ignore[operator]
                yield operand, int(positive)
            else:
                yield operand, 0

    def _depends(self, value: ir.Value) -> bool:
        table = self._masks.table(value)
        pending, seen = [value], set[ir.Value]()
        if table is not None and all(d.origin is Origin.GATE for d in table.decisions):
            return any(d.value is self._selection for d in table.decisions)
        while pending:
            current = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            if current is self._selection:
                return True
            node = current.producer()
            if node is not None and node.op_type not in ("PAGGate", "PerforatedConv", "Shape"):
                pending += [operand for operand in node.inputs if operand is not None]
        return False


def _where(flags: np.ndarray) -> frozenset[int]:
    return frozenset(int(index) for index in np.flatnonzero(flags))
