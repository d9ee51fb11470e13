"""The exact step from opset 18, where PyTorch's exporter writes, down to 17."""

from __future__ import annotations

import onnx.defs
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from pagdeploy.errors import UsageError

# Their axes moved from an attribute to an input in opset 18; ReduceSum's had moved before.
_REDUCTIONS = frozenset(
    {
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSumSquare",
    }
)


def to_opset17(model: ir.Model) -> None:
    """Rewrite a model of opset 18, in place, to the same function at opset 17.

    Names, metadata and nodes of other domains stay as they are. PyTorch's exporter falls back to
    18 without an error where its own conversion fails, and loses the metadata where it succeeds.

    Args:
        model: Main graph and subgraphs are converted; it may not hold functions.

    Raises:
        UsageError: a node uses what opset 17 cannot say; the message names the node. The model
            must then be thrown away: nodes before that one are already converted.
    """
    if model.opset_imports.get("") != 18 or model.functions:
        raise ValueError("to_opset17 needs a model of opset 18 without functions")
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain in ("", "ai.onnx"):
            _convert(node)
            node.version = None if node.version is None else 17
    model.opset_imports[""] = 17
    RemoveUnusedNodesPass()(model)


def _convert(node: ir.Node) -> None:
    if node.op_type in _REDUCTIONS:
        _convert_reduction(node)
    elif node.op_type == "Resize":
        _convert_resize(node)
    elif node.op_type == "Split":
        _convert_split(node)
    elif node.op_type == "Pad":
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            raise _refusal(node, "it pads only some axes")
        node.resize_inputs(min(len(node.inputs), 3))
    elif node.op_type in ("ScatterElements", "ScatterND"):
        reduction = node.attributes.get_string("reduction", "none")
        if reduction in ("max", "min"):
            raise _refusal(node, f"it reduces by {reduction}")
    else:
        since = onnx.defs.get_schema(node.op_type, 18, "").since_version
        if since > 17:
            raise _refusal(node, f"this form of the operator exists only since opset {since}")


def _convert_reduction(node: ir.Node) -> None:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    axes: list[int] = []
    if value is not None:
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            raise _refusal(node, "its axes are known only at run time")
        axes = [int(axis) for axis in tensor.numpy().ravel()]
    noop: int = node.attributes.get_int("noop_with_empty_axes", 0)
    if not axes and noop:
        raise _refusal(node, "it does nothing where no axes are given")
    node.attributes.pop("noop_with_empty_axes", None)
    node.resize_inputs(1)
    if axes:  # without axes it reduces over all, in both opsets
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)


def _convert_resize(node: ir.Node) -> None:
    attributes = node.attributes
    antialias: int = attributes.get_int("antialias", 0)
    policy = attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if antialias or "axes" in attributes or policy != "stretch":
        raise _refusal(node, "antialias, axes and aspect-ratio policies came with opset 18")
    attributes.pop("antialias", None)
    attributes.pop("keep_aspect_ratio_policy", None)


def _convert_split(node: ir.Node) -> None:
    parts = node.attributes.pop("num_outputs", None)
    if parts is None:
        return
    value = node.inputs[0]
    shape = None if value is None else value.shape
    size = None if shape is None else shape[node.attributes.get_int("axis", 0)]
    if not isinstance(size, int) or size % parts.as_int():
        raise _refusal(node, "its parts are of unequal or unknown size")


def _refusal(node: ir.Node, why: str) -> UsageError:
    return UsageError(
        f"The node {node.name!r} ({node.op_type}) cannot be written at opset 17: {why}.",
        remedy="Export at opset 18 or later, or change the model there.",
    )
