"""Straight-through residues: what is hard but for rounding, and what only looks so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pagdeploy.graph.residues import ROUNDED
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower
from tests.models import run_onnxruntime
from tests.passes.recognition import HEADER, SAME, model_of, ops_of, perforated, recognised

CONV = f"c = Conv {SAME} (x, w, b)"
HARD = "t = Greater (g, zero) h = Cast <to = 1> (t)"
FIRST = "d = Sub (h, p) q = Add (d, p)"  # exact for shares
LAST = "d = Add (h, p) q = Sub (d, p)"  # off by a rounding
GUMBEL = """
    p = Softmax <axis = 1> (l)
    i = ArgMax <axis = 1> (p)
    s = Shape (l)
    e = Expand (zero, s)
    r = Shape (i)
    f = Expand (one, r)
    o = ScatterElements <axis = 1> (e, i, f)
"""
SHARES = {
    "sigmoid": "p = Sigmoid (g)",
    "1 - sigmoid": "p0 = Sigmoid (g) p = Sub (one, p0)",
    "sigmoid by hand": "n0 = Neg (g) e0 = Exp (n0) d0 = Add (e0, one) p = Div (one, d0)",
    "hard sigmoid": "p = HardSigmoid (g)",
    "relu6(x) / 6": "s0 = Add (g, third) s1 = Clip (s0, zero, six) p = Div (s1, six)",
    "clamp(1.2 sigmoid - 0.1)": "p0 = Sigmoid (g) p1 = Mul (p0, stretch) p2 = Sub (p1, tenth)"
    " p = Clip (p2, zero, one)",
    "a channel of a softmax": "p0 = Softmax <axis = 1> (l) p = Slice (p0, a1, a2, a1)",
    "a product": "p0 = Sigmoid (g) p = Mul (p0, third)",
    "the larger one": "p0 = Sigmoid (g) p = Max (p0, third)",
    "a mask": "t1 = Greater (g, half) p = Cast <to = 1> (t1)",
    "in another layout": "p0 = Sigmoid (g) p1 = Squeeze (p0, a1) p2 = Unsqueeze (p1, a1)"
    " p = Identity (p2)",
}


def inputs_for(model, seed=0, scale=3.0):
    """Inputs with scores of many sizes, so that shares round in every way."""
    rng = np.random.default_rng(seed)
    sizes = {"n": 2, "h": 40, "w": 40}
    feeds = {}
    for value in model.graph.input:
        dims = [d.dim_value or sizes[d.dim_param] for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = rng.standard_normal(dims).astype(np.float32)
        if value.name in ("g", "l"):
            feeds[value.name] *= np.float32(scale)
    return feeds


def assert_same(before, scale=3.0, atol=1e-5):
    """Every lowering computes what the model does."""
    feeds = inputs_for(before, scale=scale)
    (wanted,) = run_onnxruntime(before, feeds)
    others = [attach_bodies(recognised(before))]
    others += [lower(before, lowering) for lowering in ("gather", "dense")]
    for other in others:
        np.testing.assert_allclose(run_onnxruntime(other, feeds)[0], wanted, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("residue", [FIRST, LAST], ids=["(h - p) + p", "(h + p) - p"])
@pytest.mark.parametrize("share", SHARES)
def test_a_residue_of_a_share_is_stripped(share, residue):
    before = model_of(f"{SHARES[share]} {HARD} {residue} {CONV} y = Mul (c, q)")
    after = recognised(before)
    assert (ops_of(after)["PAGGate"], len(perforated(after))) == (1, 1)
    assert_same(before)


OTHERS = {
    "a raw score": "p = Identity (g)",
    "a sum over channels": "p = ReduceSum (z, a1)",
    "relu6": "p = Clip (g, zero, six)",
    "relu": "p = Relu (g)",
    "tanh": "p = Tanh (g)",
    "2 - sigmoid": "p0 = Sigmoid (g) p = Sub (two, p0)",
    "sigmoid + 0.3": "p0 = Sigmoid (g) p = Add (p0, third)",
    "a clamp without a lower bound": "p = Clip (g, , one)",
    "sigmoid / 0.3": "p0 = Sigmoid (g) p = Div (p0, third)",
    "relu6(x) / 2": "s0 = Clip (g, zero, six) p = Div (s0, two)",
    "1 / (x + exp(x))": "e0 = Exp (g) d0 = Add (e0, g) p = Div (one, d0)",
    "the smaller one": "p0 = Sigmoid (g) p1 = Sub (p0, half) p = Mul (p0, p1)",
}


@pytest.mark.parametrize("residue", [FIRST, LAST], ids=["(h - p) + p", "(h + p) - p"])
@pytest.mark.parametrize("soft", OTHERS)
def test_a_residue_of_what_may_be_large_or_negative_stays(soft, residue):
    """(1 - 1e8) + 1e8 is 0 rather than 1."""
    before = model_of(f"{OTHERS[soft]} {HARD} {residue} {CONV} y = Mul (c, q)")
    after = recognised(before)
    assert (ops_of(after)["PAGGate"], perforated(after)) == (0, [])
    assert_same(before, scale=1e8 if "exp" not in soft else 1.0)


USES = {
    "Where of == 1": "e = Equal (q, one) y = Where (e, c, x)",
    "Where of >= 1": "e = GreaterOrEqual (q, one) y = Where (e, c, x)",
    "Where of 1 - q == 0": "r = Sub (one, q) e = Equal (r, zero) y = Where (e, c, x)",
    "long()": "e = Cast <to = 7> (q) k = Cast <to = 1> (e) y = Mul (c, k)",
    "bool()": "e = Cast <to = 9> (q) y = Where (e, c, x)",
    "floor": "k = Floor (q) y = Mul (c, k)",
    "sign(1 - q)": "r = Sub (one, q) k = Sign (r) y = Mul (c, k)",
    "a max-pool": "k = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (q) y = Mul (c, k)",
    "ceil(q * q)": "r = Mul (q, q) k = Ceil (r) y = Mul (c, k)",
}


@pytest.mark.parametrize("use", USES)
def test_exact_residues_are_masks_however_they_are_read(use):
    before = model_of(f"p = Sigmoid (g) {HARD} {FIRST} {CONV} {USES[use]}")
    after = recognised(before)
    assert (ops_of(after)["PAGGate"], len(perforated(after))) == (1, 1)
    assert_same(before)


@pytest.mark.parametrize("use", USES)
def test_rounded_residues_are_no_masks_where_a_rounding_decides(use):
    before = model_of(f"p = Sigmoid (g) {HARD} {LAST} {CONV} {USES[use]}")
    assert perforated(recognised(before)) == []
    assert_same(before)


ROUNDED_USES = {
    "a product": "y = Mul (c, q)",
    "both sides": "r = Sub (one, q) k = Mul (c, q) v = Mul (x, r) y = Add (k, v)",
    "Where of > 0.5": "e = Greater (q, half) y = Where (e, c, x)",
    "round": "k = Round (q) y = Mul (c, k)",
    "a clamp": "k = Clip (q, zero, one) y = Mul (c, k)",
    "repeated over channels": "k = Tile (q, three_channels) y = Mul (c, k)",
    "of the residue of a residue": "d2 = Sub (q, p) q2 = Add (d2, p) y = Mul (c, q2)",
}


@pytest.mark.parametrize("use", ROUNDED_USES)
def test_rounded_residues_are_masks_where_no_rounding_decides(use):
    before = model_of(f"p = Sigmoid (g) {HARD} {LAST} {CONV} {ROUNDED_USES[use]}")
    after = recognised(before)
    assert (ops_of(after)["PAGGate"], len(perforated(after))) == (1, 1)
    assert_same(before)


@pytest.mark.parametrize(("doublings", "decides"), [(4, "t"), (20, "e")])
def test_errors_of_rounded_residues_add_up(doublings, decides):
    """Each doubling doubles the error; in the end a comparison with 0.5 decides by itself."""
    grown = " ".join(f"q{n + 1} = Add (q{n}, q{n})" for n in range(doublings)).replace("q0", "q")
    less = f"k = Mul (h, most_of_it) r = Sub (q{doublings}, k) e = Greater (r, half)"
    header = HEADER.rstrip() + f" <float most_of_it = {{{2.0**doublings - 1}}}>\n"
    body = f"p = Sigmoid (g) {HARD} {LAST} {grown} {less} {CONV} y = Where (e, c, x)"
    before = model_of(body, header)
    after = recognised(before)
    (gate,) = (node for node in after.graph.node if node.op_type == "PAGGate")
    assert gate.output[0] == f"{decides}.selection"
    assert_same(before)


def test_gumbel_softmax_of_torch_stays_a_gate():
    for form in ("d = Sub (o, p) q = Add (d, p)", "d = Sub (o, p) q = Add (p, d)"):
        before = model_of(f"{GUMBEL} {form} m = Slice (q, a1, a2, a1) {CONV} y = Mul (c, m)")
        after = recognised(before)
        assert (ops_of(after)["PAGGate"], len(perforated(after))) == (1, 1)
        assert_same(before)


def test_a_residue_that_broadcasts_to_another_rank_stays():
    header = """<ir_version: 8, opset_import: ["" : 17]>
    wide (float[n, 3, h, w] x, float[n, 1, h, w] g, float[k, 1, 1, 1, 1] z)
        => (float[k, n, 3, h, w] y)
    """
    before = model_of(f"p = Sigmoid (z) {HARD} {FIRST} {CONV} y = Mul (c, q)", header)
    after = recognised(before)
    assert (ops_of(after)["PAGGate"], perforated(after)) == (0, [])


# --- what the module says of rounding ---


def residues(share):
    """Both residues of zeros and ones, (2, N) each, in the type of the shares, (N,)."""
    hard = np.array([[0], [1]], share.dtype)
    return (hard - share) + share, (hard + share) - share, hard


def assert_rounds_as_said(share, error):
    first, last, hard = residues(share)
    np.testing.assert_array_equal(first, np.broadcast_to(hard, first.shape))
    assert not last[0].any()
    assert np.abs(last[1].astype(np.float64) - 1).max() <= error


def test_every_share_in_half_precision():
    share = np.arange(0, 0x3C01, dtype=np.uint16).view(np.float16)
    assert share[-1] == 1
    assert_rounds_as_said(share, next(e for t, e in ROUNDED.items() if t.name == "FLOAT16"))
    assert (residues(share)[1][1] != 1).any(), "or the bound would say nothing"


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(np.uint32, 2000, elements=st.integers(0, 0x3F800000)))
def test_shares_in_single_precision(bits):
    share = bits.view(np.float32)
    assert_rounds_as_said(share, next(e for t, e in ROUNDED.items() if t.name == "FLOAT"))
