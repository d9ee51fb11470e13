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
the same in every run. Logistic noise, log(u) - log(1 - u), before a threshold goes likewise. Any
other noise stays, and so does noise that is read by anything but a gate.
"""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.graph.edit import drop_dead, skip, warn

_UNIFORM = frozenset({"RandomUniform", "RandomUniformLike"})
_RANDOM = _UNIFORM | {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"}
_SHAPES_NOISE = frozenset(
    "Add Cast Clip Div Greater GreaterOrEqual Less LessOrEqual Log Max Min Mul Neg Sub"
    " Where".split()
)
_ON_THE_WAY = frozenset("Cast Div Identity LogSoftmax Mul Sigmoid Softmax".split())
_DECIDE = frozenset("ArgMax Greater GreaterOrEqual Less LessOrEqual Round TopK".split())
_STRAIGHT_THROUGH = frozenset({"Add", "Sub"})


def run(model: ir.Model) -> int:
    """Take Gumbel and logistic noise out of the scores of every gate of the main graph."""
    drawn = [node for node in model.graph if node.op_type in _RANDOM and not node.domain]
    return sum(_remove(node) for node in drawn)


def _remove(source: ir.Node) -> bool:
    noise = _noise(source)
    if noise is None:
        skip(source, "its noise is neither Gumbel nor logistic")
        return False
    (use,) = noise.uses()
    scores, total = use.node.inputs[1 - use.idx], use.node.outputs[0]
    if scores is None or total.is_graph_output() or not _only_decides(total):
        skip(source, "more than the decision of a gate depends on its noise")
        return False
    total.replace_all_uses_with(scores)
    warn(
        source,
        f"drew noise on {scores.name!r}, the scores of a gate, in evaluation, too; without it the"
        " gate takes the most probable branch, the same in every run",
    )
    drop_dead([total])
    return True


def _noise(source: ir.Node) -> ir.Value | None:
    """What is added to scores, if it is -log(-log(u)) or log(u) - log(1 - u) of a uniform u."""
    if source.op_type not in _UNIFORM:
        return None
    drawn: set[ir.Value] = {source.outputs[0]}
    logs = 0
    pending = [source.outputs[0]]
    while pending:
        value = pending.pop(0)
        for use in value.uses():
            node = use.node
            if node.op_type in ("Add", "Sub") and _meets_scores(node, drawn):
                return value if logs == 2 and len(value.uses()) == 1 else None
            if node.outputs[0] in drawn:
                continue
            logs += node.op_type == "Log"
            if node.outputs[0].is_graph_output() or node.op_type not in _SHAPES_NOISE:
                return None
            drawn.add(node.outputs[0])
            pending.append(node.outputs[0])
    return None


def _meets_scores(node: ir.Node, drawn: set[ir.Value]) -> bool:
    """Whether noise meets what is neither noise nor a constant."""
    others = [value for value in node.inputs if value is not None and value not in drawn]
    return any(_reads_features(value) for value in others)


def _reads_features(value: ir.Value) -> bool:
    seen: set[ir.Value] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if current in seen or current.is_initializer():
            continue
        seen.add(current)
        node = current.producer()
        if node is None:
            return True
        if node.op_type not in _RANDOM and node.op_type != "Shape":
            pending += [operand for operand in node.inputs if operand is not None]
    return False


def _only_decides(total: ir.Value) -> bool:
    """Whether scores reach nothing but a decision, and the soft weights around it."""
    decides = False
    pending = [total]
    while pending:
        value = pending.pop()
        for use in value.uses():
            if use.node.op_type in _DECIDE:
                decides = True
            elif use.node.op_type in _ON_THE_WAY:
                pending.append(use.node.outputs[0])
            elif use.node.op_type not in _STRAIGHT_THROUGH | {"Shape"}:
                return False
    return decides
