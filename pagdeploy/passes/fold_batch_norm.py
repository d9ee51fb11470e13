"""Fold a batch normalisation into the convolution before it.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    fold (float[n, 1, h, w] x) => (float[n, 2, h, w] y)
    <float[2, 1, 1, 1] w = {1, 2}, float[2] b = {1, 1}, float[2] gamma = {2, 3},
     float[2] beta = {5, 7}, float[2] mean = {1, 2}, float[2] var = {4, 9}>
    {
        c = Conv <kernel_shape = [1, 1]> (x, w, b)
        y = BatchNormalization <epsilon: float = 0.0> (c, gamma, beta, mean, var)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    fold (float[n, 1, h, w] x) => (float[n, 2, h, w] y)
    <float[2, 1, 1, 1] w = {1, 2}, float[2] b = {5, 6}>
    {
        y = Conv <kernel_shape = [1, 1]> (x, w, b)
    }

With scale = gamma / sqrt(var + epsilon): w' = w * scale and b' = (b - mean) * scale + beta,
computed in double precision. A PerforatedConv is never folded into: its inactive pixels would
have to be normalised too.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, constant_of, nodes_of, skip


def run(model: ir.Model) -> int:
    """Fold every BatchNormalization whose input is a convolution that nobody else reads."""
    return sum(_fold(model, norm) for norm in nodes_of(model, "BatchNormalization", domain=""))


def _fold(model: ir.Model, norm: ir.Node) -> bool:
    convolved = norm.inputs[0]
    conv = None if convolved is None else convolved.producer()
    if conv is None or conv.op_type != "Conv" or conv.domain:
        return _leave(norm, "its input is not a convolution")
    if conv.graph is not norm.graph:
        return _leave(norm, "the convolution lies in another graph")
    if len(convolved.uses()) > 1 or convolved.is_graph_output():  # type: ignore[union-attr]
        return _leave(norm, "the convolution's output is read elsewhere")
    if norm.attributes.get_int("training_mode", 0) or len(norm.outputs) > 1:
        return _leave(norm, "it is in training mode")
    weight = constant_of(conv.inputs[1])
    bias_input = conv.inputs[2] if len(conv.inputs) > 2 else None
    bias = constant_of(bias_input)
    gamma, beta, mean, var = (constant_of(value) for value in norm.inputs[1:5])
    if weight is None or (bias_input is not None and bias is None):
        return _leave(norm, "the convolution's weights are computed")
    if gamma is None or beta is None or mean is None or var is None:
        return _leave(norm, "its parameters are computed")

    wide = np.float64
    epsilon = norm.attributes.get_float("epsilon", 1e-5)
    with np.errstate(all="ignore"):
        scale = gamma.astype(wide) / np.sqrt(var.astype(wide) + epsilon)  # (Co,)
        offset = mean.astype(wide) if bias is None else mean.astype(wide) - bias.astype(wide)
        folded_weight = weight.astype(wide) * scale.reshape(-1, *[1] * (weight.ndim - 1))
        folded_bias = beta.astype(wide) - offset * scale
        folded = [array.astype(weight.dtype) for array in (folded_weight, folded_bias)]
    if not all(np.isfinite(array).all() for array in folded):
        return _leave(norm, "the folded weights would not be finite")

    put = Replacement(model, norm)
    assert conv.inputs[0] is not None
    result = put.op(
        "Conv",
        conv.inputs[0],
        *folded,
        **{name: attribute.value for name, attribute in conv.attributes.items()},
    )
    result.producer().name = conv.name  # type: ignore[union-attr]
    put.finish(result)
    assert conv.graph is not None
    conv.graph.remove(conv, safe=True)
    return True


def _leave(node: ir.Node, why: str) -> bool:
    skip(node, why)
    return False
