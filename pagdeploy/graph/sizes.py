"""Sizes that are numbers or expressions, and what operators make of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.size_expressions import floor, never_more


@dataclass(frozen=True)
class Size:
    """The size of one axis.

    Attributes:
        expression: A number, or what it is computed from; equal expressions are equal sizes.
        name: The symbol that the model gives it, if any; equal names are equal sizes, too.
    """

    expression: Hashable
    name: str | None = None

    @property
    def is_one(self) -> bool:
        """Whether it is 1 for sure."""
        return self.expression == 1

    def same(self, other: Size) -> bool:
        """Whether the two are equal for sure."""
        named = self.name is not None and self.name == other.name
        return named or self.expression == other.expression


Sizes = tuple[Size, ...]
ONE = Size(1)
_MOST_TIMES = 64
_TO_THE_END = 2**31 - 1  # no axis is as long


def in_words(sizes: Sizes) -> str:
    """A shape for a message; a size without a number or a name is a question mark."""
    known = [s.expression if isinstance(s.expression, int) else s.name or "?" for s in sizes]
    return f"({', '.join(map(str, known))})"


def same_sizes(one: Sizes | None, other: Sizes | None) -> bool:
    """Whether two shapes are equal for sure."""
    if one is None or other is None or len(one) != len(other):
        return False
    return all(a.same(b) for a, b in zip(one, other, strict=True))


def same_grid(one: Sizes | None, other: Sizes | None) -> bool:
    """Whether two maps have the same images, rows and columns for sure."""
    if one is None or other is None or not len(one) == len(other) == 4:
        return False
    return all(one[axis].same(other[axis]) for axis in (0, 2, 3))


def axes_of(node: ir.Node, rank: int) -> list[int] | None:
    """The axes of a Squeeze, Unsqueeze or reduction: an attribute or an input, as the opset has it.

    Args:
        node: The node.
        rank: Of the value that the axes count in.

    Returns:
        Axes from 0, sorted; [] if none are given; None if they are computed.
    """
    axes: Sequence[int] = []
    if "axes" in node.attributes:
        axes = node.attributes.get_ints("axes")
    elif node.op_type in ("ArgMax", "ArgMin"):
        axes = [node.attributes.get_int("axis", 0)]
    elif len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant_of(node.inputs[1])
        if array is None:
            return None
        axes = [int(axis) for axis in array.ravel()]
    return sorted(axis % rank for axis in axes)


def broadcast(shapes: Sequence[Sizes | None]) -> Sizes | None:
    """The sizes of what an elementwise operator makes."""
    if any(shape is None for shape in shapes):
        return None
    rank = max(len(shape) for shape in shapes if shape is not None)
    padded = [(ONE,) * (rank - len(s)) + s for s in shapes if s is not None]
    return tuple(_joined(sizes) for sizes in zip(*padded, strict=True))


def _joined(sizes: Sequence[Size]) -> Size:
    wide = [size for size in sizes if not size.is_one]
    if not wide:
        return ONE
    number = next((size for size in wide if isinstance(size.expression, int)), None)
    if number is not None:
        return number
    if all(wide[0].same(size) for size in wide[1:]):
        return wide[0]
    return Size(("broadcast", *(size.expression for size in wide)))


def windows_along(size: Size, grown: int, stride: int) -> Size:
    """The number of windows along an axis: (size + grown - 1) // stride + 1."""
    if stride == 1 and grown == 0:
        return size
    return Size(floor(size.expression, 1, grown - 1 + stride, stride))


def transposed_window(node: ir.Node, x: Sizes, w: Sizes | None) -> Sizes | None:
    """The sizes behind a ConvTranspose of a map x (N, C, H, W) by weights w (C, M, kh, kw)."""
    if w is None or not all(isinstance(size.expression, int) for size in w[1:]):
        return None
    filters, *kernel = (int(size.expression) for size in w[1:])  # type: ignore[call-overload]
    get = node.attributes.get_ints
    automatic = node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    spatial = [Size((node.outputs[0].name, axis)) for axis in (2, 3)]
    if not automatic and "output_shape" not in node.attributes:
        strides, pads = get("strides", [1, 1]), get("pads", [0, 0, 0, 0])
        dilations, more = get("dilations", [1, 1]), get("output_padding", [0, 0])
        for a in range(2):
            grown = dilations[a] * (kernel[a] - 1) + 1 + more[a] - pads[a] - pads[a + 2]
            spatial[a] = Size(floor(x[2 + a].expression, strides[a], grown - strides[a]))
    return (x[0], Size(filters * node.attributes.get_int("group", 1)), *spatial)


def scaled(size: Size, scale: float) -> Size:
    """A size times a factor, rounded down."""
    if scale == 1:
        return size
    if isinstance(size.expression, int):
        return Size(int(size.expression * scale))
    for factor in range(1, _MOST_TIMES + 1):  # which floating point multiplies by exactly
        if scale == factor:
            return Size(floor(size.expression, factor))
        if scale * factor == 1 and factor & (factor - 1) == 0:
            return Size(floor(size.expression, k=factor))
    return Size(("scaled", size.expression, scale))


def reduced(node: ir.Node, x: Sizes) -> Sizes | None:
    """The sizes behind a reduction."""
    axes = axes_of(node, len(x))
    noop: int = node.attributes.get_int("noop_with_empty_axes", 0)
    if axes is None or noop:
        return None
    axes = axes or list(range(len(x)))
    keeps: int = node.attributes.get_int("keepdims", 1)
    if keeps:
        return tuple(ONE if axis in axes else size for axis, size in enumerate(x))
    return tuple(size for axis, size in enumerate(x) if axis not in axes)


def _squeezed(node: ir.Node, x: Sizes) -> Sizes | None:
    axes = axes_of(node, len(x))
    return tuple(size for axis, size in enumerate(x) if axis not in axes) if axes else None


def _unsqueezed(node: ir.Node, x: Sizes) -> Sizes | None:
    extra = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    count = len(node.attributes.get_ints("axes", [])) if extra is None else extra.size
    axes = axes_of(node, len(x) + count)
    if not axes:
        return None
    sizes = iter(x)
    return tuple(ONE if axis in axes else next(sizes) for axis in range(len(x) + count))


def _transposed(node: ir.Node, x: Sizes) -> Sizes | None:
    perm = node.attributes.get_ints("perm", list(range(len(x)))[::-1])
    return tuple(x[axis] for axis in perm)


def parts_of(node: ir.Node, x: Sizes) -> list[Sizes]:
    """The sizes of each output of a Split: only the axis that is cut changes.

    What the model does not say is a size of its own: parts may differ.
    """
    axis = node.attributes.get_int("axis", 0) % len(x)
    given = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    whole, count = x[axis].expression, len(node.outputs)
    lengths: list[Hashable] = [(output.name, axis) for output in node.outputs]
    if given is not None and given.size == count:
        lengths = [int(length) for length in given.ravel()]
    elif len(node.inputs) < 2 and isinstance(whole, int):
        each = -(-whole // count)  # the last one may be smaller
        lengths = [min(each, whole - number * each) for number in range(count)]
    return [(*x[:axis], Size(length), *x[axis + 1 :]) for length in lengths]


def _one_hot(node: ir.Node, x: Sizes) -> Sizes | None:
    depth = constant_of(node.inputs[1])
    axis = node.attributes.get_int("axis", -1) % (len(x) + 1)
    return None if depth is None else (*x[:axis], Size(int(depth.ravel()[0])), *x[axis:])


def _gathered(node: ir.Node, x: Sizes) -> Sizes | None:
    indices = constant_of(node.inputs[1])
    if indices is None or indices.ndim > 1:
        return None
    axis = node.attributes.get_int("axis", 0) % len(x)
    return (*x[:axis], *[Size(indices.size)] * indices.ndim, *x[axis + 1 :])


def sliced(node: ir.Node, x: Sizes, bounds: Sequence[Sizes | None]) -> Sizes | None:
    """The sizes behind a Slice.

    Args:
        node: The Slice.
        x: Of what it cuts.
        bounds: Its other inputs as far as they are known: starts, ends, axes, steps.
    """
    starts, ends, axes, steps = (*bounds, None, None)[:4]
    numbers = range(len(x)) if len(bounds) < 3 else _numbers(axes)
    if numbers is None:
        return None
    sizes = list(x)
    for index, axis in enumerate(numbers):
        if not -len(x) <= axis < len(x):
            return None
        step = 1 if len(bounds) < 4 else _entry(steps, index)
        cut = (_entry(starts, index), _entry(ends, index), step)
        sizes[axis] = _cut(sizes[axis], cut) or Size((node.outputs[0].name, axis % len(x)))
    return tuple(sizes)


def _cut(size: Size, bounds: Sequence[Hashable]) -> Size | None:
    """The size of what lies between two bounds, which may be sizes themselves."""
    start, end, step = bounds
    if (start, step) == (0, 1) and end is not None:
        whole = isinstance(end, int) and end >= _TO_THE_END
        if whole or never_more(size.expression, end):
            return size
        if never_more(0, end) and never_more(end, size.expression):
            return Size(end)
    numbers = [each for each in (size.expression, start, end, step) if isinstance(each, int)]
    if len(numbers) < 4 or numbers[3] == 0:
        return None
    return Size(len(range(numbers[0])[numbers[1] : numbers[2] : numbers[3]]))


def _entry(entries: Sizes | None, index: int) -> Hashable:
    return entries[index].expression if entries is not None and index < len(entries) else None


def _numbers(entries: Sizes | None) -> list[int] | None:
    numbers = [entry.expression for entry in entries or () if isinstance(entry.expression, int)]
    return numbers if entries is not None and len(numbers) == len(entries) else None


def reshaped(node: ir.Node, x: Sizes | None, target: Sizes) -> Sizes | None:
    """The sizes behind a Reshape.

    Args:
        node: The Reshape.
        x: Of what it takes; None if not known.
        target: What it is told, which may hold one -1, and zeros for sizes that stay.
    """
    sizes: list[Size] = []
    open_axis = None
    for axis, size in enumerate(target):
        if size.expression == 0 and not node.attributes.get_int("allowzero", 0):
            if x is None or axis >= len(x):
                return None
            size = x[axis]
        elif size.expression == -1:
            if open_axis is not None:
                return None
            open_axis = axis
        sizes.append(size)
    if open_axis is not None:
        others = sizes[:open_axis] + sizes[open_axis + 1 :]
        rest = None if x is None else _quotient(x, others)
        sizes[open_axis] = rest or Size((node.outputs[0].name, open_axis))
    return tuple(sizes)


def _quotient(product: Sequence[Size], divisors: Sequence[Size]) -> Size | None:
    """What sizes come to when they are divided by others, if those leave no remainder."""
    left, over = list(product), 1
    for size in divisors:
        if isinstance(size.expression, int):
            over *= size.expression
            continue
        match = next((index for index, each in enumerate(left) if each.same(size)), None)
        if match is None:
            return None
        del left[match]
    times = prod(size.expression for size in left if isinstance(size.expression, int))
    rest = [size for size in left if not isinstance(size.expression, int)]
    if over <= 0 or times <= 0 or times % over or len(rest) > 1:
        return None
    if not rest:
        return Size(times // over)
    return rest[0] if times == over else Size(floor(rest[0].expression, times // over))


def _flattened(node: ir.Node, x: Sizes) -> Sizes | None:
    numbers = [size.expression for size in x[1:] if isinstance(size.expression, int)]
    if node.attributes.get_int("axis", 1) != 1 or len(numbers) != len(x) - 1:
        return None
    return (x[0], Size(prod(numbers)))


REARRANGED: dict[str, Callable[[ir.Node, Sizes], Sizes | None]] = {
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Transpose": _transposed,
    "Flatten": _flattened,
    "Gather": _gathered,
    "OneHot": _one_hot,
}


def recurrent(node: ir.Node, x: Sizes) -> list[Sizes | None]:
    """The sizes of what an LSTM, GRU or RNN makes: of every step, and of the last one."""
    layout: int = node.attributes.get_int("layout", 0)
    if len(x) != 3 or layout:
        return []
    both = node.attributes.get_string("direction", "forward") == "bidirectional"
    hidden = node.attributes.get_int("hidden_size", 0)
    size = Size(hidden or (node.outputs[0].name, "hidden"))
    last = (Size(1 + both), x[1], size)
    return [(x[0], *last), last, last]


def picked(op_type: str, sizes: Sizes, numbers: Sequence[int]) -> Sizes | None:
    """What a Gather or Slice takes of a vector of sizes."""
    if op_type == "Gather":
        inside = all(-len(sizes) <= number < len(sizes) for number in numbers)
        return tuple(sizes[number] for number in numbers) if inside else None
    if len(numbers) not in (2, 3, 4) or (len(numbers) == 4 and numbers[3] != 1):
        return None
    return sizes[numbers[0] : numbers[1]]
