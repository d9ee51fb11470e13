"""Let a gate decide where a soft mixture weighs; only on request, and so in no pipeline.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    soft (float[n, 2, h, w] scores, float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <float[1, 1, 1, 1] v = {2}, float[1, 1, 1, 1] w = {3}, int64[2] cut = {1, 1}>
    {
        p = Softmax <axis: int = 1> (scores)
        p0, p1 = Split <axis: int = 1> (p, cut)
        a = Conv (x, v)
        a0 = Mul (a, p0)
        b = Conv (x, w)
        b1 = Mul (b, p1)
        y = Add (a0, b1)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    soft (float[n, 2, h, w] scores, float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <float[1, 1, 1, 1] v = {2}, float[1, 1, 1, 1] w = {3}, int64[2] cut = {1, 1},
     int64[1, 2, 1, 1] branches = {0, 1}>
    {
        picked = ArgMax <axis: int = 1, keepdims: int = 1> (scores)
        hit = Equal (picked, branches)
        onehot = Cast <to: int = 1> (hit)
        p0, p1 = Split <axis: int = 1> (onehot, cut)
        a = Conv (x, v)
        a0 = Mul (a, p0)
        b = Conv (x, w)
        b1 = Mul (b, p1)
        y = Add (a0, b1)
    }

The most probable branch gets all of the weight, the first one at a tie; a weight behind a sigmoid
becomes 1 above a half, and 0 else. That is another function, and `pagdeploy harden` tells how far
from it. Recognition then makes a gate of the decision, as of any that others have written. Who
reads the weights for another purpose reads the soft ones, as before.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, drop_dead
from pagdeploy.graph.mixtures import Mixture, mixtures_of

_DECISION = ".hard"


def run(model: ir.Model) -> int:
    """Harden every mixture; returns how many."""
    return len(harden(model, mixtures_of(model)))


def harden(model: ir.Model, mixtures: Sequence[Mixture]) -> dict[str, str]:
    """Harden these mixtures of a model.

    Returns:
        The name of the node that decides, and of its gate, by that of the mixture's node; the
        same for the same model, whichever of its mixtures are hardened.
    """
    taken = {node.name for node in model.graph.all_nodes()}
    names = {}
    for mixture in mixtures:
        own = f"{mixture.name}{_DECISION}"
        free = itertools.chain([own], (f"{own}.{k}" for k in itertools.count(1)))
        names[mixture.name] = next(name for name in free if name not in taken)
        _harden(model, mixture, names[mixture.name])
    return names


def _harden(model: ir.Model, mixture: Mixture, name: str) -> None:
    node = mixture.node
    scores, weights = node.inputs[0], node.outputs[0]
    assert scores is not None, "it has an input"
    dtype = weights.dtype or ir.DataType.FLOAT
    put = Replacement(model, node, "/hard")
    if node.op_type == "Softmax":
        rank = len(weights.shape) if weights.shape is not None else 4
        along = [mixture.branches if axis == mixture.axis else 1 for axis in range(rank)]
        decided = put.op("ArgMax", scores, axis=mixture.axis, keepdims=1)
        numbers = np.arange(mixture.branches, dtype=np.int64).reshape(along)
        hits = put.op("Equal", decided, numbers)
    else:
        decided = hits = put.op("Greater", weights, np.array(0.5, dtype.numpy()))
    onehot = put.op("Cast", hits, to=int(dtype))
    onehot.type, onehot.shape = ir.TensorType(dtype), weights.shape
    decides = decided.producer()
    assert decides is not None, "a node was just made"
    decides.name = name
    for reader, index in mixture.uses:
        reader.replace_input_with(index, onehot)
    put.put_behind()
    drop_dead([weights])
