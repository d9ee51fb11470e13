"""Lower SegAwareConv to standard ONNX: one weight map a tap, shared by all channels.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    segaware (float[n, 2, h, w] x, float[n, 3, h, w] e) => (float[n, 1, h, w] y)
    <float[1, 2, 1, 3] k = {1, 2, 3, 4, 5, 6}, float[1] b = {7}, float hardness = {0.5}>
    {
        y = pagdeploy.SegAwareConv <kernel_shape = [1, 3], strides = [1, 1], pads = [0, 1, 0, 1],
            dilations = [1, 1], group = 1, distance = 1, normalization = 0, outside = 0,
            epsilon = 0.0> (x, e, k, b, hardness)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    segaware (float[n, 2, h, w] x, float[n, 3, h, w] e) => (float[n, 1, h, w] y)
    <float[1, 6, 1, 1] k = {1, 4, 2, 5, 3, 6}, float[1] b = {7}, float factor = {-0.5},
     int64[8] around = {0, 0, 0, 1, 0, 0, 0, 1}, int64[1] channels = {1}, int64[2] yx = {2, 3},
     int64[2] step = {1, 1}, int64[2] from0 = {0, 0}, int64[2] from1 = {0, 1},
     int64[2] from2 = {0, 2}, int64[2] to0 = {9223372036854775807, -2},
     int64[2] to1 = {9223372036854775807, -1},
     int64[2] to2 = {9223372036854775807, 9223372036854775807}, int64[3] each = {1, 1, 1}>
    {
        ep = Pad (e, around)
        e0 = Slice (ep, from0, to0, yx, step)
        difference0 = Sub (e0, e)
        terms0 = Abs (difference0)
        d0 = ReduceSum <keepdims = 1> (terms0, channels)
        e1 = Slice (ep, from1, to1, yx, step)
        difference1 = Sub (e1, e)
        terms1 = Abs (difference1)
        d1 = ReduceSum <keepdims = 1> (terms1, channels)
        e2 = Slice (ep, from2, to2, yx, step)
        difference2 = Sub (e2, e)
        terms2 = Abs (difference2)
        d2 = ReduceSum <keepdims = 1> (terms2, channels)
        distances = Concat <axis = 1> (d0, d1, d2)
        scores = Mul (distances, factor)
        weights = Exp (scores)
        w0, w1, w2 = Split <axis = 1> (weights, each)
        xp = Pad (x, around)
        x0 = Slice (xp, from0, to0, yx, step)
        counted0 = Mul (x0, w0)
        x1 = Slice (xp, from1, to1, yx, step)
        counted1 = Mul (x1, w1)
        x2 = Slice (xp, from2, to2, yx, step)
        counted2 = Mul (x2, w2)
        columns = Concat <axis = 1> (counted0, counted1, counted2)
        y = Conv <kernel_shape = [1, 1]> (columns, k, b)
    }

A tap's distances are the channel sum of the difference of two slices of the padded embeddings. The
convolution is one of 1x1 over the slices of the padded input, each times its weight map, one beside
the other; of a larger kernel at most 16 taps are held at once, and the sums are added. Convolutions
over one embedding share the slices and the distances (`passes.share_equal_nodes`). In half
precision the distances and weights are of float32, as in the op.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Operand, Replacement, constant_of, is_zero, nodes_of
from pagdeploy.ops import Distance, Normalization, Outside

_GEOMETRY = ("kernel_shape", "strides", "pads", "dilations")
_END = np.iinfo(np.int64).max
# Taps whose slices are alive together: 3x3 becomes one matrix product, 9x9 takes no 81 copies.
_TAPS_AT_ONCE = 16


def run(model: ir.Model) -> int:
    """Lower every SegAwareConv."""
    count = 0
    for node in nodes_of(model, "SegAwareConv"):
        put = Replacement(model, node)
        put.finish(_Lowering(put, node).result())
        count += 1
    return count


class _Lowering:
    def __init__(self, put: Replacement, node: ir.Node) -> None:
        x, e, w, b, hardness = node.inputs
        assert x and e and w and b and hardness, "check_model refuses missing inputs"
        self.put, self.x, self.e, self.w, self.b = put, x, e, w, b
        self.hardness = hardness
        self.kernel, self.strides, self.pads, self.dilations = (
            [int(number) for number in node.attributes[name].as_ints()] for name in _GEOMETRY
        )
        self.taps = self.kernel[0] * self.kernel[1]
        self.group = node.attributes.get_int("group")
        self.distance = node.attributes.get_int("distance")
        self.normalization = node.attributes.get_int("normalization")
        self.outside = node.attributes.get_int("outside")
        self.epsilon = node.attributes.get_float("epsilon")

    def result(self) -> ir.Value:
        """Y, (N, M, Ho, Wo)."""
        weights = self._weights(self._scores())  # (N, T, Ho, Wo)
        one_each = np.ones(self.taps, np.int64)
        maps = self.put.ops("Split", self.taps, weights, one_each, axis=1)  # (N, 1, Ho, Wo)
        if self.group > 1:
            return self._grouped(maps)
        padded = self._padded(self.x)
        total: ir.Value | None = None
        for first in range(0, self.taps, _TAPS_AT_ONCE):
            taps = range(first, min(first + _TAPS_AT_ONCE, self.taps))
            # (N, C, Ho, Wo) each
            counted = [self.put.op("Mul", self._slice(padded, t), maps[t]) for t in taps]
            columns = self.put.op("Concat", *counted, axis=1)  # (N, taps * C, Ho, Wo)
            operands = [columns, self._weight(taps), *([self.b] if total is None else [])]
            part = self.put.op("Conv", *operands, kernel_shape=[1, 1])  # (N, M, Ho, Wo)
            total = part if total is None else self.put.op("Add", total, part)
        assert total is not None, "a kernel has a tap"
        return total

    def _scores(self) -> ir.Value:
        """-lambda times the distances to the centre, (N, T, Ho, Wo), float32."""
        put = self.put
        e = self._float32(self.e)
        padded = self._padded(e)
        half = [self.dilations[axis] * (self.kernel[axis] // 2) for axis in range(2)]
        keeps_size = self.strides == [1, 1] and self.pads == [*half, *half]
        center = e if keeps_size else self._slice(padded, self.taps // 2)
        far = []
        for tap in range(self.taps):
            difference = put.op("Sub", self._slice(padded, tap), center)  # (N, D, Ho, Wo)
            if self.distance == Distance.L1:
                terms = put.op("Abs", difference)
            else:
                terms = put.op("Mul", difference, difference)
            far.append(put.op("ReduceSum", terms, np.array([1]), keepdims=1))  # (N, 1, Ho, Wo)
        distances = put.op("Concat", *far, axis=1)  # (N, T, Ho, Wo)
        scale = np.float32(-1.0 if self.distance == Distance.L1 else -0.5)
        known = constant_of(self.hardness)
        factor: Operand = (
            put.op("Mul", self._float32(self.hardness), np.array(scale))
            if known is None
            else np.asarray(known.astype(np.float32) * scale, np.float32)
        )
        scores = put.op("Mul", distances, factor)
        never_negative = known is not None and bool(np.all(known.astype(np.float64) >= 0))
        if not any(self.pads) or (self.normalization == Normalization.NONE and never_negative):
            return scores  # beyond the image a finite weight counts a zero
        value = 0.0 if self.outside == Outside.EQUAL else -np.inf
        return put.op("Where", self._outside(), np.array(value, np.float32), scores)

    def _outside(self) -> ir.Value:
        """Whether a tap reads beyond the image, (1, T, Ho, Wo), bool."""
        put = self.put
        size = put.op("Shape", self.x, start=2, end=4)
        shape = put.op("Concat", np.array([1, 1]), size, axis=0)
        inside = put.op("Expand", np.array(0, np.float32), shape)  # (1, 1, H, W)
        marked = self._padded(inside, np.array(1, np.float32))
        marks = put.op("Concat", *(self._slice(marked, t) for t in range(self.taps)), axis=1)
        return put.op("Cast", marks, to=int(ir.DataType.BOOL))

    def _weights(self, scores: ir.Value) -> ir.Value:
        """How much each neighbour counts, (N, T, Ho, Wo), of the type of X."""
        put = self.put
        if self.normalization == Normalization.SOFTMAX:
            return self._like_x(put.op("Softmax", scores, axis=1))
        weights = put.op("Exp", scores)
        if self.normalization == Normalization.BILATERAL:
            total = put.op("ReduceSum", weights, np.array([1]), keepdims=1)  # (N, 1, Ho, Wo)
            more = put.op("Add", total, np.array(self.epsilon, np.float32))
            weights = put.op("Div", weights, more)
        return self._like_x(weights)

    def _grouped(self, maps: Sequence[ir.Value]) -> ir.Value:
        """Y of a convolution with groups: tap after tap, summed up in float32.

        Beside each other the taps' channels would not lie group by group.
        """
        put, array = self.put, constant_of(self.w)
        depthwise = array is not None and array.shape[:2] == (self.group, 1)
        padded = self._padded(self._float32(self.x))
        b = self._float32(self.b)
        total: ir.Value | None = None
        for tap in range(self.taps):
            term = put.op("Mul", self._slice(padded, tap), self._float32(maps[tap]))
            if not depthwise:
                bias = [b] if total is None else []
                w = self._float32(self._weight([tap]))
                term = put.op("Conv", term, w, *bias, kernel_shape=[1, 1], group=self.group)
            elif array is not None:
                i, j = divmod(tap, self.kernel[1])
                w_tap = array[None, :, 0, i, j, None, None].astype(np.float32)  # (1, C, 1, 1)
                term = term if (w_tap == 1).all() else put.op("Mul", term, w_tap)
            total = term if total is None else put.op("Add", total, term)
        assert total is not None, "a kernel has a tap"
        if depthwise and not is_zero(self.b):
            total = put.op("Add", total, put.op("Reshape", b, np.array([1, -1, 1, 1])))
        return self._like_x(total)

    def _weight(self, taps: Iterable[int]) -> Operand:
        """The weights of some taps one beside the other, (M, taps * C / group, 1, 1)."""
        array, width = constant_of(self.w), self.kernel[1]
        if array is not None:
            columns = [array[:, :, tap // width, tap % width] for tap in taps]
            return np.ascontiguousarray(np.concatenate(columns, 1)[:, :, None, None])
        parts = []
        for tap in taps:
            start = np.array(divmod(tap, width))
            parts.append(self.put.op("Slice", self.w, start, start + 1, np.array([2, 3])))
        return self.put.op("Concat", *parts, axis=1)

    def _padded(self, value: ir.Value, *number: Operand) -> ir.Value:
        """With the pads of the convolution around it, zeros or the number."""
        if not any(self.pads):
            return value
        around = np.array([0, 0, *self.pads[:2], 0, 0, *self.pads[2:]])
        return self.put.op("Pad", value, around, *number)

    def _slice(self, padded: ir.Value, tap: int) -> ir.Value:
        """What one tap reads of each window: (N, C, Ho, Wo)."""
        at = divmod(tap, self.kernel[1])
        start = [at[axis] * self.dilations[axis] for axis in range(2)]
        left = [(self.kernel[axis] - 1 - at[axis]) * self.dilations[axis] for axis in range(2)]
        end = [-rest if rest else _END for rest in left]
        return self.put.op("Slice", padded, *map(np.array, (start, end, [2, 3], self.strides)))

    def _float32(self, value: Operand) -> ir.Value:
        if isinstance(value, np.ndarray):
            return self.put.constant(value.astype(np.float32))
        if value.dtype == ir.DataType.FLOAT:
            return value
        return self.put.op("Cast", value, to=int(ir.DataType.FLOAT))

    def _like_x(self, value: ir.Value) -> ir.Value:
        """A float32 value in the type of X."""
        if self.x.dtype == ir.DataType.FLOAT:
            return value
        if self.x.dtype is None:
            return self.put.op("CastLike", value, self.x)
        return self.put.op("Cast", value, to=int(self.x.dtype))
