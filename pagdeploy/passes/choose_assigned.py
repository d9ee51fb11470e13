"""Choose by a mask, rather than collect the chosen values and put them into a map.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    assigned (float[n, 1, h, w] g, float[n, 1, h, w] f, float[n, 1, h, w] x)
        => (float[n, 1, h, w] y)
    <float zero = {0}>
    {
        chosen = Greater (g, zero)
        numbers = NonZero (chosen)
        places = Transpose <perm: ints = [1, 0]> (numbers)
        values = GatherND (f, places)
        y = ScatterND (x, places, values)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    assigned (float[n, 1, h, w] g, float[n, 1, h, w] f, float[n, 1, h, w] x)
        => (float[n, 1, h, w] y)
    <float zero = {0}>
    {
        chosen = Greater (g, zero)
        y = Where (chosen, f, x)
    }

That is `y[m] = f(x)[m]`, or `y[m] = 0`, of a map of any layout. Both lists of places have to come
from one mask, and both maps have to be of one size. `masked_scatter(m, f(x))` stays: it takes the
first values of f(x), wherever the mask puts them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Operand, Replacement, constant_of, drop_dead, explain
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import Sizes, axes_of, same_sizes
from pagdeploy.ops.derive import MIN_OPSET

_BOOL = frozenset("And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Xor".split())


def run(model: ir.Model) -> int:
    """Rewrite every assignment under a mask of the main graph; returns how many."""
    nodes = [node for node in model.graph if node.op_type == "ScatterND" and not node.domain]
    if model.opset_imports.get("", 1) < MIN_OPSET or not nodes:
        return 0
    return sum(_Assignments(model).rewrite(node) for node in nodes)


@dataclass(frozen=True)
class _Places:
    """Where a mask is set.

    Attributes:
        mask: bool; its axes are the first ones of the map, and it is repeated along those in which
            its size is 1, and along those that it lacks.
        listed: The shape of the mask whose places are listed.
    """

    mask: ir.Value
    listed: Sizes


class _Assignments:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._sizes = ShapeBook(model)

    def rewrite(self, node: ir.Node) -> bool:
        """Whether a node was rewritten."""
        base, indices, updates = node.inputs[:3]
        if node.attributes.get_string("reduction", "none") != "none" or base is None:
            return False
        there, source = self._places(indices), self._source(updates)
        shape = self._sizes.of(base)
        if there is None or source is None or shape is None or not self._covers(there, shape):
            return False
        if isinstance(source, ir.Value):
            gather = source.producer()
            assert gather is not None and gather.inputs[0] is not None, "it is a GatherND"
            taken = self._places(gather.inputs[1])
            same_map = same_sizes(self._sizes.of(gather.inputs[0]), shape)
            if taken is None or taken.mask is not there.mask or not same_map:
                return False
            if not self._covers(taken, shape):
                return False
            source = gather.inputs[0]
        operands = list(node.inputs)
        explain(node, f"assigns where {there.mask.name!r} is set")
        self._replace(node, there.mask, source, base, len(shape))
        drop_dead(operands)
        return True

    def _places(self, indices: ir.Value | None) -> _Places | None:
        """The mask of which an operand lists the set places, (K, rank of the mask)."""
        turned = _producer(indices, "Transpose")
        numbers = _producer(None if turned is None else turned.inputs[0], "NonZero")
        listed = None if numbers is None else numbers.inputs[0]
        sizes = self._sizes.of(listed)
        if turned is None or listed is None or sizes is None:
            return None
        if list(turned.attributes.get_ints("perm", [1, 0])) != [1, 0]:
            return None
        mask = self._narrow(listed, len(sizes))
        return _Places(mask, sizes) if _is_bool(mask) else None

    def _narrow(self, mask: ir.Value, rank: int) -> ir.Value:
        """A mask before it was repeated, and before axes were added behind."""
        node = mask.producer()
        inner = None if node is None or node.domain else node.inputs[0]
        sizes = self._sizes.of(inner)
        if node is None or inner is None or sizes is None:
            return mask
        repeated = node.op_type == "Expand" and len(sizes) == rank
        added = node.op_type == "Unsqueeze" and axes_of(node, rank) == list(range(len(sizes), rank))
        return self._narrow(inner, len(sizes)) if repeated or added else mask

    def _covers(self, places: _Places, shape: Sizes) -> bool:
        """Whether the listed mask says something of every element of a map."""
        front = shape[: len(places.listed)]
        return len(front) == len(places.listed) and same_sizes(places.listed, front)

    def _source(self, updates: ir.Value | None) -> Operand | None:
        """The number that is put everywhere, or what a GatherND takes, in order and complete.

        A ScatterND reads as many values as it has places. So what repeats values on the way has
        repeated none, and what takes the first ones of a vector has taken all.
        """
        value, kinds = updates, set[str]()
        while value is not None:
            array = constant_of(value)
            if array is not None:
                return array.reshape(()) if array.size == 1 else None
            node = value.producer()
            if node is None or node.domain:
                return None
            if node.op_type == "GatherND":
                whole = not node.attributes.get_int("batch_dims", 0)
                return value if whole and kinds != {"Expand", "Slice"} else None
            if node.op_type == "Slice":
                bounds = [constant_of(bound) for bound in (node.inputs[1], *node.inputs[3:])]
                if any(bound is None or bound.size != 1 for bound in bounds):
                    return None
                start, *rest = (int(bound.ravel()[0]) for bound in bounds if bound is not None)
                if start or rest[:1] not in ([], [0]) or rest[1:] not in ([], [1]):
                    return None
                kinds.add("Slice")
            elif node.op_type == "Expand":
                kinds.add("Expand")
            elif node.op_type not in ("Reshape", "Identity", "Flatten"):
                return None
            value = node.inputs[0]
        return None

    def _replace(
        self, node: ir.Node, mask: ir.Value, source: Operand, base: ir.Value, rank: int
    ) -> None:
        """Where, in the layout that the maps had before they were laid out for the assignment."""
        own = self._sizes.of(mask)
        missing = rank - len(own or ())
        perm = self._common_layout(source, base)
        readers = [use.node for use in node.outputs[0].uses()]
        back = None if perm is None else [perm.index(axis) for axis in range(rank)]
        last = node
        if back is not None and len(readers) == 1 and not node.outputs[0].is_graph_output():
            if readers[0].op_type == "Transpose" and not readers[0].domain:
                turned = list(readers[0].attributes.get_ints("perm", []))
                last = readers[0] if turned == back else node
        put = Replacement(self._model, last)
        if missing:
            mask = put.op("Unsqueeze", mask, np.arange(rank - missing, rank))
        if back is None or perm is None:
            put.finish(put.op("Where", mask, source, base))
            return
        if isinstance(source, ir.Value):
            source = _producer(source, "Transpose").inputs[0]  # type: ignore[union-attr,assignment]
        ground = _producer(base, "Transpose").inputs[0]  # type: ignore[union-attr]
        result = put.op("Where", put.op("Transpose", mask, perm=back), source, ground)
        result.type = base.type
        put.finish(result if last is not node else put.op("Transpose", result, perm=perm))
        drop_dead(node.outputs)

    def _common_layout(self, source: Operand, base: ir.Value) -> list[int] | None:
        """How both maps were transposed before; None if they were not, or not alike."""
        nodes = [_producer(base, "Transpose")]
        if isinstance(source, ir.Value):
            nodes.append(_producer(source, "Transpose"))
        perms = [None if n is None else list(n.attributes.get_ints("perm", [])) for n in nodes]
        return perms[0] if perms[0] and all(perm == perms[0] for perm in perms) else None


def _is_bool(value: ir.Value) -> bool:
    """Whether a Where can choose by a value, also if no type was inferred for it."""
    node = value.producer()
    made = node is not None and not node.domain and node.op_type in _BOOL
    return value.dtype == ir.DataType.BOOL or made


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type and not node.domain else None
