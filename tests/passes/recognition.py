"""Small models in the styles of others, and what the recognising passes make of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from onnx import numpy_helper

from pagdeploy.graph.read import name_nodes
from pagdeploy.ops import DOMAIN
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.ops.derive import register_schemas
from pagdeploy.passes import drop_unused, infer_perforation, infer_support
from pagdeploy.pipeline import RECOGNITION, run_passes
from tests.models import run_onnxruntime

RNG = np.random.default_rng(0)
CONSTANTS = {
    "zero": np.float32(0),
    "half": np.float32(0.5),
    "one": np.float32(1),
    "third": np.float32(0.3),
    "tenth": np.float32(0.1),
    "stretch": np.float32(1.2),
    "most": np.float32(0.99),
    "tiny": np.float32(1e-40),
    "epsilon": np.float32(1e-10),
    "nearly": np.float32(1 - 2.0**-24),
    "below": np.float32(-(2.0**-24)),
    "minus": np.float32(-1),
    "six": np.float32(6),
    "yes": np.bool_(True),
    "k0": np.int64(0),
    "k1": np.int64(1),
    "k2": np.int64(2),
    "a0": np.array([0], np.int64),
    "a1": np.array([1], np.int64),
    "a2": np.array([2], np.int64),
    "a3": np.array([3], np.int64),
    "a4": np.array([4], np.int64),
    "three": np.array([0, 1, 2], np.int64),
    "spatial": np.array([2, 3], np.int64),
    "last": np.array([-1], np.int64),
    "both": np.array([0, 1], np.int64),
    "swapped": np.array([1, 0], np.int64),
    "levels": np.array([0, 1], np.float32),
    "same": np.array([1, 1, 1, 1], np.float32),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "per_image": np.array([-1, 1, 1, 1], np.int64),
    "two": np.float32(2),
    "three_channels": np.array([1, 3, 1, 1], np.int64),
    "square": np.ones((1, 1, 2, 2), np.float32),
    "halves": np.full((1, 1, 3, 3), 0.5, np.float32),
    "box": np.ones((1, 1, 3, 3), np.float32),
    "score": np.array([1, -1, 0.5], np.float32).reshape(1, 3, 1, 1),
    "around": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "threshold": np.int32(0),
    "ones_map": np.ones((2, 1, 10, 8), np.float32),
    "zeros_map": np.zeros((2, 1, 10, 8), np.float32),
    "nowhere": np.zeros((2, 1, 10, 8), np.bool_),
    "apart": np.array([0, 2, 1, 3, 4], np.int64),
    "stacked_scores": np.array([0, 2, 1, 10, 8], np.int64),
    "one_image": np.array([1, 1, 1, 1], np.int64),
    "w": RNG.standard_normal((3, 3, 3, 3)).astype(np.float32),
    "w1": RNG.standard_normal((3, 3, 1, 1)).astype(np.float32),
    "w2": RNG.standard_normal((3, 3, 3, 3)).astype(np.float32),
    "even": RNG.standard_normal((3, 3, 2, 4)).astype(np.float32),
    "half_w": RNG.standard_normal((3, 3, 3, 3)).astype(np.float16),
    "var": np.array([1, 4, 2], np.float32),
    "b": RNG.standard_normal(3).astype(np.float32) + 3,
}
SAME = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"
HEADER = """<ir_version: 8, opset_import: ["" : 17]>
masked (float[n, 3, h, w] x, float[n, 1, h, w] g, float[n, 2, h, w] l, float[n, 3, h, w] z)
    => (float[n, 3, h, w] y)
"""


def model_of(body: str, header: str = HEADER) -> onnx.ModelProto:
    """The model with these statements; the names of `CONSTANTS` are its initializers."""
    model = onnx.parser.parse_model(f"{header}{{\n{body}\n}}")
    nodes = [node for node in model.graph.node]
    read = {name for node in nodes for name in node.input}
    read |= {
        name
        for node in nodes
        for attribute in node.attribute
        for inner in attribute.g.node
        for name in inner.input
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in CONSTANTS.items()
        if name in read
    )
    used = {name for node in nodes for name in (*node.input, *node.output)} | read
    for value in [value for value in model.graph.input if value.name not in used]:
        model.graph.input.remove(value)
    onnx.checker.check_model(model)
    return model


def recognised(model: onnx.ModelProto) -> onnx.ModelProto:
    """What the recognising passes make of a model; a second run must change nothing."""
    register_schemas()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    name_nodes(inferred)
    module = ir.from_proto(inferred)
    passes = (*RECOGNITION, infer_perforation, infer_support)
    run_passes(module, passes)
    assert all(rewrites == 0 for _, rewrites, _ in run_passes(module, passes))
    run_passes(module, (drop_unused,))
    return ir.to_proto(module)


def inputs_of(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs in which many scores are equal, nearly equal, or zero of either sign."""
    rng = np.random.default_rng(seed)
    sizes = {"n": 2, "h": 10, "w": 8}
    tricky = np.array([-1, -1e-8, -0.0, 0, 1e-8, 6e-8, 2e-7, 0.3, 0.30000001, 0.5, 1], np.float32)
    feeds = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value or sizes[dim.dim_param] for dim in dims]
        scores = value.name in ("g", "l")
        feeds[value.name] = (
            rng.choice(tricky, shape) if scores else rng.standard_normal(shape).astype(np.float32)
        )
    return feeds


def ops_of(model: onnx.ModelProto) -> Counter[str]:
    """How often the main graph has each operator."""
    return Counter(node.op_type for node in model.graph.node)


def perforated(model: onnx.ModelProto) -> list[dict[str, object]]:
    """The attributes of every PerforatedConv, in order."""
    return [
        {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        for node in model.graph.node
        if node.domain == DOMAIN and node.op_type == "PerforatedConv"
    ]


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto, seed: int = 0) -> None:
    """Both compute the same on inputs full of ties."""
    feeds = inputs_of(before, seed)
    one, other = run_onnxruntime(before, feeds), run_onnxruntime(attach_bodies(after), feeds)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
