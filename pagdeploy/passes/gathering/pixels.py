"""Lists of pixels, and tables that say where their neighbours are.

Sizes are read in the graph, so that one file serves maps of any size; where they are constant, the
runtime computes the tables once, when it loads the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import Nodes

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # (N, C, H, W) -> (N, H, W, C), and back
_INT32 = int(ir.DataType.INT32)
_BOOL = int(ir.DataType.BOOL)
_FLOAT = int(ir.DataType.FLOAT)


@dataclass(frozen=True)
class Size:
    """Of a feature map; each a tensor of one element."""

    batch: ir.Value
    height: ir.Value
    width: ir.Value


@dataclass(frozen=True)
class Pixels:
    """The active pixels of a map.

    Attributes:
        mask: bool (N, 1, H, W).
        rows: int64 (n,): n H W + h W + w for each active pixel, ascending.
    """

    mask: ir.Value
    rows: ir.Value


@dataclass(frozen=True)
class Geometry:
    """How a convolution's output pixels read input pixels."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]

    @classmethod
    def of(cls, node: ir.Node) -> Geometry:
        """As the attributes of a PerforatedConv say."""
        names = ("kernel_shape", "strides", "pads", "dilations")
        return cls(*(tuple(node.attributes.get_ints(name)) for name in names))  # type: ignore[arg-type]

    @property
    def is_pointwise(self) -> bool:
        """Whether each output pixel reads the input pixel in its own place only."""
        return self.kernel == self.strides == (1, 1) and not any(self.pads)

    def grown(self, axis: int) -> int:
        """By how much an output of stride 1 is larger than its input."""
        reach = self.dilations[axis] * (self.kernel[axis] - 1)
        return self.pads[axis] + self.pads[axis + 2] - reach


def size_of(put: Nodes, value: ir.Value) -> Size:
    """The size of a value of shape (N, C, H, W)."""
    return Size(*(put.op("Shape", value, start=axis, end=axis + 1) for axis in (0, 2, 3)))


def output_size(put: Nodes, size: Size, geometry: Geometry) -> Size:
    """The size of a convolution's output."""

    def along(axis: int, value: ir.Value) -> ir.Value:
        grown, stride = geometry.grown(axis), geometry.strides[axis]
        if stride == 1:
            return put.op("Add", value, ints(grown)) if grown else value
        steps = put.op("Div", put.op("Add", value, ints(grown - 1)), ints(stride))
        return put.op("Add", steps, ints(1))

    return Size(size.batch, along(0, size.height), along(1, size.width))


def active_pixels(put: Nodes, node: ir.Node, size: Size) -> Pixels:
    """The pixels that a PerforatedConv, whose output has that size, has to compute."""
    selection = node.inputs[1]
    assert selection is not None, "check_model refuses missing inputs"
    if not _is_per_pixel(node, selection):
        full = put.op("Concat", size.batch, ints(1), size.height, size.width, axis=0)
        # Expand repeats one decision per image; Reshape refuses what is then too large.
        selection = put.op("Reshape", put.op("Expand", selection, full), full)
    branch = np.array(node.attributes.get_int("branch"), np.int32)
    return listed(put, put.op("Equal", selection, branch))


def support(put: Nodes, pixels: Pixels, geometry: Geometry) -> Pixels:
    """The pixels that a convolution of stride 1, which keeps the size, reads at active ones."""
    if geometry.is_pointwise:
        return pixels
    # Not a MaxPool: onnxruntime refuses one whose pads are as large as its kernel.
    ones = np.ones((1, 1, *geometry.kernel), np.float32)
    top, left, bottom, right = geometry.pads
    reached = put.op(
        "Conv", put.op("Cast", pixels.mask, to=_FLOAT), ones,
        pads=[bottom, right, top, left], dilations=list(geometry.dilations),
    )  # fmt: skip
    return listed(put, put.op("Cast", reached, to=_BOOL))


def listed(put: Nodes, mask: ir.Value) -> Pixels:
    """The list of a mask (N, 1, H, W)."""
    flat = put.op("Reshape", mask, ints(-1))  # NonZero is fastest along one axis
    return Pixels(mask, put.op("Reshape", put.op("NonZero", flat), ints(-1)))


def coordinates(put: Nodes, size: Size) -> ir.Value:
    """int64 (N H W, 3): image, line and column of each pixel."""
    count = put.op("Mul", size.batch, put.op("Mul", size.height, size.width))
    pixels = _range(put, np.array(0, np.int64), count, np.array(1, np.int64))
    lines = put.op("Div", pixels, size.width)
    images = put.op("Div", lines, size.height)
    columns = put.op("Sub", pixels, put.op("Mul", lines, size.width))
    lines = put.op("Sub", lines, put.op("Mul", images, size.height))
    parts = [put.op("Unsqueeze", part, ints(1)) for part in (images, lines, columns)]
    return put.op("Concat", *parts, axis=1)


def share(put: Nodes, mask: ir.Value) -> ir.Value:
    """float (): how much of a mask is set."""
    return put.op("ReduceMean", put.op("Cast", mask, to=_FLOAT), keepdims=0)


def places(put: Nodes, pixels: Pixels) -> ir.Value:
    """int32 (N H W,): a pixel's place in the list, counted from 1; 0 where it is not active."""
    active = put.op("Cast", put.op("Reshape", pixels.mask, ints(-1)), to=_INT32)
    return put.op("Mul", put.op("CumSum", active, np.array(0, np.int64)), active)


def neighbours(put: Nodes, geometry: Geometry, size: Size, output: Size) -> ir.Value:
    """int32 (N Ho Wo, T): the pixels that each output pixel reads, counted from 1; 0 is outside.

    Args:
        put: Where nodes go.
        geometry: Of the convolution.
        size: Of its input.
        output: Of its output.
    """
    one = np.array(1, np.int64)
    count = put.op("Mul", size.batch, put.op("Mul", size.height, size.width))
    numbers = _range(put, one, put.op("Add", count, one), one)  # (N H W,)
    image = put.op("Concat", size.batch, size.height, size.width, axis=0)
    numbers = put.op("Reshape", numbers, image)  # (N, H, W)
    height, width = size.height, size.width
    if any(geometry.pads):
        top, left, bottom, right = geometry.pads
        numbers = put.op("Pad", numbers, ints(0, top, left, 0, bottom, right), mode="constant")
        height = put.op("Add", height, ints(top + bottom))
        width = put.op("Add", width, ints(left + right))
    # Where the kernel's first tap lies for each output pixel, in the padded image.
    down = put.op("Mul", width, ints(geometry.strides[0]))
    zero = np.array(0, np.int64)
    columns = put.op("Mul", _range(put, zero, output.width, one), ints(geometry.strides[1]))
    lines = put.op("Mul", _range(put, zero, output.height, one), down)
    images = put.op("Mul", _range(put, zero, size.batch, one), put.op("Mul", height, width))
    corner = put.op("Add", put.op("Unsqueeze", lines, ints(1)), columns)  # (Ho, Wo)
    corner = put.op("Add", put.op("Unsqueeze", images, ints(1, 2)), corner)  # (N, Ho, Wo)
    corner = put.op("Reshape", corner, ints(-1, 1))
    kernel_height, kernel_width = geometry.kernel
    tap_lines = np.repeat(np.arange(kernel_height) * geometry.dilations[0], kernel_width)
    tap_columns = np.tile(np.arange(kernel_width) * geometry.dilations[1], kernel_height)
    taps = put.op("Mul", width, tap_lines.astype(np.int64))  # (T,)
    taps = put.op("Add", taps, tap_columns.astype(np.int64))
    reads = put.op("Add", corner, taps)  # (N Ho Wo, T)
    table = put.op("Gather", put.op("Reshape", numbers, ints(-1)), reads, axis=0)
    return put.op("Cast", table, to=_INT32)


def _range(
    put: Nodes,
    start: npt.NDArray[np.int64],
    stop: ir.Value,
    step: npt.NDArray[np.int64],
) -> ir.Value:
    return put.op("Range", start, put.op("Squeeze", stop, ints(0)), step)


def _is_per_pixel(node: ir.Node, selection: ir.Value) -> bool:
    """Whether the selection provably has a decision for each pixel of each image."""
    geometry, x = Geometry.of(node), node.inputs[0]
    shape, size = selection.shape, None if x is None else x.shape
    if shape is None or size is None or len(shape) != 4 or not same(shape[:1], size[:1]):
        return False
    for axis in range(2):
        length, stride, grown = size[2 + axis], geometry.strides[axis], geometry.grown(axis)
        if isinstance(length, int):
            length = (length + grown - 1) // stride + 1
        elif stride != 1 or grown:
            return False
        if not same([shape[2 + axis]], [length]):
            return False
    return True


def same(one: Iterable[int | ir.SymbolicDim], other: Iterable[int | ir.SymbolicDim]) -> bool:
    """Whether sizes are equal for sure: a size without a name may be any."""
    one = list(one)
    named = all(isinstance(size, int) or size.value is not None for size in one)
    return named and one == list(other)


def is_transpose(node: ir.Node | None, perm: Sequence[int]) -> bool:
    """Whether a node is a Transpose that permutes axes so."""
    return (
        node is not None
        and node.op_type == "Transpose"
        and not node.domain
        and tuple(node.attributes.get_ints("perm", ())) == perm
    )


def ints(*values: int) -> npt.NDArray[np.int64]:
    """A constant vector."""
    return np.array(values, np.int64)
