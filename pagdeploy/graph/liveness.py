"""Pixel liveness: at which pixels a value is read by anything that reaches an output.

A backward walk. What chooses by a mask reads its operands only where they are chosen; what works
pixel by pixel reads what is read of it; a convolution reads the windows of the output pixels that
are read of it, its support; what moves pixels to constant places reads those that it takes;
everything else reads every pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.masks import Masks, Origin
from pagdeploy.graph.perforate import misfit
from pagdeploy.graph.pixel_sets import (
    Chosen,
    Either,
    Everywhere,
    Fixed,
    Region,
    Windows,
    flags_of,
    joined,
)
from pagdeploy.graph.positions import Positions
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import axes_of, same_grid
from pagdeploy.ops import DOMAIN, Mode

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
        self._positions = Positions(model.graph, self._sizes)
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
        return joined(regions) if regions else Everywhere("nobody reads it")

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
        if (fixed := self._positions.read(value, node, index)) is not None:
            return fixed
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
        return joined(regions) if regions else Everywhere("nobody reads what it leads to")

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
            region = Chosen(decision, flags_of(active))
            return self._windows(node, region, value) if region.branches else region
        if not self._same_grid(value, output):
            return Everywhere(f"{what} broadcasts it")
        if node.attributes.get_int("mode") == Mode.ADD:
            return self._of_outputs(node)
        return Chosen(decision, flags_of(~active))

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
        branches = flags_of(wanted)
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
        if isinstance(region, Fixed):
            return self._fixed_windows(node, region, value, kernel, strides, pads, dilations)
        size_of = None if list(strides) == [1, 1] else value
        return Windows(
            region, tuple(kernel), tuple(strides), tuple(pads), tuple(dilations), size_of
        )

    def _fixed_windows(
        self,
        node: ir.Node,
        region: Fixed,
        value: ir.Value,
        *geometry: Sequence[int],
    ) -> Region | Everywhere:
        sizes = self._sizes.of(value)
        numbers = [size.expression for size in (sizes or ())[2:]]
        known = [number for number in numbers if isinstance(number, int)]
        if len(known) != 2:
            return Everywhere(f"the size of what {node.name!r} ({node.op_type}) reads is unknown")
        read = region.read_by((known[0], known[1]), *(tuple(each) for each in geometry))
        return joined([read])

    def _is_per_image(self, region: Region) -> bool:
        if isinstance(region, Either):
            return all(self._is_per_image(each) for each in region.regions)
        if isinstance(region, Windows | Fixed):
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
