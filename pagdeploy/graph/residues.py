"""The residue of a straight-through estimator: a soft value that is added and taken away again.

For a share p and h of zeros and ones, in floats that round to nearest, ties to even:

    (h - p) + p  is h: 1 - p is below one, where floats lie as close as right below one, so that it
                 is off by half of that distance at most, and 1 - p + p rounds back to one
    (h + p) - p  is 0 for h = 0; for h = 1 it is off by up to half the distance of floats above
                 one, 2^-24 in float32: 1 + p lies where floats are twice as far apart

Of a soft value that may be large or negative neither holds: (1 - 1e8) + 1e8 is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.mask_operators import is_share
from pagdeploy.graph.mask_tables import LAYOUTS, PixelTable, aligned

ROUNDED = {
    ir.DataType.FLOAT: 2.0**-24,
    ir.DataType.FLOAT16: 2.0**-11,
    ir.DataType.BFLOAT16: 2.0**-8,
    ir.DataType.DOUBLE: 2.0**-53,
}
"""How far (h + p) - p is from h at most, by the type that it is computed in."""

_LARGEST = 2.0**-8  # of an error: beyond, a table says too little
_MARGIN = 2.0  # steps must say the same so many errors away
_SMOOTH = frozenset("Abs Add Clip Identity Max Min Neg Relu Sub Where".split())
_STEPS = frozenset("Cast Ceil Floor Greater GreaterOrEqual Less LessOrEqual Round Sign".split())
_SAME_VALUES = frozenset(
    "Expand Flatten Gather GatherElements Identity MaxPool Reshape Slice Split Squeeze Tile"
    " Transpose Unsqueeze".split()
)
_OF_SHARES = frozenset({"Concat", "Max", "Min", "Mul"})
_DEPTH = 16  # operators between a soft value and what makes it a share


@dataclass(frozen=True)
class Residue:
    """What a sum or difference is but for a residue.

    Attributes:
        hard: What stays.
        soft: What is added and taken away.
        exact: Whether the soft value is taken away first.
    """

    hard: ir.Value
    soft: ir.Value
    exact: bool


def residue_of(node: ir.Node) -> Residue | None:
    """(hard - soft) + soft or (hard + soft) - soft, whatever the values are."""
    if node.domain or node.op_type not in ("Add", "Sub"):
        return None
    adds = node.op_type == "Add"
    first, second = node.inputs
    for inner, soft in ((first, second), (second, first)) if adds else ((first, second),):
        before = None if inner is None else inner.producer()
        if before is None or before.domain or soft is None:
            continue
        if before.op_type != ("Sub" if adds else "Add"):
            continue
        left, right = before.inputs
        for hard, other in ((left, right),) if adds else ((left, right), (right, left)):
            if other is soft and hard is not None and hard is not soft:
                return Residue(hard, soft, exact=adds)
    return None


def stays_a_share(value: ir.Value | None, depth: int = _DEPTH) -> bool:
    """Whether a value is provably between 0 and 1, also behind what keeps it there."""
    if value is None or depth == 0:
        return False
    array = constant_of(value)
    if array is not None:
        return array.dtype.kind in "iufb" and bool(np.all((array >= 0) & (array <= 1)))  # type: ignore[operator]
    node = value.producer()
    if node is None or node.domain:
        return False
    if is_share(value) or node.op_type == "Softmax":
        return True
    first = node.inputs[0] if node.inputs else None
    if node.op_type == "Cast":
        return first is not None and (
            first.dtype == ir.DataType.BOOL or stays_a_share(first, depth - 1)
        )
    if node.op_type in _SAME_VALUES:
        return node.outputs[0] is value and stays_a_share(first, depth - 1)
    if node.op_type in _OF_SHARES:
        return all(stays_a_share(each, depth - 1) for each in node.inputs)
    if node.op_type == "Sub":
        return _is_one(first) and stays_a_share(node.inputs[1], depth - 1)
    return node.op_type == "Div" and _is_rest_of_sigmoid(node)


def _is_one(value: ir.Value | None) -> bool:
    array = constant_of(value)
    return array is not None and array.size > 0 and bool(np.all(array == 1))


def _is_rest_of_sigmoid(node: ir.Node) -> bool:
    """1 / (1 + exp(x)), or min(max(x, 0), 6) / 6."""
    above, below = node.inputs
    total = None if below is None else below.producer()
    if _is_one(above) and total is not None and total.op_type == "Add" and not total.domain:
        parts = [None if value is None else value.producer() for value in total.inputs]
        grows = any(part is not None and part.op_type == "Exp" for part in parts)
        return grows and any(_is_one(value) for value in total.inputs)
    clip, limit = None if above is None else above.producer(), constant_of(below)
    if clip is None or clip.op_type != "Clip" or clip.domain or limit is None or limit.size != 1:
        return False
    bounds = [constant_of(bound) for bound in clip.inputs[1:3]]
    known = [float(bound.ravel()[0]) for bound in bounds if bound is not None and bound.size == 1]
    top = float(limit.ravel()[0])
    return len(known) == 2 and 0 <= known[0] <= known[1] <= top and top > 0


Operand = PixelTable[Any] | np.ndarray[Any, Any]


def error_behind(node: ir.Node, operands: Sequence[Operand], errors: Sequence[float]) -> float:
    """How far what an operator makes of rounded tables is from its table at most.

    Args:
        node: The operator.
        operands: Tables and constants.
        errors: Of each operand; 0 of an exact one.

    Returns:
        0 if what it makes is exact, however the operands were rounded: a comparison with a number
        that lies far enough away. NaN if its table does not say what it is.
    """
    sizes = [float(np.abs(_rows(operand).astype(np.float64)).max()) for operand in operands]
    if node.op_type == "Mul":
        left, right = errors
        error = sizes[0] * right + sizes[1] * left + left * right
    elif node.op_type == "ReduceSum":
        error = errors[0] * len(_rows(operands[0]))
    elif node.op_type in _SMOOTH or node.op_type in LAYOUTS:
        error = sum(errors)
    elif node.op_type == "Cast" and ir.DataType(node.attributes.get_int("to")) in ROUNDED:
        dtype = ir.DataType(node.attributes.get_int("to"))
        error = errors[0] + sizes[0] * ROUNDED[dtype]
    else:
        return 0.0 if _steps_alike(node, operands, errors) else float("nan")
    return error if error <= _LARGEST else float("nan")


def _steps_alike(node: ir.Node, operands: Sequence[Operand], errors: Sequence[float]) -> bool:
    """Whether a step makes the same of every value that the operands may have.

    Steps rise or fall, so that the ends of an interval say what lies in between.
    """
    if node.op_type not in _STEPS:
        return False
    if node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.BOOL:
        return False  # neither: it asks for what is exactly zero
    results = []
    for signs in product((0, -1, 1), repeat=len(operands)):
        moved = [
            PixelTable(o.roles, o.decisions, o.rows.astype(np.float64) + sign * _MARGIN * error)
            if isinstance(o, PixelTable) and error
            else o
            for o, sign, error in zip(operands, signs, errors, strict=True)
        ]
        result = aligned(node, moved)
        if result is None:
            return False
        results.append(result.rows)
    return all(np.array_equal(rows, results[0]) for rows in results)


def _rows(operand: Operand) -> np.ndarray[Any, Any]:
    return operand.rows if isinstance(operand, PixelTable) else operand
