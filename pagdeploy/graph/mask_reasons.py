"""Why what multiplies or chooses a map, as masks do, is not known to be a mask of its pixels."""

from __future__ import annotations

import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.masks import COMPARISONS, Masks, Table
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import ONE

_MAKES_MAPS = ("BatchNormalization", "Clip", "Conv", "LeakyRelu", "Relu")
_MOVES = frozenset(
    "Cast CastLike Expand Flatten Gather Identity Not Reshape Slice Squeeze Tile Transpose"
    " Unsqueeze".split()
)
_COMPARES = frozenset({*COMPARISONS, "Equal"})
_PICKS = frozenset({"ArgMax", "ArgMin", "TopK"})


def rules_like_a_mask(
    mask: ir.Value | None, other: ir.Value | None, masks: Masks, sizes: ShapeBook
) -> bool:
    """Whether a value has a number for each pixel of what a convolution made, and is no known mask.

    Args:
        mask: Multiplies or chooses; (N, 1, H, W), or broadcast to the map.
        other: What is multiplied or chosen, (N, C, H, W).
        masks: Of the model.
        sizes: Of the model.
    """
    shape, features = sizes.of(mask), sizes.of(other)
    if mask is None or other is None or not shape or features is None or len(features) != 4:
        return False
    if features[1].is_one or masks.scalar(mask) is not None or constant_of(mask) is not None:
        return False
    producer = other.producer()
    if producer is None or producer.domain or masks.pixel_mask(mask) is not None:
        return False
    table = masks.table(mask)
    if table is not None and table.roles == "nhw1":
        return producer.op_type == "Transpose"
    padded = (ONE,) * (4 - len(shape)) + shape
    if len(shape) < 4 and padded[2].is_one and padded[3].is_one:  # a factor for each channel
        return False
    single = len(shape) < 4 or shape[1].is_one
    return single and producer.op_type in _MAKES_MAPS


def why_no_mask(mask: ir.Value, masks: Masks) -> str:
    """The reason, a clause that names the mask and what it is made of."""
    its = f"its mask {mask.name!r}"
    table = masks.table(mask)
    if table is not None:
        return f"{its} {_misplaced(table)}"
    value, node, last = mask, mask.producer(), mask.producer()
    zeros_and_ones = mask.dtype == ir.DataType.BOOL
    while node is not None and not node.domain and masks.table(value) is None:
        inner = _read(node)
        if inner is None:
            break
        value, last, node = inner, node, inner.producer()
        zeros_and_ones |= value.dtype == ir.DataType.BOOL or last.op_type in _COMPARES
    if masks.table(value) is not None and last is not None:
        return f"{its} is not followed through {last.name!r} ({last.op_type})"
    if value.is_graph_input():
        what = "is an input" if value is mask else f"is made of the input {value.name!r}"
        if zeros_and_ones:
            return f"{its} {what}, and no decision of the model"
        return f"{its} {what} of the model, not provably zeros and ones"
    if node is not None and (node.op_type in _PICKS or zeros_and_ones):
        return f"{its} is decided by {node.name!r} ({node.op_type}), of which no gate can be made"
    return f"{its} is not provably zeros and ones"


def _read(node: ir.Node) -> ir.Value | None:
    """What a node passes on or compares with constants."""
    if node.op_type in _MOVES:
        return node.inputs[0]
    if node.op_type not in _COMPARES:
        return None
    read = [value for value in node.inputs if constant_of(value) is None]
    # A comparison of floats decides; one of numbers of branches only looks.
    whole = len(read) == 1 and read[0] is not None and read[0].dtype is not None
    return read[0] if whole and not read[0].dtype.is_floating_point() else None  # type: ignore[union-attr]


def _misplaced(table: Table) -> str:
    """What is wrong with the axes of a table that is no mask of pixels."""
    if len(table.rows) != 1:
        return "differs from channel to channel"
    if table.roles == "n1wh":
        return "has rows where the map has columns"
    if table.roles == "nhw1":
        return "has its channels last, as the map has: only maps (N, C, H, W) are masked"
    if "n" in table.roles and table.roles.rjust(4, "1")[0] != "n":
        return f"lacks axes: its images meet the map's {_met(table)}"
    return "has its axes in another order than the map"


def _met(table: Table) -> str:
    return ("images", "channels", "rows", "columns")[table.roles.rjust(4, "1").index("n")]
