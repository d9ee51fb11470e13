"""Soft mixtures: weights between zero and one that several maps, or one, are multiplied by.

Where a gate decides, a mixture needs every branch at every pixel. It is found so that a user who
asks for it can have it decided (`passes.harden_mixtures`).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.shape_book import ShapeBook

MOST_BRANCHES = 64

_WEIGHTS = frozenset({"HardSigmoid", "Sigmoid", "Softmax"})
_CARRY = frozenset(
    "Cast Dropout Expand Gather Identity Reshape Slice Split Squeeze Tile Transpose"
    " Unsqueeze".split()
)
_WEIGH = frozenset({"Einsum", "MatMul", "Mul"})


@dataclass(frozen=True)
class Mixture:
    """Soft weights, and who multiplies maps by them.

    Attributes:
        node: A Softmax over the branches, or a sigmoid of one score a pixel or an image.
        axis: Of the branches; 1 behind a sigmoid.
        branches: How many; 2 behind a sigmoid: on and off.
        uses: Which inputs of which nodes lead to nothing but products with maps.
    """

    node: ir.Node
    axis: int
    branches: int
    uses: tuple[tuple[ir.Node, int], ...]

    @property
    def name(self) -> str:
        """Of the node."""
        return self.node.name or str(self.node.outputs[0].name)


def mixtures_of(model: ir.Model) -> list[Mixture]:
    """The soft mixtures of the main graph, in order.

    What else reads the same weights, as a network that goes on with them, is no part of a mixture.
    """
    sizes = ShapeBook(model)
    found = []
    for node in model.graph:
        if node.domain or node.op_type not in _WEIGHTS:
            continue
        axis_and_branches = _branches(node, sizes)
        uses = tuple(
            (use.node, use.idx)
            for use in node.outputs[0].uses()
            if _only_weighs(use.node, node.outputs[0], model.graph)
        )
        if axis_and_branches is not None and uses:
            found.append(Mixture(node, *axis_and_branches, uses))
    return found


def _branches(node: ir.Node, sizes: ShapeBook) -> tuple[int, int] | None:
    """The axis of the branches, and how many there are; None if it cannot be a mixture's."""
    size = sizes.of(node.outputs[0])
    if size is None:
        return None
    if node.op_type != "Softmax":
        # More channels are an attention: each has a weight of its own, and no pixel is left out.
        return (1, 2) if len(size) == 4 and size[1].is_one else None
    axis = node.attributes.get_int("axis", -1) % len(size)
    count = size[axis].expression
    return (axis, count) if isinstance(count, int) and 2 <= count <= MOST_BRANCHES else None


def _only_weighs(node: ir.Node, weights: ir.Value, graph: ir.Graph) -> bool:
    """Whether a reader of weights, or all behind it, multiplies maps by them."""
    if node.domain or node.graph is not graph:
        return False
    if node.op_type in _WEIGH:
        maps = [value for value in node.inputs if not _comes_from(value, weights)]
        return any(value is not None and constant_of(value) is None for value in maps)
    carries = node.op_type in _CARRY or (node.op_type == "Sub" and _is_rest(node))
    if not carries or any(value.is_graph_output() for value in node.outputs):
        return False
    readers = [use.node for value in node.outputs for use in value.uses()]
    return bool(readers) and all(_only_weighs(reader, weights, graph) for reader in readers)


def _is_rest(node: ir.Node) -> bool:
    """Whether it is 1 - w, what is left for the other of two branches."""
    first = node.inputs[0]
    array = constant_of(first)
    return array is not None and array.size == 1 and bool(array.reshape(-1)[0] == 1)


def _comes_from(value: ir.Value | None, weights: ir.Value) -> bool:
    """Whether a value is the weights, or a part of them."""
    while value is not None and value is not weights:
        node = value.producer()
        if node is None or node.domain or node.op_type not in _CARRY | {"Sub"}:
            return False
        value = node.inputs[1 if node.op_type == "Sub" else 0]
    return value is weights
