"""Which axes of a graph have the same size for sure, also where no size is known.

Shape inference leaves dynamic sizes behind a convolution unnamed. Here a size is an expression of
the sizes of the model's inputs, so that two values computed in different ways can be seen to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.size_expressions import floor, lowest, unknown
from pagdeploy.graph.sizes import (
    ONE,
    REARRANGED,
    Size,
    Sizes,
    broadcast,
    parts_of,
    picked,
    recurrent,
    reduced,
    reshaped,
    scaled,
    sliced,
    transposed_window,
    windows_along,
)
from pagdeploy.ops import DOMAIN

_LIKE_FIRST = frozenset(
    "BatchNormalization Clip Dropout HardSigmoid HardSwish Identity InstanceNormalization"
    " LayerNormalization LeakyRelu Elu Selu Celu Gelu Mish LogSoftmax Softmax Softplus Softsign"
    " Relu Sigmoid Tanh Cast CastLike Neg Abs Exp Log Sqrt Sign Round Floor Ceil Not Erf"
    " CumSum Hardmax ScatterElements RandomUniformLike RandomNormalLike QuantizeLinear"
    " DequantizeLinear".split()
)
_BROADCAST = frozenset(
    "Add Sub Mul Div Pow Max Min Sum Mean PRelu Where And Or Xor Equal Greater GreaterOrEqual Less"
    " LessOrEqual".split()
)
_WINDOWS = frozenset({"Conv", "MaxPool", "AveragePool", "PerforatedConv", "SegAwareConv"})
_OF_SEVERAL: Mapping[str, Callable[[ir.Node, Sizes], Sequence[Sizes | None]]] = {
    "Split": parts_of,
    **dict.fromkeys(("GRU", "LSTM", "RNN"), recurrent),
}
_REDUCTIONS = frozenset(
    "ArgMax ArgMin ReduceMax ReduceMean ReduceMin ReduceSum ReduceL1 ReduceL2 ReduceProd".split()
)
_ON_VECTORS = frozenset(
    "Add Cast Concat Div Equal Gather Identity Mul Reshape Slice Squeeze Sub Unsqueeze"
    " Where".split()
)
_WHOLE: tuple[ir.DataType | None, ...] = (ir.DataType.INT64, ir.DataType.INT32)
_EXACT = (*_WHOLE, ir.DataType.FLOAT, ir.DataType.DOUBLE)  # which hold every size as it is
_LONGEST = 16  # vector that may say sizes


class ShapeBook:
    """The sizes of every value of the main graph, as it is now."""

    def __init__(self, model: ir.Model) -> None:
        self._sizes: dict[ir.Value, Sizes] = {}
        self._vectors: dict[ir.Value, Sizes] = {}  # what one-dimensional shape arithmetic holds
        self._axes: set[Hashable] = set()  # expressions that are the size of an axis
        for node in model.graph:
            for value, derived in zip(node.outputs, self._all_derived(node), strict=False):
                if (sizes := _declared(value, derived)) is not None:
                    self._note(value, sizes)
            self._note_vector(node)

    def of(self, value: ir.Value | None) -> Sizes | None:
        """The sizes of a value; None if not even its rank is known."""
        if value is None:
            return None
        if value not in self._sizes:
            array = constant_of(value)
            if array is not None:
                return tuple(Size(size) for size in array.shape)
            declared = _declared(value, None)
            if declared is None:
                return None
            self._note(value, declared)
        return self._sizes[value]

    def _note(self, value: ir.Value, sizes: Sizes) -> None:
        self._sizes[value] = sizes
        self._axes.update(size.expression for size in sizes)

    def number(self, value: ir.Value | None) -> int | None:
        """The number that shape arithmetic comes to, if it is one and known."""
        vector = self._vector(value) or ()
        number = vector[0].expression if len(vector) == 1 else None
        return number if isinstance(number, int) else None

    def _all_derived(self, node: ir.Node) -> Iterator[Sizes | None]:
        if node.op_type in _OF_SEVERAL and not node.domain:
            x = self.of(node.inputs[0])
            yield from () if x is None else _OF_SEVERAL[node.op_type](node, x)
        else:
            yield self._derived(node)
        while True:
            yield None

    def _derived(self, node: ir.Node) -> Sizes | None:
        if node.domain not in ("", DOMAIN):
            return None
        first = self.of(node.inputs[0]) if node.inputs else None
        if node.op_type in _BROADCAST:
            return broadcast([self.of(value) for value in node.inputs])
        if node.op_type == "ConstantOfShape":
            return self._target(node.inputs[0])
        if node.op_type == "Expand":
            return broadcast([first, self._target(node.inputs[1])])
        if node.op_type == "Reshape":
            target = self._target(node.inputs[1], (0, -1))
            return None if target is None else reshaped(node, first, target)
        if first is None:
            return None
        if node.op_type in _LIKE_FIRST:
            return first
        if node.op_type == "OneHot":
            axis = node.attributes.get_int("axis", -1) % (len(first) + 1)
            depth = self.number(node.inputs[1])
            one_hot = Size(("axis", node.outputs[0].name, axis) if depth is None else depth)
            return (*first[:axis], one_hot, *first[axis:])
        if node.op_type == "PAGGate" and len(first) == 4:
            return (first[0], ONE, *first[2:])
        if node.op_type in _WINDOWS and len(first) == 4:
            return self._window(node, first)
        if node.op_type == "ConvTranspose" and len(first) == 4:
            return transposed_window(node, first, self.of(node.inputs[1]))
        if node.op_type == "GlobalAveragePool":
            return (*first[:2], *[ONE] * (len(first) - 2))
        if node.op_type in _REDUCTIONS:
            return reduced(node, first)
        if rearrange := REARRANGED.get(node.op_type):
            return rearrange(node, first)
        if node.op_type == "Gemm":
            w = self.of(node.inputs[1])
            turned: int = node.attributes.get_int("transB", 0)
            return None if w is None else (first[0], w[0 if turned else 1])
        if node.op_type == "Slice":
            return sliced(node, first, [self._vector(value) for value in node.inputs[1:]])
        if node.op_type == "Resize":
            return self._resized(node, first)
        if node.op_type == "Tile":
            return _tiled(node, first)
        if node.op_type == "Pad":
            return _padded(node, first)
        return self._concatenated(node, first) if node.op_type == "Concat" else None

    def _concatenated(self, node: ir.Node, first: Sizes) -> Sizes | None:
        axis = node.attributes.get_int("axis") % len(first)
        parts = [self.of(value) for value in node.inputs]
        sizes = [part[axis].expression for part in parts if part is not None]
        numbers = [size for size in sizes if isinstance(size, int)]
        known = len(numbers) == len(parts)
        total = Size(sum(numbers) if known else (node.outputs[0].name, axis))
        return (*first[:axis], total, *first[axis + 1 :])

    def _window(self, node: ir.Node, x: Sizes) -> Sizes | None:
        weights = {"Conv": 1, "PerforatedConv": 2, "SegAwareConv": 2}.get(node.op_type)
        kernel: Sequence[Hashable] = node.attributes.get_ints("kernel_shape", [])
        channels = x[1]
        if weights is not None:
            w = self.of(node.inputs[weights])
            if w is None:
                return None
            channels, kernel = w[0], [size.expression for size in w[2:]]
        strides = node.attributes.get_ints("strides", [1, 1])
        automatic = node.attributes.get_string("auto_pad", "NOTSET")
        if automatic.startswith("SAME") and list(strides) == [1, 1]:
            return (x[0], channels, *x[2:])
        if automatic != "NOTSET" or len(kernel) != 2:
            return None
        pads = node.attributes.get_ints("pads", [0, 0, 0, 0])
        dilations = node.attributes.get_ints("dilations", [1, 1])
        taps = [size for size in kernel if isinstance(size, int)]
        if len(taps) != 2:
            return None
        grown = [pads[a] + pads[a + 2] - dilations[a] * (taps[a] - 1) for a in range(2)]
        if node.attributes.get_int("ceil_mode", 0) and list(strides) != [1, 1]:
            # No window may begin in padding behind the map, of which runtimes disagree.
            if any(pads) or any(taps[a] < strides[a] for a in range(2)):
                return None
            grown = [grown[a] + strides[a] - 1 for a in range(2)]
        spatial = (windows_along(x[2 + a], grown[a], strides[a]) for a in range(2))
        return (x[0], channels, *spatial)

    def _resized(self, node: ir.Node, x: Sizes) -> Sizes | None:
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            return self._target(node.inputs[3])
        scales = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        if scales is None or scales.size != len(x):
            return None
        return tuple(scaled(size, float(s)) for size, s in zip(x, scales.ravel(), strict=True))

    def _target(self, value: ir.Value | None, others: Sequence[int] = ()) -> Sizes | None:
        """A vector that says sizes, none of which can be below 1 but those others."""
        entries = self._vector(value)
        if entries is None or not all(self._is_size(e) or e.expression in others for e in entries):
            return None
        return entries

    def _is_size(self, entry: Size) -> bool:
        if isinstance(entry.expression, int):
            return entry.expression > 0
        return entry.expression in self._axes or (lowest(entry.expression) or 0) > 0

    def _vector(self, value: ir.Value | None) -> Sizes | None:
        if value is None or value in self._vectors:
            return None if value is None else self._vectors[value]
        array = constant_of(value)
        if array is not None:
            whole = array.ndim < 2 and array.dtype.kind == "i" and array.size <= _LONGEST
            return tuple(Size(int(number)) for number in array.ravel()) if whole else None
        if value.dtype not in _WHOLE or value.shape is None or len(value.shape) > 1:
            return None
        length = value.shape[0] if len(value.shape) else 1
        if not isinstance(length, int) or length > _LONGEST:
            return None
        return tuple(Size(unknown(value, index)) for index in range(length))

    def _note_vector(self, node: ir.Node) -> None:
        if node.domain or not node.outputs:
            return
        held: Sizes | None = None
        if node.op_type == "Shape":
            sizes = self.of(node.inputs[0])
            end = node.attributes["end"].as_int() if "end" in node.attributes else None
            held = None if sizes is None else sizes[node.attributes.get_int("start", 0) : end]
        elif node.op_type in _ON_VECTORS:
            parts = [self._vector(value) for value in node.inputs]
            held = self._held(node, parts)
        if held is not None and len(held) <= _LONGEST:
            self._vectors[node.outputs[0]] = held

    def _held(self, node: ir.Node, parts: list[Sizes | None]) -> Sizes | None:
        known = [part for part in parts if part is not None]
        value = node.inputs[0]
        if not parts or parts[0] is None or value is None:
            return None
        if node.op_type == "Cast":
            return parts[0] if node.attributes.get_int("to", 0) in _EXACT else None
        if node.op_type in ("Squeeze", "Unsqueeze", "Identity"):
            return parts[0]
        if node.op_type == "Reshape":  # a scalar becomes a vector, or the reverse
            shape = node.outputs[0].shape
            return parts[0] if shape is not None and len(shape) < 2 else None
        if node.op_type in ("Gather", "Slice"):
            chosen = [constant_of(value) for value in node.inputs[1:]]
            if not all(array is not None and array.size for array in chosen):
                return None
            numbers = [int(number) for array in chosen for number in array.ravel()]  # type: ignore[union-attr]
            return picked(node.op_type, parts[0], numbers)
        if len(known) < len(parts):
            return None
        if node.op_type == "Concat":
            return tuple(size for part in known for size in part)
        if node.op_type != "Where" and value.dtype not in _WHOLE:
            return None
        length = max(map(len, known))
        if any(len(part) not in (1, length) for part in known):
            return None
        rows = zip(*(part * (length // len(part)) for part in known), strict=True)
        entries = [self._computed(node.op_type, row) for row in rows]
        held = tuple(entry for entry in entries if entry is not None)
        return held if len(held) == length else None

    def _computed(self, op_type: str, row: Sequence[Size]) -> Size | None:
        """What arithmetic makes of numbers of which all but one are constants."""
        if op_type == "Where":
            picks = row[0].expression
            return None if picks not in (0, 1) else row[1] if picks else row[2]
        one, other = (size.expression for size in row)
        if op_type == "Equal":
            if isinstance(one, int) and isinstance(other, int):
                return Size(int(one == other))
            size, number = (row[0], other) if isinstance(other, int) else (row[1], one)
            below = isinstance(number, int) and number < 0
            return Size(0) if below and self._is_size(size) else None
        if isinstance(one, int) and op_type in ("Add", "Mul"):
            one, other = other, one
        if op_type == "Sub" and isinstance(one, int):
            return Size(floor(other, -1, one))
        if not isinstance(other, int):
            return None
        if op_type == "Div":  # which rounds towards zero
            least = lowest(one)
            positive = least is not None and least >= 0 and other > 0
            return Size(floor(one, k=other)) if positive else None
        if op_type == "Mul":
            return Size(floor(one, other))
        return Size(floor(one, 1, other if op_type == "Add" else -other))


def _tiled(node: ir.Node, x: Sizes) -> Sizes | None:
    """Axes that are repeated once stay; another one is known if it was a number."""
    repeats = constant_of(node.inputs[1])
    if repeats is None or repeats.size != len(x):
        return None
    sizes = []
    for axis, (size, count) in enumerate(zip(x, repeats.ravel().tolist(), strict=True)):
        known = size.expression
        wide = known * count if isinstance(known, int) else (node.outputs[0].name, axis)
        sizes.append(size if count == 1 else Size(wide))
    return tuple(sizes)


def _padded(node: ir.Node, x: Sizes) -> Sizes | None:
    pads, axes = constant_of(node.inputs[1]), list(range(len(x)))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        named = constant_of(node.inputs[3])
        if named is None:
            return None
        axes = [int(axis) % len(x) for axis in named.ravel()]
    if pads is None or pads.size != 2 * len(axes):
        return None
    sizes = list(x)
    for axis, front, back in zip(axes, *np.split(pads.ravel(), 2), strict=True):
        sizes[axis] = _grown(sizes[axis], int(front) + int(back))
    return tuple(sizes)


def _grown(size: Size, by: int) -> Size:
    return Size(floor(size.expression, 1, by)) if by else size


def _declared(value: ir.Value, derived: Sizes | None) -> Sizes | None:
    """What the model says of a value's sizes, filled in by what follows from its producer."""
    if value.shape is None:
        return derived
    sizes = []
    for axis, dim in enumerate(value.shape):
        known = derived[axis] if derived is not None and len(derived) == len(value.shape) else None
        if isinstance(dim, int):
            sizes.append(Size(dim))
        elif known is not None:
            sizes.append(Size(known.expression, known.name or dim.value))
        else:
            origin = ("axis", value.name, axis) if dim.value is None else ("named", dim.value)
            sizes.append(Size(origin, dim.value))
    return tuple(sizes)
