"""Whether a convolution can be a PerforatedConv, and the node that it becomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import Nodes, Replacement
from pagdeploy.graph.masks import Decision, Origin
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import Sizes, in_words
from pagdeploy.ops import DOMAIN, Activation, Mode

UNREAD = "pagdeploy.unread"
"""Metadata of a PerforatedConv of which only active pixels are read: its base is never seen."""

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Perforable:
    """A Conv whose attributes a PerforatedConv can have.

    Attributes:
        node: The Conv.
        kernel_shape: Kernel height and width.
        strides: In y and x.
        pads: Top, left, bottom and right.
        dilations: In y and x.
        group: Number of groups.
        filters: Output channels.
        dtype: Of input, weights and output.
    """

    node: ir.Node
    kernel_shape: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    group: int
    filters: int
    dtype: np.dtype

    def ask_input_for_size(self, model: ir.Model, value: ir.Value) -> None:
        """Make the Shape nodes behind a value of the output's size read the input instead.

        So a mask may take its size from the convolution that it is to rule. Only where the
        convolution keeps the size of its input.
        """
        x = self.node.inputs[0]
        for reader in [use.node for use in value.uses() if use.node.op_type == "Shape"]:
            put = Replacement(model, reader)
            end = reader.attributes["end"].as_int() if "end" in reader.attributes else None
            wanted = range(4)[reader.attributes.get_int("start", 0) : end]
            parts = [
                np.array([self.filters], np.int64)
                if axis == 1
                else put.op("Shape", x, start=axis, end=axis + 1)
                for axis in wanted
            ]
            put.finish(put.op("Concat", *parts, axis=0))

    def perforated(
        self,
        put: Nodes,
        selection: ir.Value,
        branch: int,
        base: ir.Value | None = None,
        mode: Mode = Mode.REPLACE,
        activation: Activation = Activation.NONE,
        alpha: float = 0.0,
    ) -> ir.Value:
        """The convolution where `selection` says `branch`, named after the dense one.

        Args:
            put: Where the node goes.
            selection: int32, (N, 1, Ho, Wo) or (N, 1, 1, 1).
            branch: Of the selection.
            base: None is zero.
            mode: Whether the result replaces the base or is added to it.
            activation: Behind the convolution.
            alpha: Slope of a leaky relu.
        """
        x, w, *bias = self.node.inputs
        y = put.op(
            "PerforatedConv",
            x,
            selection,
            w,
            bias[0] if bias and bias[0] is not None else np.zeros(self.filters, self.dtype),
            np.zeros((1, 1, 1, 1), self.dtype) if base is None else base,
            domain=DOMAIN,
            kernel_shape=self.kernel_shape,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            group=self.group,
            branch=branch,
            mode=int(mode),
            activation=int(activation),
            alpha=alpha,
        )
        node, old = y.producer(), self.node.outputs[0]
        assert node is not None, "a node was just added"
        node.name = self.node.name
        node.metadata_props.update(self.node.metadata_props)
        y.type, y.shape = old.type, old.shape
        return y


def readers_of(value: ir.Value) -> list[ir.Node]:
    """Who reads a value itself, and not only its size; twice if it reads it twice."""
    return [use.node for use in value.uses() if use.node.op_type != "Shape" or use.node.domain]


def perforable(node: ir.Node, sizes: ShapeBook) -> Perforable | str:
    """The convolution in a form that can be perforated, or why there is none."""
    x, w = node.inputs[:2]
    weight = sizes.of(w)
    if x is None or weight is None:
        return "the shape of its weights is unknown"
    if x.dtype not in _FLOATS:
        return "its type is none of float32, float16 and bfloat16"
    if len(weight) != 4:
        return "it is not two-dimensional"
    if not all(isinstance(size.expression, int) for size in (weight[0], *weight[2:])):
        return "the shape of its weights is unknown"
    filters, kernel = int(weight[0].expression), tuple(int(s.expression) for s in weight[2:])  # type: ignore[call-overload]
    attributes = node.attributes
    strides = attributes.get_ints("strides", [1, 1])
    dilations = attributes.get_ints("dilations", [1, 1])
    pads = attributes.get_ints("pads", [0, 0, 0, 0])
    automatic = attributes.get_string("auto_pad", "NOTSET")
    if automatic == "VALID":
        pads = [0, 0, 0, 0]
    elif automatic != "NOTSET":
        if list(strides) != [1, 1]:
            return "its padding depends on the size of its input"
        reach = [dilations[axis] * (kernel[axis] - 1) for axis in range(2)]
        less, more = [r // 2 for r in reach], [r - r // 2 for r in reach]
        pads = [*less, *more] if automatic == "SAME_UPPER" else [*more, *less]
    assert x.dtype is not None, "it is one of three"
    return Perforable(
        node,
        kernel,
        tuple(strides),  # type: ignore[arg-type]
        tuple(pads),  # type: ignore[arg-type]
        tuple(dilations),  # type: ignore[arg-type]
        attributes.get_int("group", 1),
        filters,
        x.dtype.numpy(),
    )


def misfit(decision: Decision, sizes: ShapeBook, output: Sizes | None) -> str | None:
    """Why a decision cannot be the selection of an output of these sizes, if it cannot."""
    mask = sizes.of(decision.value)
    if mask is None or output is None or len(mask) != 4 or len(output) != 4:
        return "the size of the mask or of the output is unknown"
    if not mask[1].is_one:
        return "the mask differs from channel to channel"
    per_image = mask[2].is_one and mask[3].is_one
    fits = mask[0].same(output[0])
    fits &= per_image or (mask[2].same(output[2]) and mask[3].same(output[3]))
    if fits:
        return None
    return f"the mask is not provably of the output's size: {in_words(mask)}, {in_words(output)}"


def selection_of(put: Nodes, decision: Decision) -> ir.Value:
    """The decision as a selection: a gate's own, or a mask of zeros and ones as int32."""
    if decision.origin is Origin.GATE:
        return decision.value
    selection = put.op("Cast", is_on(put, decision), to=int(ir.DataType.INT32))
    selection.type, selection.shape = ir.TensorType(ir.DataType.INT32), decision.value.shape
    return selection


def is_on(put: Nodes, decision: Decision) -> ir.Value:
    """A derived mask as a value that is 1 or true in its second branch, and 0 or false else."""
    if not decision.levels:
        return decision.value
    dtype = (decision.value.dtype or ir.DataType.FLOAT).numpy()
    return put.op("Equal", decision.value, np.array(decision.levels[1], dtype))


def depends_on(value: ir.Value, node: ir.Node, aside: Iterable[ir.Node] = ()) -> bool:
    """Whether a value is computed from what a node makes, some readers aside."""
    seen = set(aside)
    pending = [value.producer()]
    while pending:
        current = pending.pop()
        if current is node:
            return True
        if current is not None and current not in seen:
            seen.add(current)
            pending += [operand.producer() for operand in current.inputs if operand is not None]
            pending += [inner.producer() for inner in _captured(current)]
    return False


def _captured(node: ir.Node) -> list[ir.Value]:
    """What the subgraphs of a node read of the graph around them."""
    graphs = [a.value for a in node.attributes.values() if isinstance(a.value, ir.Graph)]
    return [
        value
        for graph in graphs
        for inner in ir.traversal.RecursiveGraphIterator(graph)
        for value in inner.inputs
        if value is not None
    ]
