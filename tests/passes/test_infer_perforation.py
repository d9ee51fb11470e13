"""Pixel liveness: what is perforated, what is not and why, and that nothing changes by it."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower
from tests.models import run_onnxruntime
from tests.passes.recognition import SAME, assert_same, model_of, ops_of, perforated, recognised

MASK = "t = GreaterOrEqual (g, zero) m = Cast <to = 1> (t)"
POINT = "<kernel_shape = [1, 1]>"
BOTTLENECK = f"""
    {MASK}
    c1 = Conv {POINT} (x, w1, b)
    r1 = Relu (c1)
    c2 = Conv {SAME} (r1, w, b)
    r2 = Relu (c2)
    c3 = Conv {POINT} (r2, w1, b)
    p = Mul (c3, m)
    y = Add (x, p)
"""


def test_bottleneck_is_perforated_up_to_its_input(caplog):
    before = model_of(BOTTLENECK)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert [node["activation"] for node in perforated(after)] == [1, 1, 0]
    assert ops_of(after)["Conv"] == 0
    assert "c2 (Conv) is read only where 't.selection' says 0" in caplog.text
    reader = "a 3x3 window meets pixels where 't.selection' says 0"
    assert f"c1 (Conv) is read only where {reader}" in caplog.text
    for seed in range(3):
        assert_same(before, after, seed)


@pytest.mark.parametrize("lowering", ["dense", "gather", "plugin"])
def test_every_lowering_computes_the_same(lowering):
    before = model_of(BOTTLENECK)
    assert_same(before, lower(before, lowering))


def test_dense_lowering_chooses_nothing_that_nobody_reads():
    assert ops_of(lower(model_of(BOTTLENECK), "dense"))["Where"] == 1


WINDOWS = {
    "stride": "<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>",
    "stride and dilation": "<kernel_shape = [3, 3], pads = [2, 2, 2, 2], strides = [2, 2],"
    " dilations = [2, 2]>",
    "other strides": "<kernel_shape = [3, 3], pads = [0, 2, 1, 0], strides = [2, 3]>",
    "more padding than reach": "<kernel_shape = [1, 1], pads = [2, 1, 2, 1]>",
    "no padding": "<kernel_shape = [3, 3]>",
}


@pytest.mark.parametrize("window", WINDOWS)
def test_support_of_any_geometry(window):
    attributes = WINDOWS[window]
    weights = "w1" if "[1, 1], pads" in attributes else "w"
    before = model_of(
        f"""
        c1 = Conv {POINT} (x, w1, b)
        r1 = Relu (c1)
        c2 = Conv {attributes} (r1, {weights}, b)
        s = Conv {attributes} (x, {weights})
        s0 = Slice (s, a0, a1, a1)
        t = GreaterOrEqual (s0, zero)
        y = Where (t, c2, zero)
        """,
        """<ir_version: 8, opset_import: ["" : 17]>
        strided (float[n, 3, h, w] x) => (float[n, 3, oh, ow] y)
        """,
    )
    after = recognised(before)
    assert len(perforated(after)) == 2
    for seed in range(2):
        assert_same(before, after, seed)


def test_union_of_two_masks():
    before = model_of(
        f"""
        {MASK}
        i = ArgMax <axis = 1> (l)
        m2 = Cast <to = 1> (i)
        c = Conv {SAME} (x, w, b)
        r = Relu (c)
        p = Mul (r, m)
        q = Mul (r, m2)
        s = Sigmoid (q)
        y = Sub (p, s)
        """
    )
    after = recognised(before)
    assert (len(perforated(after)), ops_of(after)["Or"]) == (1, 1)
    for seed in range(3):
        assert_same(before, after, seed)


def test_mask_at_two_resolutions():
    before = model_of(
        f"""
        {MASK}
        c = Conv {SAME} (x, w, b)
        p = Mul (c, m)
        d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (m)
        h = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        c2 = Conv {SAME} (h, w2, b)
        q = Mul (c2, d)
        u = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
            nearest_mode = "floor"> (q, , twice)
        y = Add (p, u)
        """
    )
    after = recognised(before)
    assert len(perforated(after)) == 2
    assert_same(before, after)


STOPS = {
    "squeeze-and-excitation": (
        f"c = Conv {SAME} (x, w, b) a = GlobalAveragePool (c) e = Sigmoid (a) s = Mul (c, e)"
        " v = Mul (s, m)",
        "(GlobalAveragePool) reads every pixel",
    ),
    "instance norm": (
        f"c = Conv {SAME} (x, w, b) s = InstanceNormalization (c, b, b) v = Mul (s, m)",
        "(InstanceNormalization) reads every pixel",
    ),
    "resize": (
        f'c = Conv {SAME} (x, w, b) s = Resize <mode = "linear"> (c, , same) v = Mul (s, m)',
        "(Resize) reads every pixel",
    ),
    "second consumer": (
        f"c = Conv {SAME} (x, w, b) p = Mul (c, m) r = Relu (c) v = Add (p, r)",
        "it is an output of the model",
    ),
    "transposed convolution behind": (
        f"c = Conv {SAME} (x, w, b) s = ConvTranspose {SAME} (c, w) v = Mul (s, m)",
        "(ConvTranspose) reads every pixel",
    ),
    "no longer finite at zero": (
        f"c = Conv {SAME} (x, w, b) a = Abs (c) s = Log (a) v = Mul (s, m)",
        "(Log) reads every pixel",
    ),
    "divided by": (
        f"c = Conv {SAME} (x, w, b) s = Div (x, c) v = Mul (s, m)",
        "(Div) reads every pixel",
    ),
    "both branches": (
        f"c = Conv {SAME} (x, w, b) e = Neg (c) f = Abs (c) v = Where (t, e, f)",
        "its readers together read every pixel",
    ),
    "read by a gate": (
        f"c = Conv {SAME} (x, w, b) p = Mul (c, m) o = Slice (c, a0, a1, a1)"
        f" u = Greater (o, zero) d = Conv {SAME} (x, w, b) s = Where (u, d, zero) v = Add (s, p)",
        "(PAGGate) may read every pixel",
    ),
}


@pytest.mark.parametrize("stop", STOPS)
def test_liveness_stops_and_says_why(stop, caplog):
    body, why = STOPS[stop]
    ruled = f"k = Conv {SAME} (x, w2, b) q = Mul (k, m)"
    before = model_of(f"{MASK} {ruled} {body} y = Add (v, q)")
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert "c" not in [n.name for n in after.graph.node if n.op_type == "PerforatedConv"]
    assert any("c (Conv) stays" in line and why in line for line in caplog.text.splitlines())
    assert_same(before, after)


def test_mask_that_depends_on_what_it_would_rule(caplog):
    """The score of the second gate is read only where the first one says so."""
    before = model_of(
        f"""
        {MASK}
        c = Conv {SAME} (x, w, b)
        e = Neg (c)
        p = Mul (e, m)
        o = Slice (p, a0, a1, a1)
        u = Greater (o, one)
        k = Abs (c)
        q = Where (u, k, zero)
        d = Conv {SAME} (x, w2, b)
        r = Where (u, d, zero)
        s = Add (p, q)
        y = Add (s, r)
        """
    )
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert "c (Conv) stays: its mask depends on it" in caplog.text
    assert_same(before, after)


def test_value_that_a_subgraph_reads(caplog):
    before = model_of(
        f"""
        {MASK}
        c = Conv {SAME} (x, w, b)
        e = Neg (c)
        p = Mul (e, m)
        y = If (yes) <
            then_branch = yes_graph () => (float[n, 3, h, w] y1) {{ y1 = Add (c, p) }},
            else_branch = no_graph () => (float[n, 3, h, w] y2) {{ y2 = Identity (p) }}
        >
        """
    )
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert perforated(after) == []
    assert "reads it from inside a subgraph" in caplog.text
    assert_same(before, after)


# --- property: any small graph of whole numbers computes the same, bit for bit ---

KINDS = ("conv",) * 4 + ("relu", "add", "mask", "where", "blend", "pool", "squeeze")
MASKED = ("mask", "where", "blend")


@st.composite
def graphs(draw):
    """Random convolutions, masks and what may stop liveness, over maps of a few sizes."""
    height, width = draw(st.integers(4, 8)), draw(st.integers(4, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    nodes, constants, maps = [], [], [("x", 2, (height, width))]

    def constant(array):
        constants.append(numpy_helper.from_array(array, f"k{len(constants)}"))
        return constants[-1].name

    def node(op, inputs, **attributes):
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def whole(*shape):
        return constant(rng.integers(-1, 2, shape).astype(np.float32))

    zero, one = constant(np.float32(0)), constant(np.float32(1))

    def mask(name, channels):
        score = node("Conv", [name, whole(1, channels, 1, 1)])
        decided = node(draw(st.sampled_from(["Greater", "GreaterOrEqual"])), [score, zero])
        return decided, node("Cast", [decided], to=TensorProto.FLOAT)

    length = draw(st.integers(4, 10))
    for step in range(length):
        forced = {length // 2: MASKED, length - 1: MASKED, length // 2 - 1: KINDS[:1], 0: KINDS[:1]}
        kind = draw(st.sampled_from(forced.get(step, KINDS)))
        recent = maps[-1:] if step in forced else [*maps[-3:], *maps[-1:] * 6]
        name, channels, size = draw(st.sampled_from(recent))
        alike = [m for m in maps if m[1:] == (channels, size)]
        other = draw(st.sampled_from(alike))[0]
        fitting = [m for m in maps if m[2] == size]
        gate = draw(st.sampled_from([*fitting, *fitting[:1] * 8]))
        if kind == "conv":
            kernel, dilation = draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
            pads, stride = [dilation * (kernel // 2)] * 4, 1
            if draw(st.integers(0, 5)) == 0:
                pads, stride = [draw(st.integers(0, 2)) for _ in range(4)], draw(st.integers(1, 2))
            reach = dilation * (kernel - 1) + 1
            size = tuple((size[a] + pads[a] + pads[a + 2] - reach) // stride + 1 for a in (0, 1))
            if min(size) < 1:
                continue
            group = draw(st.sampled_from([1, 2]))
            name = node(
                "Conv",
                [name, whole(2, channels // group, kernel, kernel), whole(2)],
                kernel_shape=[kernel] * 2,
                pads=pads,
                strides=[stride] * 2,
                dilations=[dilation] * 2,
                group=group,
            )
            channels = 2
        elif kind == "relu":
            name = node("Relu", [name])
        elif kind == "add":
            name = node("Add", [name, other])
        elif kind == "pool":
            name = node("MaxPool", [name], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif kind == "squeeze":
            name = node("Add", [name, node("ReduceMax", [name], axes=[2, 3])])
        else:
            decided, binary = mask(*gate[:2])
            if kind == "mask":
                name = node("Mul", [name, binary])
            elif kind == "where":
                name = node("Where", [decided, name, other])
            else:
                rest = node("Mul", [node("Sub", [one, binary]), other])
                name = node("Add", [node("Mul", [binary, name]), rest])
        maps.append((name, channels, size))
    outputs = {maps[-1][0], draw(st.sampled_from([maps[-1], maps[-1], maps[-1], *maps[1:]]))[0]}
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4)
            for name in sorted(outputs)
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, rng.integers(-2, 3, (2, 2, height, width)).astype(np.float32)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(graphs())
def test_random_graph_of_whole_numbers_stays_bit_for_bit(case):
    model, x = case
    after = attach_bodies(recognised(model))
    onnx.checker.check_model(after, full_check=True)
    one, other = run_onnxruntime(model, {"x": x}), run_onnxruntime(after, {"x": x})
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
