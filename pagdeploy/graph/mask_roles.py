"""Which axes of what is computed from masks are images, rows and columns."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.mask_operators import changes_only_space
from pagdeploy.graph.mask_tables import ELEMENTWISE, uniform
from pagdeploy.graph.shape_book import ShapeBook

_WINDOWS = frozenset("AveragePool Conv ConvTranspose MaxPool Pad Resize Slice".split())


def derived_roles(
    node: ir.Node, known: Mapping[ir.Value, str | None], sizes: ShapeBook
) -> str | None:
    """The axes of what is computed from masks; None if it is not one number per pixel.

    Args:
        node: That computes it.
        known: The axes of its inputs that are masks, or made of some.
        sizes: Of the same model.
    """
    inputs = [value for value in node.inputs if value is not None]
    roles = [known[value] for value in inputs]
    if node.op_type == "Reshape":
        return _merged_roles(inputs[0], node.outputs[0], roles[0], sizes)
    if node.op_type in _WINDOWS:
        size = sizes.of(node.outputs[0])
        one_channel = size is not None and len(size) == 4 and size[1].is_one
        whole = node.op_type not in ("Pad", "Slice") or changes_only_space(node)
        return "n1hw" if roles[0] == "n1hw" and one_channel and whole else None
    if node.op_type not in ELEMENTWISE:
        return None
    rank = max(len(r) for r in roles if r is not None)
    merged = ["1"] * rank
    for value, one in zip(inputs, roles, strict=True):
        if one is None:
            array = constant_of(value)
            if array is None or uniform(array) is None or array.ndim > rank:
                return None
            continue
        for axis, letter in enumerate(one.rjust(rank, "1")):
            if letter != "1" and merged[axis] not in ("1", letter):
                return None
            merged[axis] = letter if letter != "1" else merged[axis]
    return "".join(merged) if "c" not in merged else None


def _merged_roles(
    value: ir.Value, out: ir.Value, roles: str | None, sizes: ShapeBook
) -> str | None:
    """Rows and columns repeated by an axis of their own, which a Reshape joins to them."""
    before, after = sizes.of(value), sizes.of(out)
    if roles is None or before is None or after is None or len(after) != 4:
        return None
    if not before[0].same(after[0]) or roles[0] != "n" or len(roles) != len(before):
        return None
    old = [size.expression for size in before[1:]]
    new = [size.expression for size in after[1:]]
    if new[0] != 1 or not all(isinstance(size, int) for size in (*old, *new)):
        return None
    numbers = [int(size) for size in old if isinstance(size, int)]
    for cut in range(1, len(numbers) + 1):
        high, wide = roles[1 : cut + 1].replace("1", ""), roles[cut + 1 :].replace("1", "")
        if prod(numbers[:cut]) == new[1] and (high, wide) == ("h", "w"):
            return "n1hw"
    return None
