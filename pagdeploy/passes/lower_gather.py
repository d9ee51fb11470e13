"""Lower PerforatedConv to standard ONNX that computes only the active pixels.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    gather (float[1, 2, 5, 7] x, int32[1, 1, 5, 7] s) => (float[1, 2, 5, 7] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
    {
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 1, alpha = 0.0> (x, s, w, b, x)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    gather (float[1, 2, 5, 7] x, int32[1, 1, 5, 7] s) => (float[1, 2, 5, 7] y)
    <float[2, 2] w = {1, 3, 2, 4}, float[2] b = {5, 6}, int32 branch = {1},
     int64[1] minus = {-1}, int64[2] row_matrix = {-1, 2}, int64[1] zero1 = {0},
     int64[1] one1 = {1}, int64 zero = {0}, int64 one = {1}>
    {
        active = Equal (s, branch)
        flat = Reshape (active, minus)
        places = NonZero (flat)
        pixels = Reshape (places, minus)
        channels_last = Transpose <perm = [0, 2, 3, 1]> (x)
        table = Reshape (channels_last, row_matrix)
        taken = Gather <axis = 0> (table, pixels)
        convolved = Gemm (taken, w, b)
        computed = Relu (convolved)
        batch = Shape <start = 0, end = 1> (x)
        height = Shape <start = 2, end = 3> (x)
        width = Shape <start = 3, end = 4> (x)
        area = Mul (height, width)
        count = Mul (batch, area)
        end = Squeeze (count, zero1)
        numbers = Range (zero, end, one)
        lines = Div (numbers, width)
        images = Div (lines, height)
        first = Mul (images, height)
        line = Sub (lines, first)
        before = Mul (lines, width)
        column = Sub (numbers, before)
        image1 = Unsqueeze (images, one1)
        line1 = Unsqueeze (line, one1)
        column1 = Unsqueeze (column, one1)
        coordinates = Concat <axis = 1> (image1, line1, column1)
        positions = Gather <axis = 0> (coordinates, pixels)
        placed = ScatterND (channels_last, positions, computed)
        y = Transpose <perm = [0, 3, 1, 2]> (placed)
    }

A map is laid out channels last, each pixel a row, and the rows that the active pixels read go
through a Gemm: of larger kernels an im2col of the active pixels only, by a table of neighbours.
Much of it is multiplied in pieces that stay in the cache. What nobody reads does not come into
being (`gathering.regions`): between convolutions over one selection only active pixels exist, a
1x1 convolution in front runs where it is read, and the branches of one gate share one result.
Results are scattered over the base or, in a frame where many pixels are active, added to all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.choice import choice_of, record
from pagdeploy.graph.edit import Nodes, Replacement, constant_of, is_zero
from pagdeploy.ops import DOMAIN, Activation, Mode
from pagdeploy.passes.gathering.pixels import (
    Geometry,
    Pixels,
    active_pixels,
    coordinates,
    ints,
    output_size,
    places,
    same,
    share,
    size_of,
    support,
)
from pagdeploy.passes.gathering.regions import Region, find_regions
from pagdeploy.passes.gathering.rows import (
    CHUNKS,
    Listed,
    Map,
    Product,
    convolve,
    gathered,
    pieces,
)
from pagdeploy.passes.lower_dense import activate

_CHUNK = 2**22  # bytes of gathered rows, in a frame that is all active
_WORTH_BRANCHES = 2**21  # bytes of the result
_FEW = 0.6  # of the pixels; results of so many are scattered
_UNCHANGED = (Activation.RELU, Activation.LEAKY_RELU)  # what leaves alone what is not negative


def run(model: ir.Model) -> int:
    """Lower every PerforatedConv that is not marked dense and for which gathering is possible."""
    count = 0
    for region in find_regions(model):
        for node in region.convs:
            record(model, node, "gather")
        count += len(region.convs)
        _Lowering(model, region).run()
    return count


class _Lowering:
    """The rewrite of one region, step by step."""

    def __init__(self, model: ir.Model, region: Region) -> None:
        base = region.branches[0].inputs[4]
        assert base is not None, "check_model refuses missing inputs"
        self.region, self.node, self.base = region, region.last, base
        self.whole = Replacement(model, region.last)
        self.put: Nodes = self.whole  # or a branch, while its nodes are made
        self.product = Product.of(region.last)
        is_add = self.node.attributes.get_int("mode") == Mode.ADD
        self.sums = is_add and not is_zero(base)  # if so, the activation comes after the sum
        self.maps: dict[ir.Value, Map] = {}
        # 16 bits may be emulated, which cannot enter a branch; see switch_dense for the other one.
        self.may_branch = self.product.bias.dtype == np.float32 and not any(
            node.op_type == "QuantizeLinear" for node in model.graph
        )

    def run(self) -> None:
        put, first = self.put, self.region.convs[0]
        source = self._map(self.region.source)
        self.size = output_size(put, source.size, Geometry.of(first))  # every output's
        pixels = active_pixels(put, first, self.size)
        self.full = put.op(
            "Concat", self.size.batch, self.size.height, self.size.width,
            ints(self.product.out), axis=0,
        )  # fmt: skip
        if len(self.region.branches) > 1:
            last = self._one_of_several()
        elif self.sums:
            last = self._added(self._read(source, pixels), pixels)
        else:
            last = self._replaced(self._read(source, pixels), pixels)
        self.whole.finish(put.op("Transpose", last, perm=[0, 3, 1, 2]))
        for node in reversed(self.region.nodes[:-1]):
            assert node.graph is not None, "nothing else has removed it"
            node.graph.remove(node, safe=True)

    def _map(self, value: ir.Value) -> Map:
        if value not in self.maps:
            last = self.put.op("Transpose", value, perm=[0, 2, 3, 1])
            self.maps[value] = Map(last, size_of(self.put, value))
        return self.maps[value]

    def _read(self, data: Map | Listed, pixels: Pixels) -> Map | Listed:
        """What the last convolution reads, of the region's source."""
        put, head = self.put, self.region.head
        if head:
            assert isinstance(data, Map), "a region starts from a whole map"
            reached = support(put, pixels, Geometry.of(self.region.convs[0]))
            channels = Product.of(head[0]).channels
            table, chunks = data.rows(put, channels), _chunks(self.region.source, channels)
            parts = gathered(put, table, reached.rows, self._run_head, chunks)
            data = Listed(parts, reached, data.size)
        for node in self.region.inner:
            if node.domain == DOMAIN:
                parts = self._convolve(data, node, pixels)
            else:
                parts = [self._run(node, part) for part in parts]
            data = Listed(parts, pixels, self.size)
        return data

    def _either(
        self, condition: ir.Value, one: Callable[[], ir.Value], other: Callable[[], ir.Value]
    ) -> ir.Value:
        """What one of two ways makes; each puts its nodes into a branch."""
        outer, branches = self.put, []
        for name, make in (("then", one), ("else", other)):
            self.put = branch = outer.branch(name, shares=True)
            branches.append(branch.graph(make()))
        self.put = outer
        return outer.op("If", condition, then_branch=branches[0], else_branch=branches[1])

    def _run_head(self, rows: ir.Value) -> ir.Value:
        for node in self.region.head:
            rows = self._run(node, rows)
        return rows

    def _run(self, node: ir.Node, rows: ir.Value) -> ir.Value:
        if node.op_type == "Conv":
            return Product.of(node)(self.put, rows)
        attributes = {name: a.value for name, a in node.attributes.items()}
        return self.put.op(node.op_type, rows, *node.inputs[1:], **attributes)

    def _convolve(self, data: Map | Listed, node: ir.Node, pixels: Pixels) -> list[ir.Value]:
        """Pieces of a convolution's results at the listed pixels, (n_i, Co)."""
        put, x, product = self.put, node.inputs[0], Product.of(node)
        assert x is not None, "check_model refuses missing inputs"
        chunks = _chunks(x, product.taps * product.channels) // len(self.region.branches)

        def finish(rows: ir.Value) -> ir.Value:
            return rows if self.sums and node is self.node else activate(put, rows, node)

        return convolve(put, data, node, pixels, finish, max(1, chunks))

    def _replaced(self, data: Map | Listed, pixels: Pixels) -> ir.Value:
        put, parts = self.put, self._convolve(data, self.node, pixels)
        array = constant_of(self.base)
        if array is None or array.size != 1:
            return self._scattered(pixels.rows, parts, self._ground())
        row = np.full((1, self.product.out), array.ravel()[0], array.dtype)
        table = Listed(parts, pixels, self.size).behind(put, row)
        return put.op("Gather", table, self._places(pixels), axis=0)

    def _one_of_several(self) -> ir.Value:
        put, rows, parts = self.put, [], []
        for node in self.region.branches:
            x = node.inputs[0]
            assert x is not None, "check_model refuses missing inputs"
            pixels = active_pixels(put, node, self.size)
            rows.append(pixels.rows)
            parts += self._convolve(self._map(x), node, pixels)
        return self._scattered(put.op("Concat", *rows, axis=0), parts, self._ground())

    def _scattered(self, rows: ir.Value, parts: Sequence[ir.Value], ground: ir.Value) -> ir.Value:
        """The base, with results at some pixels: (N, Ho, Wo, Co)."""
        put = self.put
        results = parts[0] if len(parts) == 1 else put.op("Concat", *parts, axis=0)
        # Not of (N Ho Wo, Co): a Reshape that ends a branch would be a copy.
        positions = put.op("Gather", coordinates(put, self.size), rows, axis=0)  # (n, 3)
        return put.op("ScatterND", ground, positions, results)

    def _added(self, data: Map | Listed, pixels: Pixels) -> ir.Value:
        activation = self.node.attributes.get_int("activation")
        base_stays = activation == Activation.NONE or (
            self.region.adds_to_non_negative and activation in _UNCHANGED
        )
        lowering = choice_of(self.node).lowering
        # A copy of the base in 8 bits is cheap; a sum of all of it is not, which is in float32.
        if lowering == "auto" and self.product.is_quantized:
            lowering = "gather"
        ground = self._ground()
        behind_zeros, alone = self._results(data, pixels)

        def to_all() -> ir.Value:
            """Add zero to what is not active: unlike a ScatterND, that runs on all cores."""
            put = self.put
            taken = put.op("Gather", behind_zeros(), self._places(pixels), axis=0)
            return activate(put, put.op("Add", ground, taken), self.node)

        def to_some() -> ir.Value:
            """Scatter the sums; right only where the activation leaves the base alone."""
            put, sums, parts = self.put, [], alone()
            table = put.op("Reshape", ground, ints(-1, self.product.out))
            for part, rows in zip(parts, pieces(put, pixels.rows, len(parts)), strict=True):
                below = put.op("Gather", table, rows, axis=0)  # (n_i, Co)
                sums.append(activate(put, put.op("Add", part, below), self.node))
            return self._scattered(pixels.rows, sums, ground)

        if base_stays and lowering == "gather":
            return to_some()
        size = _bytes(self.node.outputs[0], self.product.out)
        is_open = base_stays and lowering == "auto" and self.may_branch
        if not is_open or size < _WORTH_BRANCHES:
            return to_all()
        share_of_all = share(self.put, pixels.mask)
        are_few = self.put.op("Less", share_of_all, np.array(_FEW, np.float32))
        return self._either(are_few, to_some, to_all)

    def _results(
        self, data: Map | Listed, pixels: Pixels
    ) -> tuple[Callable[[], ir.Value], Callable[[], Sequence[ir.Value]]]:
        """Two ways to make the last results: (1 + n, Co) behind zeros, and (n_i, Co) each."""
        product = self.product
        if (
            not isinstance(data, Listed)
            or not Geometry.of(self.node).is_pointwise
            or product.group > 1
            or product.is_quantized
        ):
            parts = self._convolve(data, self.node, pixels)
            zeros = np.zeros((1, product.out), product.bias.dtype)
            listed_results = Listed(parts, pixels, self.size)
            return lambda: listed_results.behind(self.put, zeros), lambda: parts
        # The bias as a row of the weights: zeros stay zero, and onnxruntime's Gemm, which copies a
        # bias to each row on one core, has none to copy.
        weights = self.put.constant(product.with_bias)
        rows = data.with_ones(self.put, product.bias.dtype)  # (n, C + 1)
        zeros = np.zeros((1, len(product.with_bias)), product.bias.dtype)

        def behind_zeros() -> ir.Value:
            return self.put.op("Gemm", self.put.op("Concat", zeros, rows, axis=0), weights)

        return behind_zeros, lambda: [self.put.op("Gemm", rows, weights)]

    def _places(self, pixels: Pixels) -> ir.Value:
        """int32 (N, Ho, Wo); so no Reshape, which would be a copy, ends a branch."""
        size = self.size
        shape = self.put.op("Concat", size.batch, size.height, size.width, axis=0)
        return self.put.op("Reshape", places(self.put, pixels), shape)

    def _ground(self) -> ir.Value:
        """The base, (N, Ho, Wo, Co)."""
        put, base = self.put, self.base
        array = constant_of(base)
        if array is not None and array.size == 1:
            channels_last = put.op("Expand", array.reshape(1, 1, 1, 1), self.full)
        else:
            channels_last = self._map(base).last
            output = self.node.outputs[0].shape
            if base.shape is None or output is None or not same(base.shape, output):
                # Only equal shapes prove that the base is not smaller than the output.
                channels_last = put.op("Expand", channels_last, self.full)
        return channels_last


def _chunks(x: ir.Value, columns: int) -> int:
    """Pieces in which to gather rows of that many columns, one a pixel of x."""
    return int(min(max(1, _bytes(x, columns) / _CHUNK), CHUNKS))


def _bytes(x: ir.Value, columns: int) -> float:
    """Of rows of so many columns, one a pixel of x; infinite if its size is not known."""
    sizes = [] if x.shape is None else [x.shape[0], *x.shape[2:]]
    numbers = [size for size in sizes if isinstance(size, int)]
    return 4 * columns * prod(numbers) if len(numbers) == 3 else float("inf")
