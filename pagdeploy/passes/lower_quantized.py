"""Lower quantized convolutions of gated regions to the 8-bit op of our onnxruntime library.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    quantized (uint8[n, 2, h, w] x8, int32[n, 1, h, w] s) => (uint8[n, 2, h, w] y8)
    <float step = {0.5}, uint8 zero = {0}, int8[2, 2, 1, 1] w = {1, 2, 3, 4},
     int8[2, 2, 3, 3] k = {1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2,
         3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
     float[2] steps = {0.25, 0.5}, int8[2] zeros = {0, 0}, float[2] b = {1.5, -2},
     float[n, 2, h, w] y>
    {
        x = DequantizeLinear (x8, step, zero)
        wq = DequantizeLinear <axis = 0> (w, steps, zeros)
        c = Conv (x, wq, b)
        a = Relu (c)
        a8 = QuantizeLinear (a, step, zero)
        aq = DequantizeLinear (a8, step, zero)
        kq = DequantizeLinear <axis = 0> (k, steps, zeros)
        y = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
            pads = [1, 1, 1, 1], dilations = [1, 1], group = 1, branch = 1, mode = 1,
            activation = 1, alpha = 0.0> (aq, s, kq, b, x)
        y8 = QuantizeLinear (y, step, zero)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy.cpu" : 1]>
    quantized (uint8[n, 2, h, w] x8, int32[n, 1, h, w] s) => (uint8[n, 2, h, w] y8)
    <float step = {0.5}, uint8 zero = {0}, int8[2, 2, 1, 1] w = {1, 2, 3, 4},
     int8[2, 2, 3, 3] k = {1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2,
         3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
     float[2] steps = {0.25, 0.5}, int8 zero_of_w = {0}, int32[2] b = {12, -8},
     uint8[1, 1, 1, 1] nothing = {0}>
    {
        active = pagdeploy.cpu.ActivePixels <branch = 1> (s)
        batch = Shape <start = 0, end = 1> (s)
        map = Shape <start = 2, end = 4> (s)
        size = Concat <axis = 0> (batch, map)
        support = pagdeploy.cpu.SupportPixels <kernel_shape = [3, 3], strides = [1, 1],
            pads = [1, 1, 1, 1], dilations = [1, 1]> (active, size)
        x_last = Transpose <perm = [0, 2, 3, 1]> (x8)
        a_last = pagdeploy.cpu.QLinearPerforatedConvNhwc <kernel_shape = [1, 1],
            strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, mode = 0,
            activation = 1, alpha = 0.0, inactive = 2> (x_last, step, zero, w, steps, zero_of_w,
            step, zero, b, nothing, step, zero, support)
        y_last = pagdeploy.cpu.QLinearPerforatedConvNhwc <kernel_shape = [3, 3],
            strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1], group = 1, mode = 1,
            activation = 1, alpha = 0.0, inactive = 0> (a_last, step, zero, k, steps, zero_of_w,
            step, zero, b, x_last, step, zero, active)
        y8 = Transpose <perm = [0, 3, 1, 2]> (y_last)
    }

Sums are exact in 32 bits, and are rounded as onnxruntime's own integer kernels round them. What a
sum is added to is dequantized, and the total is quantized again, where the model says so; where
nothing is quantized behind it, the result is float32. A convolution that one other reads alone is
computed where that one reads, and one beside a gated one where it can stay channels last. What is
int8 becomes uint8, 128 steps higher, which is the same number. Gated ones stay that are of groups,
of computed operands, of a bias that is no whole number of steps, with another activation than a
ReLU, or in a row with such a one: they get float32 weights, and `lower_native` takes them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.choice import record
from pagdeploy.graph.cut import CHANNELS_LAST
from pagdeploy.graph.edit import Operand, Replacement, drop_dead
from pagdeploy.ops import Activation
from pagdeploy.ops.native import CPU_DOMAIN, CPU_VERSION
from pagdeploy.passes.move_quantization import Units
from pagdeploy.passes.native.layouts import channels_last, last_of
from pagdeploy.passes.native.lists import list_of
from pagdeploy.passes.native.liveness import Where, is_ours
from pagdeploy.passes.native.quantized import (
    QuantizedConv,
    quantized_convs,
    readers_of,
    whole_regions,
    widen_weights,
    write_unsigned,
)
from pagdeploy.precision import Precision

# Values of the attribute `inactive`.
_DEFINE, _DEAD = 0, 2


def run(model: ir.Model, precision: Precision | None = None) -> int:
    """Lower the convolutions that can be, if the precision is int8 for integer kernels."""
    if precision is None or not precision.integer_kernels:
        return 0
    if not any(is_ours(node) for node in model.graph):
        return 0
    shifted = write_unsigned(model)
    found = whole_regions(list(quantized_convs(model.graph)))
    if not any(is_ours(each.conv) for each in found):
        return shifted + widen_weights(model)
    lowering = _Lowering(model, found)
    count = sum(lowering.lower(each) for each in found)
    model.opset_imports[CPU_DOMAIN] = CPU_VERSION
    model.graph.sort()  # a list may be needed before its selection was
    return shifted + count + widen_weights(model)


class _Lowering:
    def __init__(self, model: ir.Model, found: list[QuantizedConv]) -> None:
        self.model = model
        self.last: dict[ir.Value, ir.Value] = {}  # channels first -> channels last
        self.lists: dict[Where, ir.Value] = {}
        self.needs: dict[ir.Node, Where] = {}
        self.beside: set[ir.Node] = set()
        by_conv = {each.conv: each for each in found}
        for each in reversed(found):
            readers = readers_of(each)
            convs = [by_conv[node] for node, _ in readers if node in by_conv]
            if any(is_ours(conv.conv) or conv.conv in self.beside for conv in convs):
                self.beside.add(each.conv)
            if len(convs) == len(readers) and all(port == 0 for _, port in readers):
                reads = {self._read_by(conv) for conv in convs}
                where = reads.pop() if len(reads) == 1 else None
                # A list has one size: of whole images, each convolution has one of its own.
                if where is not None and (is_ours(each.conv) or not where.images):
                    self.needs[each.conv] = where

    def _read_by(self, conv: QuantizedConv) -> Where | None:
        """The pixels that a convolution reads; None for all, or if it is not lowered for sure."""
        where = conv.where or self.needs.get(conv.conv)
        return None if where is None else where.before(conv.geometry)

    def lower(self, each: QuantizedConv) -> bool:
        """Replace a convolution and what is behind it, if it stays channels last."""
        conv = each.conv
        need = self.needs.get(conv)
        follows = each.x.inputs[0] in self.last
        if each.where is None and need is None and not follows and conv not in self.beside:
            return False
        if is_ours(conv):
            record(self.model, conv, "native")
        put = Replacement(self.model, each.last)
        result = self._convolution(put, each, need)
        old = each.last.outputs[0]
        result.type = ir.TensorType(ir.DataType.UINT8 if each.units else ir.DataType.FLOAT)
        result.name = f"{old.name}{CHANNELS_LAST}"
        result.shape = last_of(old.shape)
        first = put.op("Transpose", result, perm=[0, 3, 1, 2])
        read = [value for node in (conv, *each.behind) for value in node.inputs]
        put.finish(first)
        self.last[first] = result
        for node in reversed((conv, *each.behind)[:-1]):
            self.model.graph.remove(node, safe=True)
        drop_dead(read)
        return True

    def _convolution(self, put: Replacement, each: QuantizedConv, need: Where | None) -> ir.Value:
        """(N, Ho, Wo, M), uint8 or float32."""
        where = each.where or need
        pixels = None if where is None else list_of(put, each.conv, where, self.lists)
        units = Units.of(each.x)
        assert units is not None, "quantized_convs asked"
        steps = each.steps if each.steps.ndim else each.steps.reshape(())
        about_y: list[Operand] = [] if each.units is None else _operands(each.units)
        base = each.base
        if base is None:
            # Zero in the steps of the result, or in any if it has none.
            of_base = each.units or units
            zero = np.full((1, 1, 1, 1), of_base.zero, np.uint8)
            about_base: list[Operand] = [zero, *_operands(of_base)]
        else:
            known, narrow = Units.of(base), base.inputs[0]
            assert known is not None and narrow is not None, "quantized_convs asked"
            about_base = [self._twin(put, narrow), *_operands(known)]
        x8 = each.x.inputs[0]
        assert x8 is not None, "a DequantizeLinear has an input"
        operands: list[Operand] = [
            self._twin(put, x8), *_operands(units), each.weights, steps, np.zeros((), np.int8),
            *about_y, each.bias, *about_base,
        ]  # fmt: skip
        if pixels is not None:
            operands.append(pixels)
        geometry = each.geometry
        return put.op(
            "QLinearPerforatedConvNhwc" if each.units else "QLinearPerforatedConvNhwcFloat",
            *operands, domain=CPU_DOMAIN,
            kernel_shape=list(geometry.kernel), strides=list(geometry.strides),
            pads=list(geometry.pads), dilations=list(geometry.dilations), group=1,
            mode=int(each.mode), alpha=0.0,
            activation=int(Activation.RELU if each.relu else Activation.NONE),
            inactive=_DEAD if need is not None and need == where else _DEFINE,
        )  # fmt: skip

    def _twin(self, put: Replacement, value: ir.Value) -> ir.Value:
        value.type = ir.TensorType(ir.DataType.UINT8)  # also where no inference told
        return channels_last(put, value, self.last)


def _operands(units: Units) -> list[Operand]:
    """Scale and zero point."""
    return [np.array(units.step, np.float32), np.array(units.zero, np.uint8)]
