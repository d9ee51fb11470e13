"""A chain of gated blocks stays channels last: it computes the same and moves less."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.graph.choice import Choice
from pagdeploy.graph.read import graphs_of
from pagdeploy.passes import keep_channels_last
from tests.compare import assert_close
from tests.models import model_of, op_node, run_onnxruntime
from tests.passes.blocks import (
    PASSES,
    between_layouts,
    bottleneck,
    choosing,
    expected,
    lowered,
    operators,
)


def chain(blocks: int, *, channels: int = 8, shape=("n", "h", "w")) -> onnx.ModelProto:
    """Bottlenecks, each gated as a whole by a 1x1 convolution of its input."""
    rng = np.random.default_rng(0)
    n, h, w = shape
    nodes, arrays = [helper.make_node("Relu", ["x"], ["f0"])], {"zero": np.zeros((1, 1, 1, 1))}
    spatial = {"kernel_shape": [3, 3], "pads": [1] * 4}
    sizes = {"g": (2, channels, 1, 1), "u": (4, channels, 1, 1), "v": (4, 4, 3, 3)}
    sizes |= {"w": (channels, 4, 1, 1), "bg": (2,), "bu": (4,), "bv": (4,), "bw": (channels,)}
    for k in range(blocks):
        arrays |= {f"{name}{k}": 0.3 * rng.standard_normal(of) for name, of in sizes.items()}
        nodes += [
            helper.make_node("Conv", [f"f{k}", f"g{k}", f"bg{k}"], [f"logits{k}"]),
            op_node("PAGGate", [f"logits{k}"], [f"s{k}"]),
            helper.make_node("Conv", [f"f{k}", f"u{k}", f"bu{k}"], [f"c{k}"]),
            helper.make_node("Relu", [f"c{k}"], [f"a{k}"]),
            op_node(
                "PerforatedConv", [f"a{k}", f"s{k}", f"v{k}", f"bv{k}", "zero"], [f"b{k}"],
                activation=1, **spatial,
            ),
            op_node(
                "PerforatedConv", [f"b{k}", f"s{k}", f"w{k}", f"bw{k}", f"f{k}"], [f"f{k + 1}"],
                kernel_shape=[1, 1], mode=1, activation=1,
            ),
        ]  # fmt: skip
    image = (TensorProto.FLOAT, [n, channels, h, w])
    return model_of(
        nodes,
        {"x": image},
        {f"f{blocks}": image},
        initializers=[numpy_helper.from_array(v.astype("f4"), k) for k, v in arrays.items()],
    )


@pytest.mark.parametrize("shape", [("n", "h", "w"), (2, 7, 9)])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, 2.0, None])
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_a_chain_computes_the_same(blocks, threshold, shape):
    model = choosing(chain(blocks, shape=shape), Choice("auto", threshold))
    feed = {"x": np.random.default_rng(1).standard_normal((2, 8, 7, 9), np.float32)}
    assert_close(run_onnxruntime(lowered(model), feed)[0], expected(model, feed), 1e-5)


@pytest.mark.parametrize("threshold", [0.5, 2.0])
def test_features_change_their_layout_at_the_ends_only(threshold):
    model = choosing(chain(4), Choice("gather-add", threshold))
    with_pass, without = (
        lowered(model, passes)
        for passes in (PASSES, tuple(p for p in PASSES if p is not keep_channels_last))
    )
    gates = 3  # of few channels: those of the blocks behind the first
    if threshold > 1:
        assert operators(without).count("Transpose") == 8
        assert operators(with_pass).count("Transpose") == 2 + gates
    top = [node.op_type for node in with_pass.graph.node]
    assert top.count("Transpose") == (2 if threshold > 1 else 0) + gates
    feed = {"x": np.random.default_rng(1).standard_normal((1, 8, 5, 6), np.float32)}
    one, other = (run_onnxruntime(each, feed)[0] for each in (with_pass, without))
    assert_close(one, other, 1e-5)


@pytest.mark.parametrize("around", [None, "Relu", "HardSwish", "Softmax"])
@pytest.mark.parametrize("threshold", [1.0, 2.0])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_what_came_channels_last_stays_so_behind_activations(share, threshold, around):
    model = between_layouts(bottleneck(shape=(2, 7, 9)), around)
    choosing(model, Choice("auto", threshold))
    rng = np.random.default_rng(1)
    selection = (rng.random((2, 1, 7, 9)) < share).astype(np.int32)
    feed = {"x": rng.standard_normal((2, 7, 9, 6), np.float32), "s": selection}
    result = lowered(model)
    assert_close(run_onnxruntime(result, feed)[0], expected(model, feed), 1e-5)
    kinds = [node.op_type for node in result.graph.node]
    gathering = next((graph for graph in graphs_of(result) if "gather" in graph.name), result.graph)
    inside = [node.op_type for node in gathering.node]
    if around == "Softmax":  # along an axis
        assert "Transpose" in kinds
    else:
        assert "Transpose" not in kinds + inside


def test_a_dense_branch_adds_channels_last():
    """So that only what convolutions read and make is moved, which onnxruntime does on the way."""
    model = choosing(between_layouts(bottleneck(shape=(2, 7, 9))), Choice("auto", 1.0))
    (dense,) = [graph for graph in graphs_of(lowered(model)) if "dense" in graph.name]
    made = {name: node.op_type for node in dense.node for name in node.output}
    readers = {name: node.op_type for node in dense.node for name in node.input}
    moved = [node for node in dense.node if node.op_type == "Transpose"]
    assert len(moved) == 2 and dense.output[0].name in made
    for node in moved:
        assert "Conv" in (made.get(node.input[0]), readers.get(node.output[0]))
    assert made[dense.output[0].name] == "Relu"


def test_logits_and_selections_keep_their_names_at_the_top():
    result = lowered(chain(3))
    produced = {name for node in result.graph.node for name in node.output}
    assert {f"{kind}{k}" for kind in ("logits", "s") for k in range(3)} <= produced


def test_a_reader_that_needs_channels_first_gets_them():
    model = chain(2)
    model.graph.node.append(helper.make_node("GlobalMaxPool", ["f1"], ["top"]))
    model.graph.output.append(helper.make_tensor_value_info("top", TensorProto.FLOAT, None))
    model.graph.output.append(helper.make_tensor_value_info("f1", TensorProto.FLOAT, None))
    feed = {"x": np.random.default_rng(1).standard_normal((2, 8, 7, 9), np.float32)}
    y, top, middle = run_onnxruntime(lowered(model), feed)
    assert_close(y, expected(model, feed), 1e-5)
    np.testing.assert_array_equal(top, middle.max(axis=(2, 3), keepdims=True))
