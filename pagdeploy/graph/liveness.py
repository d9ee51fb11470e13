"""Pixel liveness: at which pixels a value is read by anything that reaches an output.

A backward walk. What chooses by a mask reads its operands only where they are chosen; what works
pixel by pixel reads what is read of it; a convolution reads the windows of the output pixels that
are read of it, its support; everything else reads every pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.masks import Decision, Masks, Origin
from pagdeploy.graph.perforate import misfit
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import axes_of, same_grid
from pagdeploy.ops import DOMAIN, Mode


@dataclass(frozen=True)
class Everywhere:
    """Every pixel.

    Attributes:
        why: Who reads them, as a clause.
    """

    why: str = field(compare=False)


@dataclass(frozen=True)
class Chosen:
    """The pixels for which a decision says one of some branches."""

    decision: Decision
    branches: frozenset[int]


@dataclass(frozen=True)
class Windows:
    """The pixels in the windows of a region's pixels.

    Attributes:
        of: The region, of the output's pixels.
        kernel: Height and width of a window.
        strides: In y and x.
        pads: Top, left, bottom and right.
        dilations: In y and x.
        size_of: A value of the input's size, which follows from the output's only at stride 1.
    """

    of: Region
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    size_of: ir.Value | None


@dataclass(frozen=True)
class Either:
    """The pixels of any of some regions."""

    regions: frozenset[Chosen | Windows]


Region = Chosen | Windows | Either
# Only what is finite for every finite number: a pixel that nobody reads becomes zero, and what is
# made of it may still be multiplied by a mask that is zero there.
PIXEL_LOCAL = frozenset(
    "Abs Add Cast Ceil Celu Clip Dropout Elu Erf Floor Gelu HardSigmoid HardSwish Identity"
    " LeakyRelu Max Mean Min Mish Mul Neg PRelu Relu Round Selu Sigmoid Sign Softplus Softsign Sub"
    " Sum Tanh Where And Equal Greater GreaterOrEqual Less LessOrEqual Not Or".split()
)
_ALONG_CHANNELS = frozenset({"Concat", "Gather", "LogSoftmax", "Softmax", "Split"})
_ACROSS_CHANNELS = frozenset({"ArgMax", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
_WINDOWED = frozenset({"AveragePool", "Conv", "MaxPool"})


class Liveness:
    """Where each value of the main graph is read, as the graph is now."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._sizes = ShapeBook(model)
        self._masks = Masks(model, self._sizes)
        self._regions: dict[ir.Value, Region | Everywhere] = {}
        for node in reversed(list(model.graph)):
            for value in node.outputs:
                self._regions[value] = self._of(value)

    @property
    def sizes(self) -> ShapeBook:
        """The sizes that the walk is based on."""
        return self._sizes

    def of(self, value: ir.Value) -> Region | Everywhere:
        """Where a value is read."""
        return self._regions[value]

    def _of(self, value: ir.Value) -> Region | Everywhere:
        if value.is_graph_output():
            return Everywhere("it is an output of the model")
        regions = []
        for use in value.uses():
            if use.node.op_type == "Shape" and not use.node.domain:
                continue  # of a size that does not change
            region = self._read(value, use.node, use.idx)
            if isinstance(region, Everywhere):
                return region
            regions.append(region)
        return self._joined(regions) if regions else Everywhere("nobody reads it")

    def _read(self, value: ir.Value, node: ir.Node, index: int) -> Region | Everywhere:
        """What of a value one of its readers reads."""
        what = f"{node.name!r} ({node.op_type})"
        if node.graph is not self._graph:
            return Everywhere(f"{what} reads it from inside a subgraph")
        if node.domain == DOMAIN and node.op_type == "PerforatedConv":
            return self._read_by_perforated(value, node, index)
        if node.domain:
            return Everywhere(f"{what} may read every pixel")
        if node.op_type in ("Mul", "Where"):
            chosen = self._chosen(value, node, index)
            if chosen is not None:
                return chosen
        if len(node.outputs) > 1 and node.op_type not in ("Split", "Dropout"):
            return Everywhere(f"{what} may read every pixel")
        if node.op_type in _WINDOWED and index == 0:
            return self._windows(node, self._of_outputs(node), value)
        if not self._is_pixel_local(value, node, index):
            return Everywhere(f"{what} reads every pixel")
        return self._of_outputs(node)

    def _of_outputs(self, node: ir.Node) -> Region | Everywhere:
        regions = []
        for output in node.outputs:
            if not output.uses() and not output.is_graph_output():
                continue
            region = self._regions[output]
            if isinstance(region, Everywhere):
                return region
            regions.append(region)
        return self._joined(regions) if regions else Everywhere("nobody reads what it leads to")

    def _read_by_perforated(
        self, value: ir.Value, node: ir.Node, index: int
    ) -> Region | Everywhere:
        what = f"{node.name!r} ({node.op_type})"
        table = self._masks.pixel_mask(node.inputs[1])
        if table is None or index not in (0, 4) or table.decisions[0].origin is Origin.WRITTEN_OUT:
            return Everywhere(f"{what} reads every pixel")
        active = table.rows[0] == node.attributes.get_int("branch")
        decision, output = table.decisions[0], node.outputs[0]
        if misfit(decision, self._sizes, self._sizes.of(output)):
            return Everywhere(f"the mask of {what} is not provably of its size")
        if index == 0:
            region = Chosen(decision, _where(active))
            return self._windows(node, region, value) if region.branches else region
        if not self._same_grid(value, output):
            return Everywhere(f"{what} broadcasts it")
        if node.attributes.get_int("mode") == Mode.ADD:
            return self._of_outputs(node)
        return Chosen(decision, _where(~active))

    def _chosen(self, value: ir.Value, node: ir.Node, index: int) -> Region | None:
        """Where a product or a Where reads an operand, if that depends on a mask alone."""
        others = [1 - index] if node.op_type == "Mul" else [0]
        if node.op_type == "Where" and index == 0:
            return None
        table = self._masks.pixel_mask(node.inputs[others[0]])
        if table is None or self._masks.table(value) is not None:
            return None
        decision = table.decisions[0]
        if any(each.origin is Origin.WRITTEN_OUT for each in self._masks.behind(decision)):
            return None
        if misfit(decision, self._sizes, self._sizes.of(value)) is not None:
            return None
        if not self._same_grid(value, node.outputs[0]):
            return None
        wanted = table.rows[0] != 0 if index < 2 else table.rows[0] == 0
        branches = _where(wanted)
        return Chosen(decision, branches) if len(branches) < decision.branches else None

    def _windows(
        self, node: ir.Node, region: Region | Everywhere, value: ir.Value
    ) -> Region | Everywhere:
        if isinstance(region, Everywhere) or self._is_per_image(region):
            return region
        get = node.attributes.get_ints
        automatic = node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
        kernel = list(get("kernel_shape", []))
        if node.op_type in ("Conv", "PerforatedConv"):
            weight = self._sizes.of(node.inputs[1 if node.op_type == "Conv" else 2])
            known = [] if weight is None else [size.expression for size in weight[2:]]
            kernel = [size for size in known if isinstance(size, int)]
        rounded_up: int = node.attributes.get_int("ceil_mode", 0)
        if automatic or len(kernel) != 2 or rounded_up:
            return Everywhere(f"the windows of {node.name!r} ({node.op_type}) are not known")
        strides, pads = get("strides", [1, 1]), get("pads", [0, 0, 0, 0])
        dilations = get("dilations", [1, 1])
        if kernel == [1, 1] and list(strides) == [1, 1] and not any(pads):
            return region
        size_of = None if list(strides) == [1, 1] else value
        return Windows(
            region, tuple(kernel), tuple(strides), tuple(pads), tuple(dilations), size_of
        )

    def _is_per_image(self, region: Region) -> bool:
        if isinstance(region, Either):
            return all(self._is_per_image(each) for each in region.regions)
        if isinstance(region, Windows):
            return False
        sizes = self._sizes.of(region.decision.value)
        return sizes is not None and sizes[2].is_one and sizes[3].is_one

    def _is_pixel_local(self, value: ir.Value, node: ir.Node, index: int) -> bool:
        """Whether pixels of a value reach only the same pixels of what a node makes of it."""
        sizes = self._sizes.of(value)
        if sizes is None or len(sizes) != 4 or not self._same_grid(value, node.outputs[0]):
            return False
        if node.op_type in PIXEL_LOCAL:
            return True
        if node.op_type == "Div":
            return index == 0 and constant_of(node.inputs[1]) is not None
        if node.op_type == "BatchNormalization":
            return index == 0 and not node.attributes.get_int("training_mode", 0)
        if node.op_type in _ALONG_CHANNELS:
            default = -1 if node.op_type.endswith("Softmax") else 0
            return index != 1 or node.op_type == "Concat" if self._axis(node, default) else False
        if node.op_type in _ACROSS_CHANNELS:
            return index == 0 and axes_of(node, 4) == [1]
        if node.op_type == "Slice":
            axes = constant_of(node.inputs[3]) if len(node.inputs) > 3 else None
            return axes is not None and all(int(axis) % 4 == 1 for axis in axes.ravel())
        return False

    def _axis(self, node: ir.Node, default: int) -> bool:
        return bool(node.attributes.get_int("axis", default) % 4 == 1)

    def _same_grid(self, one: ir.Value, other: ir.Value) -> bool:
        return same_grid(self._sizes.of(one), self._sizes.of(other))

    def _joined(self, regions: Iterable[Region]) -> Region | Everywhere:
        """The union, in its simplest form."""
        parts: dict[Chosen | Windows, None] = {}
        for region in regions:
            parts.update(dict.fromkeys(region.regions if isinstance(region, Either) else [region]))
        chosen: dict[Decision, frozenset[int]] = {}
        for part in parts:
            for inner in _contained(part):
                chosen[inner.decision] = chosen.get(inner.decision, frozenset()) | inner.branches
        if any(len(found) == decision.branches for decision, found in chosen.items()):
            return Everywhere("its readers together read every pixel")
        merged: dict[Decision, frozenset[int]] = {}
        rest: list[Chosen | Windows] = []
        for part in parts:
            if isinstance(part, Chosen):
                merged[part.decision] = merged.get(part.decision, frozenset()) | part.branches
            else:
                rest.append(part)
        simplest = frozenset([*(Chosen(d, found) for d, found in merged.items()), *rest])
        return next(iter(simplest)) if len(simplest) == 1 else Either(simplest)


def _contained(region: Region) -> list[Chosen]:
    """Choices whose pixels all lie in a region: a window with a tap in its centre has its own."""
    if isinstance(region, Chosen):
        return [region]
    if isinstance(region, Either):
        return [chosen for each in region.regions for chosen in _contained(each)]
    centred = all(
        stride == 1 and pad % dilation == 0 and 0 <= pad // dilation < kernel
        for stride, pad, dilation, kernel in zip(
            region.strides, region.pads, region.dilations, region.kernel, strict=False
        )
    )
    return _contained(region.of) if centred else []


def decisions_of(region: Region) -> set[Decision]:
    """The decisions that a region depends on."""
    if isinstance(region, Chosen):
        return {region.decision}
    if isinstance(region, Windows):
        return decisions_of(region.of)
    return {decision for each in region.regions for decision in decisions_of(each)}


def has_windows(region: Region) -> bool:
    """Whether a region is more than the pixels of decisions themselves."""
    if isinstance(region, Either):
        return any(has_windows(each) for each in region.regions)
    return isinstance(region, Windows)


def _where(flags: np.ndarray) -> frozenset[int]:
    return frozenset(int(index) for index in np.flatnonzero(flags))
