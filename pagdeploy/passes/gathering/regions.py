"""Regions: what is gathered together, so that only active pixels exist in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.choice import choice_of
from pagdeploy.graph.edit import constant_of, is_zero, nodes_of, skip, weights_of
from pagdeploy.ops import DOMAIN, Activation, Mode

# Unary operators that compute each value from itself; their other operands are constants.
_POINTWISE = frozenset(
    "Clip Elu HardSigmoid HardSwish LeakyRelu Relu Selu Sigmoid Softplus Tanh".split()
)
_NON_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs", "Exp", "Softmax"})
_KEEPS_SIGN = frozenset(
    "AveragePool Cast GlobalAveragePool Identity MaxPool Reshape Transpose".split()
)
_ROUNDS = ("QuantizeLinear", "DequantizeLinear")  # with one scale; they keep zero zero
_DEEPEST = 32  # producers looked at for a proof


@dataclass(frozen=True)
class Region:
    """Nodes that are computed at listed pixels only.

    Attributes:
        head: Plain 1x1 convolutions and activations that only the region reads: they are computed
            where its first convolution reads.
        inner: Convolutions over one selection and zero elsewhere, each read by the next one alone;
            and between them what rounds to 8 bits.
        branches: The convolutions that make the output. One; or several over one selection, each
            the base of the next, of which every pixel takes one at most.
        adds_to_non_negative: The output's base is proven to be at least zero.
    """

    head: tuple[ir.Node, ...]
    inner: tuple[ir.Node, ...]
    branches: tuple[ir.Node, ...]
    adds_to_non_negative: bool

    @property
    def convs(self) -> tuple[ir.Node, ...]:
        """Every PerforatedConv, in order."""
        return tuple(node for node in self.inner if node.domain == DOMAIN) + self.branches

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """Every node, in order."""
        return self.head + self.inner + self.branches

    @property
    def last(self) -> ir.Node:
        """The node whose output is the region's."""
        return self.branches[-1]

    @property
    def source(self) -> ir.Value:
        """What the region's first node reads."""
        x = self.nodes[0].inputs[0]
        assert x is not None, "check_model refuses missing inputs"
        return x


def find_regions(model: ir.Model) -> list[Region]:
    """The regions of a model, in order; says of every other PerforatedConv why it is in none."""
    taken: set[ir.Node] = set()
    found = []
    for node in reversed(list(nodes_of(model, "PerforatedConv"))):
        if node in taken:
            continue
        if why := _obstacle(node):
            skip(node, why)
            continue
        region = _region_that_ends_with(node)
        taken.update(region.convs)
        found.append(region)
    return found[::-1]


def is_pointwise(node: ir.Node) -> bool:
    """Whether a convolution's output pixel reads the input pixel at its own place only."""
    ints = node.attributes.get_ints
    shape = ints("kernel_shape", ())
    if not shape:
        weight = weights_of(node.inputs[1])
        shape = () if weight is None else weight.shape[2:]
    return (
        set(shape) == {1}
        and not any(ints("pads", ()))
        and set(ints("strides", (1,))) == {1}
        and node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    )


def _obstacle(node: ir.Node) -> str | None:
    if choice_of(node).lowering == "dense":
        return "marked dense"
    weight, bias = weights_of(node.inputs[2]), constant_of(node.inputs[3])
    if weight is None or bias is None:
        return "its weights are computed"
    if min(node.attributes.get_ints("pads")) < 0:
        return "it crops its input"
    if weight.shape[1] == 1 and weight.shape[0] > 1 and node.attributes.get_int("group") > 1:
        return "a depthwise convolution has too little work per pixel to pay for gathering"
    return None


def _region_that_ends_with(node: ir.Node) -> Region:
    branches = _walk_back(node, 4, _is_other_branch)
    inner: list[ir.Node] = []
    head: list[ir.Node] = []
    if len(branches) == 1:
        inner = _walk_back(node, 0, _is_inner)[:-1]
        while inner and inner[0].domain != DOMAIN:
            del inner[0]  # it rounds what others than the region make
        first = inner[0] if inner else node
        if _keeps_size(first):
            head = _walk_back(first, 0, _is_pixel_local)[:-1]
            while head and head[0].op_type != "Conv":
                del head[0]  # alone it is not worth a list of pixels
    return Region(
        tuple(head), tuple(inner), tuple(branches), is_non_negative(branches[0].inputs[4])
    )


def _walk_back(
    node: ir.Node, port: int, belongs: Callable[[ir.Node, Sequence[ir.Node]], bool]
) -> list[ir.Node]:
    """The node, and in front of it the producers that only the next one reads."""
    found = [node]
    while True:
        value = found[0].inputs[port]
        producer = None if value is None else value.producer()
        if (
            producer is None
            or value is None
            or producer.graph is not node.graph
            or len(value.uses()) != 1
            or value.is_graph_output()
            or not belongs(producer, found)
        ):
            return found
        found.insert(0, producer)


def _is_ours(node: ir.Node) -> bool:
    return node.op_type == "PerforatedConv" and node.domain == DOMAIN and not _obstacle(node)


def _replaces(node: ir.Node) -> bool:
    return node.attributes.get_int("mode") == Mode.REPLACE


def _branch(node: ir.Node) -> int:
    return node.attributes.get_int("branch")


def _is_other_branch(node: ir.Node, behind: Sequence[ir.Node]) -> bool:
    return (
        _is_ours(node)
        and _replaces(node)
        and _replaces(behind[0])
        and node.inputs[1] is behind[0].inputs[1]
        and _branch(node) not in {_branch(other) for other in behind}
    )


def _is_inner(node: ir.Node, behind: Sequence[ir.Node]) -> bool:
    reader = next(node for node in behind if node.domain == DOMAIN)
    return _rounds(node) or (
        _is_ours(node)
        and _replaces(node)
        and is_zero(node.inputs[4])
        and node.inputs[1] is reader.inputs[1]
        and _branch(node) == _branch(reader)
        and _keeps_size(reader)
    )


def _rounds(node: ir.Node) -> bool:
    constants = [constant_of(operand) for operand in node.inputs[1:]]
    return (
        node.op_type in _ROUNDS
        and not node.domain
        and all(array is not None and array.ndim == 0 for array in constants)
    )


def _keeps_size(node: ir.Node) -> bool:
    kernel, strides, pads, dilations = (
        node.attributes.get_ints(name) for name in ("kernel_shape", "strides", "pads", "dilations")
    )
    reach = [dilations[axis] * (kernel[axis] - 1) for axis in range(2)]
    return set(strides) == {1} and all(
        pads[axis] + pads[axis + 2] == reach[axis] for axis in range(2)
    )


def is_elementwise(node: ir.Node) -> bool:
    """Whether a node computes each value of its only output from one value of its first input."""
    constants = [constant_of(operand) for operand in node.inputs[1:]]
    return (
        node.op_type in _POINTWISE
        and not node.domain
        and all(constant is not None for constant in constants)
    )


def _is_pixel_local(node: ir.Node, _: Sequence[ir.Node]) -> bool:
    if node.domain or any(operand is None for operand in node.inputs):
        return False
    constants = [weights_of(operand) for operand in node.inputs[1:]]
    if any(constant is None for constant in constants):
        return False
    if node.op_type == "Conv":
        weight = constants[0]
        return (
            weight is not None
            and weight.ndim == 4
            and node.attributes.get_int("group", 1) == 1
            and is_pointwise(node)
        )
    return node.op_type in _POINTWISE or _rounds(node)


def _rounded(node: ir.Node) -> ir.Value | None:
    """What a DequantizeLinear of a QuantizeLinear with the same operands rounds."""
    narrow = node.inputs[0] if node.op_type == "DequantizeLinear" and not node.domain else None
    quantize = None if narrow is None else narrow.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.domain:
        return None
    return quantize.inputs[0] if quantize.inputs[1:] == node.inputs[1:] else None


def is_non_negative(value: ir.Value | None) -> bool:
    """Whether no element is below zero, by what produces it; NaN may be."""
    pending, seen = [value], 0
    while pending:
        value, seen = pending.pop(), seen + 1
        array = constant_of(value)
        node = None if value is None else value.producer()
        if array is not None and not np.any(np.less(array, 0)):
            continue
        if node is None or seen > _DEEPEST:
            return False
        if node.op_type in _NON_NEGATIVE and not node.domain:
            continue
        if node.op_type in _KEEPS_SIGN and not node.domain:
            pending.append(node.inputs[0])
        elif node.op_type in ("Add", "Where") and not node.domain:
            pending += node.inputs[-2:]
        elif rounded := _rounded(node):
            pending.append(rounded)
        elif node.op_type == "If":
            position = list(node.outputs).index(value) if value is not None else 0
            branches = (attribute.as_graph() for attribute in node.attributes.values())
            pending += [branch.outputs[position] for branch in branches]
        elif node.op_type == "PerforatedConv" and node.domain == DOMAIN:
            if node.attributes.get_int("activation") not in (Activation.RELU, Activation.RELU6):
                return False
            if _replaces(node):
                pending.append(node.inputs[4])
        else:
            return False
    return True
