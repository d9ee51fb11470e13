"""Feature maps as rows, one a pixel, and the products of such rows with a convolution's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import Nodes, constant_of, weights_of
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

    def behind(self, put: Nodes, row: Array) -> ir.Value:
        """(1 + n, C): the rows behind another one, which the place 0 means."""
        return put.op("Concat", row, *self.parts, axis=0)


class Product:
    """The weights of a convolution as matrices, ready for rows of a few or of all taps."""

    def __init__(self, weight: Array, bias: Array, group: int) -> None:
        self.out, self.group = weight.shape[0], group
        self.channels, self.taps = weight.shape[1] * group, prod(weight.shape[2:])
        # (Co, C/g, kh, kw) -> (g, T C/g, Co/g): rows in the order in which taps are gathered.
        grouped = weight.reshape(group, self.out // group, -1, self.taps)
        matrix = grouped.transpose(0, 3, 2, 1).reshape(group, -1, self.out // group)
        self.matrix, self.bias = np.ascontiguousarray(matrix), bias
        self.zeros = np.zeros((1, self.channels), weight.dtype)

    @classmethod
    def of(cls, node: ir.Node) -> Product:
        """Of a PerforatedConv, or of a Conv, whose weights are constant."""
        ours = node.op_type == "PerforatedConv"
        weight = weights_of(node.inputs[2 if ours else 1])
        assert weight is not None, "regions have constant weights"
        operands = node.inputs[3 if ours else 2 :]
        bias = constant_of(operands[0]) if operands else np.zeros(weight.shape[0], weight.dtype)
        assert bias is not None, "regions have constant biases"
        return cls(weight, bias, node.attributes.get_int("group", 1))

    def __call__(self, put: Nodes, rows: ir.Value) -> ir.Value:
        """(n, T C) -> (n, Co)."""
        group, taps = self.group, self.taps
        if group == 1:
            return put.op("Gemm", rows, self.matrix[0], self.bias)
        split = put.op("Reshape", rows, ints(-1, taps, group, self.channels // group))
        by_group = put.op("Transpose", split, perm=[2, 0, 1, 3])  # (g, n, T, C/g)
        rows = put.op("Reshape", by_group, ints(group, -1, self.matrix.shape[1]))
        product = put.op("MatMul", rows, self.matrix)  # (g, n, Co/g)
        joined = put.op("Transpose", product, perm=[1, 0, 2])
        return put.op("Add", put.op("Reshape", joined, ints(-1, self.out)), self.bias)

    def with_bias_row(self, put: Nodes, listed: Listed) -> ir.Value:
        """(1 + n, Co): zeros, and the results at listed pixels; without activation."""
        count = put.op("Shape", listed.pixels.rows)
        one = np.ones((1, 1), self.matrix.dtype)
        ones = put.op("Expand", one, put.op("Concat", count, ints(1), axis=0))  # (n, 1)
        column = put.op("Concat", np.zeros_like(one), ones, axis=0)
        rows = put.op("Concat", listed.behind(put, self.zeros), column, axis=1)  # (1 + n, C + 1)
        return put.op("Gemm", rows, np.concatenate([self.matrix[0], self.bias[None]]))


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
    if chunks == 1:
        return [compute(put.op("Gather", table, reads, axis=0))]
    # Not Split's own equal parts: onnxruntime refuses more parts than there are rows.
    edges = np.arange(chunks + 1, dtype=np.int64)
    edge = put.op("Mul", put.op("Shape", reads, start=0, end=1), edges)
    edge = put.op("Div", edge, ints(chunks))  # (chunks + 1,)
    sizes = put.op(
        "Sub",
        put.op("Slice", edge, ints(1), ints(chunks + 1)),
        put.op("Slice", edge, ints(0), ints(chunks)),
    )
    pieces = put.ops("Split", chunks, reads, sizes, axis=0)
    return [compute(put.op("Gather", table, piece, axis=0)) for piece in pieces]
