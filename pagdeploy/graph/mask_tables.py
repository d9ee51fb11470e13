"""Tables from the branch of a pixel to a value, and what ONNX operators make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.sizes import Sizes, axes_of

Array = npt.NDArray[Any]
D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class PixelTable(Generic[D]):
    """A value that decisions alone determine, pixel by pixel.

    Attributes:
        roles: One letter an axis: n, h and w are the decision's own; c counts the rows; along an
            axis 1 the value does not change, whatever its size.
        decisions: Of each row, (C,).
        rows: The value in channel c where its decision says k, (C, K).
    """

    roles: str
    decisions: tuple[D, ...]
    rows: Array

    @staticmethod
    def of(roles: str, decisions: tuple[D, ...], rows: Array) -> PixelTable[D]:
        """A table in its simplest form: a single row has no axis of channels."""
        single = roles.replace("c", "1") if len(rows) == 1 else roles
        return PixelTable(single, decisions, rows)


def _round(x: Array) -> Array:
    return np.rint(x)


def _divide(x: Array, y: Array) -> Array:
    """ONNX divides whole numbers towards zero."""
    if np.result_type(x, y).kind not in "iu":
        return np.divide(x, y)
    quotient = np.floor_divide(np.abs(x), np.abs(y))
    return quotient * np.sign(x) * np.sign(y)


ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Cast": lambda x: x,
    "Ceil": np.ceil,
    "Clip": lambda x, low=-np.inf, high=np.inf: np.minimum(np.maximum(x, low), high),
    "Div": _divide,
    "Equal": np.equal,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Identity": lambda x: x,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Min": lambda *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Mod": np.mod,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Relu": lambda x: np.maximum(x, 0),
    "Round": _round,
    "Sign": np.sign,
    "Sub": np.subtract,
    "Where": np.where,
    "Xor": np.logical_xor,
}
_KEEPS_TYPE = frozenset(
    {"Abs", "Add", "Ceil", "Clip", "Div", "Floor", "Max", "Min", "Mod", "Mul", "Sub"}
)


def aligned(node: ir.Node, operands: Sequence[PixelTable[D] | Array]) -> PixelTable[D] | None:
    """What an elementwise operator makes of tables over one decision, and of constants.

    Returns:
        None if the decisions differ, or the axes do not fit.
    """
    missing = any(value is None for value in node.inputs)
    if missing and node.op_type != "Clip":
        return None
    like_c: int = node.attributes.get_int("fmod", 0)
    if node.op_type == "Mod" and like_c:
        return None
    tables = [operand for operand in operands if isinstance(operand, PixelTable)]
    rank = max(len(o.roles) if isinstance(o, PixelTable) else o.ndim for o in operands)
    roles = _merged_roles(tables, rank)
    if roles is None:
        return None
    arguments: list[Array] = []
    for operand in operands:
        if isinstance(operand, PixelTable):
            arguments.append(operand.rows)
            continue
        shape = (1,) * (rank - operand.ndim) + operand.shape
        wide = [axis for axis, size in enumerate(shape) if size > 1]
        if len(wide) > 1 or operand.size == 0:
            return None
        if wide and roles[wide[0]] != "c":
            if "c" in roles or roles[wide[0]] != "1":
                return None
            roles = f"{roles[: wide[0]]}c{roles[wide[0] + 1 :]}"
        arguments.append(operand.reshape(-1, 1))
    if missing:  # a Clip without its lower bound
        arguments.insert(1, np.array([[-np.inf]]))
    with np.errstate(all="ignore"):
        try:
            rows = np.asarray(ELEMENTWISE[node.op_type](*arguments))
        except ValueError:  # channels that do not fit each other
            return None
    if node.op_type == "Cast":
        rows = rows.astype(ir.DataType(node.attributes.get_int("to")).numpy())
    elif node.op_type in _KEEPS_TYPE:
        rows = rows.astype(np.asarray(arguments[0]).dtype)
    decisions = _merged_decisions(tables, len(rows))
    return None if decisions is None else PixelTable.of(roles, decisions, rows)


def uniform(array: Array) -> Array | None:
    """The only value of an array, of shape (); None if it has several, or none."""
    if not array.size or array.dtype.itemsize not in (1, 2, 4, 8) or array.dtype.hasobject:
        return None
    first = array.reshape(-1)[:1]
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    return first[0] if bits[0] == bits[-1] and bool(np.all(bits == bits[0])) else None


def _merged_roles(tables: Sequence[PixelTable[D]], rank: int) -> str | None:
    merged = ["1"] * rank
    for table in tables:
        for axis, letter in enumerate(table.roles.rjust(rank, "1")):
            if letter != "1" and merged[axis] not in ("1", letter):
                return None
            merged[axis] = letter if letter != "1" else merged[axis]
    return None if merged.count("c") > 1 else "".join(merged)


def _merged_decisions(tables: Sequence[PixelTable[D]], rows: int) -> tuple[D, ...] | None:
    spread = [t.decisions * rows if len(t.decisions) == 1 else t.decisions for t in tables]
    return spread[0] if all(each == spread[0] for each in spread[1:]) else None


Layout = Callable[[ir.Node, Sequence[Any], "Sizes | None"], "list[PixelTable[Any]] | None"]


def _squeeze(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    """Without axes of one entry, be it of one image, row or column."""
    table = known[0]
    axes = axes_of(node, len(table.roles))
    if not axes or any(table.roles[axis] == "c" for axis in axes):
        return None
    kept = "".join(letter for axis, letter in enumerate(table.roles) if axis not in axes)
    return [PixelTable.of(kept, table.decisions, table.rows)]


def _unsqueeze(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    table = known[0]
    count = len(node.attributes.get_ints("axes", [])) if len(known) < 2 else known[1].size
    axes = axes_of(node, len(table.roles) + count)
    if not axes:
        return None
    letters = iter(table.roles)
    rank = len(table.roles) + count
    roles = "".join("1" if axis in axes else next(letters) for axis in range(rank))
    return [PixelTable.of(roles, table.decisions, table.rows)]


def _transpose(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    table = known[0]
    perm = node.attributes.get_ints("perm", list(range(len(table.roles)))[::-1])
    roles = "".join(table.roles[axis] for axis in perm)
    return [PixelTable.of(roles, table.decisions, table.rows)]


def _expand(_: ir.Node, known: Sequence[Any], sizes: Sizes | None) -> list[PixelTable[D]] | None:
    table = known[0]
    if sizes is None:
        return None
    return [PixelTable.of(table.roles.rjust(len(sizes), "1"), table.decisions, table.rows)]


def _reshape(
    node: ir.Node, known: Sequence[Any], sizes: Sizes | None
) -> list[PixelTable[D]] | None:
    """Decisions per image, which stay in order wherever the only long axis goes."""
    table, target = known[0], constant_of(node.inputs[1])
    long = None
    if target is not None:
        long = [axis for axis, size in enumerate(target) if size != 1]
    elif sizes is not None:
        long = [axis for axis, size in enumerate(sizes) if not size.is_one]
    if long is None or len(long) > 1 or sorted(table.roles.replace("1", "")) != ["n"]:
        return None
    rank = len(target) if target is not None else len(sizes or ())
    images = long[0] if long else 0  # of one image any axis will do
    roles = "".join("n" if axis == images else "1" for axis in range(rank))
    return [PixelTable.of(roles, table.decisions, table.rows)]


def _pick(table: PixelTable[D], channels: Sequence[int], roles: str) -> PixelTable[D]:
    decisions = tuple(table.decisions[c] for c in channels)
    return PixelTable.of(roles, decisions, table.rows[list(channels)])


def _slice(node: ir.Node, known: Sequence[Any], sizes: Sizes | None) -> list[PixelTable[D]] | None:
    table = known[0]
    rest = known[1:]
    if len(rest) < 3 or any(value is None for value in node.inputs):
        return None
    if not all(isinstance(array, np.ndarray) and array.size == 1 for array in rest):
        return None  # a bound that is computed leaves its place among the others empty
    start, end, axis = (int(array.reshape(-1)[0]) for array in rest[:3])
    step = int(rest[3].reshape(-1)[0]) if len(rest) > 3 else 1
    role = table.roles[axis % len(table.roles)]
    if role == "1" and sizes is not None:
        left = sizes[axis % len(table.roles)].expression
        return [table] if isinstance(left, int) and left > 0 else None
    if role != "c":
        return None
    channels = range(len(table.rows))[start:end:step]
    return [_pick(table, channels, table.roles)] if channels else None


def _gather(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    table, indices = known[0], known[1]
    axis = node.attributes.get_int("axis", 0) % len(table.roles)
    if not isinstance(indices, np.ndarray) or indices.ndim > 1 or not indices.size:
        return None
    if table.roles[axis] == "1":
        kept = "1" * indices.ndim
        roles = table.roles[:axis] + kept + table.roles[axis + 1 :]
        return [PixelTable.of(roles, table.decisions, table.rows)]
    if table.roles[axis] != "c":
        return None
    roles = table.roles if indices.ndim else table.roles[:axis] + table.roles[axis + 1 :]
    return [_pick(table, [int(index) for index in indices.reshape(-1)], roles)]


def _tile(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    """Repeated along axes in which nothing changes."""
    table, repeats = known[0], constant_of(node.inputs[1])
    if repeats is None or repeats.size != len(table.roles):
        return None
    whole = all(n == 1 for n, role in zip(repeats.ravel(), table.roles, strict=True) if role != "1")
    return [table] if whole else None


def _split(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    table, parts = known[0], len(node.outputs)
    axis = node.attributes.get_int("axis", 0) % len(table.roles)
    channels = len(table.rows)
    if table.roles[axis] != "c":
        return None
    sizes = [-(-channels // parts)] * (parts - 1)
    sizes = [*sizes, channels - sum(sizes)] if len(known) < 2 else [int(s) for s in known[1]]
    starts = np.cumsum([0, *sizes])
    return [
        _pick(table, range(start, start + size), table.roles)
        for start, size in zip(starts, sizes, strict=False)
    ]


def _concat(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    if not all(isinstance(part, PixelTable) for part in known):
        return None
    axis = node.attributes.get_int("axis") % len(known[0].roles)
    roles = {part.roles[:axis] + "c" + part.roles[axis + 1 :] for part in known}
    fits = all(part.roles[axis] in "c1" and part.roles.count("c") <= 1 for part in known)
    branches = {part.rows.shape[1] for part in known}
    if len(roles) != 1 or not fits or len(branches) != 1 or roles.pop().count("c") != 1:
        return None
    rows = np.concatenate([part.rows for part in known])
    decisions = tuple(decision for part in known for decision in part.decisions)
    letters = known[0].roles
    return [PixelTable.of(f"{letters[:axis]}c{letters[axis + 1 :]}", decisions, rows)]


def _sum(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    table = known[0]
    axes = axes_of(node, len(table.roles))
    if axes != [table.roles.find("c")] or len(set(table.decisions)) != 1:
        return None
    rows = table.rows.sum(0, keepdims=True).astype(table.rows.dtype)
    kept = "1" if node.attributes.get_int("keepdims", 1) else ""
    return [PixelTable.of(table.roles.replace("c", kept), table.decisions[:1], rows)]


def _resize(node: ir.Node, known: Sequence[Any], _: Sizes | None) -> list[PixelTable[D]] | None:
    """One decision an image, repeated."""
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    nearest = node.attributes.get_string("mode", "nearest") == "nearest"
    whole = nearest and mode != "tf_crop_and_resize" and known[0].roles == "n111"
    return [known[0]] if whole else None


LAYOUTS: dict[str, Layout] = {
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "ReduceSum": _sum,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
