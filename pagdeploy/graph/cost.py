"""Counting multiply-adds: what a network costs, and the most that its gates can save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one request.

    Attributes:
        dense: Every convolution evaluated at every pixel.
        sparse: Perforated convolutions evaluated at their active pixels only.
    """

    dense: float
    sparse: float

    @property
    def ceiling(self) -> float:
        """The largest possible speed-up at equal arithmetic speed: dense / sparse."""
        return self.dense / self.sparse if self.sparse else 1.0


def count_cost(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    densities: Mapping[str, Sequence[float]],
) -> Cost:
    """Count the convolutions and matrix products of the main graph.

    Args:
        model: Portable.
        shapes: A concrete shape for every input.
        densities: Share of each branch, by the name of the selection; an absent one counts as
            all pixels active.
    """
    costs = count_costs(model, shapes, densities).values()
    return Cost(sum(cost.dense for cost in costs), sum(cost.sparse for cost in costs))


def count_costs(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    densities: Mapping[str, Sequence[float]],
) -> dict[str, Cost]:
    """As `count_cost`, for each node by the name of its first output."""
    from pagdeploy.ops import DOMAIN

    graph, known = known_shapes(model, shapes)
    costs: dict[str, Cost] = {}
    for node in graph.node:
        output = known.get(node.output[0], [])
        ours = node.domain == DOMAIN and node.op_type == "PerforatedConv"
        aware = node.domain == DOMAIN and node.op_type == "SegAwareConv"
        if ours or aware or node.op_type == "Conv":
            weight = known.get(node.input[2 if ours or aware else 1], [])
            macs = float(prod(output) * prod(weight[1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            macs = float(prod(output) * known.get(node.input[0], [0])[-1])
        else:
            continue
        share = 1.0
        if ours and node.input[1] in densities:
            branch = next(a.i for a in node.attribute if a.name == "branch")
            shares = densities[node.input[1]]
            share = shares[branch] if branch < len(shares) else 0.0
        costs[node.output[0]] = Cost(macs, macs * share)
    return costs


def known_shapes(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]
) -> tuple[onnx.GraphProto, dict[str, list[int]]]:
    """The main graph, and the shape of every value for inputs of these shapes."""
    import onnx

    from pagdeploy.ops.derive import register_schemas

    register_schemas()  # the sizes of our nodes' outputs are inferred through them
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in fixed.graph.input:
        if value.name in shapes:
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                dim.dim_value = int(size)
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    known = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    return inferred, known | {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
