"""Parts of a network that one decision per image turns on and off.

Such a part ends in one value, which says one thing for images that are on and another for those
that are off. It holds whatever only it reads and computes image by image, whole maps of it: also
what a decision per pixel could not leave out, such as a pooled branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pagdeploy.graph.branches import Activated, Branches, Is, Number, Sum, Term
from pagdeploy.graph.choice import choice_of
from pagdeploy.graph.edit import constant_of, is_zero, weights_of
from pagdeploy.graph.liveness import PIXEL_LOCAL
from pagdeploy.graph.masks import Masks, Origin
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import Size, Sizes, axes_of, same_sizes
from pagdeploy.ops import DOMAIN, Activation, Mode

_ROOTS = frozenset({"Add", "Clip", "LeakyRelu", "Mul", "Relu", "Where"})
_ELEMENTWISE = (PIXEL_LOCAL - {"Dropout"}) | {"Div", "Exp", "Log", "Pow", "Sqrt", "Reciprocal"}
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})


@dataclass(frozen=True)
class ImagePart:
    """What is computed for images that are on only.

    Attributes:
        root: The node whose output is the part's.
        selection: int32, (N, 1, 1, 1).
        branch: What the selection says of an image that is on.
        nodes: What only images that are on need, in order.
        on: The output of images that are on.
        off: The output of all others; it reads nothing that the nodes make.
        size: Of the output, (N, C, H, W).
        one_image: Whether N is 1 for sure.
        batched: Values made elsewhere that hold one entry an image; others are the same for all.
    """

    root: ir.Node
    selection: ir.Value
    branch: int
    nodes: tuple[ir.Node, ...]
    on: Term
    off: Term
    size: Sizes
    one_image: bool
    batched: frozenset[ir.Value]


class ImageParts:
    """Finds the parts of the main graph, as it is now.

    Args:
        model: Gates and masked convolutions are ours already.
    """

    def __init__(self, model: ir.Model) -> None:
        self._graph, self._order = model.graph, list(model.graph)
        self._place = {node: place for place, node in enumerate(self._order)}
        self._sizes = ShapeBook(model)
        self._masks = Masks(model, self._sizes)
        self._branches = Branches(self._masks)

    def ending_in(self, root: ir.Node) -> ImagePart | str | None:
        """The part that ends in a node; why there is none; None if nothing asks for one."""
        if _is_ours(root):
            return self._of_convolution(root)
        if root.domain or root.op_type not in _ROOTS:
            return None
        why = None
        for decision in self._branches.decisions(root.outputs[0]):
            if decision.origin is not Origin.GATE or not self._is_per_image(decision.value):
                continue
            terms = [
                self._branches.term(root.outputs[0], decision, branch)
                for branch in range(decision.branches)
            ]
            for branch, on in enumerate(terms if len(terms) > 1 else ()):
                others = [term for k, term in enumerate(terms) if k != branch]
                if on == others[0] or any(other != others[0] for other in others):
                    continue
                found = self._part(root, decision.value, branch, on, others[0])
                if isinstance(found, ImagePart):
                    return found
                why = why or found
        return why

    def _of_convolution(self, root: ir.Node) -> ImagePart | str | None:
        selection, base = root.inputs[1], root.inputs[4]
        assert selection is not None and base is not None, "check_model refuses missing inputs"
        if not self._is_per_image(selection):
            return None
        number = self._masks.scalar(base)
        off: Term = Is(base) if number is None else Number(float(number))
        activation = Activation(root.attributes.get_int("activation"))
        if root.attributes.get_int("mode") == Mode.ADD and activation is not Activation.NONE:
            off = Activated(activation, root.attributes.get_float("alpha"), off)
            if is_zero(base):
                off = Number(0.0)
        branch = root.attributes.get_int("branch")
        return self._part(root, selection, branch, Is(root.outputs[0]), off)

    def _is_per_image(self, selection: ir.Value) -> bool:
        sizes = self._sizes.of(selection)
        return sizes is not None and len(sizes) == 4 and all(size.is_one for size in sizes[1:])

    def _part(
        self, root: ir.Node, selection: ir.Value, branch: int, on: Term, off: Term
    ) -> ImagePart | str:
        size, images = self._sizes.of(root.outputs[0]), self._sizes.of(selection)
        assert images is not None, "the selection is known to be one per image"
        if size is None or len(size) != 4 or not size[0].same(images[0]):
            return "it has not provably as many images as decisions"
        inside = self._inside(root, selection, branch, on, off)
        if not any(node.op_type in ("Conv", "PerforatedConv") for node in inside):
            return "nothing that costs is computed for images that are on alone"
        if any(choice_of(node).lowering == "dense" for node in inside):
            return "marked dense"
        made = {node.outputs[0] for node in inside}
        if any(value in made for value in leaves(off)):
            return "images that are off need what those that are on compute"
        itself = root.outputs[0]
        if itself in leaves(off) or (not _is_ours(root) and itself in leaves(on)):
            return "what images show has no simpler form"
        if not self._fills(on, size) or not self._fills(off, size):
            return "what images show is not provably of one size"
        outer = {value for node in inside for value in node.inputs if value is not None}
        outer |= {*leaves(on), *leaves(off)}
        batched = frozenset(v for v in outer - made if self._is_batched(v, images[0]))
        return ImagePart(
            root, selection, branch, inside, on, off, size, images[0].is_one, batched
        )  # fmt: skip

    def _fills(self, term: Term, size: Sizes) -> bool:
        """Whether a term is of the part's size, or a number for which that can be written."""
        if isinstance(term, Number):
            return all(isinstance(each.expression, int) for each in size[1:])
        return any(same_sizes(self._sizes.of(value), size) for value in leaves(term))

    def _inside(
        self, root: ir.Node, selection: ir.Value, branch: int, on: Term, off: Term
    ) -> tuple[ir.Node, ...]:
        """What may be computed for some images, and is read by nothing else."""
        images = self._sizes.of(selection)
        assert images is not None, "the selection is known to be one per image"
        apart, stays = _expression(root, {*leaves(on), *leaves(off)}), set(leaves(off))
        inside: set[ir.Node] = set()
        if _is_ours(root):
            inside, apart = {root}, set()
        order = []
        for node in reversed(self._order[: self._place[root]]):
            output = node.outputs[0] if len(node.outputs) == 1 else None
            if (
                output is not None
                and node.graph is self._graph
                and output not in stays
                and output.uses()
                and not output.is_graph_output()
                and all(use.node in inside or use.node in apart for use in output.uses())
                and self._is_by_image(node, selection, branch, images[0])
            ):
                inside.add(node)
                order.append(node)
        return self._needed([*reversed(order), *([root] if _is_ours(root) else [])], on, apart)

    def _needed(
        self, nodes: Sequence[ir.Node], on: Term, apart: set[ir.Node]
    ) -> tuple[ir.Node, ...]:
        """Those of the nodes that the output needs, and that only such ones read."""
        kept = set(nodes)
        while True:
            read = set(leaves(on))
            for node in reversed(nodes):
                if node in kept and node.outputs[0] in read:
                    read.update(value for value in node.inputs if value is not None)
            final = {
                node
                for node in kept
                if node.outputs[0] in read
                and (
                    node is nodes[-1]
                    or all(use.node in kept or use.node in apart for use in node.outputs[0].uses())
                )
            }
            if final == kept:
                return tuple(node for node in nodes if node in kept)
            kept = final

    def _is_by_image(self, node: ir.Node, selection: ir.Value, branch: int, images: Size) -> bool:
        """Whether each image of what a node makes comes from the same image of what it reads."""
        if not self._is_batched(node.outputs[0], images):
            return False
        if _is_ours(node):
            return (
                node.inputs[1] is selection
                and node.attributes.get_int("branch") == branch
                and self._is_batched(node.inputs[0], images)
            )
        if node.domain or not node.inputs:
            return False
        first, rest = node.inputs[0], node.inputs[1:]
        if node.op_type in ("Conv", "BatchNormalization"):
            constants = all(v is None or weights_of(v) is not None for v in rest)
            training: int = node.attributes.get_int("training_mode", 0)
            return constants and not training and self._is_batched(first, images)
        if node.op_type in _POOLS:
            return self._is_batched(first, images)
        if node.op_type in _REDUCTIONS:
            axes = axes_of(node, 4)
            return self._is_batched(first, images) and bool(axes) and 0 not in (axes or ())
        if node.op_type in ("Concat", "Softmax"):
            axis: int = node.attributes.get_int("axis", -1)
            return axis % 4 != 0 and all(self._is_batched(v, images) for v in node.inputs)
        if node.op_type not in _ELEMENTWISE:
            return False
        return all(
            value is None or self._is_batched(value, images) or self._is_same_for_all(value)
            for value in node.inputs
        )

    def _is_batched(self, value: ir.Value | None, images: Size) -> bool:
        sizes = self._sizes.of(value)
        known = value is not None and constant_of(value) is None
        return known and sizes is not None and len(sizes) == 4 and sizes[0].same(images)

    def _is_same_for_all(self, value: ir.Value) -> bool:
        sizes = self._sizes.of(value)
        return sizes is not None and (len(sizes) < 4 or (len(sizes) == 4 and sizes[0].is_one))


def means_of(value: ir.Value) -> list[ir.Node]:
    """The nodes that take the mean over each channel of a map, (N, C, H, W) -> (N, C, 1, 1)."""
    means = [node for node, _ in value.uses() if is_mean(node)]
    return [node for node in means if node.attributes.get_int("keepdims", 1)]


def is_mean(node: ir.Node) -> bool:
    """Whether a node takes the mean over each channel of a float32 map, (N, C, H, W)."""
    if node.domain or node.outputs[0].dtype != ir.DataType.FLOAT:
        return False
    if node.op_type == "GlobalAveragePool":
        return True
    return node.op_type == "ReduceMean" and axes_of(node, 4) == [2, 3]


def leaves(term: Term) -> list[ir.Value]:
    """The values that a term is made of."""
    if isinstance(term, Is):
        return [term.value]
    if isinstance(term, Sum):
        return leaves(term.left) + leaves(term.right)
    return leaves(term.inner) if isinstance(term, Activated) else []


def _expression(root: ir.Node, ends: Iterable[ir.Value]) -> set[ir.Node]:
    """The nodes of an expression down to its leaves; masks and all."""
    stop, found, pending = set(ends), {root}, [root]
    while pending:
        for value in pending.pop().inputs:
            node = None if value is None or value in stop else value.producer()
            if (
                node is not None
                and node not in found
                and node.graph is root.graph
                and not node.domain
                and all(use.node in found for use in node.outputs[0].uses())
            ):
                found.add(node)
                pending.append(node)
    return found


def _is_ours(node: ir.Node) -> bool:
    return node.op_type == "PerforatedConv" and node.domain == DOMAIN
