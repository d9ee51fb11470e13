"""One decision per image, as an empty or a full list of pixels: nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy import pipeline
from pagdeploy.graph.choice import lowerings_of
from pagdeploy.ops.native import CPU_DOMAIN
from tests.compare import assert_close
from tests.models import model_of, op_node
from tests.native import run_native
from tests.passes.blocks import bottleneck, expected, operators

DECISIONS = [[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 1]]
WIDE = {"channels": 48, "inner": 32}  # of whole tiles and a half


def feed_of(decisions: list[int], channels: int = 48, height: int = 5, width: int = 7):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((len(decisions), channels, height, width), np.float32)
    return {"x": x, "l": np.eye(3, dtype=np.float32)[decisions].reshape(-1, 3, 1, 1)}


def gated(model: onnx.ModelProto) -> onnx.ModelProto:
    """With a gate of three branches, whose logits `l` are an input, in place of the input `s`."""
    (given,) = (value for value in model.graph.input if value.name == "s")
    batch = given.type.tensor_type.shape.dim[0]
    model.graph.input.remove(given)
    sizes = [batch.dim_value or batch.dim_param, 3, 1, 1]
    model.graph.input.append(helper.make_tensor_value_info("l", TensorProto.FLOAT, sizes))
    model.graph.node.insert(0, op_node("PAGGate", ["l"], ["s"]))
    return model


def block(**form) -> onnx.ModelProto:
    """A bottleneck that one decision per image rules."""
    return gated(bottleneck(per_image=True, **{"shape": ("n", 5, 7), **WIDE, **form}))


def native(model: onnx.ModelProto) -> onnx.ModelProto:
    return pipeline.lower(model, "native")


def inactive_of(model: onnx.ModelProto) -> list[int]:
    """What each convolution of the library says at inactive pixels: defined, the base, or dead."""
    return [
        attribute.i
        for node in model.graph.node
        if node.domain == CPU_DOMAIN and node.op_type.startswith("PerforatedConv")
        for attribute in node.attribute
        if attribute.name == "inactive"
    ]


@pytest.mark.parametrize("decisions", DECISIONS)
@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("shape", [("n", "h", "w"), ("n", 5, 7), (3, 5, 7)])
def test_batches_all_on_all_off_and_mixed(decisions, mode, proven, shape):
    model = block(mode=mode, proven=proven, shape=shape)
    result = native(model)
    assert "If" not in operators(result)
    assert set(lowerings_of(result).values()) == {"native"}
    feed = feed_of(decisions)
    assert_close(run_native(result, feed)[0], expected(model, feed), 1e-5)


def test_a_block_has_one_list_and_leaves_dead_what_nobody_reads():
    result = native(block())
    assert operators(result).count("ActivePixels") == operators(result).count("Expand") == 1
    assert inactive_of(result) == [2, 1]  # the second joins the third


def test_what_is_off_shows_its_base_bit_for_bit():
    model = block(mode=0)
    feed = feed_of([0, 1, 0])
    y = run_native(native(model), feed)[0]
    np.testing.assert_array_equal(y[[0, 2]], np.maximum(feed["x"][[0, 2]], 0))


@pytest.mark.parametrize("decisions", DECISIONS[2:])
def test_an_image_does_not_depend_on_its_batch(decisions):
    result = native(block())
    feed = feed_of(decisions)
    together = run_native(result, feed)[0]
    for number in range(len(decisions)):
        alone = {name: array[number : number + 1] for name, array in feed.items()}
        np.testing.assert_array_equal(together[number], run_native(result, alone)[0][0])


def test_an_empty_batch_stays_empty():
    result = native(block())
    assert run_native(result, feed_of([]))[0].shape == (0, 48, 5, 7)


@pytest.mark.parametrize("decisions", DECISIONS[2:])
def test_what_overflows_stays_unseen_where_images_are_off(decisions):
    model = block()
    feed = feed_of(decisions)
    off = np.array(decisions) == 0
    feed["x"][off] = np.float32(3e38)
    y = run_native(native(model), feed)[0]
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(y[off], feed["x"][off])
    nan = dict(feed, x=np.where(off.reshape(-1, 1, 1, 1), np.float32(np.nan), feed["x"]))
    np.testing.assert_array_equal(run_native(native(model), nan)[0][~off], y[~off])


def strided() -> onnx.ModelProto:
    """x -> 1x1, 3x3 of stride 2, 1x1 for images that are on, plus a 1x1 of stride 2 -> y."""
    rng = np.random.default_rng(2)
    weights = {
        name: rng.standard_normal(size).astype(np.float32)
        for name, size in {
            "w1": (32, 48, 1, 1), "w2": (32, 32, 3, 3), "w3": (64, 32, 1, 1), "w": (64, 48, 1, 1),
            "b1": (32,), "b2": (32,), "b3": (64,),
        }.items()
    }  # fmt: skip
    weights["zero"] = np.zeros((1, 1, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["base"], strides=[2, 2]),
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["c2"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["a2"]),
        op_node(
            "PerforatedConv", ["a2", "s", "w3", "b3", "base"], ["y"],
            kernel_shape=[1, 1], mode=1, activation=1,
        ),
    ]  # fmt: skip
    model = model_of(
        nodes,
        {"x": (TensorProto.FLOAT, ["n", 48, 5, 7]), "s": (TensorProto.INT32, ["n", 1, 1, 1])},
        {"y": (TensorProto.FLOAT, ["n", 64, 3, 4])},
        initializers=[numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return gated(model)


@pytest.mark.parametrize("decisions", DECISIONS)
def test_a_block_of_two_sizes_has_a_list_of_each(decisions):
    result = native(strided())
    assert operators(result).count("ActivePixels") == 2
    assert inactive_of(result) == [2, 0]  # the second joins the third, whose base has a sign
    feed = feed_of(decisions)
    assert_close(run_native(result, feed)[0], expected(strided(), feed), 1e-5)


def squeezed() -> onnx.ModelProto:
    """A bottleneck whose part for images that are on holds a squeeze and excitation."""
    model = block()
    nodes = list(model.graph.node)
    pooled = [
        helper.make_node("GlobalAveragePool", ["a2"], ["pooled"]),
        helper.make_node("Sigmoid", ["pooled"], ["scale"]),
        helper.make_node("Mul", ["a2", "scale"], ["scaled"]),
    ]
    nodes[-1].input[0] = "scaled"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:-1], *pooled, nodes[-1]])
    return model


@pytest.mark.parametrize("lowering", ["native", "gather"])
@pytest.mark.parametrize("decisions", DECISIONS)
def test_a_part_that_pools_stays_behind_an_if(decisions, lowering):
    """Of a named batch and a size that is fixed: onnxruntime reuses memory by such names."""
    result = pipeline.lower(squeezed(), lowering)
    assert "If" in operators(result) and "ActivePixels" not in operators(result)
    feed = feed_of(decisions)
    assert_close(run_native(result, feed)[0], expected(squeezed(), feed), 1e-5)


@settings(max_examples=30)
@given(
    decisions=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 6), st.integers(1, 9)),
    channels=st.sampled_from([1, 6, 16, 48]),
    inner=st.sampled_from([2, 16, 34]),
    dilation=st.integers(1, 3),
    mode=st.integers(0, 1),
    activation=st.integers(0, 2),
    proven=st.booleans(),
)
def test_any_block_computes_the_same(
    decisions, size, channels, inner, dilation, mode, activation, proven
):
    model = block(
        channels=channels, inner=inner, dilation=dilation, shape=("n", *size),
        mode=mode, activation=activation, proven=proven,
    )  # fmt: skip
    feed = feed_of(decisions, channels, *size)
    assert_close(run_native(native(model), feed)[0], expected(model, feed), 1e-5)
