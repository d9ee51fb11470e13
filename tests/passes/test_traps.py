"""Uses of a mask that look like gating and are not: nothing is spared that is read."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower
from tests.models import run_onnxruntime
from tests.passes.recognition import SAME, assert_same, inputs_of, model_of, perforated, recognised

MASK = "t = GreaterOrEqual (g, zero) m = Cast <to = 1> (t)"
POINT = "<kernel_shape = [1, 1]>"
LOWERINGS = ("dense", "gather", "plugin")

# Each with the number of convolutions that may be perforated.
TRAPS = {
    "squeeze-and-excitation inside of the branch": (
        f"{MASK} c = Conv {POINT} (x, w1, b) a = GlobalAveragePool (c) e = Sigmoid (a)"
        f" s = Mul (c, e) d = Conv {SAME} (s, w, b) y = Mul (d, m)",
        1,
    ),
    "instance norm inside of the branch": (
        f"{MASK} c = Conv {POINT} (x, w1, b) s = InstanceNormalization (c, b, b)"
        f" d = Conv {SAME} (s, w, b) y = Mul (d, m)",
        1,
    ),
    "instance norm between convolution and mask": (
        f"{MASK} c = Conv {SAME} (x, w, b) s = InstanceNormalization (c, b, b) y = Mul (s, m)",
        0,
    ),
    "squeeze-and-excitation behind the mask": (
        f"{MASK} c = Conv {SAME} (x, w, b) p = Mul (c, m) a = GlobalAveragePool (p)"
        " e = Sigmoid (a) y = Mul (p, e)",
        1,
    ),
    "unmasked second consumer": (
        f"{MASK} c = Conv {SAME} (x, w, b) p = Mul (c, m) d = Conv {SAME} (c, w2, b)"
        " y = Add (p, d)",
        0,
    ),
    "second consumer behind an activation": (
        f"{MASK} c = Conv {SAME} (x, w, b) r = Relu (c) p = Mul (r, m) y = Add (p, r)",
        0,
    ),
    "float mask that is not binary": (
        f"{MASK} s = Sigmoid (g) q = Mul (m, s) c = Conv {SAME} (x, w, b) y = Mul (c, q)",
        0,
    ),
    "mask of ones and twos": (
        f"{MASK} q = Add (m, one) c = Conv {SAME} (x, w, b) y = Mul (c, q)",
        0,
    ),
    "mask that is an input": (f"c = Conv {SAME} (x, w, b) y = Mul (c, g)", 0),
    "weights that are shared with a dense convolution": (
        f"{MASK} c = Conv {SAME} (x, w, b) p = Mul (c, m) d = Conv {SAME} (x, w, b) y = Add (p, d)",
        1,
    ),
    "transposed convolution": (
        f"{MASK} c = ConvTranspose {SAME} (x, w, b) y = Mul (c, m)",
        0,
    ),
    "mask that broadcasts over the rows": (
        f"r = ReduceMean <axes = [2], keepdims = 1> (g) t = GreaterOrEqual (r, zero)"
        f" m = Cast <to = 1> (t) c = Conv {SAME} (x, w, b) y = Mul (c, m)",
        0,
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_read_is_computed(trap):
    body, spared = TRAPS[trap]
    before = model_of(body)
    assert len(perforated(recognised(before))) == spared
    for seed in range(2):
        assert_same(before, recognised(before), seed)
        for lowering in LOWERINGS:
            assert_same(before, lower(before, lowering), seed)


def test_one_mask_at_two_resolutions():
    """At its own size it is the gate's; a coarser one must be made of it, not taken for it."""
    header = """<ir_version: 8, opset_import: ["" : 17]>
    two (float[n, 3, 8, 12] x, float[n, 1, 8, 12] g) => (float[n, 3, 8, 12] y)
    """
    resize = 'Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",'
    resize += ' nearest_mode = "floor">'
    before = model_of(
        f"""
        {MASK}
        c = Conv {SAME} (x, w, b) p = Mul (c, m)
        k = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (m)
        h = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, w2, b)
        q = Mul (h, k)
        u = {resize} (q, , twice)
        y = Add (p, u)
        """,
        header,
    )
    after = recognised(before)
    assert sorted(node["strides"] for node in perforated(after)) == [[1, 1], [2, 2]]
    selections = {n.input[1] for n in after.graph.node if n.op_type == "PerforatedConv"}
    assert len(selections) == 2, "each has a selection of its own size"
    for lowering in LOWERINGS:
        assert_same(before, lower(before, lowering))


def test_a_mask_of_the_size_of_the_input_and_a_strided_convolution():
    """mmcv's fault: the mask lies at the input's resolution; the product cannot even be formed."""
    header = """<ir_version: 8, opset_import: ["" : 17]>
    sizes (float[n, 3, 1, w] x, float[n, 1, h, w] g) => (float[n, 3, h, w] y)
    """
    before = model_of(f"{MASK} c = Conv {SAME} (x, w, b) y = Mul (c, m)", header)
    assert perforated(recognised(before)) == []
    for lowering in LOWERINGS:  # one row of the convolution meets every row of the mask
        assert_same(before, lower(before, lowering))


LOOP = """
    y = Loop (two, , x) <body = step (int64 i, bool go, float[n, 3, h, w] before)
        => (bool on, float[n, 3, h, w] after) {
        on = Identity (go)
        t = GreaterOrEqual (g, zero) m = Cast <to = 1> (t)
        c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (before, w, b) after = Mul (c, m)
    }>
"""
IF = """
    s = ReduceSum <keepdims = 0> (g) big = Greater (s, zero)
    t = GreaterOrEqual (g, zero) m = Cast <to = 1> (t)
    y = If (big) <
        then_branch = yes_graph () => (float[n, 3, h, w] y1) {
            c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b) y1 = Mul (c, m)
        },
        else_branch = no_graph () => (float[n, 3, h, w] y2) { y2 = Identity (x) }
    >
"""


@pytest.mark.parametrize("body", [IF, LOOP.replace("(two, , x)", "(k2, , x)")], ids=["If", "Loop"])
def test_gates_and_masks_that_reach_into_subgraphs(body):
    before = model_of(body)
    after = recognised(before)
    assert perforated(after) == []
    onnx.checker.check_model(attach_bodies(after), full_check=True)
    for seed in range(3):  # both branches of the If
        feeds = inputs_of(before, seed)
        wanted = run_onnxruntime(before, feeds)[0]
        for other in (attach_bodies(after), *(lower(before, name) for name in ("dense", "gather"))):
            np.testing.assert_allclose(run_onnxruntime(other, feeds)[0], wanted, atol=1e-4)


@pytest.mark.parametrize(
    "repeat", ["three = Expand (m, sizes)", "three = Tile (m, times)"], ids=["Expand", "Tile"]
)
def test_a_mask_that_was_repeated_counts_as_often(repeat):
    """Channel 1 of [m, m, m, 1 - m] is m, not 1 - m."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        repeated (float[2, 4, 6, 6] x, float[2, 1, 6, 6] g) => (float[2, 4, 6, 6] y)
        <float zero = {{0}}, float one = {{1}}, int64[4] sizes = {{2, 3, 6, 6}},
         int64[4] times = {{1, 3, 1, 1}}, int64[1] first = {{1}},
         float[4, 4, 1, 1] w = {{1, 2, 0, 1, -1, 1, 2, 0, 0, 1, 1, 1, 2, -1, 0, 1}}> {{
            positive = Greater (g, zero)
            m = Cast <to = 1> (positive)
            rest = Sub (one, m)
            {repeat}
            all = Concat <axis = 1> (three, rest)
            k = Gather <axis = 1> (all, first)
            c = Conv (x, w)
            q = Mul (c, k)
            y = Add (x, q)
        }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    feed = {
        "x": rng.standard_normal((2, 4, 6, 6), np.float32),
        "g": rng.standard_normal((2, 1, 6, 6), np.float32),
    }
    wanted = run_onnxruntime(model, feed)[0]
    for lowering in ("gather", "dense"):
        found = run_onnxruntime(lower(model, lowering), feed)[0]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
