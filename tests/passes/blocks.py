"""Gated blocks as portable models, and what they have to say."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.graph.choice import Choice, choose
from pagdeploy.graph.read import graphs_of
from pagdeploy.ops import DOMAIN
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.passes import (
    drop_unused,
    keep_channels_last,
    lower_dense,
    lower_gate,
    lower_gather,
    share_equal_nodes,
    strip_bodies,
    switch_dense,
)
from pagdeploy.pipeline import run_passes
from tests.models import ELEMENT_TYPES, model_of, op_node, run_onnxruntime

PASSES = (
    strip_bodies,
    switch_dense,
    lower_gather,
    lower_dense,
    keep_channels_last,
    share_equal_nodes,
    lower_gate,
    drop_unused,
)
Arrays = Mapping[str, NDArray[Any]]


def bottleneck(
    *,
    channels: int = 6,
    inner: int = 4,
    dilation: int = 1,
    group: int = 1,
    shape: Sequence[int | str] = ("n", "h", "w"),
    per_image: bool = False,
    mode: int = 1,
    activation: int = 1,
    proven: bool = True,
    middle: str = "Relu",
    dtype: str = "float32",
) -> onnx.ModelProto:
    """x -> base -> 1x1, 3x3, 1x1 gated as a whole by s -> y.

    Args:
        channels: Of x and y.
        inner: In between.
        dilation: Of the 3x3.
        group: Of the 3x3.
        shape: Declared N, H and W.
        per_image: One decision per image.
        mode: Of the last convolution.
        activation: Of the last convolution.
        proven: Whether the base is what a ReLU makes.
        middle: The activation behind the first convolution.
        dtype: Of all of it.
    """
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((inner, channels, 1, 1)),
        "b1": rng.standard_normal(inner),
        "w2": rng.standard_normal((inner, inner // group, 3, 3)),
        "b2": rng.standard_normal(inner),
        "w3": rng.standard_normal((channels, inner, 1, 1)),
        "b3": rng.standard_normal(channels),
        "zero": np.zeros((1, 1, 1, 1)),
    }
    d, (n, h, w) = dilation, shape
    spatial = {"kernel_shape": [3, 3], "pads": [d] * 4, "dilations": [d, d], "group": group}
    nodes = [
        helper.make_node("Relu" if proven else "Neg", ["x"], ["base"]),
        helper.make_node("Conv", ["base", "w1", "b1"], ["c1"]),
        helper.make_node(middle, ["c1"], ["a1"]),
        op_node("PerforatedConv", ["a1", "s", "w2", "b2", "zero"], ["a2"], activation=1, **spatial),
        op_node(
            "PerforatedConv", ["a2", "s", "w3", "b3", "base"], ["y"],
            kernel_shape=[1, 1], mode=mode, activation=activation,
        ),
    ]  # fmt: skip
    element = ELEMENT_TYPES[dtype]
    image = (element, [n, channels, h, w])
    size = [1, 1] if per_image else [h, w]
    return model_of(
        nodes,
        {"x": image, "s": (TensorProto.INT32, [n, 1, *size])},
        {"y": image},
        initializers=[numpy_helper.from_array(v.astype(dtype), k) for k, v in weights.items()],
    )


def between_layouts(model: onnx.ModelProto, around: str | None = None) -> onnx.ModelProto:
    """A model of x -> y that gets and gives channels last.

    Args:
        model: Channels first; changed.
        around: An activation inside of the changes of layout, at both ends.
    """
    perms = {"x": [0, 3, 1, 2], "y": [0, 2, 3, 1]}
    for node in model.graph.node:
        node.input[:] = ["x/in" if name == "x" else name for name in node.input]
        node.output[:] = ["y/out" if name == "y" else name for name in node.output]
    first = [helper.make_node("Transpose", ["x"], ["x/first"], perm=perms["x"])]
    last = [helper.make_node("Transpose", ["y/first"], ["y"], perm=perms["y"])]
    first.append(helper.make_node(around or "Identity", ["x/first"], ["x/in"]))
    last.insert(0, helper.make_node(around or "Identity", ["y/out"], ["y/first"]))
    nodes = [*first, *model.graph.node, *last]
    if around is None:
        nodes = [node for node in nodes if node.op_type != "Identity"]
        for node in nodes:
            node.input[:] = ["x/first" if name == "x/in" else name for name in node.input]
            node.output[:] = ["y/first" if name == "y/out" else name for name in node.output]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for value in (model.graph.input[0], model.graph.output[0]):
        dims = [copy.deepcopy(dim) for dim in value.type.tensor_type.shape.dim]
        del value.type.tensor_type.shape.dim[:]
        value.type.tensor_type.shape.dim.extend(dims[axis] for axis in perms["y"])
    return model


def choosing(model: onnx.ModelProto, choice: Choice) -> onnx.ModelProto:
    """The model with a wish on each of its perforated convolutions."""
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type == "PerforatedConv":
            choose(node, choice)
    return model


def lowered(model: onnx.ModelProto, passes: Iterable[ModuleType] = PASSES) -> onnx.ModelProto:
    """The model in standard ONNX, with switches."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    module = ir.from_proto(inferred)
    run_passes(module, tuple(passes))
    result = ir.to_proto(module)
    assert not [node for graph in graphs_of(result) for node in graph.node if node.domain]
    onnx.checker.check_model(result, full_check=True)
    return result


def expected(model: onnx.ModelProto, feed: Arrays) -> NDArray[Any]:
    """What the function bodies say."""
    return run_onnxruntime(attach_bodies(model), feed)[0]


def operators(model: onnx.ModelProto) -> list[str]:
    """Every operator, those of branches included."""
    return [node.op_type for graph in graphs_of(model) for node in graph.node]
