"""Perforate every convolution that is read only where some mask is set (pixel liveness).

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    live (float[n, 2, h, w] x, float[n, 2, h, w] logits) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] v = {4, 3, 2, 1}, float[2] c = {7, 8},
     float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
    {
        selection = pagdeploy.PAGGate (logits)
        first = Conv <kernel_shape: ints = [1, 1]> (x, v, c)
        hidden = Relu (first)
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 1,
            activation = 1, alpha = 0.0> (hidden, selection, w, b, x)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    live (float[n, 2, h, w] x, float[n, 2, h, w] logits) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] v = {4, 3, 2, 1}, float[2] c = {7, 8}, float[1, 1, 1, 1] zero = {0},
     float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
    {
        selection = pagdeploy.PAGGate (logits)
        hidden = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 1, alpha = 0.0> (x, selection, v, c, zero)
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 1,
            activation = 1, alpha = 0.0> (hidden, selection, w, b, x)
    }

Where nothing reads a pixel it becomes zero (`graph.liveness` says what is read). Of what is read in
the windows of active pixels, see `passes.infer_support`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.branches import activation_of
from pagdeploy.graph.edit import Operand, Replacement, drop_dead, explain, skip
from pagdeploy.graph.liveness import Liveness
from pagdeploy.graph.masks import Origin
from pagdeploy.graph.perforate import UNREAD, Perforable, depends_on, is_on, perforable
from pagdeploy.graph.pixel_sets import (
    Chosen,
    Either,
    Everywhere,
    Fixed,
    Region,
    Windows,
    choices_in,
    decisions_of,
    has_windows,
    in_words,
)
from pagdeploy.graph.sizes import same_grid
from pagdeploy.ops import DOMAIN, VERSION, Activation
from pagdeploy.ops.derive import MIN_OPSET

_LARGEST_SHARE = 0.75  # of constant pixels: nobody will find out later that it does not pay


def run(model: ir.Model) -> int:
    """Perforate what is read only where masks of the model are set; explains all the others."""
    return perforate_where(model, supports=False)


def perforate_where(model: ir.Model, *, supports: bool) -> int:
    """Perforate what liveness allows; says of every other convolution who reads its pixels.

    Args:
        model: Gates and masked convolutions are ours already.
        supports: Also what is read in the windows of active pixels, with a mask made for it.
    """
    if model.opset_imports.get("", 1) < MIN_OPSET:
        return 0
    inference = _Inference(model, supports)
    count = sum(
        inference.perforate(node)
        for node in list(model.graph)
        if node.op_type == "Conv" and not node.domain
    )
    if count:
        model.opset_imports[DOMAIN] = VERSION
        model.graph.sort()  # a gate may stand behind the convolutions that it rules
    return count


class _Inference:
    def __init__(self, model: ir.Model, supports: bool) -> None:
        self._model, self._supports = model, supports
        self._live = Liveness(model)
        self._selections: dict[Region, tuple[ir.Value, int]] = {}
        self._masks: dict[Region, ir.Value] = {}

    def perforate(self, node: ir.Node) -> bool:
        """Whether a convolution was perforated."""
        region = self._live.of(node.outputs[0])
        if isinstance(region, Everywhere):
            skip(node, region.why)
            return False
        if not self._supports and has_windows(region):
            skip(node, f"only a support is read: {in_words(region)}")
            return False
        conv = perforable(node, self._live.sizes)
        if isinstance(conv, str):
            skip(node, conv)
            return False
        if why := _not_worth_it(region):
            skip(node, why)
            return False
        sizes = self._live.sizes
        keeps_size = same_grid(sizes.of(node.inputs[0]), sizes.of(node.outputs[0]))
        # Who asks for its size may as well ask its input.
        aside = {use.node for use in node.outputs[0].uses() if use.node.op_type == "Shape"}
        aside = aside if keeps_size else set()
        if any(depends_on(decision.value, node, aside) for decision in decisions_of(region)):
            skip(node, "its mask depends on it")
            return False
        bound = self._bound(region, conv)
        if bound is None:
            skip(node, "the size of what is read of it is known only behind it")
            return False
        if keeps_size:
            conv.ask_input_for_size(self._model, node.outputs[0])
        self._replace(conv, bound)
        explain(node, f"is read only where {in_words(region)}")
        return True

    def _bound(self, region: Region, conv: Perforable) -> Region | None:
        """The region with its sizes taken from values that do not depend on the convolution."""
        if isinstance(region, Chosen | Fixed):
            return region
        if isinstance(region, Either):
            parts = [self._bound(part, conv) for part in region.regions]
            known = [part for part in parts if part is not None and not isinstance(part, Either)]
            return Either(frozenset(known)) if len(known) == len(parts) else None
        inner, sizes = self._bound(region.of, conv), self._live.sizes
        if inner is None or region.size_of is None:
            return None if inner is None else replace(region, of=inner)
        size, source = sizes.of(region.size_of), conv.node.inputs[0]
        fixed = size is not None and all(isinstance(s.expression, int) for s in size[2:])
        if not fixed and not same_grid(size, sizes.of(source)):
            return None
        return replace(region, of=inner, size_of=region.size_of if fixed else source)

    def _replace(self, conv: Perforable, region: Region) -> None:
        output = conv.node.outputs[0]
        last, activation, alpha = conv.node, Activation.NONE, 0.0
        readers = [use.node for use in output.uses()]
        if len(readers) == 1 and readers[0].graph is self._model.graph:
            found = activation_of(readers[0])
            if found is not None:
                last, (activation, alpha) = readers[0], found
        put = Replacement(self._model, last, "/mask")
        selection, branch = self._selection(put, region, output)
        y = conv.perforated(put, selection, branch, activation=activation, alpha=alpha)
        y.producer().metadata_props[UNREAD] = "1"  # type: ignore[union-attr]
        operands = list(last.inputs)
        put.finish(y)
        drop_dead(operands)

    def _selection(
        self, put: Replacement, region: Region, output: ir.Value
    ) -> tuple[ir.Value, int]:
        """A selection, and the branch that it says in a region."""
        if region not in self._selections:
            if (
                isinstance(region, Chosen)
                and len(region.branches) == 1
                and region.decision.origin is Origin.GATE
            ):
                found = region.decision.value, next(iter(region.branches))
            elif isinstance(region, Fixed):
                found = self._constant(put, region, output), 1
            else:
                selection = put.op("Cast", self._mask(put, region), to=int(ir.DataType.INT32))
                selection.type = ir.TensorType(ir.DataType.INT32)
                if isinstance(region, Windows) and output.shape is not None:
                    dims = list(output.shape)
                    selection.shape = ir.Shape([dims[0], 1, *dims[2:]])
                found = selection, 1
            self._selections[region] = found
        return self._selections[region]

    def _constant(self, put: Replacement, region: Fixed, output: ir.Value) -> ir.Value:
        """The same pixels for every image of a batch: int32, (N, 1, H, W)."""
        flags = region.array().astype(np.int32)[None, None]
        sizes = self._live.sizes.of(output)
        batch = None if sizes is None else sizes[0].expression
        if isinstance(batch, int):
            return put.constant(np.repeat(flags, batch, 0))
        conv = output.producer()
        assert conv is not None, "a convolution makes it"
        count = put.op("Shape", conv.inputs[0], start=0, end=1)
        shape = put.op("Concat", count, np.array([1, *region.size], np.int64), axis=0)
        selection = put.op("Expand", flags, shape)
        selection.type = ir.TensorType(ir.DataType.INT32)
        if output.shape is not None:
            selection.shape = ir.Shape([output.shape[0], 1, *region.size])
        return selection

    def _mask(self, put: Replacement, region: Region) -> ir.Value:
        """A region as bool, (N, 1, H, W) or (N, 1, 1, 1)."""
        if region not in self._masks:
            self._masks[region] = self._compute(put, region)
        return self._masks[region]

    def _compute(self, put: Replacement, region: Region) -> ir.Value:
        if isinstance(region, Chosen):
            value = region.decision.value
            if region.decision.origin is Origin.DERIVED:
                value = put.op("Cast", is_on(put, region.decision), to=int(ir.DataType.INT32))
            masks = [
                put.op("Equal", value, np.array(branch, np.int32))
                for branch in sorted(region.branches)
            ]
            return _any(put, masks)
        if isinstance(region, Fixed):
            return put.constant(region.array()[None, None])
        if isinstance(region, Either):
            parts = sorted(region.regions, key=in_words)
            return _any(put, [self._mask(put, part) for part in parts])
        inner = put.op("Cast", self._mask(put, region.of), to=int(ir.DataType.FLOAT))
        ones = np.ones((1, 1, *region.kernel), np.float32)
        geometry: dict[str, Any] = {
            "kernel_shape": region.kernel,
            "strides": region.strides,
            "pads": region.pads,
            "dilations": region.dilations,
        }
        if region.size_of is not None:
            # The largest input that this output can come from, cut to the size it really has.
            geometry["output_padding"] = [stride - 1 for stride in region.strides]
        count = put.op("ConvTranspose", inner, ones, **geometry)
        if region.size_of is not None:
            start, axes = np.zeros(2, np.int64), np.array([2, 3], np.int64)
            count = put.op("Slice", count, start, self._size(put, region), axes)
        return put.op("Greater", count, np.full((), 0.5, np.float32))

    def _size(self, put: Replacement, region: Windows) -> Operand:
        """Height and width of what the windows lie in, (2,)."""
        assert region.size_of is not None, "the stride is not 1"
        sizes = self._live.sizes.of(region.size_of)
        known = [size.expression for size in (sizes or ())[2:]]
        numbers = [number for number in known if isinstance(number, int)]
        if len(numbers) == 2:
            return np.array(numbers, np.int64)
        return put.op("Shape", region.size_of, start=2, end=4)


def _any(put: Replacement, masks: list[ir.Value]) -> ir.Value:
    result = masks[0]
    for mask in masks[1:]:
        result = put.op("Or", result, mask)
    return result


def _not_worth_it(region: Region) -> str | None:
    """Why a region is better not listed, if so."""
    if not all(choice.branches for choice in choices_in(region)):
        return "no branch reads it"
    if isinstance(region, Fixed) and not region.share:
        return "none of its pixels is read"
    if isinstance(region, Fixed) and region.share > _LARGEST_SHARE:
        return f"{region.share:.0%} of its pixels are read, always the same"
    return None
