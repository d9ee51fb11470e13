"""Make a PAGGate of every argmax or comparison that decides where a mask is set.

Before:
    <ir_version: 8, opset_import: ["" : 17]>
    gate (float[n, 1, h, w] g,
        float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <float zero = {0}, float[1, 1, 1, 1] w = {2}>
    {
        runs = GreaterOrEqual (g, zero)
        m = Cast <to: int = 1> (runs)
        c = Conv (x, w)
        y = Mul (c, m)
    }

After:
    <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    gate (float[n, 1, h, w] g,
        float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <int32 branch = {0}, float[1, 1, 1, 1] w = {2}>
    {
        minus = Neg (g)
        logits = Concat <axis: int = 1> (g, minus)
        selection = pagdeploy.PAGGate (logits)
        runs = Equal (selection, branch)
        m = Cast <to: int = 1> (runs)
        c = Conv (x, w)
        y = Mul (c, m)
    }

The gate sees the very numbers that were compared, so each way to decide keeps its own tie rule:

    a >= b, b <= a   logits [a, b], branch 0: a tie belongs to the lowest index
    a > b, b < a     logits [b, a], branch 1
    a >= c           logits [a - c, c - a], branch 0, if c is a constant: a difference of floats is
                     zero only for equal ones, and has the right sign
    argmax(p)        logits p: after a softmax the rounded probabilities, which may tie where the
                     scores do not
    argmin(p)        logits -p: the lowest index wins a tie there, too
    round(p)         p > 0.5: round is to even, so that a half becomes 0; if 0 <= p <= 1 for sure
    ceil, floor(p)   p > 0, p >= 1, likewise

A decision that rules no convolution stays, and so does one in which random numbers have a part: a
drawn mask can be neither compared nor forced. What a NaN decides is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Replacement, constant_of, explain, is_zero, skip
from pagdeploy.graph.liveness import PIXEL_LOCAL
from pagdeploy.graph.mask_operators import axis_of_best
from pagdeploy.graph.masks import COMPARISONS, ROUNDINGS, Decision, Masks, Origin
from pagdeploy.graph.perforate import depends_on
from pagdeploy.graph.randomness import sources_behind
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import ONE, Sizes, same_sizes
from pagdeploy.ops import DOMAIN, VERSION
from pagdeploy.ops.derive import MIN_OPSET

_NEARBY = 64  # values between a mask and the convolution that it rules
_STRICT = ("Greater", "Less", "Round", "Ceil")
_ROUNDED = {"Ceil": (0.0, ">"), "Floor": (1.0, ">="), "Round": (0.5, ">")}
_SMALLEST = 2.0**-100  # of a threshold: differences to it are never subnormal in float32


def run(model: ir.Model) -> int:
    """Rewrite every decision that a mask of a feature map needs."""
    if model.opset_imports.get("", 1) < MIN_OPSET:
        return 0
    sizes = ShapeBook(model)
    masks = Masks(model, sizes)
    wanted: dict[ir.Node, ir.Value] = {}
    for decision in _wanted(model, masks, sizes):
        node = decision.value.producer()
        if decision.origin is Origin.WRITTEN_OUT and node is not None:
            wanted[node] = decision.value
    _tell_of_drawn(model, sizes)
    count = sum(_Rewrite(model, node, sizes).run() for node in wanted)
    if count:
        model.opset_imports[DOMAIN] = VERSION
    return count


def _tell_of_drawn(model: ir.Model, sizes: ShapeBook) -> None:
    """Say which decisions stay because random numbers have a part in them."""
    behind = sources_behind(model.graph)
    if not behind:
        return
    told: set[ir.Node] = set()
    for decision in _wanted(model, Masks(model, sizes, drawn=True), sizes):
        node = decision.value.producer()
        if node is None or node in told or decision.origin is not Origin.WRITTEN_OUT:
            continue
        told.add(node)
        names = sorted(str(source.name) for source in behind.get(decision.value, ()))
        if names:
            skip(node, f"what it compares depends on the random numbers of {', '.join(names)}")


def _wanted(model: ir.Model, masks: Masks, sizes: ShapeBook) -> Iterator[Decision]:
    """The decisions behind masks of what convolutions make."""
    for node in model.graph:
        shape = sizes.of(node.outputs[0]) if node.op_type in ("Mul", "Where") else None
        if shape is None or len(shape) != 4:
            continue
        tables = [masks.pixel_mask(value) for value in node.inputs]
        if all(masks.table(value) or constant_of(value) is not None for value in node.inputs):
            continue
        maps = [v for v in node.inputs if v is not None and masks.table(v) is None]
        for table in tables:
            if table is not None and any(_is_ruled(m, table.decisions[0]) for m in maps):
                yield from sorted(masks.behind(table.decisions[0]), key=lambda d: str(d.value.name))


def _is_ruled(value: ir.Value, decision: Decision) -> bool:
    """Whether a convolution that does not itself decide stands right behind a value."""
    pending, seen = [value], set[ir.Value]()
    while pending and len(seen) < _NEARBY:
        current = pending.pop()
        node = current.producer()
        if current in seen or node is None or node.domain:
            continue
        seen.add(current)
        if node.op_type in ("Conv", "ConvTranspose") and not depends_on(decision.value, node):
            return True
        if node.op_type in PIXEL_LOCAL | {"BatchNormalization", "Concat"}:
            pending += [operand for operand in node.inputs if operand is not None]
    return False


class _Rewrite:
    """The rewrite of one node."""

    def __init__(self, model: ir.Model, node: ir.Node, sizes: ShapeBook) -> None:
        self.model, self.node, self.sizes = model, node, sizes
        self.name = node.name or str(node.outputs[0].name)

    def run(self) -> bool:
        """Whether the node was rewritten."""
        node = self.node
        if node.op_type in COMPARISONS + ROUNDINGS:
            return self._comparison()
        others = node.outputs[:-1]
        if any(value.uses() or value.is_graph_output() for value in others):
            skip(node, "its values are read, too")
            return False
        return self._argmax()

    def _argmax(self) -> bool:
        node, (scores, *_) = self.node, self.node.inputs
        shape = self.sizes.of(scores)
        assert scores is not None and shape is not None, "it has a table"
        picked = node.outputs[-1]
        put = Replacement(self.model, node, "/gate")
        axis, rank = axis_of_best(node, len(shape)), len(shape)
        assert axis is not None, "it has a table"
        smallest = node.op_type == "ArgMin" or not node.attributes.get_int("largest", 1)
        logits = put.op("Neg", scores) if smallest else scores
        if axis != 1:
            order = [0, axis, *(each for each in range(1, rank) if each != axis)]
            logits, shape = put.op("Transpose", logits, perm=order), tuple(shape[a] for a in order)
        if rank == 2:
            logits = put.op("Unsqueeze", logits, _ints(2, 3))
        elif rank == 5:  # (N, K, 1, H, W)
            logits, shape = put.op("Squeeze", logits, _ints(2)), (*shape[:2], *shape[3:])
        result = put.op("Cast", self._gate(put, logits, shape), to=int(ir.DataType.INT64))
        kept = bool(node.attributes.get_int("keepdims", 1))
        if rank == 2:
            result = put.op("Squeeze", result, _ints(*[1] * (not kept), 2, 3))
        elif rank == 4 and (axis != 1 or not kept):
            result = put.op("Squeeze", result, _ints(1))
        if kept and (rank == 5 or (rank == 4 and axis != 1)):
            result = put.op("Unsqueeze", result, _ints(axis))
        what = "argmin" if smallest else "argmax"
        explain(node, f"is a gate: {what} of {scores.name!r}, the lowest index wins a tie")
        put.finish(result, picked)
        return True

    def _comparison(self) -> bool:
        node = self.node
        pair = self._sides()
        if pair is None:
            return False
        put = Replacement(self.model, node, "/gate")
        bigger, other, rule = pair
        strict = node.op_type in _STRICT
        out = self.sizes.of(node.outputs[0])
        assert out is not None, "it has a table"
        if other is not None and not any(constant_of(v) is not None for v in (bigger, other)):
            ahead, behind = bigger, other
        else:
            ahead, behind = self._difference(put, bigger, other)
        channels = out[1].expression if len(out) in (2, 4) else 1
        assert isinstance(channels, int), "it has a table"
        sides = (behind, ahead) if strict else (ahead, behind)
        results = []
        for channel, logits in enumerate(self._logits(put, sides, out, channels)):
            suffix = f"#{channel}" if channel else ""
            selection = self._gate(put, logits, out, suffix)
            results.append(put.op("Equal", selection, np.array(int(strict), np.int32)))
        result = results[0] if channels == 1 else put.op("Concat", *results, axis=1)
        flat = {4: [], 3: [1], 2: [2, 3], 1: [1, 2, 3]}[len(out)]
        if flat:
            result = put.op("Squeeze", result, _ints(*flat))
        if node.op_type in ROUNDINGS:
            dtype = node.outputs[0].dtype or ir.DataType.FLOAT
            result = put.op("Cast", result, to=int(dtype))
        explain(node, f"is a gate: {rule}, {'off' if strict else 'on'} at a tie")
        put.finish(result)
        return True

    def _sides(self) -> tuple[ir.Value, ir.Value | None, str] | None:
        """What must be larger, what it is compared with, and the rule in words."""
        node = self.node
        first = node.inputs[0]
        assert first is not None, "the checker refuses a comparison without operands"
        if node.op_type in ROUNDINGS:
            limit, than = _ROUNDED[node.op_type]
            return first, None, f"{first.name!r} {than} {limit:g}"
        second = node.inputs[1]
        assert second is not None, "likewise"
        sign = ">" if node.op_type in _STRICT else ">="
        if node.op_type.startswith("Less"):
            first, second = second, first
        one, other = constant_of(first), constant_of(second)
        threshold = other if other is not None else one
        if threshold is None:
            if not same_sizes(self.sizes.of(first), self.sizes.of(second)):
                skip(node, "the compared maps are not provably of one size")
                return None
        elif not _is_exact(threshold):
            skip(node, "a difference to its threshold may be too small for float32")
            return None
        return first, second, f"{_word(first)} {sign} {_word(second)}"

    def _difference(
        self, put: Replacement, bigger: ir.Value, other: ir.Value | None
    ) -> tuple[ir.Value, ir.Value]:
        """Two values in the same order as these, made of whichever of them is a constant."""
        dtype = (bigger.dtype or ir.DataType.FLOAT).numpy()
        limit, _ = _ROUNDED.get(self.node.op_type, (0.0, ""))
        threshold = np.full((), limit, dtype) if other is None else constant_of(other)
        if other is None and not limit:
            return bigger, put.op("Neg", bigger)
        if other is not None and _is_single_zero(bigger):
            return put.op("Neg", other), other
        if other is not None and _is_single_zero(other):
            return bigger, put.op("Neg", bigger)
        margin = put.op("Sub", bigger, threshold if other is None else other)
        return margin, put.op("Neg", margin)

    def _logits(
        self, put: Replacement, sides: Sequence[ir.Value], out: Sizes, channels: int
    ) -> Sequence[ir.Value]:
        """Two compared values as (N, 2, H, W) or (N, 2, 1, 1), one for each channel."""
        if channels == 1:
            missing = {4: [], 3: [1], 2: [2, 3], 1: [1, 2, 3]}[len(out)]
            planes = [put.op("Unsqueeze", s, _ints(*missing)) if missing else s for s in sides]
            return [put.op("Concat", *planes, axis=1)]
        axes = {4: [1], 2: [1, 3]}[len(out)]
        stack = put.op("Concat", *(put.op("Unsqueeze", s, _ints(*axes)) for s in sides), axis=1)
        cut = put.ops("Split", channels, stack, np.ones(channels, np.int64), axis=2)
        return cut if len(out) == 2 else [put.op("Squeeze", part, _ints(2)) for part in cut]

    def _gate(self, put: Replacement, logits: ir.Value, sizes: Sizes, suffix: str = "") -> ir.Value:
        """A gate whose values are called after the node, as the exporter would call them."""
        name = f"{self.name}{suffix}"
        if logits.producer() is not None and logits.producer().graph is None:  # type: ignore[union-attr]
            logits.name = f"{name}.logits"
            scores = next(v for v in self.node.inputs if v is not None and v.dtype is not None)
            logits.type = scores.type
        selection = put.op("PAGGate", logits, domain=DOMAIN)
        selection.name = f"{name}.selection"
        gate = selection.producer()
        assert gate is not None, "a node was just added"
        gate.name = name
        spatial = {4: sizes[2:], 3: sizes[1:]}.get(len(sizes), (ONE, ONE))
        dims = (sizes[0], ONE, *spatial)
        selection.type = ir.TensorType(ir.DataType.INT32)
        selection.shape = ir.Shape(
            [d.expression if isinstance(d.expression, int) else d.name for d in dims]
        )
        return selection


def _is_exact(threshold: np.ndarray) -> bool:
    sizes = np.abs(threshold.astype(np.float64))
    return bool(np.isfinite(sizes).all() and ((sizes == 0) | (sizes >= _SMALLEST)).all())


def _is_single_zero(value: ir.Value) -> bool:
    array = constant_of(value)
    return array is not None and array.size == 1 and is_zero(value)


def _word(value: ir.Value) -> str:
    array = constant_of(value)
    return repr(value.name) if array is None or array.size != 1 else f"{array.reshape(-1)[0]:g}"


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
