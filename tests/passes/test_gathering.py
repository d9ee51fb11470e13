"""Regions: what is computed at active pixels only, that it is the same, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.graph.choice import Choice, lowerings_of
from tests.compare import assert_close
from tests.models import model_of, op_node, run_onnxruntime
from tests.passes.blocks import bottleneck, choosing, expected, lowered, operators

NEVER_DENSE = 2.0
FORMS = {
    "auto": Choice("auto", NEVER_DENSE),
    "gather": Choice("gather", NEVER_DENSE),
    "gather-add": Choice("gather-add", NEVER_DENSE),
    "switch": Choice("auto", 0.5),
    "dense": Choice("auto", 0.0),
    "default": Choice(),
}
MASKS = ("empty", "one", "eight", "few", "many", "full", "corner", "one image")


def feed_of(mask: str, shape: tuple[int, int, int] = (2, 7, 9), channels: int = 6):
    """Random x and a selection of a kind."""
    rng = np.random.default_rng(3)
    n, h, w = shape
    s = np.zeros((n, 1, h, w), np.int32)
    if mask == "full":
        s[:] = 1
    elif mask == "corner":
        s[-1, 0, -1, -1] = 1
    elif mask == "one image":
        s[0] = 1
    elif mask in ("few", "many"):
        s[:] = rng.random(s.shape) < (0.15 if mask == "few" else 0.8)
    else:
        s.reshape(-1)[: {"empty": 0, "one": 1, "eight": 8}[mask]] = 1
    return {"x": rng.standard_normal((n, channels, h, w), np.float32), "s": s}


def check(model: onnx.ModelProto, feed, bound: float = 1e-5) -> onnx.ModelProto:
    wanted = expected(model, feed)
    result = lowered(model)
    assert_close(run_onnxruntime(result, feed)[0], wanted, bound, feed["s"])
    return result


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("form", FORMS)
def test_bottleneck(form, mask):
    check(choosing(bottleneck(), FORMS[form]), feed_of(mask))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [("n", "h", "w"), (2, 7, 9), (None, None, None)])
@pytest.mark.parametrize("dilation", [1, 2, 12])
def test_sizes_known_named_and_unknown(shape, dilation, form):
    model = choosing(bottleneck(shape=shape, dilation=dilation), FORMS[form])
    check(model, feed_of("many"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", range(4))
@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("proven", [False, True])
def test_bases_that_may_be_negative(proven, mode, activation, form):
    model = bottleneck(proven=proven, mode=mode, activation=activation)
    result = check(choosing(model, FORMS[form]), feed_of("few"))
    needs_pass = activation == 2 or (activation and not proven)
    if form == "gather" and mode == 1:
        assert ("ScatterND" in operators(result)) != bool(needs_pass)


@pytest.mark.parametrize("form", FORMS)
def test_one_decision_per_image(form):
    feed = feed_of("many")
    feed["s"] = np.array([1, 0], np.int32).reshape(2, 1, 1, 1)
    check(choosing(bottleneck(per_image=True), FORMS[form]), feed)


def test_nothing_but_active_pixels_exists_between_the_convolutions():
    model = choosing(bottleneck(), FORMS["gather"])
    ops = operators(check(model, feed_of("few")))
    assert ops.count("Conv") == 1, "the mask's support; no convolution of features is dense"
    assert ops.count("ScatterND") == 1 and ops.count("Transpose") == 2
    assert ops.count("NonZero") == 2, "the active pixels and their support"


@pytest.mark.parametrize("shape", [("n", "h", "w"), (1, 300, 300), (1, 9, 9)])
def test_a_large_frame_decides_how_its_sums_come_to_their_places(shape):
    model = choosing(bottleneck(shape=shape), FORMS["auto"])
    ops = operators(check(model, feed_of("few", (1, 300, 300) if 300 in shape else (1, 9, 9))))
    assert ops.count("If") == ops.count("ScatterND") == (0 if shape[1] == 9 else 1)
    assert ops.count("NonZero") == 2, "both ways share the list"


@pytest.mark.parametrize("why", ["16 bits", "may be negative", "8 bits elsewhere"])
def test_no_branches_where_they_are_not_safe(why):
    model = bottleneck(
        dtype="float16" if why == "16 bits" else "float32", proven=why != "may be negative"
    )
    if why == "8 bits elsewhere":
        model.graph.node.append(helper.make_node("QuantizeLinear", ["y", "step"], ["narrow"]))
        step = numpy_helper.from_array(np.array(0.1, np.float32), "step")
        model.graph.initializer.append(step)
        model.graph.output.append(helper.make_tensor_value_info("narrow", TensorProto.UINT8, None))
    assert "If" not in operators(lowered(choosing(model, FORMS["auto"])))


@pytest.mark.parametrize("group", [2, 4])
def test_groups(group):
    ops = operators(check(choosing(bottleneck(group=group), FORMS["gather"]), feed_of("many")))
    assert ("MatMul" in ops) == (group == 2), "a depthwise convolution stays dense"


@pytest.mark.parametrize("middle", ["Sigmoid", "Softplus", "LeakyRelu", "Softmax"])
def test_what_runs_where_it_is_read(middle):
    ops = operators(check(choosing(bottleneck(middle=middle), FORMS["gather"]), feed_of("few")))
    # Softmax mixes pixels or channels: it needs all of its input, and so no mask is widened.
    assert ops.count("NonZero") == (1 if middle == "Softmax" else 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("form", FORMS)
def test_bad_values_nobody_reads_stay_where_they_are(form, bad):
    model, feed = bottleneck(proven=False), feed_of("empty")
    feed["s"][:, :, 4:, 5:] = 1
    feed["x"][:, :, 0, 0] = bad
    choosing(model, FORMS[form])
    y = run_onnxruntime(lowered(model), feed)[0]
    assert np.isfinite(np.delete(y.reshape(2, 6, -1), 0, axis=2)).all()


def test_a_convolution_that_others_read_too_stays_dense():
    model = choosing(bottleneck(), FORMS["gather"])
    model.graph.output.append(helper.make_tensor_value_info("a1", TensorProto.FLOAT, None))
    feed = feed_of("few")
    result = lowered(model)
    y, a1 = run_onnxruntime(result, feed)
    assert_close(y, expected(model, feed), 1e-5)
    assert operators(result).count("Conv") == 1 and a1.shape == (2, 4, 7, 9)
    assert "Clip" not in operators(result)


def test_what_became_of_each_node_is_written_down():
    model = choosing(bottleneck(), Choice("auto", 0.5))
    for node, name in zip(model.graph.node[3:], ("second", "third"), strict=True):
        node.name = name
    choosing_dense = onnx.ModelProto()
    choosing_dense.CopyFrom(model)
    assert lowerings_of(lowered(model)) == {"second": "gather", "third": "gather"}
    choosing(choosing_dense, Choice("dense"))
    assert lowerings_of(lowered(choosing_dense)) == {"second": "dense", "third": "dense"}


def pool(dilations: tuple[int, ...], *, tied: bool = False, first_base: str = "x"):
    """A chain of convolutions over one selection, one a branch."""
    rng = np.random.default_rng(0)
    arrays = {"b": rng.standard_normal(3).astype(np.float32)}
    arrays["seven"] = np.full((1, 1, 1, 1), 7, np.float32)
    nodes, base = [], first_base
    for branch, d in enumerate(dilations):
        if d == 0:
            continue  # shows the base
        weight = "w0" if tied else f"w{branch}"
        arrays.setdefault(weight, rng.standard_normal((3, 3, 3, 3)).astype(np.float32))
        attributes = {"kernel_shape": [3, 3], "pads": [d] * 4, "dilations": [d, d]}
        inputs = ["x", "s", weight, "b", base]
        base = f"y{branch}"
        nodes.append(
            op_node("PerforatedConv", inputs, [base], branch=branch, activation=1, **attributes)
        )
    image = (TensorProto.FLOAT, ["n", 3, "h", "w"])
    return model_of(
        nodes,
        {"x": image, "s": (TensorProto.INT32, ["n", 1, "h", "w"])},
        {base: image},
        initializers=[numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("base", ["x", "seven"])
@pytest.mark.parametrize("dilations", [(10, 8, 6, 4, 2, 1, 0), (1, 0), (0, 1, 20), (2, 1)])
def test_branches_of_one_gate_share_one_result(dilations, base, tied):
    model = pool(dilations, tied=tied, first_base=base)
    feed = feed_of("empty", channels=3)
    feed["s"] = np.random.default_rng(1).integers(0, len(dilations), (2, 1, 7, 9), np.int32)
    ops = operators(check(model, feed))
    branches = len([d for d in dilations if d])
    assert "If" not in ops or branches == 1, "a pixel takes one branch at most"
    if branches > 1:
        assert ops.count("ScatterND") == 1 and ops.count("NonZero") == branches
        assert ops.count("Transpose") == 2
    for value in range(len(dilations)):  # and where all pixels take one
        feed["s"][:] = value
        check(model, feed)


def test_an_inner_result_that_somebody_reads_is_not_merged_away():
    model = pool((1, 2))
    model.graph.output.append(helper.make_tensor_value_info("y0", TensorProto.FLOAT, None))
    feed = feed_of("many", channels=3)
    y1, y0 = run_onnxruntime(lowered(model), feed)
    alone = pool((1,))
    assert_close(y0, expected(alone, feed), 1e-5)
    assert_close(y1, expected(pool((1, 2)), feed), 1e-5)


@settings(deadline=None, max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    channels=st.integers(1, 5),
    half=st.integers(1, 3),
    group=st.sampled_from([1, 2]),
    dilation=st.integers(1, 9),
    size=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    static=st.booleans(),
    density=st.floats(0, 1),
    threshold=st.sampled_from([None, 0.0, 0.4, 1.0, 2.0]),
    form=st.sampled_from(["auto", "gather", "gather-add"]),
    mode=st.integers(0, 1),
    activation=st.integers(0, 3),
    proven=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_bottleneck(
    channels, half, group, dilation, size, static, density, threshold, form, mode, activation,
    proven, seed,
):  # fmt: skip
    model = bottleneck(
        channels=channels, inner=2 * half, dilation=dilation, group=group, mode=mode,
        shape=size if static else ("n", "h", "w"), activation=activation, proven=proven,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    n, h, w = size
    feed = {
        "x": rng.standard_normal((n, channels, h, w), np.float32),
        "s": (rng.random((n, 1, h, w)) < density).astype(np.int32),
    }
    check(choosing(model, Choice(form, threshold)), feed)
