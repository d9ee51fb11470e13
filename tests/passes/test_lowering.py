"""Both lowerings compute what the numpy reference says, on the hard cases."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.ops import PERFORATED_CONV, Activation, Mode
from pagdeploy.ops.perforated_conv_reference import perforated_conv
from pagdeploy.pipeline import lower
from tests.compare import assert_close
from tests.models import ELEMENT_TYPES, Conv, model_of, op_node, run_onnxruntime

LOWERINGS = ("gather", "dense")
GEOMETRIES = {
    "3x3": Conv(),
    "1x1": Conv(kernel_shape=(1, 1), pads=(0, 0, 0, 0)),
    "1x1 stride 2": Conv(kernel_shape=(1, 1), pads=(0, 0, 0, 0), strides=(2, 2)),
    "1x1 padded": Conv(kernel_shape=(1, 1), pads=(1, 0, 0, 2)),
    "5x3": Conv(kernel_shape=(5, 3), pads=(2, 1, 2, 1)),
    "unpadded": Conv(pads=(0, 0, 0, 0)),
    "stride 2": Conv(strides=(2, 2)),
    "stride (2, 1), 5x3": Conv(kernel_shape=(5, 3), strides=(2, 1), pads=(2, 1, 2, 1)),
    "groups": Conv(group=2),
    "groups 1x1": Conv(group=2, kernel_shape=(1, 1), pads=(0, 0, 0, 0)),
    "depthwise": Conv(channels=4, filters=8, group=4),
    "one channel": Conv(channels=1, filters=1),
    "dilation 10": Conv(dilations=(10, 10), pads=(10, 10, 10, 10), group=2),
    "asymmetric pads": Conv(pads=(0, 2, 3, 1)),
    "even size": Conv(n=1, size=(6, 4)),
    "one pixel map": Conv(n=1, size=(1, 1)),
    "three images": Conv(n=3, size=(5, 1)),
}


def lowered_model(
    conv: Conv,
    operands: dict[str, NDArray[Any]],
    *,
    dims: str = "named",
    base: str = "given",
    per_image: bool = False,
    **choice: Any,
) -> onnx.ModelProto:
    """One PerforatedConv with constant weights, declared as `dims` says: named, static, unknown."""
    element = ELEMENT_TYPES[str(operands["X"].dtype)]

    def shape(*sizes: int | str) -> list[int | str] | None:
        actual = {"n": conv.n, "c": conv.channels, "m": conv.filters}
        actual |= dict(zip(("h", "w", "ho", "wo"), (*conv.size, *conv.out), strict=True))
        if dims == "no rank":
            return None
        if dims == "unknown":
            return [size if isinstance(size, int) else None for size in sizes]  # type: ignore[misc]
        return [actual.get(s, s) if dims == "static" or s in "cm" else s for s in map(str, sizes)]

    same = conv.out == conv.size
    ho, wo = ("h", "w") if same else ("ho", "wo")
    inputs = {"X": (element, shape("n", "c", "h", "w"))}
    one = dims != "unknown" and dims != "no rank"
    per_pixel = shape("n", 1, ho, wo) if dims in ("unknown", "no rank") else None
    mask = ["n" if dims == "named" else conv.n, 1, *([1, 1] if per_image else shape(ho, wo) or [])]
    inputs["selection"] = (TensorProto.INT32, mask if one else per_pixel)
    constants = {"W": operands["W"], "B": operands["B"]}
    if base == "given":
        inputs["base"] = (element, shape("n", "m", ho, wo))
    elif base == "constant":
        constants["base"] = operands["base"]
    names = [port.name for port in PERFORATED_CONV.inputs]
    names[-1] = "X" if base == "X" else "base"
    node = op_node("PerforatedConv", names, ["Y"], **{**conv.attributes, **choice})
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    outputs = {"Y": (element, shape("n", "m", ho, wo))}
    return model_of([node], inputs, outputs, initializers=initializers)  # type: ignore[arg-type]


def check(
    conv: Conv,
    operands: dict[str, NDArray[Any]],
    selection: NDArray[np.int32],
    *,
    dims: str = "named",
    base: str = "given",
    **choice: Any,
) -> NDArray[Any]:
    """Every lowering agrees with the reference; returns what the reference says."""
    if base == "X":
        operands = {**operands, "base": operands["X"]}
    expected = perforated_conv(**operands, selection=selection, **{**conv.attributes, **choice})
    per_image = selection.shape[2:] == (1, 1) != conv.out
    model = lowered_model(conv, operands, dims=dims, base=base, per_image=per_image, **choice)
    feed = {"X": operands["X"], "selection": selection}
    if base == "given":
        feed["base"] = operands["base"]
    bound = PERFORATED_CONV.bounds[str(operands["X"].dtype)]
    for lowering in LOWERINGS:
        lowered = lower(model, lowering)
        assert not [node for node in lowered.graph.node if node.domain]
        try:
            assert_close(run_onnxruntime(lowered, feed)[0], expected, bound, selection)
        except AssertionError as error:
            raise AssertionError(f"{lowering}: {error}") from error
    return expected


def pattern(conv: Conv, name: str) -> NDArray[np.int32]:
    """A selection of 0 and 1."""
    selection = np.zeros((conv.n, 1, *conv.out), np.int32)
    if name == "full":
        selection[:] = 1
    elif name == "one pixel":
        selection[0, 0, conv.out[0] // 2, conv.out[1] // 2] = 1
    elif name == "border pixel":
        selection[-1, 0, -1, -1] = 1
    elif name == "per image":
        selection = np.arange(conv.n, dtype=np.int32).reshape(-1, 1, 1, 1) % 2
    return selection


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_geometry(geometry):
    conv, row = GEOMETRIES[geometry], list(GEOMETRIES).index(geometry)
    rng = np.random.default_rng(row)
    for turn, mode in enumerate(Mode):
        # The remaining choices take turns, so that every pair of them occurs.
        choice = {"mode": int(mode), "activation": (row + turn) % 4, "alpha": 0.125}
        operands = conv.operands(rng, zero_bias=row % 2 == 0)
        operands["W"] *= 3  # far enough from zero for relu6 to clip
        dims = ("named", "static", "unknown", "no rank")[(row // 2 + turn) % 4]
        check(conv, operands, conv.selection(rng, 3), branch=row % 3, dims=dims, **choice)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("base", ["given", "constant", "X"])
def test_every_activation_mode_and_base(base, activation, mode):
    conv = Conv(filters=4)
    rng = np.random.default_rng(int(activation))
    operands = conv.operands(rng)
    operands["W"] *= 3
    choice = {"mode": int(mode), "activation": int(activation), "alpha": 0.25}
    check(conv, operands, conv.selection(rng), base=base, **choice)


@pytest.mark.parametrize("value", [0.0, -2.5])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("base", ["constant", "given"])
def test_base_that_broadcasts(base, mode, value):
    conv = Conv()
    operands = conv.operands(np.random.default_rng(1), zero_base=True)
    operands["base"] += np.float32(value)
    selection = conv.selection(np.random.default_rng(2))
    dims = "named" if base == "constant" else "unknown"
    check(conv, operands, selection, base=base, dims=dims, mode=int(mode), activation=1)


@pytest.mark.parametrize("mask", ["empty", "full", "one pixel", "border pixel", "per image"])
@pytest.mark.parametrize("geometry", ["3x3", "1x1", "dilation 10", "stride 2", "groups"])
def test_every_mask(geometry, mask):
    conv = GEOMETRIES[geometry]
    operands = conv.operands(np.random.default_rng(0))
    y = check(conv, operands, pattern(conv, mask), activation=1)
    assert (mask == "empty") == bool((y == operands["base"]).all())


@pytest.mark.parametrize("geometry", ["3x3", "stride 2"])
@pytest.mark.parametrize("dims", ["unknown", "no rank"])
def test_decision_per_image_whose_size_is_not_declared(dims, geometry):
    conv = GEOMETRIES[geometry]
    check(conv, conv.operands(np.random.default_rng(0)), pattern(conv, "per image"), dims=dims)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values_at_unused_pixels_never_leak(mode, bad):
    conv = Conv(n=1, size=(9, 9))
    operands = conv.operands(np.random.default_rng(0))
    operands["X"][0, :, 0, 0] = bad
    selection = np.zeros((1, 1, 9, 9), np.int32)
    selection[0, 0, 4:, 4:] = 1
    if mode == Mode.REPLACE:
        operands["base"][0, :, 8, 8] = bad
    assert np.isfinite(check(conv, operands, selection, mode=int(mode), activation=1)).all()


@pytest.mark.parametrize("mode", Mode)
def test_bad_values_at_used_pixels_are_seen(mode):
    conv = Conv(n=1)
    operands = conv.operands(np.random.default_rng(0))
    operands["X"][0, :, 3, 4] = np.nan
    y = check(conv, operands, pattern(conv, "one pixel"), mode=int(mode))
    assert np.isnan(y[0, :, 3, 4]).all()


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("mode", Mode)
def test_half_precision(mode, activation):
    conv = Conv()
    operands = conv.operands(np.random.default_rng(0), "float16")
    selection = conv.selection(np.random.default_rng(1))
    check(conv, operands, selection, mode=int(mode), activation=int(activation))


def test_depthwise_stays_dense_and_says_why(caplog):
    conv = GEOMETRIES["depthwise"]
    model = lowered_model(conv, conv.operands(np.random.default_rng(0)))
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        lowered = lower(model, "gather")
    assert "Y (PerforatedConv) stays: a depthwise convolution has too little work" in caplog.text
    ops = [node.op_type for node in lowered.graph.node]
    assert "Conv" in ops and "NonZero" not in ops


def test_computed_weights_stay_dense_and_compute_the_same(caplog):
    conv = Conv()
    operands = conv.operands(np.random.default_rng(0))
    model = lowered_model(conv, operands)
    weight = model.graph.initializer[0]
    assert weight.name == "W"
    weight.name = "raw"
    model.graph.node.insert(0, helper.make_node("Exp", ["raw"], ["W"]))
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        lowered = lower(model, "gather")
    assert "stays: its weights are computed" in caplog.text
    selection = conv.selection(np.random.default_rng(1))
    feed = {"X": operands["X"], "selection": selection, "base": operands["base"]}
    operands["W"] = np.exp(operands["W"])
    expected = perforated_conv(**operands, selection=selection, **conv.attributes)
    assert_close(run_onnxruntime(lowered, feed)[0], expected, 1e-5, selection)


def test_weights_that_a_caller_may_override_stay_dense():
    conv = Conv()
    operands = conv.operands(np.random.default_rng(0))
    model = lowered_model(conv, operands)
    of_weight = helper.make_tensor_value_info("W", TensorProto.FLOAT, operands["W"].shape)
    model.graph.input.append(of_weight)
    lowered = lower(model, "gather")
    assert "NonZero" not in [node.op_type for node in lowered.graph.node]
    selection = conv.selection(np.random.default_rng(1))
    other = {**operands, "W": -operands["W"]}
    feed = {name: other[name] for name in ("X", "W", "base")} | {"selection": selection}
    expected = perforated_conv(**other, selection=selection, **conv.attributes)
    assert_close(run_onnxruntime(lowered, feed)[0], expected, 1e-5, selection)


CHAIN = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
chain (float[n, 2, h, w] x, float[n, 3, h, w] logits) => (float[n, 2, h, w] y)
<float[2, 2, 3, 3] w0, float[2, 2, 3, 3] w1, float[2, 2, 3, 3] w2, float[2] b>
{
    s = pagdeploy.PAGGate (logits)
    y0 = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1],
        dilations = [1, 1], group = 1, branch = 0, mode = 0, activation = 1, alpha = 0.0>
        (x, s, w0, b, x)
    y1 = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1], pads = [9, 9, 9, 9],
        dilations = [9, 9], group = 1, branch = 1, mode = 0, activation = 1, alpha = 0.0>
        (x, s, w1, b, y0)
    y = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1], pads = [2, 2, 2, 2],
        dilations = [2, 2], group = 1, branch = BRANCH, mode = 0, activation = 1, alpha = 0.0>
        (x, s, w2, b, y1)
}
"""


def chain(branch: int = 2) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """Three convolutions over one selection, and random weights for them."""
    rng = np.random.default_rng(0)
    text = CHAIN.replace("BRANCH", str(branch))
    weights = {f"w{i}": rng.standard_normal((2, 2, 3, 3), np.float32) for i in range(3)}
    weights["b"] = rng.standard_normal(2, np.float32)
    cut, end = text.index("<float[2, 2"), text.index(", float[2] b>") + len(", float[2] b>")
    model = onnx.parser.parse_model(text[:cut] + text[end:])
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    return model, weights


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_chain_over_one_selection(lowering):
    model, weights = chain()
    rng = np.random.default_rng(1)
    feed = {
        "x": rng.standard_normal((2, 2, 5, 7), np.float32),
        "logits": rng.standard_normal((2, 3, 5, 7), np.float32),
    }
    selection = feed["logits"].argmax(1, keepdims=True).astype(np.int32)
    expected = feed["x"]
    for branch, dilation in enumerate((1, 9, 2)):
        expected = perforated_conv(
            feed["x"], selection, weights[f"w{branch}"], weights["b"], expected,
            pads=(dilation,) * 4, dilations=(dilation,) * 2, branch=branch, activation=1,
        )  # fmt: skip
    actual = run_onnxruntime(lower(model, lowering), feed)[0]
    assert_close(actual, expected, 1e-5, selection)


def test_convolutions_of_one_branch_share_one_list_of_pixels():
    # y0 and y are of branch 0, y1 is of branch 1.
    ops = [node.op_type for node in lower(chain(branch=0)[0], "gather").graph.node]
    assert ops.count("NonZero") == 2
    assert ops.count("ArgMax") == 1


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_nodes_inside_of_a_subgraph_are_lowered(lowering):
    conv = """c = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
        pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = 1, mode = 0,
        activation = 2, alpha = 0.0> (x, s, w, b, x)"""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'
        "g (bool yes, float[n, 2, h, w] x, int32[n, 1, h, w] s) => (float[n, 2, h, w] y)"
        "<float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}> {"
        "y = If (yes) <then_branch = t () => (float[n, 2, h, w] c) { CONV },"
        " else_branch = e () => (float[n, 2, h, w] d) { c = Neg (x) d = Relu (c) }> }".replace(
            "CONV", conv
        )
    )
    lowered = lower(model, lowering)
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 5), np.float32)
    s = np.random.default_rng(1).integers(0, 2, (1, 1, 3, 5), np.int32)
    w = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 2, 1, 1)
    expected = perforated_conv(x, s, w, np.array([5, 6], np.float32), x, activation=2)
    feed = {"yes": np.array(True), "x": x, "s": s}
    assert_close(run_onnxruntime(lowered, feed)[0], expected, 1e-5, s)
    other = run_onnxruntime(lowered, {**feed, "yes": np.array(False)})[0]
    np.testing.assert_array_equal(other, np.maximum(-x, 0))


@pytest.mark.parametrize("name", ["", "same", "a/b:c d é", "n" * 300])
def test_nodes_whose_names_are_missing_doubled_odd_or_long(name):
    model, _ = chain()
    for node in model.graph.node:
        node.name = name
    rng = np.random.default_rng(1)
    feed = {
        "x": rng.standard_normal((1, 2, 4, 4), np.float32),
        "logits": rng.standard_normal((1, 3, 4, 4), np.float32),
    }
    one, other = (run_onnxruntime(lower(model, each), feed)[0] for each in LOWERINGS)
    assert_close(one, other, 1e-5)


def test_unknown_lowering_is_refused():
    from pagdeploy.errors import UsageError

    with pytest.raises(UsageError, match=r"no lowering 'fast'\. Choose one of: gather, dense"):
        lower(chain()[0], "fast")


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_each_gate_keeps_its_selection_even_if_two_decide_alike(lowering):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'
        "g (float[n, 2, h, w] l) => (int32[n, 1, h, w] a, float[n, 1, h, w] y) {"
        "s1 = pagdeploy.PAGGate (l) s2 = pagdeploy.PAGGate (l) a = Identity (s1)"
        "f1 = Cast <to = 1> (s1) f2 = Cast <to = 1> (s2) y = Add (f1, f2) }"
    )
    produced = {name for node in lower(model, lowering).graph.node for name in node.output}
    assert {"s1", "s2"} <= produced


def test_random_operators_are_never_merged():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[n] y) {'
        "a = Bernoulli (x) b = Bernoulli (x) c = Abs (x) d = Abs (x)"
        "e = Add (a, b) f = Add (c, d) y = Add (e, f) }"
    )
    ops = [node.op_type for node in lower(model, "dense").graph.node]
    assert ops.count("Bernoulli") == 2
    assert ops.count("Abs") == 1


def test_what_nobody_reads_is_dropped():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>'
        "g (float[n] x) => (float[n] y) <float[1] unread = {1}>"
        "{ dead = Abs (x) deader = Neg (dead) y = Relu (x) }"
    )
    lowered = lower(model, "dense")
    assert [node.op_type for node in lowered.graph.node] == ["Relu"]
    assert not lowered.graph.initializer
    assert [opset.domain for opset in lowered.opset_import] == [""]


@st.composite
def convs(draw: st.DrawFn) -> Conv:
    """A geometry whose kernel fits into the padded map."""
    small = st.integers(1, 3)
    group = draw(small)
    kernel, dilations = draw(st.tuples(small, small)), draw(st.tuples(small, small))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    reach = [dilations[i] * (kernel[i] - 1) + 1 for i in range(2)]
    least = [max(1, reach[i] - pads[i] - pads[i + 2]) for i in range(2)]
    return Conv(
        n=draw(st.integers(1, 2)),
        channels=group * draw(small),
        filters=group * draw(small),
        size=(draw(st.integers(least[0], least[0] + 4)), draw(st.integers(least[1], least[1] + 4))),
        kernel_shape=kernel,
        strides=draw(st.tuples(small, small)),
        pads=pads,  # type: ignore[arg-type]
        dilations=dilations,
        group=group,
    )


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    conv=convs(),
    dims=st.sampled_from(["named", "static", "unknown", "no rank"]),
    base=st.sampled_from(["given", "constant"]),
    zero_base=st.booleans(),
    per_image=st.booleans(),
    mode=st.sampled_from(Mode),
    activation=st.sampled_from(Activation),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_geometry(conv, dims, base, zero_base, per_image, mode, activation, seed):
    rng = np.random.default_rng(seed)
    if zero_base and base == "given":
        dims = "no rank"
    operands = conv.operands(rng, zero_base=zero_base)
    selection = conv.selection(rng)
    if per_image:
        selection = selection[:, :, :1, :1]
    choice = {"mode": int(mode), "activation": int(activation), "alpha": 0.5}
    check(conv, operands, selection, dims=dims, base=base, **choice)
