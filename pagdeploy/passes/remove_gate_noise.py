"""Remove the sampling noise that a gate draws in evaluation, and warn that decisions change.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    noisy (float[n, 2, h, w] scores) => (int64[n, 1, h, w] picked)
    {
        u = RandomUniformLike (scores)
        l = Log (u)
        e = Neg (l)
        m = Log (e)
        noise = Neg (m)
        sum = Add (scores, noise)
        p = Softmax <axis: int = 1> (sum)
        picked = ArgMax <axis: int = 1, keepdims: int = 1> (p)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    noisy (float[n, 2, h, w] scores) => (int64[n, 1, h, w] picked)
    {
        p = Softmax <axis: int = 1> (scores)
        picked = ArgMax <axis: int = 1, keepdims: int = 1> (p)
    }

The only pass that changes what is computed. A Gumbel-softmax left in evaluation mode picks branch k
with probability softmax(scores)_k; without the noise -log(-log(u)) it picks the most probable one,
the same in every run. Before a threshold logistic noise goes likewise, log(u) - log(1 - u) or the
difference of two Gumbel draws; one draw alone would not leave the most probable side (see
`graph.noise`). Any other noise stays, and so does noise that is read by anything but a gate. Of one
gate all draws go, or none.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, drop_dead, skip, warn
from pagdeploy.graph.noise import GateNoise, Join
from pagdeploy.graph.randomness import sources_behind


def run(model: ir.Model) -> int:
    """Take Gumbel and logistic noise out of the scores of every gate of the main graph."""
    if not sources_behind(model.graph):
        return 0
    noise = GateNoise(model)
    for node in model.graph:
        if node in noise.stays:
            skip(node, noise.stays[node])
    drawn: dict[ir.Value, dict[ir.Node, None]] = {}
    for join in noise.joins:
        drawn.setdefault(join.scores, {}).update(dict.fromkeys(join.sources))
    for scores, sources in drawn.items():
        _tell(scores, list(sources))
    for join in noise.joins:
        _remove(model, join)
    return len(noise.joins)


def _tell(scores: ir.Value, sources: Iterable[ir.Node]) -> None:
    first, *others = sorted(sources, key=lambda node: str(node.name))
    also = "".join(f", {node.name!r}" for node in others)
    warn(
        first,
        f"drew noise on {scores.name!r}, the scores of a gate, in evaluation, too"
        f"{f' (so did {also[2:]})' if also else ''}; without it the gate takes the most probable"
        " branch, the same in every run",
    )


def _remove(model: ir.Model, join: Join) -> None:
    """Scores in the place of scores and noise; of noise minus scores, their negative."""
    node, total = join.node, join.node.outputs[0]
    scores = node.inputs[join.index]
    assert scores is not None, "it was added"
    if node.op_type == "Sub" and join.index == 1:
        noise = node.inputs[0]
        put = Replacement(model, node)
        put.finish(put.op("Neg", scores))
        drop_dead([noise])
        return
    total.replace_all_uses_with(scores)
    drop_dead([total])
