"""Noise is taken out of gates, with a warning; elsewhere it stays."""

from __future__ import annotations

import logging

import pytest

from pagdeploy.ops.bodies import attach_bodies
from tests.models import run_onnxruntime
from tests.passes.recognition import SAME, inputs_of, model_of, ops_of, perforated, recognised

ONE_HOT = """
    p = Softmax <axis = 1> (noisy)
    i = ArgMax <axis = 1> (p)
    s = Shape (l)
    e = Expand (zero, s)
    r = Shape (i)
    f = Expand (one, r)
    o = ScatterElements <axis = 1> (e, i, f)
    d = Sub (o, p)
    q = Add (d, p)
    m = Slice (q, a1, a2, a1)
"""
USE = f"c = Conv {SAME} (x, w, b) y = Mul (c, m)"
NOISE = {
    "torch's gumbel_softmax": """
        s0 = Shape (l)
        e0 = Expand (zero, s0)
        u = RandomUniformLike (e0)
        t0 = GreaterOrEqual (u, most)
        g0 = Log (u)
        g1 = Where (t0, tenth, g0)
        g2 = Mul (g1, minus)
        g3 = Log (g2)
        g4 = Neg (g3)
        n0 = Add (l, g4)
        noisy = Div (n0, third)
    """,
    "ConvNet-AIG": """
        u = RandomUniformLike (l)
        u1 = Add (u, tenth)
        g0 = Log (u1)
        g1 = Sub (tenth, g0)
        g2 = Log (g1)
        noisy = Sub (l, g2)
    """,
}


@pytest.mark.parametrize("noise", NOISE)
def test_gumbel_noise_is_removed_and_reported(noise, caplog):
    before = model_of(NOISE[noise] + ONE_HOT + USE)
    with caplog.at_level(logging.WARNING, "pagdeploy.passes"):
        after = recognised(before)
    assert "RandomUniformLike" not in ops_of(after)
    assert len(perforated(after)) == 1
    (record,) = caplog.records
    assert "drew noise on 'l', the scores of a gate" in record.message
    kept = "noisy = Div (l, third)" if "Div" in NOISE[noise] else "noisy = Identity (l)"
    quiet = model_of(kept + ONE_HOT + USE)
    feeds = inputs_of(quiet)
    one, other = (run_onnxruntime(m, feeds)[0] for m in (quiet, attach_bodies(after)))
    assert abs(one - other).max() < 1e-5


def test_logistic_noise_before_a_threshold(caplog):
    before = model_of(
        "u = RandomUniformLike (g) v = Sub (one, u) a = Log (u) e = Log (v) n0 = Sub (a, e)"
        " s = Add (g, n0) t = Greater (s, zero) m = Cast <to = 1> (t)" + USE
    )
    after = recognised(before)
    assert ops_of(after)["RandomUniformLike"] == 0
    assert len(perforated(after)) == 1


STAYS = {
    "normal": (
        "u = RandomNormalLike (g) s = Add (g, u) t = Greater (s, zero) m = Cast <to = 1> (t)",
        "its noise is neither Gumbel nor logistic",
    ),
    "uniform": (
        "u = RandomUniformLike (g) s = Add (g, u) t = Greater (s, zero) m = Cast <to = 1> (t)",
        "its noise is neither Gumbel nor logistic",
    ),
    "soft weights": (
        NOISE["ConvNet-AIG"] + "p = Softmax <axis = 1> (noisy) m = Slice (p, a1, a2, a1)",
        "more than the decision of a gate depends on its noise",
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_other_noise_stays(case, caplog):
    statements, why = STAYS[case]
    before = model_of(statements + USE)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert {"RandomUniformLike", "RandomNormalLike"} & set(ops_of(after))
    assert why in caplog.text
