"""Compute a frame densely where nearly all of its pixels are active: gathering would cost more.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    switch (float[n, 2, h, w] x, int32[n, 1, h, w] s) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
    {
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 1, alpha = 0.0> (x, s, w, b, x)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    switch (float[n, 2, h, w] x, int32[n, 1, h, w] s) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}, int32 branch = {1},
     float share = {0.3}>
    {
        active = Equal (s, branch)
        active01 = Cast <to = 6> (active)
        count = ReduceSum <keepdims = 0> (active01)
        countf = Cast <to = 1> (count)
        batch = Shape <start = 0, end = 1> (x)
        height = Shape <start = 2, end = 3> (x)
        width = Shape <start = 3, end = 4> (x)
        sizes = Concat <axis = 0> (batch, height, width)
        pixels = ReduceProd <keepdims = 0> (sizes)
        pixelsf = Cast <to = 1> (pixels)
        limit = Mul (pixelsf, share)
        is_dense = GreaterOrEqual (countf, limit)
        y = If (is_dense) <
            then_branch = dense () => (float[n, 2, h, w] d)
            <float[2, 2, 1, 1] w1 = {1, 2, 3, 4}, float[2] b1 = {5, 6}> {
                c = Conv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
                    dilations = [1, 1], group = 1> (x, w1, b1)
                r = Relu (c)
                pixels32 = Cast <to = 6> (pixels)
                all_active = Equal (count, pixels32)
                d = If (all_active) <
                    then_branch = all () => (float[n, 2, h, w] e) { e = Identity (r) },
                    else_branch = some () => (float[n, 2, h, w] f) <int32 one = {1}> {
                        taken = Equal (s, one)
                        f = Where (taken, r, x)
                    }
                >
            },
            else_branch = gather () => (float[n, 2, h, w] g) {
                g = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
                    pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
                    activation = 1, alpha = 0.0> (x, s, w, b, x)
            }
        >
    }

If a frame is to be dense only where every pixel is active, no Where remains. What only the region
reads moves along. The limits were measured: where gathering meets the dense convolution with its
Where, the masked export that it must never fall behind. A density that a cost table chose for the
machine at hand comes first (`graph.choice`).
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.choice import Choice, choice_of, choose
from pagdeploy.graph.edit import Branch, Nodes, Operand, Replacement, constant_of, skip
from pagdeploy.ops import DOMAIN, Mode
from pagdeploy.passes.gathering.pixels import (
    FIRST,
    LAST,
    Geometry,
    is_transpose,
    output_size,
    size_of,
)
from pagdeploy.passes.gathering.regions import Region, find_regions, is_elementwise
from pagdeploy.passes.gathering.rows import Product
from pagdeploy.passes.lower_dense import choose_active, compute

_ADDS = 0.65  # alone, between two changes of layout
_ADDS_IN_A_ROW = 1.0  # the dense side would have to change the layout, so it has to be worth it
_SMALL = 2**20  # bytes of a map whose layout is changed in the cache
_LEAST, _MOST = 0.3, 0.9
# What gathering costs, in the time of so many products: per result, per frame, and per product.
_MOVING, _STARTING, _MULTIPLYING = 100, 30e6, 1.3
_INT32, _FLOAT = int(ir.DataType.INT32), int(ir.DataType.FLOAT)


def run(model: ir.Model) -> int:
    """Put a switch around each region that may be gathered; returns how many."""
    count, regions = 0, find_regions(model)
    made = {region.last for region in regions}
    read = {region.nodes[0] for region in regions}
    thresholds = [
        _threshold(region, in_a_row=_comes_last(region, made) or _goes_last(region, read))
        for region in regions
    ]
    for region, threshold in zip(regions, thresholds, strict=True):
        why_not = _obstacle(model, region)
        if (share := _constant_share(region)) is not None:
            why_not = f"{share:.0%} of its pixels are active in every frame"
            if share >= threshold:
                for node in region.convs:
                    choose(node, Choice("dense"))
        elif threshold > 1:
            why_not = "it is always to be gathered"
        if why_not:
            skip(region.last, f"without a switch, {why_not}")
            continue
        _switch(model, region, threshold)
        count += 1
    return count


def _obstacle(model: ir.Model, region: Region) -> str | None:
    if region.last.graph is not model.graph:
        return "it lies in a branch already"
    if any(node.op_type == "QuantizeLinear" for node in model.graph):
        # onnxruntime moves it up across MaxPool, Transpose and Reshape, if nobody else reads what
        # they read; it does not see a reader inside of a branch, which then gets rounded values.
        return "onnxruntime would round what a branch reads"
    if len(region.branches) > 1:
        return "a pixel takes one of its branches at most"
    if any(
        value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for value in _weights(region)
    ):
        return "a CPU computes 16 bits in float32, dense or not"
    return None


def _constant_share(region: Region) -> float | None:
    """The share of active pixels if it is the same in every frame."""
    value = region.last.inputs[1]
    node = None if value is None else value.producer()
    repeated = node is not None and node.op_type == "Expand" and not node.domain
    selection = constant_of(node.inputs[0] if repeated and node is not None else value)
    branches = [node.attributes.get_int("branch") for node in region.branches]
    return None if selection is None else float(np.isin(selection, branches).mean())


def _weights(region: Region) -> list[ir.Value]:
    return [value for node in region.convs for value in node.inputs[2:4] if value is not None]


def _comes_last(region: Region, made: set[ir.Node]) -> bool:
    """Whether what a region reads comes channels last, as another region makes it."""
    node = region.source.producer()
    while node is not None and is_elementwise(node):
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    return node in made or is_transpose(node, FIRST)


def _goes_last(region: Region, read: set[ir.Node]) -> bool:
    """Whether a reader of the result wants it channels last, as another region reads it."""
    pending = [region.last]
    while pending:
        for node, _ in pending.pop().outputs[0].uses():
            if node in read or is_transpose(node, LAST):
                return True
            if is_elementwise(node):
                pending.append(node)
    return False


def _threshold(region: Region, *, in_a_row: bool) -> float:
    threshold = choice_of(region.last).threshold
    if threshold is not None:
        return threshold
    output = region.last.outputs[0].shape
    numbers = [size for size in output or () if isinstance(size, int)]
    values = prod(numbers) if len(numbers) == 4 else float("inf")
    if region.last.attributes.get_int("mode") == Mode.ADD:
        return _ADDS_IN_A_ROW if in_a_row and 4 * values > _SMALL else _ADDS
    depth = Product.of(region.last).matrix.shape[1]  # products per result
    starting = _STARTING / (depth * values)
    density = float(1 - _MOVING / depth - starting) / _MULTIPLYING
    return min(max(density, _LEAST), _MOST)


def _switch(model: ir.Model, region: Region, threshold: float) -> None:
    put = Replacement(model, region.last, "/switch")
    selection = region.last.inputs[1]
    assert selection is not None, "check_model refuses missing inputs"
    branch = np.array(region.last.attributes.get_int("branch"), np.int32)
    active = put.op("Equal", selection, branch)
    count = put.op("ReduceSum", put.op("Cast", active, to=_INT32), keepdims=0)
    pixels = _count(put, region, active)
    dense, gather = put.branch("dense"), put.branch("gather")
    if threshold == 1:
        is_dense = put.op("Equal", count, put.op("Cast", pixels, to=_INT32))
        computed = _computed(dense, region, None)
    else:
        limit = put.op("Mul", put.op("Cast", pixels, to=_FLOAT), np.array(threshold, np.float32))
        is_dense = put.op("GreaterOrEqual", put.op("Cast", count, to=_FLOAT), limit)
        all_active = dense.op("Equal", count, dense.op("Cast", pixels, to=_INT32))
        computed = _computed(dense, region, all_active)
    put.finish(
        put.op(
            "If",
            is_dense,
            then_branch=dense.graph(computed),
            else_branch=gather.graph(_copied(gather, region)),
        )
    )
    for node in reversed(region.nodes[:-1]):
        assert node.graph is not None, "nothing else has removed it"
        node.graph.remove(node, safe=True)


def _count(put: Nodes, region: Region, active: ir.Value) -> ir.Value:
    """int64 (): how many decisions there have to be."""
    selection = region.last.inputs[1]
    assert selection is not None, "check_model refuses missing inputs"
    if selection.shape is not None and list(selection.shape[2:]) == [1, 1]:
        return put.op("Size", active)  # one an image
    # Not the selection's own size: one of a wrong size must fail, also where all is active.
    size = output_size(put, size_of(put, region.source), Geometry.of(region.convs[0]))
    sizes = put.op("Concat", size.batch, size.height, size.width, axis=0)
    return put.op("ReduceProd", sizes, keepdims=0)


def _computed(put: Branch, region: Region, all_active: ir.Value | None) -> ir.Value:
    """The region at every pixel.

    Args:
        put: Where nodes go.
        region: What to compute.
        all_active: Whether all pixels are active; None if they are known to be.
    """
    x: ir.Value = region.source
    for node, reader in zip(region.nodes, (*region.nodes[1:], None), strict=True):
        operands: list[Operand | None] = [x, *(_local(value) for value in node.inputs[1:])]
        if node.domain != DOMAIN:
            x = put.copy(node, *operands)
        elif all_active is None or (reader is not None and Geometry.of(reader).is_pointwise):
            x = compute(put, node, operands, masked=False)  # it is read at active pixels only
        elif reader is not None:
            x = compute(put, node, operands)
        else:
            x = _last(put, node, operands, all_active)
    return x


def _last(
    put: Branch, node: ir.Node, operands: list[Operand | None], all_active: ir.Value
) -> ir.Value:
    """The result; without a Where if all pixels are active."""
    every, some = put.branch("all"), put.branch("some")
    if node.attributes.get_int("mode") == Mode.ADD:
        # The runtime fuses convolution, sum and activation only if nothing lies in between.
        computed = compute(every, node, operands, masked=False)
        chosen = compute(some, node, operands)
    else:
        result = compute(put, node, operands, masked=False)
        computed = every.op("Identity", result)
        chosen = choose_active(some, node, operands[1], result, operands[4])
    return put.op(
        "If",
        all_active,
        then_branch=every.graph(computed),
        else_branch=some.graph(chosen),
    )


def _local(value: ir.Value | None) -> Operand | None:
    """A constant itself, so that it comes to lie in the branch."""
    array = constant_of(value)
    return value if array is None else array


def _copied(put: Branch, region: Region) -> ir.Value:
    """The region as it is."""
    x: ir.Value = region.source
    for node in region.nodes:
        x = put.copy(node, x, *node.inputs[1:])
        twin = x.producer()
        assert twin is not None, "a node was just copied"
        twin.name = node.name
    return x
