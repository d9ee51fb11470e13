"""m * act(v + conv) + (1 - m) * v, whatever the sign of v, as one convolution of the library."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy import pipeline
from pagdeploy.ops.native import CPU_DOMAIN
from tests.compare import assert_close
from tests.models import model_of, run_onnxruntime
from tests.native import run_native
from tests.passes.blocks import operators

CHANNELS, INNER = 24, 16


def blend(
    *,
    per_image: bool = True,
    activation: str = "Relu",
    off: str = "v",
    swapped: bool = False,
    shown: str | None = None,
    size: tuple[int, int] = (5, 7),
) -> onnx.ModelProto:
    """A block in the style of its authors: plain ONNX, whose mask multiplies all of it.

    Args:
        per_image: One decision per image.
        activation: Behind the sum.
        off: What images that are off show: "v", or "x" in front of it.
        swapped: The operands of both sums in the other order.
        shown: Another output.
        size: Of the map.
    """
    rng = np.random.default_rng(5)
    weights = {
        "w0": rng.standard_normal((CHANNELS, CHANNELS, 1, 1)),
        "w1": rng.standard_normal((INNER, CHANNELS, 3, 3)),
        "w2": rng.standard_normal((CHANNELS, INNER, 1, 1)),
        "b1": rng.standard_normal(INNER),
        "b2": rng.standard_normal(CHANNELS),
        "zero": np.zeros(()),
        "one": np.ones(()),
    }
    sums = [["v", "c2"], ["taken", "kept"]]
    first, second = ([b, a] if swapped else [a, b] for a, b in sums)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["v"]),  # of any sign
        helper.make_node("Greater", ["g", "zero"], ["on"]),
        helper.make_node("Cast", ["on"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["v", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["c2"]),
        helper.make_node("Add", first, ["sum"]),
        helper.make_node(activation, ["sum"], ["block"]),
        helper.make_node("Mul", ["m", "block"], ["taken"]),
        helper.make_node("Sub", ["one", "m"], ["rest"]),
        helper.make_node("Mul", ["rest", off], ["kept"]),
        helper.make_node("Add", second, ["y"]),
    ]
    image = (TensorProto.FLOAT, ["n", CHANNELS, *size])
    outputs = {"y": image} | ({shown: (TensorProto.FLOAT, None)} if shown else {})
    return model_of(
        nodes,
        {"x": image, "g": (TensorProto.FLOAT, ["n", 1, *([1, 1] if per_image else size)])},
        outputs,
        initializers=[numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )


def feed_of(per_image: bool, size: tuple[int, int] = (5, 7), images: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, CHANNELS, *size), np.float32)
    g = rng.standard_normal((images, 1, *([1, 1] if per_image else size)), np.float32)
    return {"x": x, "g": g}


def last_of(model: onnx.ModelProto) -> onnx.NodeProto:
    """The library's last convolution."""
    convs = [n for n in model.graph.node if n.domain == CPU_DOMAIN and "Conv" in n.op_type]
    return convs[-1]


def attribute(node: onnx.NodeProto, name: str) -> int:
    return next(a.i for a in node.attribute if a.name == name)


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
@pytest.mark.parametrize("swapped", [True, False])
def test_a_blend_is_the_end_of_its_convolution(per_image, activation, swapped):
    model = blend(per_image=per_image, activation=activation, swapped=swapped)
    result = pipeline.lower(model, "native")
    left = set(operators(result))
    assert not {"Add", "Mul", "Sub", "If", "Relu", "LeakyRelu"} & left
    assert attribute(last_of(result), "inactive") == 1
    for seed in range(4):
        feed = feed_of(per_image, seed=seed)
        assert_close(run_native(result, feed)[0], run_onnxruntime(model, feed)[0], 1e-5)


def test_what_is_off_shows_its_base_bit_for_bit():
    model = blend(shown="v")
    feed = feed_of(True)
    feed["g"] = np.array([1, -1, -1], np.float32).reshape(3, 1, 1, 1)
    y, v = run_native(pipeline.lower(model, "native"), feed)
    assert (v < 0).any()
    np.testing.assert_array_equal(y[1:], v[1:])


@pytest.mark.parametrize("change", [{"off": "x"}, {"shown": "sum"}, {"shown": "c2"}])
def test_what_is_no_blend_is_computed_as_it_is(change):
    """Another map where it is off, and sums or convolutions that somebody else reads."""
    model = blend(**change)
    result = pipeline.lower(model, "native")
    feed = feed_of(True)
    for ours, theirs in zip(run_native(result, feed), run_onnxruntime(model, feed), strict=True):
        assert_close(ours, theirs, 1e-5)


def followed(per_image: bool) -> onnx.ModelProto:
    """A blend, and behind it relu(y + m2 * conv(y)): off, that is the ReLU of what y shows."""
    model = blend(per_image=per_image)
    model.graph.output[0].name = "z"
    rng = np.random.default_rng(6)
    for name, shape in {"w3": (CHANNELS, CHANNELS, 1, 1), "b3": (CHANNELS,)}.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node.extend(
        [
            helper.make_node("Less", ["g", "zero"], ["on2"]),
            helper.make_node("Cast", ["on2"], ["m2"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["y", "w3", "b3"], ["c3"]),
            helper.make_node("Mul", ["m2", "c3"], ["masked"]),
            helper.make_node("Add", ["y", "masked"], ["sum2"]),
            helper.make_node("Relu", ["sum2"], ["z"]),
        ]
    )
    return model


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_what_follows_a_blend_does_not_take_it_for_positive(per_image, sign):
    model = followed(per_image)
    feed = feed_of(per_image)
    feed["g"] = np.full_like(feed["g"], sign)
    result = pipeline.lower(model, "native")
    assert_close(run_native(result, feed)[0], run_onnxruntime(model, feed)[0], 1e-5)


@settings(max_examples=25)
@given(
    per_image=st.booleans(),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    images=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_size(per_image, size, images, seed):
    model = blend(per_image=per_image, size=size)
    feed = feed_of(per_image, size, images, seed)
    result = pipeline.lower(model, "native")
    assert_close(run_native(result, feed)[0], run_onnxruntime(model, feed)[0], 1e-5)
