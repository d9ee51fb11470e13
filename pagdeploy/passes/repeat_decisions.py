"""Repeat one decision per image at every pixel, where the ops of our library compute what it rules.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    repeated (float[n, 2, 3, 4] given, int32[n, 1, 1, 1] s) => (float[n, 2, 3, 4] y)
    <float[2, 2, 1, 1] v = {4, 3, 2, 1}, float[2] c = {7, 8}, float[1, 1, 1, 1] zero = {0},
     float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
    {
        x = Relu (given)
        hidden = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 1, alpha = 0.0> (x, s, v, c, zero)
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 1,
            activation = 1, alpha = 0.0> (hidden, s, w, b, x)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    repeated (float[n, 2, 3, 4] given, int32[n, 1, 1, 1] s) => (float[n, 2, 3, 4] y)
    <float[2, 2, 1, 1] v = {4, 3, 2, 1}, float[2] c = {7, 8}, float[1, 1, 1, 1] zero = {0},
     float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}, int64[4] size = {1, 1, 3, 4}>
    {
        x = Relu (given)
        pixels = Expand (s, size)
        hidden = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 1, alpha = 0.0> (x, pixels, v, c, zero)
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 1,
            activation = 1, alpha = 0.0> (hidden, pixels, w, b, x)
    }

The library's list of pixels is then empty for images that are off: they cost nothing, not even a
copy where the result is written over the base, and the map never leaves the layout of the ops. An
`If` (`passes.skip_images`) has it in the runtime's plain layout at both ends, and mixed batches
hold the weights twice. It stays the better form of a part that holds more than convolutions, such
as a pooled branch, which no list of pixels can leave out.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, weights_of
from pagdeploy.graph.images import ImagePart, ImageParts
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import Sizes
from pagdeploy.passes.gathering.pixels import output_size, size_of
from pagdeploy.passes.native.blends import blends_of
from pagdeploy.passes.native.liveness import ELEMENTWISE, geometry_of, is_ours, obstacle


def run(model: ir.Model) -> int:
    """Repeat the decisions on convolutions that lists of pixels serve best; returns how many."""
    stays = _better_behind_if(model)
    repeated: dict[Hashable, ir.Value] = {}
    sizes, count = ShapeBook(model), 0
    for node in list(model.graph):  # the first reader of a repeated decision comes first
        if not is_ours(node) or node in stays or not _is_listable(node):
            continue
        selection, y = node.inputs[1], node.outputs[0]
        assert selection is not None, "check_model refuses missing inputs"
        given, wanted = sizes.of(selection), sizes.of(y)
        if not _is_per_image(given) or wanted is None or len(wanted) != 4:
            continue
        key = (selection, *(size.expression for size in wanted[2:]))
        if key not in repeated:
            repeated[key] = _repeated(model, node, wanted)
        node.replace_input_with(1, repeated[key])
        count += 1
    return count


def _better_behind_if(model: ir.Model) -> set[ir.Node]:
    """What belongs to parts that hold more than what lists can leave out."""
    parts, blends = ImageParts(model), {blend.root for blend in blends_of(model)}
    served, stays = set[ir.Node](), set[ir.Node]()
    for node in reversed(list(model.graph)):  # a larger part before those in it
        found = parts.ending_in(node)
        if isinstance(found, ImagePart) and not served.issuperset(found.nodes):
            (served if _is_served_by_lists(found, blends) else stays).update(found.nodes)
    return stays


def _is_served_by_lists(part: ImagePart, blends: set[ir.Node]) -> bool:
    """Whether convolutions, and the activations behind them, are all that a part holds."""
    if not is_ours(part.root) and part.root not in blends:
        return False
    others = [node for node in part.nodes if not is_ours(node)]
    return all(_is_listable(node) for node in part.nodes if is_ours(node)) and all(
        not node.domain and node.op_type in ELEMENTWISE for node in others
    )


def _is_listable(node: ir.Node) -> bool:
    """Whether the library computes a convolution, in float32 or in integers."""
    if obstacle(node, 2, 3) is None:
        return True
    weights = node.inputs[2].producer() if node.inputs[2] is not None else None
    quantized = weights is not None and weights.op_type == "DequantizeLinear"
    return quantized and weights_of(node.inputs[2]) is not None


def _is_per_image(sizes: Sizes | None) -> bool:
    return sizes is not None and len(sizes) == 4 and all(size.is_one for size in sizes[1:])


def _repeated(model: ir.Model, node: ir.Node, wanted: Sizes) -> ir.Value:
    """A decision per image as one per pixel of a convolution's output, int32 (N, 1, Ho, Wo)."""
    x, selection = node.inputs[:2]
    assert x is not None and selection is not None, "check_model refuses missing inputs"
    put = Replacement(model, node, "/selection")
    known = [size.expression for size in wanted[2:]]
    if all(isinstance(size, int) for size in known):
        result = put.op("Expand", selection, np.array([1, 1, *known], np.int64))
    else:
        size, ones = output_size(put, size_of(put, x), geometry_of(node)), np.ones(2, np.int64)
        result = put.op(
            "Expand", selection, put.op("Concat", ones, size.height, size.width, axis=0)
        )
    result.type = ir.TensorType(ir.DataType.INT32)
    batch, _, height, width = node.outputs[0].shape or (None, None, None, None)
    if batch is not None:
        result.shape = ir.Shape([batch, 1, height, width])
    put.put_in_front()
    return result
