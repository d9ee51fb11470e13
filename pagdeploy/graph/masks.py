"""Which values of a graph are masks: tables over the decision of each pixel.

A forward walk finds every value that one decision alone determines, pixel by pixel: the index of a
branch, one-hot vectors and their channels, 0/1 masks of any type, 1 - m. Each is a table from the
branch to the value, computed with the graph's own operators, so that no list of ways to write a
mask is needed. What several decisions, or the neighbours of a pixel, determine is a decision of
its own where it is provably 0 or 1: a dilated or resized mask, the product of two masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.mask_operators import (
    cuts_only_space,
    fills,
    is_share,
    only_picks,
    picks_first_best,
)
from pagdeploy.graph.mask_tables import ELEMENTWISE, LAYOUTS, Array, PixelTable, aligned
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import ONE, Sizes
from pagdeploy.graph.whole_numbers import Bounds, bounds_behind, bounds_of
from pagdeploy.ops import DOMAIN

COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
ROUNDINGS = ("Ceil", "Floor", "Round")  # of what is between 0 and 1: a comparison
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_WINDOWS = frozenset({"AveragePool", "Conv", "ConvTranspose", "MaxPool", "Resize", "Slice"})
_MOST_CHANNELS = 256  # of one comparison: beyond, it is an activation rather than gates


class Origin(Enum):
    """What kind of value decides."""

    GATE = "a PAGGate"
    WRITTEN_OUT = "an argmax or a comparison that may become one"
    DERIVED = "a mask made of other masks"


@dataclass(frozen=True)
class Decision:
    """What chooses among branches.

    Attributes:
        value: The gate's selection; what the argmax or the comparison returns; the derived mask.
        origin: Which of these it is.
        branches: How many there are.
        channel: Of the comparison, which may decide several things at once.
        levels: The value of each branch of a derived mask; empty if branch k has the value k.
    """

    value: ir.Value
    origin: Origin
    branches: int
    channel: int = 0
    levels: tuple[float, ...] = ()


Table = PixelTable[Decision]


class Masks:
    """The tables of the main graph.

    Args:
        model: As it is now.
        sizes: Of the same model.
    """

    def __init__(self, model: ir.Model, sizes: ShapeBook) -> None:
        self._sizes = sizes
        self._tables: dict[ir.Value, Table] = {}
        self._decided: dict[ir.Value, str] = {}  # roles of what is no table, but needs only masks
        self._behind: dict[ir.Value, set[Decision]] = {}
        self._bounds: dict[ir.Value, Bounds] = {}  # of what is decided, if it is a whole number
        for node in model.graph:
            if node.domain in ("", DOMAIN) and node.outputs:
                self._visit(node)

    def table(self, value: ir.Value | None) -> Table | None:
        """The table of a value, if it has one."""
        return None if value is None else self._tables.get(value)

    def pixel_mask(self, value: ir.Value | None) -> Table | None:
        """The table of a value that one decision per pixel or image determines, as (N, 1, H, W)."""
        table = self.table(value)
        if table is None or len(table.rows) != 1:
            return None
        return table if table.roles.rjust(4, "1") in ("n1hw", "n111") else None

    def behind(self, decision: Decision) -> set[Decision]:
        """The decisions that a derived one is made of; of another one, itself."""
        if decision.origin is not Origin.DERIVED:
            return {decision}
        return self._behind[decision.value]

    def scalar(self, value: ir.Value | None) -> Array | None:
        """The number that a value holds everywhere, of shape ()."""
        array = constant_of(value)
        if array is not None:
            return array.reshape(-1)[0] if array.size and np.all(array == array.flat[0]) else None
        node = None if value is None else value.producer()
        if node is None:
            return None
        if node.op_type == "ConstantOfShape":
            tensor = node.attributes.get("value")
            return np.zeros((), np.float32) if tensor is None else tensor.as_tensor().numpy()[0]
        if node.op_type in ("Expand", "Identity"):
            return self.scalar(node.inputs[0])
        return None

    def _visit(self, node: ir.Node) -> None:
        known = [self._operand(value) for value in node.inputs if value is not None]
        tables = [operand for operand in known if isinstance(operand, PixelTable)]
        out = node.outputs[0]
        if (hard := self._straight_through(node)) is not None:
            self._tables[out] = hard
            return
        if not tables:
            if any(value in self._decided for value in node.inputs):
                self._derive(node, None)
            elif node.op_type in _SOURCES or node.op_type in COMPARISONS:
                self._start(node)
            return
        if node.op_type in ELEMENTWISE and all(operand is not None for operand in known):
            result = aligned(node, [operand for operand in known if operand is not None])
            if result is not None:
                self._tables[out] = result
                return
        elif self._is_layout(node, known):
            rearranged = LAYOUTS[node.op_type](node, known, self._sizes.of(out))
            if rearranged is not None:
                for value, table in zip(node.outputs, rearranged, strict=False):
                    self._tables[value] = table
                return
        elif node.op_type in ("ScatterElements", "OneHot"):
            self._spread(node)
            return
        self._derive(node, tables)

    def _is_layout(self, node: ir.Node, known: Sequence[object]) -> bool:
        """Whether a node only rearranges a table, whose entries count as they stand."""
        if node.op_type not in LAYOUTS or not isinstance(known[0], PixelTable):
            return False
        if node.op_type != "Concat":
            return True
        for value, part in zip(node.inputs, known, strict=False):
            if not isinstance(part, PixelTable):
                return False
            axis = node.attributes.get_int("axis") % len(part.roles)
            sizes = self._sizes.of(value)
            # What does not change along an axis may still be repeated along it.
            if part.roles[axis] == "1" and (sizes is None or not sizes[axis].is_one):
                return False
        return True

    def _operand(self, value: ir.Value) -> Table | Array | None:
        """A value as a table or as a constant of its true rank."""
        if value in self._tables:
            return self._tables[value]
        array = constant_of(value)
        if array is not None:
            return array
        number, sizes = self.scalar(value), self._sizes.of(value)
        if number is None or sizes is None:
            return None
        return np.asarray(number).reshape((1,) * len(sizes))

    def _start(self, node: ir.Node) -> None:
        """Note the tables of a decision."""
        if node.op_type in COMPARISONS:
            if node.inputs[0] is not None and node.inputs[0].dtype in _FLOATS:
                value, sizes = node.outputs[0], self._sizes.of(node.outputs[0])
                self._note(value, sizes, np.array([False, True]), Origin.WRITTEN_OUT)
            return
        scores = self._sizes.of(node.inputs[0])
        if scores is None or node.inputs[0] is None:
            return
        if node.op_type != "PAGGate" and node.inputs[0].dtype not in _FLOATS:
            return
        if node.op_type in ROUNDINGS:
            if is_share(node.inputs[0]):
                rows = np.arange(2).astype(np.float32)
                self._note(node.outputs[0], scores, rows, Origin.WRITTEN_OUT)
            return
        if len(scores) not in (2, 4) or not isinstance(scores[1].expression, int):
            return
        branches = np.arange(scores[1].expression)
        if node.op_type == "PAGGate":
            rows = branches.astype(np.int32)
            self._note(node.outputs[0], (scores[0], ONE, *scores[2:]), rows, Origin.GATE)
        elif picks_first_best(node, len(scores)):
            keepdims: int = node.attributes.get_int("keepdims", 1)
            kept = (scores[0], *[ONE] * keepdims, *scores[2:])
            self._note(node.outputs[-1], kept, branches, Origin.WRITTEN_OUT)

    def _note(self, value: ir.Value, sizes: Sizes | None, rows: Array, origin: Origin) -> None:
        roles = _ROLES.get(len(sizes)) if sizes is not None else None
        if sizes is None or roles is None:
            return
        if len(sizes) == 4 and sizes[2].is_one and sizes[3].is_one:
            roles = "nc11"
        channels = sizes[1].expression if "c" in roles else 1
        if not isinstance(channels, int) or channels > _MOST_CHANNELS:
            return
        decisions = tuple(Decision(value, origin, len(rows), c) for c in range(channels))
        self._tables[value] = PixelTable.of(roles, decisions, np.tile(rows, (channels, 1)))

    def _straight_through(self, node: ir.Node) -> Table | None:
        """(hard - soft) + soft and (hard + soft) - soft are hard, but for one rounding."""
        if node.op_type == "Sub":
            total = None if node.inputs[0] is None else node.inputs[0].producer()
            if total is None or total.op_type != "Add" or total.domain:
                return None
            for hard, soft in (total.inputs, total.inputs[::-1]):
                if soft is node.inputs[1] and self.table(soft) is None:
                    return self.table(hard)
            return None
        if node.op_type != "Add":
            return None
        for residue, soft in (node.inputs, node.inputs[::-1]):
            difference = None if residue is None else residue.producer()
            if difference is not None and difference.op_type == "Sub":
                hard, subtracted = difference.inputs
                if subtracted is soft:
                    return self.table(hard)
        return None

    def _spread(self, node: ir.Node) -> None:
        """One-hot vectors of an index."""
        scatters = node.op_type == "ScatterElements"
        index = self.table(node.inputs[1 if scatters else 0])
        if index is None or len(index.rows) != 1:
            return
        if scatters:
            off, on = self.scalar(node.inputs[0]), self.scalar(node.inputs[2])
            sizes, places = self._sizes.of(node.inputs[0]), self._sizes.of(node.inputs[1])
            depth = None if sizes is None or len(sizes) < 2 else sizes[1].expression
            fits = node.attributes.get_int("axis", 0) == 1 and fills(places, sizes)
            fits = fits and node.attributes.get_string("reduction", "none") == "none"
            roles = index.roles[:1] + "c" + index.roles[2:] if fits else ""
        else:
            levels, count = constant_of(node.inputs[2]), constant_of(node.inputs[1])
            off, on = (None, None) if levels is None else (levels[0], levels[1])
            known = self._sizes.number(node.inputs[1])  # the number of scores, from their shape
            depth = known if count is None else int(count.reshape(-1)[0])
            axis = node.attributes.get_int("axis", -1) % (len(index.roles) + 1)
            roles = index.roles[:axis] + "c" + index.roles[axis:]
        if off is None or on is None or not isinstance(depth, int) or not roles:
            return
        hit = np.arange(depth)[:, None] == index.rows.astype(np.int64)  # (K, branches)
        rows = np.where(hit, on, off)
        self._tables[node.outputs[0]] = PixelTable.of(roles, index.decisions * depth, rows)

    def _derive(self, node: ir.Node, tables: Sequence[Table] | None) -> None:
        """Note what needs only masks; if it is provably 0 or 1, it is a decision of its own."""
        out = node.outputs[0]
        data = node.inputs[:1] if node.op_type in _PICKS else node.inputs
        read = [value for value in data if value is not None]
        if any(self._operand(value) is None and value not in self._decided for value in read):
            return
        roles = self._derived_roles(node)
        if roles is None:
            return
        self._decided[out] = roles
        sources: set[Decision] = set()
        for value in read:
            if (table := self.table(value)) is not None:
                sources.update(*(self.behind(decision) for decision in table.decisions))
            elif value in self._decided:
                sources |= self._behind[value]
        self._behind[out] = sources
        levels = self._levels(node, tables)
        if levels is not None:
            dtype = np.float32 if out.dtype is None else out.dtype.numpy()
            known = () if levels == (0.0, 1.0) else levels
            decision = Decision(out, Origin.DERIVED, 2, levels=known)
            self._tables[out] = PixelTable.of(roles, (decision,), np.array([levels]).astype(dtype))

    def _levels(self, node: ir.Node, tables: Sequence[Table] | None) -> tuple[float, float] | None:
        """The two values that what is derived of masks can have, if it is no more than two."""
        out = node.outputs[0]
        if out.dtype == ir.DataType.BOOL:
            return 0.0, 1.0
        if tables and node.op_type in _PICKS:
            values = np.unique(tables[0].rows)
            pair = len(values) == 2 and values.dtype.kind in "iufb" and only_picks(node)
            return (float(values[0]), float(values[1])) if pair else None
        found = bounds_behind(node, [self._bounds_of(value) for value in node.inputs])
        if found is None:
            return None
        self._bounds[out] = found
        return (0.0, 1.0) if found[0] >= 0 and found[1] <= 1 else None

    def _bounds_of(self, value: ir.Value | None) -> Bounds | None:
        if value is None:
            return None
        table = self.table(value)
        return self._bounds.get(value) or bounds_of(
            constant_of(value) if table is None else table.rows
        )

    def _derived_roles(self, node: ir.Node) -> str | None:
        """The axes of what is computed from masks; None if it is not one number per pixel."""
        inputs = [value for value in node.inputs if value is not None]
        roles = [self._roles(value) for value in inputs]
        if node.op_type == "Reshape":
            return self._merged_roles(inputs[0], node.outputs[0], roles[0])
        if node.op_type in _WINDOWS:
            sizes = self._sizes.of(node.outputs[0])
            one_channel = sizes is not None and len(sizes) == 4 and sizes[1].is_one
            whole = node.op_type != "Slice" or cuts_only_space(node)
            return "n1hw" if roles[0] == "n1hw" and one_channel and whole else None
        if node.op_type not in ELEMENTWISE:
            return None
        rank = max(len(r) for r in roles if r is not None)
        merged = ["1"] * rank
        for value, one in zip(inputs, roles, strict=True):
            if one is None:
                array = constant_of(value)
                if array is None or array.size != 1 or array.ndim > rank:
                    return None
                continue
            for axis, letter in enumerate(one.rjust(rank, "1")):
                if letter != "1" and merged[axis] not in ("1", letter):
                    return None
                merged[axis] = letter if letter != "1" else merged[axis]
        return "".join(merged) if "c" not in merged else None

    def _merged_roles(self, value: ir.Value, out: ir.Value, roles: str | None) -> str | None:
        """Rows and columns repeated by an axis of their own, which a Reshape joins to them."""
        before, after = self._sizes.of(value), self._sizes.of(out)
        if roles is None or before is None or after is None or len(after) != 4:
            return None
        if not before[0].same(after[0]) or roles[0] != "n" or len(roles) != len(before):
            return None
        old = [size.expression for size in before[1:]]
        new = [size.expression for size in after[1:]]
        if new[0] != 1 or not all(isinstance(size, int) for size in (*old, *new)):
            return None
        numbers = [int(size) for size in old if isinstance(size, int)]
        for cut in range(1, len(numbers) + 1):
            high, wide = roles[1 : cut + 1].replace("1", ""), roles[cut + 1 :].replace("1", "")
            if prod(numbers[:cut]) == new[1] and (high, wide) == ("h", "w"):
                return "n1hw"
        return None

    def _roles(self, value: ir.Value) -> str | None:
        return self._tables[value].roles if value in self._tables else self._decided.get(value)


_SOURCES = frozenset({"ArgMax", "ArgMin", "Ceil", "Floor", "PAGGate", "Round", "TopK"})
_PICKS = frozenset({"MaxPool", "Reshape", "Resize", "Slice"})
_ROLES = {1: "n", 2: "nc", 3: "nhw", 4: "nchw"}
