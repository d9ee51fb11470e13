"""Which pixels of a value are read, and which convolutions the native ops can compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.ops import DOMAIN
from pagdeploy.passes.gathering.pixels import Geometry, same

ELEMENTWISE = frozenset("Add Clip LeakyRelu Mul Relu Sigmoid Sub".split())
"""Operators that compute each value from those in the same place."""

_NARROW = 16  # columns of a group: with fewer, most of a tile would be padding


@dataclass(frozen=True)
class Where:
    """The pixels that are active in a selection, and what convolutions read at them.

    Attributes:
        selection: (N, 1, H, W); of whole images, (N, 1, 1, 1).
        branch: Its value at active pixels.
        reach: Of the convolutions, the last one first; each keeps the size of the map.
        images: Whether all pixels of an image are active, or none, in maps of any size.
    """

    selection: ir.Value
    branch: int
    reach: tuple[Geometry, ...] = ()
    images: bool = False

    def before(self, geometry: Geometry) -> Where | None:
        """What a convolution of that geometry reads at these pixels; None: another map."""
        if geometry.is_pointwise or self.images:
            return self
        if geometry.strides != (1, 1) or geometry.grown(0) or geometry.grown(1):
            return None
        return Where(self.selection, self.branch, (*self.reach, geometry))


def pixels_read(graph: ir.Graph) -> dict[ir.Node, Where]:
    """The pixels of a node's output that are read, where that is known and not all of them."""
    needs: dict[ir.Node, Where] = {}
    for node in reversed(list(graph)):
        if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
            continue
        uses = list(node.outputs[0].uses())
        if len(uses) != 1 or uses[0].idx != 0 or uses[0].node.graph is not graph:
            continue
        reader = uses[0].node
        if is_ours(reader) and not obstacle(reader, 2, 3):
            there = where_active(reader)
        else:
            there = needs.get(reader)
        if there is None:
            continue
        if is_ours(reader) or (is_conv(reader) and not obstacle(reader, 1, 2)):
            there = there.before(geometry_of(reader))
        elif not _is_unary(reader):
            continue
        # A list has one size, so only a convolution with a selection of its own can be left out.
        if there is not None and not (there.images and is_conv(node)):
            needs[node] = there
    return needs


def _is_unary(node: ir.Node) -> bool:
    """Whether a node computes each value of its first input by itself."""
    others = node.inputs[1:]
    return (
        not node.domain
        and node.op_type in ELEMENTWISE
        and all(array is not None and array.size == 1 for array in map(constant_of, others))
    )


def is_ours(node: ir.Node) -> bool:
    """Whether it is a PerforatedConv."""
    return node.op_type == "PerforatedConv" and node.domain == DOMAIN


def is_conv(node: ir.Node) -> bool:
    """Whether it is a plain convolution."""
    return node.op_type == "Conv" and not node.domain


def obstacle(node: ir.Node, weight_input: int, bias_input: int) -> str | None:
    """Why a convolution cannot be lowered, or would lose by it."""
    weight = constant_of(node.inputs[weight_input])
    bias = node.inputs[bias_input] if len(node.inputs) > bias_input else None
    if weight is None or (bias is not None and constant_of(bias) is None):
        return "its weights are computed"
    if weight.dtype != np.float32 or weight.ndim != 4:
        return "it is no float32 convolution of images"
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return "its padding is automatic"
    if min(geometry_of(node).pads) < 0:
        return "it crops its input"
    group = node.attributes.get_int("group", 1)
    if group > 1 and weight.shape[0] // group < _NARROW and not _is_depthwise(weight, group):
        return "its groups are narrower than a tile"
    return None


def _is_depthwise(weight: npt.NDArray[np.generic], group: int) -> bool:
    return bool(weight.shape[1] == 1 and weight.shape[0] == group)


def geometry_of(node: ir.Node) -> Geometry:
    """Of a convolution, ours or one of ONNX's, whose weights are constant."""
    weight = constant_of(node.inputs[2 if is_ours(node) else 1])
    kernel = () if weight is None else weight.shape[2:]
    defaults = {
        "kernel_shape": kernel, "strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1),
    }  # fmt: skip
    values = (tuple(node.attributes.get_ints(name, of)) for name, of in defaults.items())
    return Geometry(*values)


def where_active(node: ir.Node) -> Where | None:
    """The active pixels of a convolution whose selection provably decides for each pixel."""
    selection, y = node.inputs[1], node.outputs[0]
    assert selection, "check_model refuses missing inputs"
    given, wanted = selection.shape, y.shape
    if given is None or wanted is None or len(given) != 4 or len(wanted) != 4:
        return None
    if not all(same([given[axis]], [wanted[axis]]) for axis in (0, 2, 3)):
        return None
    branch = node.attributes.get_int("branch")
    decision = _argument(selection, "Expand")
    if decision is not None and decision.shape is not None and list(decision.shape[1:]) == [1] * 3:
        return Where(decision, branch, images=True)
    mask = _argument(selection, "Cast")
    traced = _origin_of(mask) if branch == 1 else None
    return traced or Where(selection, branch)


def _origin_of(mask: ir.Value | None) -> Where | None:
    """The pixels of a mask that `infer_perforation` made of a gate's selection."""
    compared = _producer(mask, "Equal")
    if compared is not None:
        selection, number = compared.inputs[0], constant_of(compared.inputs[1])
        whole = selection is not None and selection.dtype == ir.DataType.INT32
        if selection is None or not whole or number is None or number.size != 1:
            return None
        return Where(selection, int(number.item()))
    grown = _producer(mask, "Greater")
    if grown is None:
        return None
    windows, half = _producer(grown.inputs[0], "ConvTranspose"), constant_of(grown.inputs[1])
    ones = None if windows is None else constant_of(windows.inputs[1])
    if windows is None or half is None or ones is None:
        return None
    if len(windows.inputs) > 2 or not np.all(half == 0.5) or not np.all(ones == 1):
        return None
    behind = _origin_of(_argument(windows.inputs[0], "Cast"))
    return behind.before(geometry_of(windows)) if behind else None


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type and not node.domain else None


def _argument(value: ir.Value | None, op_type: str) -> ir.Value | None:
    node = _producer(value, op_type)
    return None if node is None else node.inputs[0]
