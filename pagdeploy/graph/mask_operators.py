"""What single operators are to masks: which choose, which only pick values, which fill a map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.sizes import Sizes


def is_share(value: ir.Value) -> bool:
    """Whether a value is provably between 0 and 1."""
    node = value.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "Clip":
        bounds = [constant_of(bound) for bound in node.inputs[1:3]]
        known = [bound.ravel()[0] for bound in bounds if bound is not None and bound.size == 1]
        return len(known) == 2 and 0 <= known[0] <= known[1] <= 1
    return node.op_type in ("Sigmoid", "HardSigmoid")


def axis_of_best(node: ir.Node, rank: int) -> int | None:
    """The axis along which it gives the first of the largest, or of the smallest; not images."""
    axis: int = node.attributes.get_int("axis", -1 if node.op_type == "TopK" else 0) % rank
    if node.op_type in ("ArgMax", "ArgMin"):
        last: int = node.attributes.get_int("select_last_index", 0)
        return None if last or not axis else axis
    count: npt.NDArray[np.generic] | None = constant_of(node.inputs[1])
    return axis or None if count is not None and count.reshape(-1)[0] == 1 else None


def roles_of_best(scores: Sizes, axis: int, *, kept: bool) -> str | None:
    """The axes of what is the best of scores (N, K), (N, K, H, W), (N, H, W, K), (N, K, 1, H, W).

    Args:
        scores: Their sizes, in any of these layouts.
        axis: Of the K scores.
        kept: Whether it stays, with one entry.
    """
    rest = [*scores[:axis], *scores[axis + 1 :]]
    flat = len(rest) >= 3 and rest[-2].is_one and rest[-1].is_one
    roles = {1: "n", 3: "n11" if flat else "nhw", 4: "n111" if flat else "n1hw"}.get(len(rest))
    if roles is None or (len(rest) == 4 and not rest[1].is_one):
        return None
    return f"{roles[:axis]}1{roles[axis:]}" if kept else roles


def fills(places: Sizes | None, sizes: Sizes | None, axis: int) -> bool:
    """Whether one index a pixel, along an axis, reaches every pixel."""
    if places is None or sizes is None or len(places) != len(sizes) or not places[axis].is_one:
        return False
    return all(a.same(b) for n, (a, b) in enumerate(zip(places, sizes, strict=True)) if n != axis)


def only_picks(node: ir.Node) -> bool:
    """Whether every value that comes out went in, whatever the size of the map."""
    if node.op_type == "MaxPool":
        padded_apart = set(node.attributes.get_ints("dilations", [1])) != {1}
        return not padded_apart and not node.attributes.get_int("ceil_mode", 0)
    if node.op_type == "Resize":
        mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
        nearest = node.attributes.get_string("mode", "nearest") == "nearest"
        return nearest and mode != "tf_crop_and_resize"
    return True


def changes_only_space(node: ir.Node) -> bool:
    """Whether a Slice or Pad of four axes leaves images and channels as they are, for sure."""
    named = node.inputs[3] if len(node.inputs) > 3 else None
    if named is not None:
        axes = constant_of(named)
        return axes is not None and {int(axis) % 4 for axis in axes.ravel()} <= {2, 3}
    pads = constant_of(node.inputs[1]) if node.op_type == "Pad" else None
    return pads is not None and pads.size == 8 and not pads.reshape(2, 4)[:, :2].any()
