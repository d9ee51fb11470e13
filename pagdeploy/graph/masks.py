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

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.mask_operators import (
    axis_of_best,
    fills,
    is_share,
    only_picks,
    roles_of_best,
)
from pagdeploy.graph.mask_roles import derived_roles
from pagdeploy.graph.mask_tables import (
    ELEMENTWISE,
    LAYOUTS,
    Array,
    PixelTable,
    aligned,
    uniform,
)
from pagdeploy.graph.randomness import sources_behind
from pagdeploy.graph.residues import ROUNDED, error_behind, residue_of, stays_a_share
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import ONE, Sizes
from pagdeploy.graph.whole_numbers import Bounds, bounds_behind, bounds_of
from pagdeploy.ops import DOMAIN

COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
ROUNDINGS = ("Ceil", "Floor", "Round")  # of what is between 0 and 1: a comparison
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_MOST_CHANNELS = 256  # of one comparison or choice: beyond, it is an activation, or a code book


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
        drawn: Whether what depends on random numbers may decide, too. No two runs of it agree, so
            that no gate is made of it.
    """

    def __init__(self, model: ir.Model, sizes: ShapeBook, *, drawn: bool = False) -> None:
        self._sizes = sizes
        self._random = {} if drawn else sources_behind(model.graph)
        self._tables: dict[ir.Value, Table] = {}
        self._decided: dict[ir.Value, str] = {}  # roles of what is no table, but needs only masks
        self._behind: dict[ir.Value, set[Decision]] = {}
        self._bounds: dict[ir.Value, Bounds] = {}  # of what is decided, if it is a whole number
        self._errors: dict[ir.Value, float] = {}  # of tables that are right but for rounding
        for node in model.graph:
            if node.domain in ("", DOMAIN) and node.outputs:
                self._visit(node)

    def table(self, value: ir.Value | None) -> Table | None:
        """The table of a value, if it has one."""
        return None if value is None else self._tables.get(value)

    def pixel_mask(self, value: ir.Value | None) -> Table | None:
        """The table of a value that one decision per pixel or image determines, as (N, 1, H, W)."""
        table = self.table(value)
        if table is None or len(table.rows) != 1 or len(table.roles) > 4:
            return None
        roles = table.roles.rjust(4, "1")
        if roles in ("11hw", "1111", "1nhw"):  # the axis of images is gone, or among the channels'
            decided = self._sizes.of(table.decisions[0].value)
            return table if decided is not None and decided[0].is_one else None
        return table if roles in ("n1hw", "n111") else None

    def behind(self, decision: Decision) -> set[Decision]:
        """The decisions that a derived one is made of; of another one, itself."""
        if decision.origin is not Origin.DERIVED:
            return {decision}
        return self._behind[decision.value]

    def scalar(self, value: ir.Value | None) -> Array | None:
        """The number that a value holds everywhere, of shape ()."""
        array = constant_of(value)
        if array is not None:
            return uniform(array)
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
        if any(value in self._errors for value in node.inputs):
            self._visit_rounded(node, known)
            return
        if not tables:
            if any(value in self._decided for value in node.inputs):
                self._derive(node, None)
            elif node.op_type in _SOURCES or node.op_type in COMPARISONS:
                self._start(node)
            return
        if node.op_type in ELEMENTWISE and all(operand is not None for operand in known):
            result = self._aligned(node, known)
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

    def _aligned(self, node: ir.Node, known: Sequence[Table | Array | None]) -> Table | None:
        """What an elementwise operator makes of tables; an array of one value is a number."""
        inputs = [value for value in node.inputs if value is not None]
        read = list(zip(inputs, known, strict=True))
        operands: list[Table | Array] = []
        for _, operand in read:
            assert operand is not None, "all of them are known"
            number = None if isinstance(operand, PixelTable) else uniform(operand)
            if isinstance(operand, PixelTable) or operand.size == 1 or number is None:
                operands.append(operand)
                continue
            for value, table in read:
                if isinstance(table, PixelTable) and not self._reaches(value, table, operand):
                    return None
            operands.append(np.asarray(number).reshape((1,) * operand.ndim))
        return aligned(node, operands)

    def _reaches(self, value: ir.Value, table: Table, array: Array) -> bool:
        """Whether there are as many decisions as an array is wide, so that it repeats none."""
        sizes = self._sizes.of(value)
        for number, letter in enumerate(reversed(table.roles), 1):
            wide = array.shape[-number] if number <= array.ndim else 1
            if letter in "nhw" and wide > 1:
                if sizes is None or sizes[-number].expression != wide:
                    return False
        return True

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
        if node.op_type != "PAGGate" and node.outputs[0] in self._random:
            return
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
        gate = node.op_type == "PAGGate"
        axis = 1 if gate else axis_of_best(node, len(scores))
        number = None if axis is None or axis >= len(scores) else scores[axis].expression
        if axis is None or not isinstance(number, int) or number > _MOST_CHANNELS:
            return
        branches = np.arange(number)
        if gate:
            rows = branches.astype(np.int32)
            self._note(node.outputs[0], (scores[0], ONE, *scores[2:]), rows, Origin.GATE)
            return
        roles = roles_of_best(scores, axis, kept=bool(node.attributes.get_int("keepdims", 1)))
        if roles is not None:
            decision = Decision(node.outputs[-1], Origin.WRITTEN_OUT, number)
            self._tables[decision.value] = PixelTable(roles, (decision,), branches[None])

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
        """(hard - soft) + soft is hard, (hard + soft) - soft nearly so, if soft is a share."""
        found = residue_of(node)
        if found is None:
            return None
        hard, sizes = self.table(found.hard), self._sizes.of(node.outputs[0])
        if hard is None or sizes is None or len(sizes) != len(hard.roles):
            return None
        if not np.isin(hard.rows, (0, 1)).all() or not stays_a_share(found.soft):
            return None
        error = self._errors.get(found.hard, 0.0)
        if error or not found.exact:
            dtype = node.outputs[0].dtype
            if dtype not in ROUNDED or all(self.table(value) for value in node.inputs):
                return None  # tables of one decision are added as they are, rounding and all
            self._errors[node.outputs[0]] = error + ROUNDED[dtype]
        return hard

    def _visit_rounded(self, node: ir.Node, known: Sequence[Table | Array | None]) -> None:
        """Note a table of what a rounded mask is made into, if no step may go the other way.

        Nothing is derived of it: a selection is cast to a whole number, and 1 - 2^-24 becomes 0.
        """
        read = [value for value in node.inputs if value is not None]
        pairs = [(v, o) for v, o in zip(read, known, strict=True) if o is not None]
        made: Sequence[Table] | None = None
        if node.op_type in ELEMENTWISE and len(pairs) == len(read):
            result = self._aligned(node, known)
            made = None if result is None else [result]
        elif self._is_layout(node, known):
            made = LAYOUTS[node.op_type](node, known, self._sizes.of(node.outputs[0]))
        if made is None:
            return
        errors = [self._errors.get(value, 0.0) for value, _ in pairs]
        error = error_behind(node, [operand for _, operand in pairs], errors)
        if np.isnan(error):
            return
        for value, table in zip(node.outputs, made, strict=False):
            self._tables[value] = table
            if error:
                self._errors[value] = error

    def _spread(self, node: ir.Node) -> None:
        """One-hot vectors of an index."""
        scatters = node.op_type == "ScatterElements"
        index = self.table(node.inputs[1 if scatters else 0])
        if index is None or len(index.rows) != 1:
            return
        if scatters:
            off, on = self.scalar(node.inputs[0]), self.scalar(node.inputs[2])
            sizes, places = self._sizes.of(node.inputs[0]), self._sizes.of(node.inputs[1])
            axis = node.attributes.get_int("axis", 0) % len(index.roles)
            depth = None if sizes is None else sizes[axis].expression
            fits = fills(places, sizes, axis) and index.roles[axis] == "1"
            fits = fits and node.attributes.get_string("reduction", "none") == "none"
            roles = f"{index.roles[:axis]}c{index.roles[axis + 1 :]}" if fits else ""
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
        known = {value: self._roles(value) for value in node.inputs if value is not None}
        roles = derived_roles(node, known, self._sizes)
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
            own = () if levels == (0.0, 1.0) else levels
            decision = Decision(out, Origin.DERIVED, 2, levels=own)
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

    def _roles(self, value: ir.Value) -> str | None:
        return self._tables[value].roles if value in self._tables else self._decided.get(value)


_SOURCES = frozenset({"ArgMax", "ArgMin", "Ceil", "Floor", "PAGGate", "Round", "TopK"})
_PICKS = frozenset({"MaxPool", "Reshape", "Resize", "Slice"})
_ROLES = {1: "n", 2: "nc", 3: "nhw", 4: "nchw"}
