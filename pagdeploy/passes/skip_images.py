"""Compute what one decision per image rules for those images only that it turns on.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    images (float[n, 2, h, w] x, int32[n, 1, 1, 1] s) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
    {
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 1,
            activation = 1, alpha = 0.0> (x, s, w, b, x)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    images (float[n, 2, h, w] x, int32[n, 1, 1, 1] s) => (float[n, 2, h, w] y)
    <int32 branch = {1}, int32 none = {0}>
    {
        active = Equal (s, branch)
        active01 = Cast <to = 6> (active)
        count = ReduceSum <keepdims = 0> (active01)
        any = Greater (count, none)
        y = If (any) <
            then_branch = on () => (float[n, 2, h, w] r) {
                images = Size (active)
                images32 = Cast <to = 6> (images)
                all = Equal (count, images32)
                r = If (all) <
                    then_branch = all () => (float[n, 2, h, w] d)
                    <float[2, 2, 1, 1] w1 = {1, 2, 3, 4}, float[2] b1 = {5, 6}> {
                        c = Conv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
                            dilations = [1, 1], group = 1> (x, w1, b1)
                        a = Add (x, c)
                        d = Relu (a)
                    },
                    else_branch = some () => (float[n, 2, h, w] e)
                    <int64[1] minus = {-1}, float[2, 2, 1, 1] w2 = {1, 2, 3, 4},
                     float[2] b2 = {5, 6}> {
                        flat = Reshape (active, minus)
                        found = NonZero (flat)
                        places = Reshape (found, minus)
                        xs = Gather <axis = 0> (x, places)
                        cs = Conv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
                            dilations = [1, 1], group = 1> (xs, w2, b2)
                        sums = Add (xs, cs)
                        rs = Relu (sums)
                        others = Relu (x)
                        rows = Unsqueeze (places, minus)
                        e = ScatterND (others, rows, rs)
                    }
                >
            },
            else_branch = off () => (float[n, 2, h, w] o) { o = Relu (x) }
        >
    }

The convolutions stay dense ones, over fewer images, so that the runtime's own layout and fusions
serve them. A model of one image has no part for a mixed batch. What is left out is whatever only
the part reads (`graph.images`), but no gate: its decision can be asked for. The mean over each
channel, which the next gate reads of the result, is taken in the branches, too: there it finds the
map in the layout of the convolutions, and of an image that is off it is often known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.branches import Activated, Is, Number, Sum, Term, written
from pagdeploy.graph.choice import record
from pagdeploy.graph.edit import Branch, Nodes, Operand, Replacement, constant_of, drop_dead, skip
from pagdeploy.graph.images import ImagePart, ImageParts, leaves, means_of
from pagdeploy.ops import DOMAIN, Activation
from pagdeploy.passes.gathering.regions import is_non_negative
from pagdeploy.passes.lower_dense import compute

_INT32 = int(ir.DataType.INT32)
_CHANNEL_BLOCK = 16  # the largest that onnxruntime computes in


def run(model: ir.Model) -> int:
    """Put each part that one decision per image rules behind an If; returns how many."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph):
        return 0  # onnxruntime would round what a branch reads, see `passes.switch_dense`
    parts, count = ImageParts(model), 0
    for node in reversed(list(model.graph)):  # a larger part before those in it
        if node.graph is not model.graph:
            continue  # it went into a larger one
        found = parts.ending_in(node)
        if isinstance(found, str):
            skip(node, f"for all images, {found}")
        elif found is not None:
            _put_behind_if(model, found)
            count += 1
    return count


def _put_behind_if(model: ir.Model, part: ImagePart) -> None:
    for node in part.nodes:
        if node.domain == DOMAIN:
            record(model, node, "images")
    operands = list(part.root.inputs)
    put = Replacement(model, part.root, "/images")
    active = put.op("Equal", part.selection, np.array(part.branch, np.int32))
    on, off = put.branch("on"), put.branch("off")
    skipped = _made(off, _off(off, part))
    if part.one_image:
        is_on, computed = active, _made(on, _on(on, part, {}))
    else:
        count = put.op("ReduceSum", put.op("Cast", active, to=_INT32), keepdims=0)
        is_on = put.op("Greater", count, np.array(0, np.int32))
        computed = _of_several(on, part, active, count)
    means = [node for node in means_of(part.root.outputs[0]) if _may_move(node, model)]
    taken, left = [computed], [skipped]
    if means:
        taken.append(on.op("GlobalAveragePool", computed))
        left.append(_mean_of_off(off, part, skipped))
    results = put.ops(
        "If", len(taken), is_on, then_branch=on.graph(*taken), else_branch=off.graph(*left)
    )
    put.finish(results[0])
    if means:
        _replace(means, results[1])
    drop_dead(operands)


def _may_move(mean: ir.Node, model: ir.Model) -> bool:
    return mean.graph is model.graph and not mean.outputs[0].is_graph_output()


def _mean_of_off(off: Nodes, part: ImagePart, skipped: ir.Value) -> ir.Value:
    """The means over the channels of images that are off: often their own gate has read them."""
    if base := _shown(part.off):
        for mean in means_of(base):
            if _comes_before(mean, part.root):
                return off.op("Identity", mean.outputs[0])
    return off.op("GlobalAveragePool", skipped)


def _shown(off: Term) -> ir.Value | None:
    """The value that images that are off show, unchanged."""
    if isinstance(off, Activated) and off.kind is Activation.RELU and isinstance(off.inner, Is):
        return off.inner.value if is_non_negative(off.inner.value) else None
    return off.value if isinstance(off, Is) else None


def _comes_before(first: ir.Node, second: ir.Node) -> bool:
    if first.graph is None or first.graph is not second.graph:
        return False
    return next(node for node in first.graph if node in (first, second)) is first


def _replace(means: Sequence[ir.Node], result: ir.Value) -> None:
    """Let one value stand for what several nodes say alike."""
    old = means[0].outputs[0]
    name, result.type, result.shape = old.name, old.type, old.shape
    for mean in means:
        mean.outputs[0].replace_all_uses_with(result)
        assert mean.graph is not None, "it may be moved"
        mean.graph.remove(mean, safe=True)
    result.name = name


def _of_several(put: Branch, part: ImagePart, active: ir.Value, count: ir.Value) -> ir.Value:
    """The output where at least one image is on."""
    every, some = put.branch("all"), put.branch("some")
    images = put.op("Cast", put.op("Size", active), to=_INT32)
    minus = np.array([-1], np.int64)
    flat = some.op("Reshape", active, minus)
    places = some.op("Reshape", some.op("NonZero", flat), minus)
    chosen: dict[ir.Value, ir.Value] = {}
    read = [value for node in part.nodes for value in node.inputs if value is not None]
    for value in dict.fromkeys([*read, *leaves(part.on)]):
        if value in part.batched:
            chosen[value] = some.op("Gather", value, places, axis=0)
    results = _on(some, part, chosen)
    rows = some.op("Unsqueeze", places, minus)
    mixed = some.op("ScatterND", _off(some, part), rows, results)
    return put.op(
        "If",
        put.op("Equal", count, images),
        then_branch=every.graph(_made(every, _on(every, part, {}))),
        else_branch=some.graph(mixed),
    )


def _on(put: Nodes, part: ImagePart, chosen: Mapping[ir.Value, ir.Value]) -> ir.Value:
    """The output of images that are on.

    Args:
        put: Where nodes go.
        part: What to compute.
        chosen: In place of values that are made elsewhere, their images that are on.
    """
    known = dict(chosen)
    for value in _summands(part):
        known[value] = put.op("AveragePool", known.get(value, value), kernel_shape=[1, 1])
    for node in part.nodes:
        operands = [_operand(value, known) for value in node.inputs]
        if node.domain == DOMAIN:
            known[node.outputs[0]] = compute(put, node, operands, masked=False)
        else:
            made = known[node.outputs[0]] = put.copy(node, *operands)
            if chosen and made.shape is not None:
                # Of fewer images: onnxruntime would let sizes of one name share their memory.
                made.shape = ir.Shape([None, *made.shape[1:]])
    return written(put, _over(part.on, known), _dtype(part))


def _summands(part: ImagePart) -> list[ir.Value]:
    """Maps that come from outside and are added to what a convolution makes.

    onnxruntime's fastest convolution adds a map by itself if that has its layout, which a map from
    outside gets from an operator that computes in it: the mean of one pixel.
    """
    bases = [node.inputs[4] for node in part.nodes if node.domain == DOMAIN]
    maps = [*bases, *leaves(part.on)]
    made = {node.outputs[0] for node in part.nodes}
    return [
        value
        for value in dict.fromkeys(maps)
        if value in part.batched and value not in made and _has_channel_blocks(value)
    ]


def _has_channel_blocks(value: ir.Value) -> bool:
    channels = None if value.shape is None else value.shape[1]
    blocks = isinstance(channels, int) and channels % _CHANNEL_BLOCK == 0
    return blocks and value.dtype == ir.DataType.FLOAT


def _operand(value: ir.Value | None, known: Mapping[ir.Value, ir.Value]) -> Operand | None:
    """A constant itself, so that it comes to lie in the branch."""
    array = constant_of(value)
    return known.get(value, value) if array is None and value is not None else array


def _off(put: Nodes, part: ImagePart) -> ir.Value:
    """The output of images that are off, of as many as there are."""
    result = written(put, part.off, _dtype(part))
    if not isinstance(part.off, Number):
        return result
    sizes = np.array([size.expression for size in part.size[1:]], np.int64)
    images = put.op("Shape", part.selection, start=0, end=1)
    return put.op("Expand", result, put.op("Concat", images, sizes, axis=0))


def _made(put: Nodes, value: ir.Value) -> ir.Value:
    """The value, made by a node of the branch: none may give out what comes from outside."""
    return value if put.made(value) else put.op("Identity", value)


def _over(term: Term, known: Mapping[ir.Value, ir.Value]) -> Term:
    """A term of other values."""
    if isinstance(term, Is):
        return Is(known.get(term.value, term.value))
    if isinstance(term, Sum):
        return Sum(_over(term.left, known), _over(term.right, known))
    if isinstance(term, Activated):
        return Activated(term.kind, term.alpha, _over(term.inner, known))
    return term


def _dtype(part: ImagePart) -> np.dtype:
    dtype = part.root.outputs[0].dtype
    return np.dtype(np.float32) if dtype is None else dtype.numpy()
