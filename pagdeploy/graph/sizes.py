"""Sizes that are numbers or expressions, and what operators make of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of


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
    if isinstance(size.expression, int):
        return Size((size.expression + grown - 1) // stride + 1)
    if stride == 1 and grown == 0:
        return size
    return Size(("windows", size.expression, grown, stride))


def scaled(size: Size, scale: float) -> Size:
    """A size times a factor, rounded down."""
    if scale == 1:
        return size
    if isinstance(size.expression, int):
        return Size(int(size.expression * scale))
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


def _split(node: ir.Node, x: Sizes) -> Sizes | None:
    """Only the axis that is cut changes, to a size of its own unless all parts have one."""
    axis = node.attributes.get_int("axis", 0) % len(x)
    parts = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if parts is not None and len(set(parts.ravel().tolist())) == 1:
        return (*x[:axis], Size(int(parts.ravel()[0])), *x[axis + 1 :])
    return (*x[:axis], Size((node.outputs[0].name, axis)), *x[axis + 1 :])


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


def _sliced(node: ir.Node, x: Sizes) -> Sizes | None:
    bounds = [constant_of(value) for value in node.inputs[1:]]
    axes = bounds[2] if len(bounds) > 2 else None
    if axes is None:
        return None
    sizes = list(x)
    for index, axis in enumerate(int(axis) % len(x) for axis in axes.ravel()):
        cut = [None if bound is None else int(bound.ravel()[index]) for bound in bounds]
        size = sizes[axis].expression
        if isinstance(size, int) and None not in cut:
            sizes[axis] = Size(len(range(size)[cut[0] : cut[1] : cut[3] if len(cut) > 3 else 1]))
        else:
            sizes[axis] = Size((node.outputs[0].name, axis))
    return tuple(sizes)


def _reshaped(node: ir.Node, x: Sizes) -> Sizes | None:
    """The only size that is no number goes where the -1 is, if the numbers leave no factor."""
    target = constant_of(node.inputs[1])
    unknown = [size for size in x if not isinstance(size.expression, int)]
    if target is None or len(unknown) != 1 or np.any(target == 0):
        return None
    numbers = [size.expression for size in x if isinstance(size.expression, int)]
    if prod(numbers) != abs(int(target.prod())) or int((target == -1).sum()) != 1:
        return None
    return tuple(unknown[0] if number == -1 else Size(int(number)) for number in target)


def _flattened(node: ir.Node, x: Sizes) -> Sizes | None:
    numbers = [size.expression for size in x[1:] if isinstance(size.expression, int)]
    if node.attributes.get_int("axis", 1) != 1 or len(numbers) != len(x) - 1:
        return None
    return (x[0], Size(prod(numbers)))


REARRANGED: dict[str, Callable[[ir.Node, Sizes], Sizes | None]] = {
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Transpose": _transposed,
    "Split": _split,
    "Flatten": _flattened,
    "Gather": _gathered,
    "OneHot": _one_hot,
    "Reshape": _reshaped,
    "Slice": _sliced,
}


def picked(op_type: str, sizes: Sizes, numbers: Sequence[int]) -> Sizes | None:
    """What a Gather or Slice takes of a vector of sizes."""
    if op_type == "Gather":
        return tuple(sizes[number] for number in numbers)
    if len(numbers) not in (2, 3, 4) or (len(numbers) == 4 and numbers[3] != 1):
        return None
    return sizes[numbers[0] : numbers[1]]
