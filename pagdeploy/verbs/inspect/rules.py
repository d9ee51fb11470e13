"""How a gate decides: by which scores, with which tie, and for how many pixels at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

_OF_MASKS = frozenset(
    "And Cast Equal Expand Identity Not Or Reshape Resize Slice Sub Squeeze Transpose"
    " Unsqueeze".split()
)


def without_budget(logits: ir.Value | None) -> tuple[ir.Value | None, str | None]:
    """The scores that a budget is added to, and its name (see `exporters.budget`)."""
    node = None if logits is None else logits.producer()
    if node is None or node.op_type != "Add":
        return logits, None
    for scores, offset in (node.inputs, node.inputs[::-1]):
        where = None if offset is None else offset.producer()
        if where is not None and where.op_type == "Cast":
            where = where.inputs[0].producer() if where.inputs[0] is not None else None
        if where is None or where.op_type != "Where" or len(where.inputs) != 3:
            continue
        budget = where.inputs[1]
        if budget is not None and budget.is_graph_input():
            return scores, str(budget.name)
    return logits, None


def rule(scores: ir.Value | None, computes: Sequence[int]) -> str:
    """What decides in favour of the branch that computes."""
    node = None if scores is None else scores.producer()
    if node is None or node.op_type != "Concat" or len(node.inputs) != 2:
        return f"argmax of {_word(scores)}"
    first, second = (_bare(value) for value in node.inputs)
    larger, other, sign = (second, first, ">") if list(computes) == [1] else (first, second, ">=")
    for value, negated, turned in ((larger, other, False), (other, larger, True)):
        minus = None if negated is None else negated.producer()
        if minus is None or minus.op_type != "Neg" or minus.inputs[0] is not value:
            continue
        what, threshold = _threshold(value)
        if turned:
            sign = "<" if sign == ">" else "<="
        return f"{what} {sign} {threshold}"
    return f"{_word(larger)} {sign} {_word(other)}"


def _bare(value: ir.Value | None) -> ir.Value | None:
    """What a value of another layout, or a channel, was taken from."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in ("Reshape", "Slice", "Squeeze", "Unsqueeze"):
        value = node.inputs[0]
        node = None if value is None else value.producer()
    return value


def _threshold(value: ir.Value | None) -> tuple[str, str]:
    """What a margin is the difference of, if one part is a constant; else itself and zero."""
    from pagdeploy.graph.edit import constant_of

    node = None if value is None else value.producer()
    if node is not None and node.op_type == "Sub":
        number = constant_of(node.inputs[1])
        if number is not None and number.size == 1:
            return _word(node.inputs[0]), f"{number.reshape(-1)[0]:g}"
    return _word(value), "0"


def _word(value: ir.Value | None) -> str:
    if value is None:
        return "nothing"
    node = value.producer()
    made = f" ({node.op_type})" if node is not None else ""
    return f"{value.name!r}{made}"


def tie(computes: Sequence[int], count: object) -> str:
    """What two equal scores decide.

    Args:
        computes: Branches for which something is computed.
        count: How many branches there are, if that is known.
    """
    if count != 2 or len(computes) != 1:
        return "the lowest index wins"
    return "computes" if computes[0] == 0 else "skips"


def granularity(gate: ir.Node, sizes: Sequence[object] | None) -> str:
    """What one decision is for: "pixel", "patch" or "image".

    Args:
        gate: The node.
        sizes: Of its logits, (N, K, H, W), if they are known.
    """
    from pagdeploy.graph.sizes import Size

    spatial = [size for size in (sizes or ())[2:] if isinstance(size, Size)]
    if spatial and all(size.is_one for size in spatial):
        return "image"
    pending, seen = list(gate.outputs[:1]), set[object]()
    while pending:
        value = pending.pop()
        for reader in (use.node for use in value.uses()):
            if reader in seen or reader.domain or reader.op_type not in _OF_MASKS:
                continue
            if reader.op_type == "Resize":
                return "patch"
            seen.add(reader)
            pending += reader.outputs
    return "pixel"
