"""Perforate every convolution that is read only in the windows of active pixels.

Before:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    support (float[n, 1, h, w] x, float[n, 2, h, w] logits) => (float[n, 1, h, w] y)
    <float[1, 1, 1, 1] v = {4}, float[1] c = {7}, float[1] b = {5}, float[1, 1, 1, 1] zero = {0},
     float[1, 1, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}>
    {
        selection = pagdeploy.PAGGate (logits)
        hidden = Conv <kernel_shape: ints = [1, 1]> (x, v, c)
        y = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
            pads = [1, 1, 1, 1], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 0, alpha = 0.0> (hidden, selection, w, b, zero)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    support (float[n, 1, h, w] x, float[n, 2, h, w] logits) => (float[n, 1, h, w] y)
    <float[1, 1, 1, 1] v = {4}, float[1] c = {7}, float[1] b = {5}, float[1, 1, 1, 1] zero = {0},
     float[1, 1, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, int32 branch = {1}, float half = {0.5},
     float[1, 1, 3, 3] ones = {1, 1, 1, 1, 1, 1, 1, 1, 1}>
    {
        selection = pagdeploy.PAGGate (logits)
        active = Equal (selection, branch)
        mask = Cast <to: int = 1> (active)
        readers = ConvTranspose <kernel_shape: ints = [3, 3], strides: ints = [1, 1],
            pads: ints = [1, 1, 1, 1], dilations: ints = [1, 1]> (mask, ones)
        read = Greater (readers, half)
        wider = Cast <to: int = 6> (read)
        hidden = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
            pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 0, alpha = 0.0> (x, wider, v, c, zero)
        y = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
            pads = [1, 1, 1, 1], dilations = [1, 1], group = 1, branch = 1, mode = 0,
            activation = 0, alpha = 0.0> (hidden, selection, w, b, zero)
    }

How many active pixels read a pixel is a transposed convolution of ones over the mask: it has the
geometry of the convolution that reads, whatever its stride, dilation and padding. Apart from
`passes.infer_perforation`, because lowerings that list pixels widen the list by themselves.
"""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.passes.infer_perforation import perforate_where


def run(model: ir.Model) -> int:
    """Perforate whatever liveness allows, with new masks where it takes them."""
    return perforate_where(model, supports=True)
