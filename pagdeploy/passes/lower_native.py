"""Lower PerforatedConv to the ops of our onnxruntime library, channels last inside a gated region.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    native (float[n, 2, h, w] given, int32[n, 1, h, w] s) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6},
     float[2, 1, 3, 3] k = {1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2}>
    {
        x = Relu (given)
        c = Conv (x, w, b)
        a = Relu (c)
        y = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
            pads = [1, 1, 1, 1], dilations = [1, 1], group = 2, branch = 1, mode = 1,
            activation = 1, alpha = 0.0> (a, s, k, b, x)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy.cpu" : 1]>
    native (float[n, 2, h, w] given, int32[n, 1, h, w] s) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}, float[1, 1, 1, 1] zero = {0},
     float[2, 1, 3, 3] k = {1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2}>
    {
        x = Relu (given)
        x_last = Transpose <perm = [0, 2, 3, 1]> (x)
        active = pagdeploy.cpu.ActivePixels <branch = 1> (s)
        batch = Shape <start = 0, end = 1> (s)
        map = Shape <start = 2, end = 4> (s)
        size = Concat <axis = 0> (batch, map)
        support = pagdeploy.cpu.SupportPixels <kernel_shape = [3, 3], strides = [1, 1],
            pads = [1, 1, 1, 1], dilations = [1, 1]> (active, size)
        a_last = pagdeploy.cpu.PerforatedConvNhwc <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, mode = 0, activation = 1,
            alpha = 0.0, inactive = 2> (x_last, w, b, zero, support)
        y_last = pagdeploy.cpu.PerforatedConvNhwc <kernel_shape = [3, 3], strides = [1, 1],
            pads = [1, 1, 1, 1], dilations = [1, 1], group = 2, mode = 1, activation = 1,
            alpha = 0.0, inactive = 1> (a_last, k, b, x_last, active)
        y = Transpose <perm = [0, 3, 1, 2]> (y_last)
    }

A value that this pass lays out channels last is read so by every convolution and activation
behind it; the transposed one stays for other readers, and is dropped if there are none. A
convolution that one other reads alone is computed where that one reads, and its other pixels are
dead. A convolution that computes every pixel ends with the sum that alone reads it (`native.sums`).
A pointwise convolution that alone reads another one at the same pixels becomes one node with it
where that pays (`native.pairs`). What a block makes where its gate is on, and what it reads where
that is off, is one convolution, too (`native.blends`). The mean over each channel is taken where
the map lies. Wide maps change their layout by ops of the library, with the activation in front
(`native.layouts`). docs/plugins.md defines the ops.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.choice import record
from pagdeploy.graph.cut import CHANNELS_LAST
from pagdeploy.graph.edit import Operand, Replacement, constant_of, is_zero, skip
from pagdeploy.graph.images import is_mean
from pagdeploy.ops import DOMAIN, Activation, Mode
from pagdeploy.ops.native import CPU_DOMAIN, CPU_VERSION
from pagdeploy.passes.gathering.pixels import output_size, size_of
from pagdeploy.passes.gathering.regions import is_non_negative
from pagdeploy.passes.native.blends import fuse
from pagdeploy.passes.native.layouts import change, channels_last, last_of
from pagdeploy.passes.native.lists import list_of
from pagdeploy.passes.native.liveness import (
    ELEMENTWISE,
    Where,
    geometry_of,
    is_conv,
    is_ours,
    obstacle,
    pixels_read,
    where_active,
)
from pagdeploy.passes.native.pairs import join
from pagdeploy.passes.native.sums import absorb, activation_of

# Values of the attribute `inactive`.
_DEFINE, _BASE, _DEAD = 0, 1, 2

_ZERO = np.zeros((1, 1, 1, 1), np.float32)


def run(model: ir.Model) -> int:
    """Lower every float32 convolution that can be; others are left for other passes."""
    lowering = _Lowering(model)
    count = sum(lowering.lower(node) for node in list(model.graph))
    if count:
        model.opset_imports[CPU_DOMAIN] = CPU_VERSION
        lowering.drop_unread()
        absorb(model)
        join(model)
        model.graph.sort()  # a list may be needed before its selection was
        change(model)
    return count


class _Lowering:
    def __init__(self, model: ir.Model) -> None:
        self.model = model
        # Before blends are fused, which show a base of any sign, and before anything is lowered,
        # which proves nothing any more.
        self.keeps_base = {
            node
            for node in model.graph
            if is_ours(node) and _keeps(node.attributes.get_int("activation"), node.inputs[4])
        }
        self.keeps_base |= fuse(model)
        self.needs = pixels_read(model.graph)
        self.last: dict[ir.Value, ir.Value] = {}  # channels first -> channels last
        self.lists: dict[Where, ir.Value] = {}

    def lower(self, node: ir.Node) -> bool:
        """Replace the node, if that is possible and pays."""
        if is_ours(node):
            if why := obstacle(node, 2, 3):
                skip(node, why)
                return False
            return self._finish(node, self._perforated)
        if node.op_type == "PAGGate" and node.domain == DOMAIN:
            return self._widen(node)
        if is_conv(node):
            x, need = node.inputs[0], self.needs.get(node)
            if (need is None and x not in self.last) or obstacle(node, 1, 2):
                return False
            return self._finish(node, self._plain)
        if is_mean(node) and node.inputs[0] in self.last:
            return self._mean(node)
        if node.domain or node.op_type not in ELEMENTWISE or not self._can_be_last(node):
            return False
        return self._finish(node, self._elementwise)

    def _widen(self, node: ir.Node) -> bool:
        """Let a gate decide in float32, which the library has; no decision changes by it."""
        (logits,) = node.inputs
        if logits is None or logits.dtype in (None, ir.DataType.FLOAT):
            return False
        put = Replacement(self.model, node)
        wide = put.op("Cast", logits, to=int(ir.DataType.FLOAT))
        wide.type = ir.TensorType(ir.DataType.FLOAT)
        put.finish(put.copy(node, wide))
        return True

    def drop_unread(self) -> None:
        """Remove the transposed values that nobody reads."""
        for first in reversed(self.last):
            node = first.producer()
            unread = not first.uses() and not first.is_graph_output()
            if unread and node is not None and node.op_type == "Transpose":
                self.model.graph.remove(node, safe=True)

    def _finish(self, node: ir.Node, make: Callable[[Replacement, ir.Node], ir.Value]) -> bool:
        put = Replacement(self.model, node)
        result = make(put, node)
        result.type = ir.TensorType(ir.DataType.FLOAT)
        result.name = f"{node.outputs[0].name}{CHANNELS_LAST}"  # where `verify` compares it
        result.shape = last_of(node.outputs[0].shape) or result.shape
        first = put.op("Transpose", result, perm=[0, 3, 1, 2])
        self.last[first] = result
        put.finish(first)
        return True

    def _perforated(self, put: Replacement, node: ir.Node) -> ir.Value:
        x, _, w, b, base = node.inputs
        assert x and w and b and base, "check_model refuses missing inputs"
        record(self.model, node, "native")
        where = where_active(node)
        if where is None:
            pixels = self._expanded(put, node)
        else:
            pixels = list_of(put, node, where, self.lists)
        adds = node.attributes.get_int("mode") == Mode.ADD
        inactive = _DEFINE
        # Not where a mask multiplies them: what is dead may be NaN, and zero times NaN is NaN.
        if where is not None and self.needs.get(node) == where:
            inactive = _DEAD
        elif not adds or node in self.keeps_base:
            inactive = _BASE
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        del attributes["branch"]
        ground: Operand = _ZERO if is_zero(base) else self._twin(put, base)
        return put.op(
            "PerforatedConvNhwc", self._twin(put, x), w, b, ground, pixels,
            domain=CPU_DOMAIN, **attributes, inactive=inactive,
        )  # fmt: skip

    def _plain(self, put: Replacement, node: ir.Node) -> ir.Value:
        x, w = node.inputs[:2]
        assert x and w, "check_model refuses missing inputs"
        weight = constant_of(w)
        assert weight is not None, "obstacle refuses computed weights"
        bias: Operand = np.zeros(weight.shape[0], np.float32)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = node.inputs[2]
        geometry, need = geometry_of(node), self.needs.get(node)
        operands: list[Operand] = [self._twin(put, x), w, bias, _ZERO]
        if need is not None:
            operands.append(list_of(put, node, need, self.lists))
        return put.op(
            "PerforatedConvNhwc", *operands, domain=CPU_DOMAIN,
            kernel_shape=list(geometry.kernel), strides=list(geometry.strides),
            pads=list(geometry.pads), dilations=list(geometry.dilations),
            group=node.attributes.get_int("group", 1), mode=int(Mode.REPLACE),
            activation=int(Activation.NONE), alpha=0.0,
            inactive=_DEFINE if need is None else _DEAD,
        )  # fmt: skip

    def _mean(self, node: ir.Node) -> bool:
        """Take the mean over each channel of a map that lies channels last."""

        def means(put: Replacement, node: ir.Node) -> ir.Value:
            (x, *_) = node.inputs
            assert x is not None, "it has an input"
            return put.op("ChannelMeansNhwc", self.last[x], domain=CPU_DOMAIN)

        if node.attributes.get_int("keepdims", 1):
            return self._finish(node, means)
        put = Replacement(self.model, node)
        put.finish(put.op("Squeeze", means(put, node), np.array([1, 2], np.int64)))
        return True

    def _can_be_last(self, node: ir.Node) -> bool:
        """Whether an operand is channels last already, and the others can be, or are numbers."""
        maps = []
        for operand in node.inputs:
            array = constant_of(operand)
            if array is None:
                maps.append(operand)
            elif array.size != 1:
                return False
        # Any other shape would broadcast along other axes.
        return any(value in self.last for value in maps) and all(
            value in self.last
            or (value is not None and value.shape is not None and len(value.shape) == 4)
            for value in maps
        )

    def _elementwise(self, put: Replacement, node: ir.Node) -> ir.Value:
        operands = [
            v if v is None or constant_of(v) is not None else self._twin(put, v)
            for v in node.inputs
        ]
        source = operands[0].producer() if operands[0] is not None else None
        activation = activation_of(node)
        if activation and source is not None and self._is_only_for(source, node):
            source.attributes["activation"] = ir.AttrInt64("activation", int(activation))
            return source.outputs[0]
        return put.copy(node, *operands)

    def _is_only_for(self, source: ir.Node, reader: ir.Node) -> bool:
        """Whether a convolution is read by an activation alone, and computes all that it reads."""
        first = reader.inputs[0]
        return (
            source.op_type == "PerforatedConvNhwc"
            and source.attributes.get_int("activation") == Activation.NONE
            and source.attributes.get_int("mode") == Mode.REPLACE
            and (len(source.inputs) == 4 or source.attributes.get_int("inactive") == _DEAD)
            and len(source.outputs[0].uses()) == 1
            and first is not None
            and len(first.uses()) == 1
            and not first.is_graph_output()
        )

    def _twin(self, put: Replacement, value: ir.Value) -> ir.Value:
        return channels_last(put, value, self.last)

    def _expanded(self, put: Replacement, node: ir.Node) -> ir.Value:
        """The list of a selection that may decide for whole images."""
        x, selection = node.inputs[:2]
        assert x and selection, "check_model refuses missing inputs"
        size = output_size(put, size_of(put, x), geometry_of(node))
        full = put.op("Concat", size.batch, np.array([1]), size.height, size.width, axis=0)
        # Expand repeats one decision per image; Reshape refuses what is then too large.
        per_pixel = put.op("Reshape", put.op("Expand", selection, full), full)
        branch = node.attributes.get_int("branch")
        return put.op("ActivePixels", per_pixel, domain=CPU_DOMAIN, branch=branch)


def _keeps(activation: int, base: ir.Value | None) -> bool:
    """Whether activation(base) is the base."""
    if activation == Activation.NONE:
        return True
    return activation == Activation.RELU and is_non_negative(base)
