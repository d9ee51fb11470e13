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


def picks_first_best(node: ir.Node, rank: int) -> bool:
    """Whether it gives the first of the largest, or of the smallest, along the channels."""
    axis = node.attributes.get_int("axis", -1 if node.op_type == "TopK" else 0) % rank
    if node.op_type in ("ArgMax", "ArgMin"):
        return axis == 1 and not node.attributes.get_int("select_last_index", 0)
    count: npt.NDArray[np.generic] | None = constant_of(node.inputs[1])
    return axis == 1 and count is not None and count.reshape(-1)[0] == 1


def fills(places: Sizes | None, sizes: Sizes | None) -> bool:
    """Whether one index a pixel reaches every pixel."""
    if places is None or sizes is None or len(places) != len(sizes) or not places[1].is_one:
        return False
    return all(a.same(b) for n, (a, b) in enumerate(zip(places, sizes, strict=True)) if n != 1)


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


def cuts_only_space(node: ir.Node) -> bool:
    """Whether a Slice or Pad names its axes, and they are rows and columns alone."""
    axes = constant_of(node.inputs[3]) if len(node.inputs) > 3 else None
    return axes is not None and {int(axis) % 4 for axis in axes.ravel()} <= {2, 3}
