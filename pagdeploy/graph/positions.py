"""Which pixels of a map are read through operators that only move them to constant places.

A network may be perforated once and for all: what a convolution makes is flattened, and a constant
index takes some of its pixels, often several times. Whatever the operators are called that do so,
they are run on the numbers of the pixels in place of what the pixels hold; the numbers that come
out are those of the pixels that are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.pixel_sets import Fixed
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import axes_of

Array = npt.NDArray[Any]
_MOST_ELEMENTS = 2**25  # of a map: beyond, the numbers of its pixels are not worth their memory
_MOVERS = frozenset(
    "Flatten Gather GatherElements GatherND Identity Mul Reshape Slice Squeeze Transpose Unsqueeze"
    " Where Abs Cast Clip LeakyRelu Neg Relu Sigmoid Tanh".split()
)
_TAKERS = frozenset("Gather GatherElements GatherND Identity Reshape Squeeze Unsqueeze".split())
_SELECTORS = frozenset("Gather GatherElements GatherND Mul Slice Where".split())
_DEEPEST = 8  # operators between a map and what is computed of the pixels taken from it
NOWHERE = -1


class Positions:
    """Reads of maps whose height and width are numbers."""

    def __init__(self, graph: ir.Graph, sizes: ShapeBook) -> None:
        self._graph, self._sizes = graph, sizes

    def read(self, value: ir.Value, node: ir.Node, index: int) -> Fixed | None:
        """The pixels of a map (N, C, H, W) that one of its readers reads.

        Args:
            value: The map.
            node: Reads it.
            index: As which operand.

        Returns:
            None if those are all pixels, or not known.
        """
        if not self._selects(node, index, _DEEPEST):
            return None
        sizes = self._sizes.of(value)
        if sizes is None or len(sizes) != 4:
            return None
        # One image stands for all of a batch whose size is no number.
        shape = [size.expression if isinstance(size.expression, int) else 1 for size in sizes]
        if any(not isinstance(size.expression, int) for size in sizes[1:]):
            return None
        if 0 in shape or np.prod(shape) > _MOST_ELEMENTS:
            return None
        numbers = np.arange(shape[2] * shape[3], dtype=np.int32).reshape(1, 1, *shape[2:])
        fixed_batch = isinstance(sizes[0].expression, int)
        read = np.zeros(shape[2] * shape[3] + 1, np.bool_)  # the last one: nowhere
        self._follow(node, index, np.broadcast_to(numbers, shape), fixed_batch, read)
        flags = read[:-1].reshape(shape[2:])
        return None if flags.all() else Fixed.of(flags)

    def _selects(self, node: ir.Node, index: int, depth: int) -> bool:
        """Whether an operator that may leave pixels out is reached through movers alone."""
        if node.domain or node.op_type not in _MOVERS or not depth:
            return False
        operands = self._operands(node, index)
        if node.op_type in _SELECTORS and operands is not None:
            if node.op_type != "Mul" or not operands[0].all():
                return True
        return any(self._selects(u.node, u.idx, depth - 1) for u in node.outputs[0].uses())

    def _follow(self, node: ir.Node, index: int, numbers: Array, whole: bool, read: Array) -> None:
        """Note the pixels that a reader of these numbers, and whoever reads it, reads."""
        moved = self._moved(node, index, numbers, whole)
        if moved is None:
            read[numbers] = True
            return
        output = node.outputs[0]
        uses = [use for use in output.uses() if use.node.op_type != "Shape" or use.node.domain]
        select = any(self._selects(use.node, use.idx, _DEEPEST) for use in uses)
        if not select or output.is_graph_output():
            read[moved] = True
            return
        for use in uses:
            self._follow(use.node, use.idx, moved, whole, read)

    def _moved(self, node: ir.Node, index: int, numbers: Array, whole: bool) -> Array | None:
        """Where the pixels go; None if the operator does more than move them."""
        if node.domain or node.op_type not in _MOVERS or node.graph is not self._graph:
            return None
        operands = self._operands(node, index)
        if operands is None:
            return None
        try:
            moved = self._run(node, index, numbers, operands, whole)
        except (IndexError, ValueError):  # sizes that do not fit: the model will say so when run
            return None
        sizes = self._sizes.of(node.outputs[0])
        if moved is None or sizes is None or len(sizes) != moved.ndim:
            return None
        known = [size.expression for size in sizes]
        fits = all(
            number == size
            for number, size in zip(known, moved.shape, strict=True)
            if isinstance(number, int)
        )
        return moved if fits and moved.size else None

    def _operands(self, node: ir.Node, index: int) -> list[Array] | None:
        """The operands that say what goes where; None if they are no constants."""
        others = [value for n, value in enumerate(node.inputs) if n != index and value is not None]
        if node.op_type not in _SELECTORS:
            return None if index else []
        if node.op_type == "Where":
            if not index:
                return None
            others = others[:1]
        elif index and node.op_type != "Mul":
            return None
        return _all_known([self._constant(value, _DEEPEST) for value in others])

    def _constant(self, value: ir.Value, depth: int) -> Array | None:
        """A constant, also one that is taken from others: exporters do not fold large ones."""
        array, node = constant_of(value), value.producer()
        if array is not None or node is None or node.domain or not depth:
            return array
        if node.op_type not in _TAKERS or node.graph is not self._graph:
            return None
        arrays = _all_known([self._constant(v, depth - 1) for v in node.inputs if v is not None])
        if arrays is None or not arrays:
            return None
        try:
            return self._run(node, 0, arrays[0], arrays[1:], True)
        except (IndexError, ValueError):
            return None

    def _run(
        self, node: ir.Node, index: int, numbers: Array, operands: list[Array], whole: bool
    ) -> Array | None:
        get_int = node.attributes.get_int
        rank = numbers.ndim
        if node.op_type in ("Reshape", "Flatten"):
            return self._reshaped(node, numbers, whole)
        if node.op_type == "Transpose":
            return numbers.transpose(node.attributes.get_ints("perm", list(range(rank))[::-1]))
        if node.op_type in ("Squeeze", "Unsqueeze"):
            return self._squeezed(node, numbers)
        if node.op_type == "Mul":
            return np.where(operands[0] != 0, numbers, np.int32(NOWHERE))
        if node.op_type == "Where":
            return np.where(operands[0] == (index == 1), numbers, np.int32(NOWHERE))
        if node.op_type == "Gather":
            return np.take(numbers, operands[0], get_int("axis", 0))
        if node.op_type == "GatherElements":
            places, axis = operands[0], get_int("axis", 0) % rank
            cut = tuple(slice(n if a != axis else None) for a, n in enumerate(places.shape))
            return np.take_along_axis(numbers[cut], places % numbers.shape[axis], axis)
        if node.op_type == "GatherND":
            places = operands[0]
            if get_int("batch_dims", 0) or places.shape[-1] > rank:
                return None
            return numbers[tuple(places[..., axis] for axis in range(places.shape[-1]))]
        if node.op_type == "Slice":
            return self._sliced(numbers, operands)
        return numbers

    def _reshaped(self, node: ir.Node, numbers: Array, whole: bool) -> Array | None:
        """An open batch has to stay in front, by itself."""
        sizes, source = self._sizes.of(node.outputs[0]), self._sizes.of(node.inputs[0])
        if sizes is None or source is None:
            return None
        target = [size.expression for size in sizes]
        if not whole:
            if isinstance(target[0], int) or not sizes[0].same(source[0]):
                return None
            target[0] = 1
        wanted = [size for size in target if isinstance(size, int)]
        return numbers.reshape(wanted) if len(wanted) == len(target) else None

    def _squeezed(self, node: ir.Node, numbers: Array) -> Array | None:
        if node.op_type == "Squeeze":
            axes = axes_of(node, numbers.ndim)
            return numbers.squeeze(tuple(axes)) if axes else None
        given = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        count = len(node.attributes.get_ints("axes", [])) if given is None else given.size
        axes = axes_of(node, numbers.ndim + count)
        return np.expand_dims(numbers, tuple(axes)) if axes else None

    def _sliced(self, numbers: Array, operands: list[Array]) -> Array | None:
        starts, ends, *rest = (array.ravel() for array in operands)
        axes = rest[0] if rest else np.arange(starts.size)
        steps = rest[1] if len(rest) > 1 else np.ones(starts.size, np.int64)
        if np.any(steps < 1):
            return None
        cut = [slice(None)] * numbers.ndim
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            cut[int(axis)] = slice(int(start), int(end), int(step))
        return numbers[tuple(cut)]


def _all_known(arrays: list[Array | None]) -> list[Array] | None:
    known = [array for array in arrays if array is not None]
    return known if len(known) == len(arrays) else None
