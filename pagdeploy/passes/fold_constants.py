"""Compute what does not depend on the inputs, and remove what only passes values on.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    folded (float[n, 1, h, w] x) => (float[n, 2, h, w] y)
    <float[2, 1, 1, 1] w = {1, 2}, float zero = {0}, int64[1] first = {0},
     int64[1] last = {9223372036854775807}>
    {
        channels = Shape <start: int = 0, end: int = 1> (w)
        like = Cast <to: int = 1> (zero)
        bias = Expand (like, channels)
        same = Identity (x)
        c = Conv <kernel_shape = [1, 1]> (same, w, bias)
        t = GreaterOrEqual (c, zero)
        m = CastLike (t, x)
        all = Slice (m, first, last)
        y = Mul (c, all)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    folded (float[n, 1, h, w] x) => (float[n, 2, h, w] y)
    <float[2, 1, 1, 1] w = {1, 2}, float zero = {0}, float[2] bias = {0, 0}>
    {
        c = Conv <kernel_shape = [1, 1]> (x, w, bias)
        t = GreaterOrEqual (c, zero)
        m = Cast <to: int = 1> (t)
        y = Mul (c, m)
    }

Exporters leave it to others to do that: PyTorch's makes the zero bias of every convolution, and the
kernels that dilate a mask, from a chain of operators. Only operators whose results are the same
to the last bit wherever they are computed are computed here, and only those whose results cannot
be large. A map that one number fills stays as it is made, which says more than the map would.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, constant_of, drop_dead, initializer
from pagdeploy.ops import DOMAIN

Array = npt.NDArray[Any]
_ELEMENTWISE = frozenset(
    "Abs Add And Cast Ceil Div Equal Floor Greater GreaterOrEqual Less LessOrEqual Max Min Mul Neg"
    " Not Or Sub Where Xor".split()
)
_FILLS = frozenset({"ConstantOfShape", "Expand", "Tile"})
# The reference evaluator takes their indices one by one.
_INDEXED = frozenset({"GatherElements", "GatherND", "ScatterElements", "ScatterND"})
_MOVES = frozenset(
    "Concat Flatten Gather Range Reshape Slice Split Squeeze Transpose Unsqueeze".split()
)
_FOLDED = _ELEMENTWISE | _FILLS | _INDEXED | _MOVES
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_READ_AS_NUMBERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu"})

_TO_THE_END = 2**31 - 1  # no axis is as long
_MOST_ELEMENTS = 2**16  # of one result, unless an operand has as many
_MOST_IN_ALL = 2**22  # of all results, besides twice those of the model's own constants
_MOST_INDICES = 2**12


def run(model: ir.Model) -> int:
    """Fold what is constant in the main graph; returns how many nodes went away or changed."""
    changed = _without_detours(model)
    folding = _Folding(model)
    for node in model.graph:
        folding.visit(node)
    changed += folding.finish()
    return changed + _without_detours(model)  # of which there are more, now that bounds are known


def _without_detours(model: ir.Model) -> int:
    """Remove what changes nothing, and write a CastLike as a Cast where the type is known."""
    count = 0
    for node in list(model.graph):
        if node.domain or not node.inputs or node.inputs[0] is None:
            continue
        value, result = node.inputs[0], node.outputs[0]
        if node.op_type == "Identity" or _takes_all(node):
            ours = any(use.node.domain == DOMAIN for use in result.uses())
            if result.is_graph_output() or ours:  # whose names are asked for
                continue
            if not value.is_graph_input():
                value.shape = result.shape if value.shape is None else value.shape
                value.type = value.type or result.type
            ir.convenience.replace_all_uses_with(result, value)
            drop_dead([result])
        elif node.op_type == "CastLike" and node.inputs[1] is not None:
            like = node.inputs[1]
            if like.dtype in (None, ir.DataType.UNDEFINED):
                continue
            put = Replacement(model, node)
            cast = put.op("Cast", value, to=int(like.dtype or 0))
            kept = {key: each for key, each in node.attributes.items() if key != "to"}
            maker = cast.producer()
            assert maker is not None, "a node was just added"
            maker.attributes.update(kept)
            maker.name = node.name
            put.finish(cast)
            drop_dead([like])
        else:
            continue
        count += 1
    return count


def _takes_all(node: ir.Node) -> bool:
    """Whether a node is a Slice from the first to the last, as ONNX has one written."""
    if node.op_type != "Slice" or len(node.inputs) < 3:
        return False
    bounds: list[Array | None] = [constant_of(value) for value in node.inputs[1:]]
    starts, ends, *rest = bounds
    steps = rest[1] if len(rest) > 1 else np.ones(1, np.int64)
    if starts is None or ends is None or steps is None:
        return False
    return not np.any(starts) and bool(np.all(ends >= _TO_THE_END) and np.all(steps == 1))


class _Folding:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._version = model.opset_imports.get("", 1)
        self._known: dict[ir.Value, Array] = {}
        self._filled: set[ir.Value] = set()  # known ones in which one number is repeated
        constants = model.graph.initializers.values()
        weights = sum(v.const_value.size for v in constants if v.const_value is not None)
        self._left = _MOST_IN_ALL + 2 * weights

    def visit(self, node: ir.Node) -> None:
        """Note what a node makes, if it is known."""
        if node.domain:
            return
        if node.op_type in ("Shape", "Size"):
            results = self._shape(node)
        elif node.op_type in _FOLDED:
            results = self._computed(node)
        else:
            return
        if results is None or len(results) != len(node.outputs):
            return
        for value, array in zip(node.outputs, results, strict=True):
            if array.dtype.kind not in "iufb" or value.dtype not in (None, _type_of(array)):
                return
        for value, array in zip(node.outputs, results, strict=True):
            self._left -= array.size
            self._known[value] = array
        filled = [v in self._filled or _is_number(self._array(v)) for v in node.inputs]
        if node.op_type in _FILLS or (node.op_type in _ELEMENTWISE and all(filled)):
            self._filled.update(v for v in node.outputs if _is_uniform(self._known[v]))

    def _array(self, value: ir.Value | None) -> Array | None:
        if value is None:
            return None
        return self._known[value] if value in self._known else constant_of(value)

    def _shape(self, node: ir.Node) -> list[Array] | None:
        """The part of a shape that is asked for, or the number of elements."""
        value = node.inputs[0]
        if value is None:
            return None
        known = self._array(value)
        sizes: list[Any] = list(value.shape or () if known is None else known.shape)
        if (known is None and value.shape is None) or not all(isinstance(s, int) for s in sizes):
            return None
        if node.op_type == "Size":
            return [np.array(prod(sizes), np.int64)]
        end = node.attributes["end"].as_int() if "end" in node.attributes else None
        return [np.array(sizes[node.attributes.get_int("start", 0) : end], np.int64)]

    def _computed(self, node: ir.Node) -> list[Array] | None:
        from onnx.reference import ReferenceEvaluator

        arrays = [array for value in node.inputs if (array := self._array(value)) is not None]
        if len(arrays) < len(node.inputs) or any(a.dtype.kind not in "iufb" for a in arrays):
            return None
        largest = max((array.size for array in arrays), default=0)
        try:
            with np.errstate(all="raise"):
                most = _most_elements(node, arrays) if _is_exact(node, arrays) else None
                if most is None or most > min(self._left, max(_MOST_ELEMENTS, largest)):
                    return None
                proto = ir.to_proto(node)
                feeds = dict(zip(proto.input, arrays, strict=False))
                evaluator = ReferenceEvaluator(proto, opsets={"": self._version})
                results = evaluator.run(None, feeds)
        except Exception:  # of several types; the runtime will say what is wrong
            return None
        return [np.asarray(result) for result in results]

    def finish(self) -> int:
        """Put constants in place of what others read; drop what is then unread."""
        graph = self._model.graph
        going: set[ir.Node] = set()
        steers: set[ir.Node] = set()  # what says which branch is taken, and what that is made of
        for node in reversed(list(graph)):
            if all(value in self._known for value in node.outputs) and node.outputs:
                readers = {use.node for value in node.outputs for use in value.uses()}
                # onnxruntime looks into a branch that it knows to be taken, and refuses sizes there
                # that it takes when it runs.
                if readers & steers or any(_is_control_flow(each) for each in readers):
                    steers.add(node)
                elif not any(self._is_needed(value, going) for value in node.outputs):
                    going.add(node)
        for node in list(graph):
            for value in node.outputs if node in going else ():
                if any(use.node not in going for use in value.uses()):
                    constant = initializer(self._model, self._known[value])
                    for use in list(value.uses()):
                        if use.node not in going:
                            use.node.replace_input_with(use.idx, constant)
        graph.remove(going, safe=True)
        return len(going)

    def _is_needed(self, value: ir.Value, going: set[ir.Node]) -> bool:
        """Whether the node that makes a known value has to stay."""
        if value.is_graph_output():
            return True
        array = self._known[value]
        if value not in self._filled or array.ndim < 3 or array.size < 2:
            return False
        readers = [use.node for use in value.uses() if use.node not in going]
        return any(each.op_type not in _READ_AS_NUMBERS or each.domain for each in readers)


def _is_control_flow(node: ir.Node) -> bool:
    return node.op_type in _CONTROL_FLOW and not node.domain


def _type_of(array: Array) -> ir.DataType:
    return ir.DataType.from_numpy(array.dtype)


def _is_number(array: Array | None) -> bool:
    return array is not None and array.size == 1


def _is_uniform(array: Array) -> bool:
    return bool(array.size and np.all(array == array.flat[0]))


def _is_exact(node: ir.Node, arrays: list[Array]) -> bool:
    """Whether every runtime computes the same of these operands."""
    if node.op_type == "Cast":
        return _fits(arrays[0], ir.DataType(node.attributes["to"].as_int()))
    if node.op_type in ("Max", "Min", "Range"):  # of NaN; of a last step that is rounded
        return all(array.dtype.kind in "iu" for array in arrays)
    if node.op_type == "Div" and arrays[0].dtype.kind in "iu":  # towards zero, or down
        return bool(np.all(arrays[0] >= 0) and np.all(arrays[1] > 0))
    if node.op_type in _INDEXED:
        indices = arrays[1]
        if indices.size > _MOST_INDICES:
            return False
        if node.op_type.startswith("Scatter"):  # of places that are named twice, either may win
            reduces = node.attributes.get_string("reduction", "none") != "none"
            return not reduces and _are_distinct(node, indices, arrays[0].shape)
    return True


def _are_distinct(node: ir.Node, indices: Array, shape: tuple[int, ...]) -> bool:
    """Whether each place of a Scatter is named once."""
    if node.op_type == "ScatterND":
        places = indices.reshape(-1, indices.shape[-1])
        positive = places % np.array(shape[: places.shape[1]])
        return len(np.unique(positive, axis=0)) == len(places)
    axis = node.attributes.get_int("axis", 0)
    if indices.ndim != len(shape) or not -len(shape) <= axis < len(shape) or not shape[axis]:
        return False
    lines = np.sort(indices % shape[axis], axis)
    return not np.any(np.diff(lines, axis=axis) == 0)


def _fits(array: Array, dtype: ir.DataType) -> bool:
    """Whether a Cast loses nothing that types do not agree on."""
    try:
        target = np.dtype(dtype.numpy())
    except TypeError:
        return False
    if target.kind not in "iu" or not array.size:
        return target.kind in "fb"
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        return False
    limits = np.iinfo(target)
    return bool(int(array.min()) >= limits.min and int(array.max()) <= limits.max)


def _most_elements(node: ir.Node, arrays: list[Array]) -> int | None:
    """A bound of how many elements a node makes, so that it need not be run to learn it.

    Computed in Python's whole numbers, which do not overflow. None if the operands are wrong.
    """
    shapes = [array.shape for array in arrays]
    if node.op_type in ("Expand", "ConstantOfShape", "Tile"):
        numbers = [int(number) for number in arrays[-1].ravel()]
        if min(numbers, default=0) < 0 or len(numbers) > 8:
            return None
        if node.op_type == "Tile":
            return arrays[0].size * prod(numbers)
        shapes = [*shapes[:-1], tuple(numbers)]
    elif node.op_type == "Range":
        start, limit, delta = (int(array.ravel()[0]) if array.size else 0 for array in arrays)
        return None if delta == 0 else max(0, -((start - limit) // delta))
    elif node.op_type == "Gather":
        axis = node.attributes.get_int("axis", 0)
        if not -arrays[0].ndim <= axis < arrays[0].ndim:
            return None
        return int(arrays[1].size * arrays[0].size // max(1, shapes[0][axis]))
    elif node.op_type == "GatherND":
        taken = shapes[1][-1] if shapes[1] else 0
        return prod(shapes[1][:-1]) * prod(shapes[0][taken:])
    elif node.op_type not in _ELEMENTWISE:
        return sum(array.size for array in arrays)
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return int(prod(max(sizes) for sizes in zip(*padded, strict=True)))
