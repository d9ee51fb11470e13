"""Lower PerforatedConv to standard ONNX that computes only the active pixels.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    gather (float[n, 2, h, w] x, int32[n, 1, h, w] s) => (float[n, 2, h, w] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
    {
        y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 1, alpha = 0.0> (x, s, w, b, x)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    gather (float[n, 2, h, w] x, int32[n, 1, h, w] s) => (float[n, 2, h, w] y)
    <float[2, 2] w = {1, 3, 2, 4}, float[2] b = {5, 6}, int32 branch = {1},
     int64[1] zero = {0}, int64[1] one = {1}, int64[1] c = {2},
     int64[1] minus = {-1}, int64[2] row_matrix = {-1, 2}>
    {
        height = Shape <start = 2, end = 3> (x)
        width = Shape <start = 3, end = 4> (x)
        active = Equal (s, branch)
        pixels = NonZero (active)
        image = Mul (height, width)
        out_strides = Concat <axis = 0> (image, zero, width, one)
        out_rows = MatMul (out_strides, pixels)
        channels_last = Transpose <perm = [0, 2, 3, 1]> (x)
        in_table = Reshape (channels_last, row_matrix)
        taken = Gather <axis = 0> (in_table, out_rows)
        convolved = Gemm (taken, w, b)
        computed = Relu (convolved)
        ground = Reshape (channels_last, row_matrix)
        positions = Unsqueeze (out_rows, minus)
        placed = ScatterND (ground, positions, computed)
        batch = Shape <start = 0, end = 1> (x)
        full = Concat <axis = 0> (batch, height, width, c)
        image_last = Reshape (placed, full)
        y = Transpose <perm = [0, 3, 1, 2]> (image_last)
    }

The input is laid out channels last and padded as the convolution asks, so each pixel is one row
and the taps of an output pixel lie at fixed distances from an anchor row: one Add makes the whole
index table, with no test for the border. The rows of the active pixels go through one Gemm and
are scattered over the base. Kernels larger than 1x1 gather (active, taps, C) rows: an im2col of
the active pixels only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import (
    Replacement,
    constant_of,
    is_zero,
    nodes_of,
    skip,
    weights_of,
)
from pagdeploy.ops import Mode
from pagdeploy.passes.lower_dense import activate

LOWERING = "pagdeploy.lowering"  # node metadata: "dense" keeps this pass away


def run(model: ir.Model) -> int:
    """Lower every PerforatedConv that is not marked dense and for which gathering is possible."""
    count = 0
    for node in nodes_of(model, "PerforatedConv"):
        why_not = _obstacle(node)
        if why_not:
            skip(node, why_not)
            continue
        _Lowering(model, node).run()
        count += 1
    return count


def _obstacle(node: ir.Node) -> str | None:
    if node.metadata_props.get(LOWERING) == "dense":
        return "marked dense"
    weight, bias = weights_of(node.inputs[2]), constant_of(node.inputs[3])
    if weight is None or bias is None:
        return "its weights are computed"
    if min(node.attributes.get_ints("pads")) < 0:
        return "it crops its input"
    if weight.shape[1] == 1 and weight.shape[0] > 1 and node.attributes.get_int("group") > 1:
        return "a depthwise convolution has too little work per pixel to pay for gathering"
    return None


class _Lowering:
    """The rewrite of one node, step by step; tensors are named by what a row or an axis means."""

    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        x, selection, w, b, base = node.inputs
        assert x and selection and w and b and base, "check_model refuses missing inputs"
        weight, bias = weights_of(w), constant_of(b)
        assert weight is not None and bias is not None, "_obstacle refuses computed weights"
        self.node, self.put = node, Replacement(model, node)
        self.x, self.selection, self.base = x, selection, base
        self.weight, self.bias = weight, bias  # (Co, C / group, kh, kw), (Co,)
        self.out_channels = weight.shape[0]
        self.strides = node.attributes.get_ints("strides")
        self.pads = node.attributes.get_ints("pads")
        self.dilations = node.attributes.get_ints("dilations")
        self.group = node.attributes.get_int("group")
        self.channels = weight.shape[1] * self.group
        self.is_add = node.attributes.get_int("mode") == Mode.ADD
        self.x_last = self.put.op("Transpose", x, perm=[0, 2, 3, 1])  # (N, H, W, C)

    def run(self) -> None:
        put = self.put
        batch = put.op("Shape", self.x, start=0, end=1)  # (1,)
        height = put.op("Shape", self.x, start=2, end=3)
        width = put.op("Shape", self.x, start=3, end=4)
        out_height, out_width = self._output_size(height, 0), self._output_size(width, 1)

        pixels = put.op("NonZero", self._active(batch, out_height, out_width))  # (4, n)
        out_rows = self._rows(pixels, out_height, out_width, (1, 1))  # (n,)
        # Unpadded and unstrided, a pixel has the same row in the input as in the output.
        same_rows = not any(self.pads) and list(self.strides) == [1, 1]
        table, padded_height, padded_width = self._input_table(height, width)
        if same_rows and self.weight.shape[2:] == (1, 1):
            anchors = out_rows
        else:
            anchors = self._rows(pixels, padded_height, padded_width, self.strides)
        taken = put.op("Gather", table, self._taps(anchors, padded_width), axis=0)  # (n, [T,] C)
        computed = self._multiply(taken)  # (n, Co)

        full = put.op("Concat", batch, out_height, out_width, _ints(self.out_channels), axis=0)
        placed = self._place(computed, out_rows, full)  # (N Ho Wo, Co)
        channels_last = put.op("Reshape", placed, full)  # (N, Ho, Wo, Co)
        put.finish(put.op("Transpose", channels_last, perm=[0, 3, 1, 2]))

    def _output_size(self, size: ir.Value, axis: int) -> ir.Value:
        kernel, stride, dilation = (
            self.weight.shape[2 + axis],
            self.strides[axis],
            self.dilations[axis],
        )
        grown = self.pads[axis] + self.pads[2 + axis] - (kernel - 1) * dilation - 1
        if stride == 1:
            return size if grown == -1 else self.put.op("Add", size, _ints(grown + 1))
        steps = self.put.op("Div", self.put.op("Add", size, _ints(grown)), _ints(stride))
        return self.put.op("Add", steps, _ints(1))

    def _active(self, batch: ir.Value, height: ir.Value, width: ir.Value) -> ir.Value:
        selection = self.selection
        if not self._is_per_pixel():
            full = self.put.op("Concat", batch, _ints(1), height, width, axis=0)
            # Expand repeats one decision per image; Reshape refuses what is then too large.
            selection = self.put.op("Reshape", self.put.op("Expand", selection, full), full)
        branch = np.array(self.node.attributes.get_int("branch"), np.int32)
        return self.put.op("Equal", selection, branch)  # (N, 1, Ho, Wo)

    def _is_per_pixel(self) -> bool:
        """Whether the selection provably has a decision for each pixel of each image."""
        shape, x = self.selection.shape, self.x.shape
        if shape is None or x is None or len(shape) != 4 or not _same(shape[:1], x[:1]):
            return False
        for axis in range(2):
            grown = self.pads[axis] + self.pads[2 + axis]
            reach = self.dilations[axis] * (self.weight.shape[2 + axis] - 1)
            size, stride = x[2 + axis], self.strides[axis]
            if isinstance(size, int):
                size = (size + grown - reach - 1) // stride + 1
            elif stride != 1 or grown != reach:
                return False
            if not _same([shape[2 + axis]], [size]):
                return False
        return True

    def _rows(
        self,
        pixels: ir.Value,
        height: ir.Value,
        width: ir.Value,
        steps: Sequence[int],
    ) -> ir.Value:
        """Rows of pixels (n, _, h, w) in a map of a given size: n H W + h step W + w step."""
        image = self.put.op("Mul", height, width)
        down = width if steps[0] == 1 else self.put.op("Mul", width, _ints(steps[0]))
        strides = self.put.op("Concat", image, _ints(0), down, _ints(steps[1]), axis=0)  # (4,)
        return self.put.op("MatMul", strides, pixels)  # (n,)

    def _input_table(
        self, height: ir.Value, width: ir.Value
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        top, left, bottom, right = self.pads
        channels_last = self.x_last
        if any(self.pads):
            pads = np.array([0, top, left, 0, 0, bottom, right, 0], np.int64)
            channels_last = self.put.op("Pad", channels_last, pads, mode="constant")
            height = self.put.op("Add", height, _ints(top + bottom))
            width = self.put.op("Add", width, _ints(left + right))
        flat = self.put.op("Reshape", channels_last, _ints(-1, self.channels))
        return flat, height, width  # (N Hp Wp, C)

    def _taps(self, anchors: ir.Value, width: ir.Value) -> ir.Value:
        kernel_height, kernel_width = self.weight.shape[2:]
        if kernel_height * kernel_width == 1:
            return anchors  # (n,)
        down = np.repeat(np.arange(kernel_height) * self.dilations[0], kernel_width)
        right = np.tile(np.arange(kernel_width) * self.dilations[1], kernel_height)
        distances = self.put.op("Mul", width, down.astype(np.int64))
        distances = self.put.op("Add", distances, right.astype(np.int64))  # (T,)
        return self.put.op("Add", self.put.op("Unsqueeze", anchors, _ints(-1)), distances)  # (n, T)

    def _multiply(self, taken: ir.Value) -> ir.Value:
        put, group = self.put, self.group
        taps = self.weight.shape[2] * self.weight.shape[3]
        # (Co, C/g, kh, kw) -> (g, T C/g, Co/g): rows in the order in which taps are gathered.
        grouped = self.weight.reshape(group, self.out_channels // group, -1, taps)
        matrix = grouped.transpose(0, 3, 2, 1).reshape(group, -1, self.out_channels // group)
        matrix = np.ascontiguousarray(matrix)
        if group == 1:
            rows = taken if taps == 1 else put.op("Reshape", taken, _ints(-1, matrix.shape[1]))
            convolved = put.op("Gemm", rows, matrix[0], self.bias)
            return activate(put, convolved, self.node) if not self._sums_first() else convolved
        split = put.op("Reshape", taken, _ints(-1, taps, group, self.channels // group))
        by_group = put.op("Transpose", split, perm=[2, 0, 1, 3])  # (g, n, T, C/g)
        rows = put.op("Reshape", by_group, _ints(group, -1, matrix.shape[1]))
        product = put.op("MatMul", rows, matrix)  # (g, n, Co/g)
        joined = put.op("Transpose", product, perm=[1, 0, 2])
        convolved = put.op(
            "Add", put.op("Reshape", joined, _ints(-1, self.out_channels)), self.bias
        )
        return activate(put, convolved, self.node) if not self._sums_first() else convolved

    def _sums_first(self) -> bool:
        """In add mode the activation comes after the sum; with a zero base there is no sum."""
        return self.is_add and not is_zero(self.base)

    def _place(self, computed: ir.Value, out_rows: ir.Value, full: ir.Value) -> ir.Value:
        put = self.put
        ground = self._ground(full)  # (N Ho Wo, Co)
        positions = put.op("Unsqueeze", out_rows, _ints(-1))  # (n, 1)
        if not self._sums_first():
            return put.op("ScatterND", ground, positions, computed)
        below = put.op("Gather", ground, out_rows, axis=0)  # (n, Co)
        placed = put.op("ScatterND", ground, positions, put.op("Add", below, computed))
        return activate(put, placed, self.node)

    def _ground(self, full: ir.Value) -> ir.Value:
        put, base = self.put, self.base
        array = constant_of(base)
        if array is not None and array.size == 1:
            channels_last = put.op("Expand", array.reshape(1, 1, 1, 1), full)
        else:
            channels_last = self.x_last
            if base is not self.x:
                channels_last = put.op("Transpose", base, perm=[0, 2, 3, 1])
            output = self.node.outputs[0].shape
            if base.shape is None or output is None or not _same(base.shape, output):
                # Only equal shapes prove that the base is not smaller than the output.
                channels_last = put.op("Expand", channels_last, full)
        return put.op("Reshape", channels_last, _ints(-1, self.out_channels))


def _same(one: Iterable[int | ir.SymbolicDim], other: Iterable[int | ir.SymbolicDim]) -> bool:
    """Whether sizes are equal for sure: a size without a name may be any."""
    named = all(isinstance(size, int) or size.value is not None for size in one)
    return named and list(one) == list(other)


def _ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)
