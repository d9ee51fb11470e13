"""Feature maps as rows, one a pixel, and the products of such rows with a convolution's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import Nodes, Operand, constant_of, weights_of
from pagdeploy.passes.gathering.pixels import (
    Geometry,
    Pixels,
    Size,
    ints,
    neighbours,
    output_size,
    places,
)

CHUNKS = 8  # of which each is multiplied while it lies in the cache

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Map:
    """All pixels of a feature map.

    Attributes:
        last: (N, H, W, C).
        size: N, H and W.
    """

    last: ir.Value
    size: Size

    def rows(self, put: Nodes, channels: int) -> ir.Value:
        """(N H W, C)."""
        return put.op("Reshape", self.last, ints(-1, channels))


@dataclass(frozen=True)
class Listed:
    """The listed pixels of a feature map; all others are zero, or nobody reads them.

    Attributes:
        parts: (n_i, C) each: consecutive pieces of the list.
        pixels: The list.
        size: Of the map.
    """

    parts: Sequence[ir.Value]
    pixels: Pixels
    size: Size

    def rows(self, put: Nodes) -> ir.Value:
        """(n, C)."""
        return self.parts[0] if len(self.parts) == 1 else put.op("Concat", *self.parts, axis=0)

    def with_ones(self, put: Nodes, dtype: np.dtype[np.generic]) -> ir.Value:
        """(n, C + 1): the rows, and a column of ones."""
        shape = put.op("Concat", put.op("Shape", self.pixels.rows), ints(1), axis=0)
        ones = put.op("Expand", np.ones((1, 1), dtype), shape)
        return put.op("Concat", self.rows(put), ones, axis=1)

    def behind(self, put: Nodes, row: Array) -> ir.Value:
        """(1 + n, C): the rows behind another one, which the place 0 means."""
        return put.op("Concat", row, *self.parts, axis=0)


class Product:
    """The weights of a convolution as matrices, ready for rows of a few or of all taps."""

    def __init__(self, weight: Array, bias: Array, group: int, steps: Array | None = None) -> None:
        """Args: what a convolution has; with `steps`, the weight is int8, in such units."""
        self.out, self.group = weight.shape[0], group
        self.channels, self.taps = weight.shape[1] * group, prod(weight.shape[2:])
        # (Co, C/g, kh, kw) -> (g, T C/g, Co/g): rows in the order in which taps are gathered.
        grouped = weight.reshape(group, self.out // group, -1, self.taps)
        matrix = grouped.transpose(0, 3, 2, 1).reshape(group, -1, self.out // group)
        self.matrix, self.bias, self.steps = np.ascontiguousarray(matrix), bias, steps
        self.zeros = np.zeros((1, self.channels), bias.dtype)

    @property
    def is_quantized(self) -> bool:
        """Whether the weights are int8, with a scale per output channel."""
        return self.steps is not None

    @classmethod
    def of(cls, node: ir.Node) -> Product:
        """Of a PerforatedConv, or of a Conv, whose weights are constant."""
        ours = node.op_type == "PerforatedConv"
        port = node.inputs[2 if ours else 1]
        weight = weights_of(port)
        assert weight is not None, "regions have constant weights"
        operands = node.inputs[3 if ours else 2 :]
        bias = constant_of(operands[0]) if operands else np.zeros(weight.shape[0], weight.dtype)
        assert bias is not None, "regions have constant biases"
        group = node.attributes.get_int("group", 1)
        dequantize = None if port is None else port.producer()
        if group == 1 and dequantize is not None and dequantize.op_type == "DequantizeLinear":
            narrow, steps, *zero = (constant_of(operand) for operand in dequantize.inputs)
            axis = dequantize.attributes.get_int("axis", 1)
            if (
                narrow is not None
                and narrow.dtype == np.int8
                and steps is not None
                and steps.ndim == 1
                and axis == 0
                and not any(np.any(point) for point in zero)
            ):
                return cls(narrow, bias, group, steps)
        return cls(weight, bias, group)

    def __call__(self, put: Nodes, rows: ir.Value) -> ir.Value:
        """(n, T C) -> (n, Co)."""
        group, taps = self.group, self.taps
        if group == 1:
            return put.op("Gemm", rows, self._weights(put), self.bias)
        split = put.op("Reshape", rows, ints(-1, taps, group, self.channels // group))
        by_group = put.op("Transpose", split, perm=[2, 0, 1, 3])  # (g, n, T, C/g)
        rows = put.op("Reshape", by_group, ints(group, -1, self.matrix.shape[1]))
        product = put.op("MatMul", rows, self.matrix)  # (g, n, Co/g)
        joined = put.op("Transpose", product, perm=[1, 0, 2])
        return put.op("Add", put.op("Reshape", joined, ints(-1, self.out)), self.bias)

    def _weights(self, put: Nodes) -> Operand:
        """(T C, Co)."""
        matrix: Array = self.matrix[0]
        if self.steps is None:
            return matrix
        zeros = np.zeros(self.steps.shape, np.int8)
        return put.op("DequantizeLinear", matrix, self.steps, zeros, axis=1)

    @property
    def with_bias(self) -> Array:
        """(C + 1, Co): the bias as a row of the weights, so that a row of zeros stays one."""
        return np.concatenate([self.matrix[0], self.bias[None]])


def convolve(
    put: Nodes,
    source: Map | Listed,
    node: ir.Node,
    pixels: Pixels,
    finish: Callable[[ir.Value], ir.Value],
    chunks: int,
) -> list[ir.Value]:
    """The results of a convolution at the listed pixels, (n_i, Co) each, after `finish`."""
    product, geometry = Product.of(node), Geometry.of(node)
    if geometry.is_pointwise:
        if isinstance(source, Listed):  # of the same pixels
            if product.is_quantized:  # its results are a quarter to join
                return [finish(product(put, part)) for part in source.parts]
            return [finish(product(put, source.rows(put)))]
        return gathered(
            put,
            source.rows(put, product.channels),
            pixels.rows,
            lambda rows: finish(product(put, rows)),
            chunks,
        )
    numbers = neighbours(put, geometry, source.size, output_size(put, source.size, geometry))
    reads = put.op("Gather", numbers, pixels.rows, axis=0)  # (n, T)
    if isinstance(source, Listed):
        whole = put.op("Concat", np.zeros(1, np.int32), places(put, source.pixels), axis=0)
        reads = put.op("Gather", whole, reads, axis=0)
        table = source.behind(put, product.zeros)
    else:
        table = put.op("Concat", product.zeros, source.rows(put, product.channels), axis=0)

    def multiply(taps: ir.Value) -> ir.Value:  # (n, T, C) -> (n, Co)
        flat = put.op("Reshape", taps, ints(-1, product.taps * product.channels))
        return finish(product(put, flat))

    return gathered(put, table, reads, multiply, chunks)


def gathered(
    put: Nodes,
    table: ir.Value,
    reads: ir.Value,
    compute: Callable[[ir.Value], ir.Value],
    chunks: int,
) -> list[ir.Value]:
    """What is computed of rows of a table, in pieces that stay in the cache.

    Args:
        put: Where nodes go.
        table: (rows, C).
        reads: (n, ...): the rows to read.
        compute: Makes a piece of the result, (n_i, Co), of the rows that were read.
        chunks: How many pieces.
    """
    return [compute(put.op("Gather", table, piece, axis=0)) for piece in pieces(put, reads, chunks)]


def pieces(put: Nodes, rows: ir.Value, chunks: int) -> Sequence[ir.Value]:
    """A list (n, ...) in consecutive pieces; those of lists of one length have the same lengths."""
    if chunks == 1:
        return [rows]
    # Not Split's own equal parts: onnxruntime refuses more parts than there are rows.
    count = put.op("Shape", rows, start=0, end=1)
    more = put.op("Add", count, ints(*range(chunks)))
    sizes = put.op("Div", more, ints(chunks))  # floor((n + k) / K), whose sum over k is n
    return put.ops("Split", chunks, rows, sizes, axis=0)
