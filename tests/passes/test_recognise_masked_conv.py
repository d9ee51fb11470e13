"""Every way to write a masked convolution becomes a PerforatedConv; traps stay, with a reason."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pagdeploy.ops.bodies import attach_bodies
from tests.models import run_onnxruntime
from tests.passes.recognition import (
    HEADER,
    SAME,
    assert_same,
    inputs_of,
    model_of,
    ops_of,
    perforated,
    recognised,
)

MASK = "t = GreaterOrEqual (g, zero) m = Cast <to = 1> (t)"
CONV = f"c = Conv {SAME} (x, w, b)"
REPLACE, ADD = 0, 1
NONE, RELU, RELU6, LEAKY = range(4)

# What comes behind the mask and the convolution; mode and activation that are to be found.
USES = {
    "f * m": ("y = Mul (c, m)", REPLACE, NONE),
    "m * f": ("y = Mul (m, c)", REPLACE, NONE),
    "relu(f) * m": ("a = Relu (c) y = Mul (a, m)", REPLACE, RELU),
    "relu(f * m)": ("a = Mul (c, m) y = Relu (a)", REPLACE, RELU),
    "relu6(f) * m": ("a = Clip (c, zero, six) y = Mul (a, m)", REPLACE, RELU6),
    "leaky(f) * m": ("a = LeakyRelu <alpha = 0.2> (c) y = Mul (a, m)", REPLACE, LEAKY),
    "where(t, f, x)": ("y = Where (t, c, x)", REPLACE, NONE),
    "where(t, f, 0)": ("y = Where (t, c, zero)", REPLACE, NONE),
    "where(t, f, zeros_like(f))": (
        "s = Shape (c) o = Expand (zero, s) y = Where (t, c, o)",
        REPLACE,
        NONE,
    ),
    "where(t, relu(f), x)": ("a = Relu (c) y = Where (t, a, x)", REPLACE, RELU),
    "masked_fill(not t)": ("u = Not (t) y = Where (u, zero, c)", REPLACE, NONE),
    "where(not t, x, f)": ("u = Not (t) y = Where (u, x, c)", REPLACE, NONE),
    "m f + (1 - m) x": (
        "p = Mul (m, c) r = Sub (one, m) q = Mul (r, x) y = Add (p, q)",
        REPLACE,
        NONE,
    ),
    "(1 - m) x + relu(f) m": (
        "r = Sub (one, m) q = Mul (x, r) a = Relu (c) p = Mul (a, m) y = Add (q, p)",
        REPLACE,
        RELU,
    ),
    "x + f * m": ("p = Mul (c, m) y = Add (x, p)", ADD, NONE),
    "relu(x + m * f)": ("p = Mul (m, c) s = Add (p, x) y = Relu (s)", ADD, RELU),
    "relu6(x + m * f)": ("p = Mul (m, c) s = Add (x, p) y = Clip (s, zero, six)", ADD, RELU6),
    "x + where(t, f, 0)": ("p = Where (t, c, zero) y = Add (x, p)", ADD, NONE),
    "where(t, x + f, x)": ("s = Add (x, c) y = Where (t, s, x)", ADD, NONE),
    "expanded mask": ("s = Shape (c) e = Expand (m, s) y = Mul (c, e)", REPLACE, NONE),
}


@pytest.mark.parametrize("use", USES)
def test_use_becomes_one_node(use):
    statements, mode, activation = USES[use]
    before = model_of(f"{MASK} {CONV} {statements}")
    after = recognised(before)
    (node,) = perforated(after)
    assert (node["mode"], node["activation"], node["branch"]) == (mode, activation, 0)
    assert not {"Conv", "Mul", "Where", "Cast", "Sub", "Add"} & set(ops_of(after))
    for seed in range(3):
        assert_same(before, after, seed)


@pytest.mark.parametrize("pads", ["auto_pad = 'SAME_UPPER'", "auto_pad = 'SAME_LOWER'"])
@pytest.mark.parametrize("weights", ["w", "even"])
def test_automatic_padding_is_written_out(pads, weights):
    kernel = [3, 3] if weights == "w" else [2, 4]
    attributes = f"<kernel_shape = {kernel}, {pads}>".replace("'", '"')
    before = model_of(f"{MASK} c = Conv {attributes} (x, {weights}, b) y = Mul (c, m)")
    after = recognised(before)
    (node,) = perforated(after)
    assert node["kernel_shape"] == kernel
    assert_same(before, after)


def test_batch_norm_behind_the_convolution():
    before = model_of(
        f"{MASK} c = Conv {SAME} (x, w) d = BatchNormalization (c, b, b, b, var) y = Mul (d, m)"
    )
    after = recognised(before)
    assert len(perforated(after)) == 1
    assert_same(before, after)


def test_float16_keeps_its_type():
    header = HEADER.replace("float[n, 3", "float16[n, 3")
    before = model_of(
        "t = GreaterOrEqual (g, zero) m = Cast <to = 10> (t) "
        "c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, half_w) y = Mul (c, m)",
        header,
    )
    after = recognised(before)
    assert len(perforated(after)) == 1
    feeds = {k: v.astype(np.float16) if k == "x" else v for k, v in inputs_of(before).items()}
    one, other = (run_onnxruntime(m, feeds)[0] for m in (before, attach_bodies(after)))
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


def test_strided_convolution_with_a_mask_of_its_own_resolution():
    header = HEADER.replace("float[n, 3, h, w] y", "float[n, 3, oh, ow] y")
    stride = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>"
    before = model_of(
        f"s = Conv {stride} (x, w2) s0 = Slice (s, a0, a1, a1)"
        f" t = GreaterOrEqual (s0, zero) m = Cast <to = 1> (t)"
        f" c = Conv {stride} (x, w, b) y = Mul (c, m)",
        header,
    )
    after = recognised(before)
    assert [node["strides"] for node in perforated(after)] == [[2, 2]]
    assert_same(before, after)


MULTI_POOL = f"""
    c0 = Conv {SAME} (x, w, b)
    c1 = Conv <kernel_shape = [3, 3], pads = [2, 2, 2, 2], dilations = [2, 2]> (x, w, b)
    r1 = Relu (c1)
    i = ArgMax <axis = 1> (l)
"""
CHOICES = {
    "one-hot weights": "u = Squeeze (i, a1) v = Unsqueeze (u, last) e = Equal (v, three)"
    " f = Cast <to = 1> (e) h = Transpose <perm = [0, 3, 1, 2]> (f)"
    " h0 = Slice (h, a0, a1, a1) h1 = Slice (h, a1, a2, a1) h2 = Slice (h, a2, a3, a1)"
    " p0 = Mul (c0, h0) p1 = Mul (r1, h1) p2 = Mul (x, h2)"
    " s = Add (p0, p1) y = Add (s, p2)",
    "nested where": "t0 = Equal (i, k0) t1 = Equal (i, k1) q = Where (t1, r1, x)"
    " y = Where (t0, c0, q)",
}


@pytest.mark.parametrize("choice", CHOICES)
def test_multi_pool_becomes_a_chain_over_one_selection(choice):
    header = HEADER.replace("float[n, 2, h, w] l", "float[n, 3, h, w] l")
    before = model_of(MULTI_POOL + CHOICES[choice], header)
    after = recognised(before)
    assert [(n["branch"], n["activation"]) for n in perforated(after)] == [(0, NONE), (1, RELU)]
    assert not {"Conv", "Mul", "Where"} & set(ops_of(after))
    for seed in range(3):
        assert_same(before, after, seed)


GEOMETRY = {
    "dilated by a convolution of ones": "d = Conv <pads = [1, 1, 1, 1]> (m, box)"
    " u = Greater (d, half) q = Cast <to = 1> (u)",
    "dilated by a max-pool": "q = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (m)",
    "product of two masks": "i = ArgMax <axis = 1> (l) n2 = Cast <to = 1> (i) q = Mul (m, n2)",
    "both": "j = ArgMax <axis = 1> (l) v = Cast <to = 9> (j) o = And (t, v) q = Cast <to = 1> (o)",
}


@pytest.mark.parametrize("geometry", GEOMETRY)
def test_mask_made_of_masks(geometry):
    before = model_of(f"{MASK} {GEOMETRY[geometry]} {CONV} y = Mul (c, q)")
    after = recognised(before)
    assert len(perforated(after)) == 1
    for seed in range(3):
        assert_same(before, after, seed)


def test_coarse_mask_upsampled_by_nearest():
    """LASNet: decided per patch, also where the sizes come from the map."""
    nearest = 'mode = "nearest", coordinate_transformation_mode = "asymmetric"'
    coarse = (
        "p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (g)"
        " t = GreaterOrEqual (p, zero) n2 = Cast <to = 1> (t)"
    )
    resize = f'm = Resize <{nearest}, nearest_mode = "floor">'
    before = model_of(
        f"{CONV} {coarse} s = Shape (c) o = Slice (s, a0, a1) hw = Slice (s, a2, a4)"
        f" n1 = Concat <axis = 0> (o, a1, hw) {resize} (n2, , , n1) y = Mul (c, m)"
    )
    after = recognised(before)
    assert len(perforated(after)) == 1
    assert_same(before, after)


def test_nan_at_a_pixel_that_is_ruled_out_stays_unseen():
    """The one difference: 0 * NaN is NaN, but a PerforatedConv never looks."""
    before = model_of(f"{MASK} {CONV} y = Mul (c, m)")
    after = recognised(before)
    feeds = inputs_of(before)
    feeds["g"][:] = -1
    feeds["x"][0, 0, 0, 0] = np.nan
    one, other = (run_onnxruntime(m, feeds)[0] for m in (before, attach_bodies(after)))
    assert np.isnan(one).any()
    assert not other.any()


def test_mask_before_the_convolution_stays_where_it_is():
    """What a convolution reads of masked neighbours is part of the function."""
    before = model_of(f"{MASK} k = Mul (x, m) c = Conv {SAME} (k, w, b) y = Mul (c, m)")
    after = recognised(before)
    assert (len(perforated(after)), ops_of(after)["Mul"]) == (1, 1)
    assert_same(before, after)


def test_convolutions_that_share_weights():
    before = model_of(
        f"{MASK} {CONV} p = Mul (c, m) c2 = Conv {SAME} (p, w, b) u = Not (t) y = Where (u, c2, x)"
    )
    after = recognised(before)
    first, second = (n for n in after.graph.node if n.op_type == "PerforatedConv")
    assert first.input[2] == second.input[2] == "w"
    assert [node["branch"] for node in perforated(after)] == [0, 1]
    assert_same(before, after)


TRAPS = {
    "unmasked second consumer": (
        f"{MASK} {CONV} p = Mul (c, m) y = Add (p, c)",
        "is read elsewhere, too",
    ),
    "convolution that is an output": (
        f"{MASK} {CONV} y = Mul (c, m)",
        "is read elsewhere, too",
    ),
    "soft mask": (
        f"m = Sigmoid (g) {CONV} y = Mul (c, m)",
        "its mask 'm' is not provably zeros and ones",
    ),
    "mask that is an input": (
        f"{CONV} y = Mul (c, g)",
        "its mask 'g' is an input of the model, not provably zeros and ones",
    ),
    "mask with a half in it": (
        f"{MASK} q = Mul (m, half) {CONV} y = Mul (c, q)",
        "no branch is a single convolution",
    ),
    "mask of one and a half": (
        f"{MASK} r = Mul (m, half) q = Add (r, half) {CONV} y = Mul (c, q)",
        "what inactive pixels show depends on the convolution",
    ),
    "transposed convolution": (
        f"{MASK} c = ConvTranspose {SAME} (x, w, b) y = Mul (c, m)",
        "a transposed convolution is never perforated",
    ),
    "two convolutions in one branch": (
        f"{MASK} {CONV} c2 = Conv {SAME} (x, w2, b) s = Add (c, c2) y = Mul (s, m)",
        "no branch is a single convolution",
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_trap_is_left_alone_and_told(trap, caplog):
    body, why = TRAPS[trap]
    before = model_of(body)
    if trap == "convolution that is an output":
        before.graph.output.append(type(before.graph.output[0])(name="c"))
        before.graph.output[-1].type.CopyFrom(before.graph.output[0].type)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert why in caplog.text
    assert ops_of(after)["Mul"] == ops_of(before)["Mul"]
    for seed in range(2):
        assert_same(before, after, seed)


def test_mask_of_another_size_is_refused(caplog):
    """Multiplying broadcasts; a PerforatedConv does not."""
    header = HEADER.replace("float[n, 1, h, w] g", "float[n, 1, gh, w] g")
    before = model_of(f"{MASK} {CONV} y = Mul (c, m)", header)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert perforated(after) == []
    assert "the mask is not provably of the output's size" in caplog.text


def test_gate_inside_an_if_is_left_alone():
    before = model_of(
        """y = If (yes) <
            then_branch = yes_graph () => (float[n, 3, h, w] y1) {
                t = GreaterOrEqual (g, zero) m = Cast <to = 1> (t)
                c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b) y1 = Mul (c, m)
            },
            else_branch = no_graph () => (float[n, 3, h, w] y2) { y2 = Identity (x) }
        >"""
    )
    after = recognised(before)
    assert ops_of(after) == ops_of(before)
    inner = after.graph.node[0].attribute[0].g
    assert [node.op_type for node in inner.node] == ["GreaterOrEqual", "Cast", "Conv", "Mul"]


def test_mask_per_channel_is_no_selection():
    """Channel gating decides what to compute, but not where."""
    before = model_of(
        f"q = ReduceMean <axes = [2, 3]> (z) t = Greater (q, zero) m = Cast <to = 1> (t)"
        f" {CONV} y = Mul (c, m)"
    )
    after = recognised(before)
    assert perforated(after) == []
    assert_same(before, after)
