"""Masks in which random numbers have a part are no gates, and the reason is told."""

from __future__ import annotations

import logging

import pytest

from pagdeploy.pipeline import lower, recognise
from tests.passes.recognition import SAME, model_of, ops_of, perforated, recognised

CONV = f"c = Conv {SAME} (x, w, b)"
CAST = "m = Cast <to = 1> (t)"
USE = f"{CONV} y = Mul (c, m)"
DRAWN = {
    "rand < p": f"p = Sigmoid (g) u = RandomUniformLike (p) t = Less (u, p) {CAST} {USE}",
    "a sum with normal noise": f"u = RandomNormalLike (g) s = Add (g, u) t = Greater (s, zero)"
    f" {CAST} {USE}",
    "Bernoulli": f"p = Sigmoid (g) u = Bernoulli (p) t = Greater (u, half) {CAST} {USE}",
    "argmax of noisy scores": "u = RandomNormalLike (l) s = Add (l, u) t = ArgMax <axis = 1> (s)"
    f" {CAST} {USE}",
    "round": "u = RandomNormalLike (g) s = Add (g, u) p = Sigmoid (s) m = Round (p) " + USE,
    "dropout in training": f"s, k = Dropout (g, half, yes) t = Greater (s, zero) {CAST} {USE}",
    "behind a drawn mask": "u = RandomUniformLike (g) t0 = Less (u, half) k = Where (t0, g, zero)"
    f" t = Greater (k, zero) {CAST} {USE}",
    "drawn in a branch of an If": "z0 = ReduceSum <keepdims = 0> (g) z1 = Greater (z0, zero)"
    " s = If (z1) <then_branch = yes_graph () => (float[n, 1, h, w] s1) {"
    " u = RandomNormalLike (g) s1 = Add (g, u) },"
    " else_branch = no_graph () => (float[n, 1, h, w] s2) { s2 = Identity (g) }>"
    f" s0 = Reshape (s, as_it_is) t = Greater (s0, zero) {CAST} {USE}",
    "dilated": f"u = RandomUniformLike (g) t = Less (u, g) {CAST}"
    f" q = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (m) {CONV} y = Mul (c, q)",
}


@pytest.mark.parametrize("case", DRAWN)
def test_drawn_masks_stay_and_the_reason_is_told(case, caplog):
    body, header = DRAWN[case], None
    if "as_it_is" in body:
        header = """<ir_version: 8, opset_import: ["" : 17]>
        masked (float[2, 3, 6, 8] x, float[2, 1, 6, 8] g) => (float[2, 3, 6, 8] y)
        <int64[4] as_it_is = {2, 1, 6, 8}>
        """
    before = model_of(body) if header is None else model_of(body, header)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert (ops_of(after)["PAGGate"], perforated(after)) == (0, [])
    told = [r.message for r in caplog.records if "stays: what it compares depends on" in r.message]
    assert len(set(told)) == 1 and "random numbers of" in told[0]
    assert ops_of(lower(before, "gather"))["Conv"] == 1, "computed as it stands"


SEEN = {
    "only its shape": "u = RandomUniformLike (g) s = Shape (u) e = Expand (g, s)"
    f" t = Greater (e, zero) {CAST} {USE}",
    "noise on the features": f"u = RandomNormalLike (x) v = Add (x, u) t = Greater (g, zero)"
    f" {CAST} c = Conv {SAME} (v, w, b) y = Mul (c, m)",
    "dropout in evaluation": f"s, k = Dropout (g, half) t = Greater (s, zero) {CAST} {USE}",
}


@pytest.mark.parametrize("case", SEEN)
def test_gates_that_no_random_number_reaches_are_found(case):
    after = recognised(model_of(SEEN[case]))
    assert (ops_of(after)["PAGGate"], len(perforated(after))) == (1, 1)


def test_one_drawn_mask_hides_no_gate_beside_it(caplog):
    body = (
        f"p = Sigmoid (g) u = RandomUniformLike (p) t = Less (u, p) {CAST} {CONV} v = Mul (c, m)"
        f" t2 = Greater (g, zero) m2 = Cast <to = 1> (t2) c2 = Conv {SAME} (x, w2, b)"
        " v2 = Mul (c2, m2) y = Add (v, v2)"
    )
    after = recognise(model_of(body))
    assert (ops_of(after)["PAGGate"], ops_of(after)["PerforatedConv"]) == (1, 1)
    product = body.replace("v2 = Mul (c2, m2)", "m3 = Mul (m, m2) v2 = Mul (c2, m3)")
    assert ops_of(recognise(model_of(product)))["PerforatedConv"] == 0, "drawn, too"
