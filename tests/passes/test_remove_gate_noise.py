"""Noise is taken out of gates, all of it and with a warning; elsewhere it stays."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import recognise
from tests.models import run_onnxruntime
from tests.passes.recognition import (
    HEADER,
    SAME,
    inputs_of,
    model_of,
    ops_of,
    perforated,
    recognised,
)

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
CONV = f"c = Conv {SAME} (x, w, b)"
USE = f"{CONV} y = Mul (c, m)"


def gumbel(name, like="g", kind="RandomUniformLike"):
    """-log(-log(u)) of a draw of one's own, called after the name."""
    return (
        f"{name}u = {kind} ({like}) {name}v = Add ({name}u, epsilon) {name}l = Log ({name}v)"
        f" {name}k = Neg ({name}l) {name}j = Add ({name}k, epsilon) {name}i = Log ({name}j)"
        f" {name} = Neg ({name}i) "
    )


def logistic(name):
    """log(u) - log(1 - u) of a draw of one's own, called after the name."""
    return (
        f"{name}u = RandomUniformLike (g) {name}v = Sub (one, {name}u) {name}a = Log ({name}u)"
        f" {name}b = Log ({name}v) {name} = Sub ({name}a, {name}b) "
    )


NOISE = {
    "torch's gumbel_softmax": """
        s0 = Shape (l)
        e0 = Expand (zero, s0)
        u = RandomUniformLike (e0)
        t0 = GreaterOrEqual (u, nearly)
        g0 = Log (u)
        g1 = Where (t0, below, g0)
        g2 = Mul (g1, minus)
        g3 = Log (g2)
        g4 = Neg (g3)
        n0 = Add (l, g4)
        noisy = Div (n0, third)
    """,
    "ConvNet-AIG": """
        u = RandomUniformLike (l)
        u1 = Add (u, epsilon)
        g0 = Log (u1)
        g1 = Sub (epsilon, g0)
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
    assert_without_noise(after, model_of(kept + ONE_HOT + USE))


def assert_without_noise(after, quiet):
    """What is left computes what the model without noise does."""
    feeds = inputs_of(quiet)
    one, other = (run_onnxruntime(m, feeds)[0] for m in (quiet, attach_bodies(after)))
    assert abs(one - other).max() < 1e-5


SOFT = (
    "p = Sigmoid (s) t = GreaterOrEqual (p, half) h = Cast <to = 1> (t) d = Sub (h, p)"
    " m = Add (d, p) "
)
BOTH = gumbel("n1") + gumbel("n2")
# Noise before a threshold, and the scores that stay.
THRESHOLDS = {
    "logistic": (logistic("n1") + "s = Add (g, n1) ", "s = Identity (g) "),
    "DynConv: two Gumbel draws": (BOTH + "a = Add (g, n1) s = Sub (a, n2) ", "s = Identity (g) "),
    "the other way round": (BOTH + "a = Sub (g, n1) s = Add (n2, a) ", "s = Identity (g) "),
    "their difference": (BOTH + "a = Sub (n1, n2) s = Add (a, g) ", "s = Identity (g) "),
    "a temperature": (
        BOTH + "a = Add (g, n1) e = Sub (a, n2) s = Div (e, third) ",
        "s = Div (g, third) ",
    ),
    "scaled noise": (
        BOTH + "a = Sub (n1, n2) e = Mul (a, third) s = Add (g, e) ",
        "s = Identity (g) ",
    ),
    "noise less the scores": (logistic("n1") + "s = Sub (n1, g) ", "s = Neg (g) "),
    "a bias in between": (
        BOTH + "a = Add (g, n1) e = Add (a, third) s = Sub (e, n2) ",
        "s = Add (g, third) ",
    ),
    "one draw a side": (
        BOTH + "k = Neg (g) a = Add (g, n1) e = Add (k, n2) s = Sub (a, e) ",
        "k = Neg (g) s = Sub (g, k) ",
    ),
    "three draws": (
        BOTH + logistic("n3") + "a = Add (g, n1) e = Add (a, n3) s = Sub (e, n2) ",
        "s = Identity (g) ",
    ),
}


@pytest.mark.parametrize("form", THRESHOLDS)
def test_noise_before_a_threshold_goes_altogether(form, caplog):
    noisy, quiet = THRESHOLDS[form]
    before = model_of(noisy + SOFT + USE)
    with caplog.at_level(logging.WARNING, "pagdeploy.passes"):
        after = recognised(before)
    assert ops_of(after)["RandomUniformLike"] == 0
    assert (len(perforated(after)), ops_of(after)["PAGGate"]) == (1, 1)
    assert 1 <= len(caplog.records) <= 2, "one for each operand that had noise on it"
    assert_without_noise(after, model_of(quiet + SOFT + USE))


def votes_of(model, scores):
    """The share of 4000 images in which each of 12 scores runs."""
    feeds = {"g": np.tile(scores.reshape(1, 1, 3, 4), (4000, 1, 1, 1))}
    feeds["l"] = np.concatenate([np.zeros_like(feeds["g"]), feeds["g"]], 1)
    feeds = {value.name: feeds[value.name] for value in model.graph.input}
    return run_onnxruntime(model, feeds)[0].mean(0).ravel()


def test_one_gumbel_draw_before_a_threshold_leans():
    """Of a score of -0.2 it makes a branch that runs more often than not, so that it stays."""
    header = HEADER.replace("=> (float[n, 3, h, w] y)", "=> (float[n, 1, h, w] m)")
    model = model_of(f"{gumbel('n1')} s = Add (g, n1) {SOFT}", header)
    assert np.all(votes_of(model, np.full(12, -0.2, np.float32)) > 0.52)


@pytest.mark.parametrize("form", [*THRESHOLDS, *NOISE])
def test_what_is_left_is_the_most_probable_branch(form):
    """By the votes of 4000 images of the same scores; ones near a tie have no clear majority."""
    header = HEADER.replace("=> (float[n, 3, h, w] y)", "=> (float[n, 1, h, w] m)")
    noisy = THRESHOLDS[form][0] + SOFT if form in THRESHOLDS else NOISE[form] + ONE_HOT
    model = model_of(noisy, header)
    scores = np.linspace(-6.6, 6.6, 12, dtype=np.float32)  # none within 0.6 of 0
    votes = votes_of(model, scores)
    shifted = scores + 0.3 if form == "a bias in between" else scores
    wanted = (-shifted if form == "noise less the scores" else shifted) > 0
    np.testing.assert_array_equal(votes > 0.5, wanted)


TWO = NOISE["ConvNet-AIG"] + "p = Softmax <axis = 1> (noisy) "
HARD = "t = Greater (s, zero) m = Cast <to = 1> (t) "
ELSEWHERE = "more than the decision of a gate depends on its noise"
LEANS = "its noise favours a side of a threshold"
UNKNOWN = "its noise is neither Gumbel nor logistic"
STILL = "the scores of its gate depend on random numbers that stay"
STAYS = {
    "normal": (f"u = RandomNormalLike (g) s = Add (g, u) {HARD} {USE}", {"u": UNKNOWN}),
    "uniform": (f"u = RandomUniformLike (g) s = Add (g, u) {HARD} {USE}", {"u": UNKNOWN}),
    "soft weights": (f"{TWO} m = Slice (p, a1, a2, a1) {USE}", {"u": ELSEWHERE}),
    "a soft weight beside the hard one": (
        f"{TWO} i = ArgMax <axis = 1> (p) m = Cast <to = 1> (i) k = Slice (p, a1, a2, a1) {CONV}"
        " a = Mul (c, m) y = Add (a, k)",
        {"u": ELSEWHERE},
    ),
    "a soft weight that is an Add away": (
        f"{TWO} i = ArgMax <axis = 1> (p) m = Cast <to = 1> (i) o = Add (p, l)"
        f" k = Slice (o, a1, a2, a1) {CONV} a = Mul (c, m) y = Add (a, k)",
        {"u": ELSEWHERE},
    ),
    "a residue of something else": (
        f"{TWO} i = ArgMax <axis = 1> (p) m = Cast <to = 1> (i) d = Sub (l, p) o = Add (d, l)"
        f" k = Slice (o, a1, a2, a1) {CONV} a = Mul (c, m) y = Add (a, k)",
        {"u": ELSEWHERE},
    ),
    "the largest score": (
        f"{NOISE['ConvNet-AIG']} v, i = TopK <axis = 1> (noisy, a1) m = Cast <to = 1> (i) {CONV}"
        " a = Mul (c, m) y = Add (a, v)",
        {"u": ELSEWHERE},
    ),
    "one Gumbel draw before a threshold": (
        f"{gumbel('n1')} s = Add (g, n1) {HARD} {USE}",
        {"n1u": LEANS},
    ),
    "the sum of two": (
        f"{BOTH} a = Add (g, n1) s = Add (a, n2) {HARD} {USE}",
        {"n1u": LEANS, "n2u": LEANS},
    ),
    "two of different size": (
        f"{BOTH} h = Mul (n2, half) a = Add (g, n1) s = Sub (a, h) {HARD} {USE}",
        {"n1u": LEANS, "n2u": LEANS},
    ),
    "one of two draws is read": (
        f"{BOTH} a = Add (g, n1) s = Sub (a, n2) {HARD} {CONV} k = Mul (c, m) y = Add (k, n2)",
        {"n1u": STILL, "n2u": ELSEWHERE},
    ),
    "the scores between two draws are read": (
        f"{BOTH} a = Add (g, n1) s = Sub (a, n2) {HARD} {CONV} k = Mul (c, m) y = Add (k, a)",
        {"n1u": ELSEWHERE, "n2u": STILL},
    ),
    "logistic and normal": (
        f"{logistic('n1')} u = RandomNormalLike (g) a = Add (g, n1) s = Add (a, u) {HARD} {USE}",
        {"n1u": STILL, "u": UNKNOWN},
    ),
    "a gate behind one that stays random": (
        f"{logistic('n1')} u = RandomNormalLike (g) s0 = Add (g, u) t0 = Greater (s0, zero)"
        f" m0 = Cast <to = 1> (t0) k = Mul (g, m0) s = Add (k, n1) {HARD} {USE}",
        {"n1u": STILL, "u": UNKNOWN},
    ),
    "a draw that two scores share": (
        f"{logistic('n1')} a = Add (g, n1) s = Add (a, n1) {HARD} {USE}",
        {"n1u": ELSEWHERE},
    ),
    "a draw that the scores depend on by an earlier gate": (
        f"{logistic('n1')} s0 = Add (g, n1) t0 = Greater (s0, zero) m0 = Cast <to = 1> (t0)"
        f" k = Mul (g, m0) s = Add (k, n1) {HARD} {USE}",
        {"n1u": ELSEWHERE},
    ),
    "the residue of a noisy score": (
        f"{logistic('n1')} s = Add (g, n1) t = Greater (s, zero) h = Cast <to = 1> (t)"
        f" d = Sub (h, s) m = Add (d, s) {USE}",
        {"n1u": ELSEWHERE},
    ),
    "noise that makes scores larger": (
        f"l0 = Slice (l, a1, a2, a1) k = ReduceMean <axes = [2, 3]> (l0) {logistic('n1')}"
        f" s = Add (k, n1) {HARD} {USE}",
        {"n1u": "its noise is not provably of the size of the scores"},
    ),
    "three branches against a threshold": (
        f"l3 = Concat <axis = 1> (l, g) {gumbel('n1', 'l3')} a = Add (l3, n1)"
        " p = Softmax <axis = 1> (a) t0 = Greater (p, half) h = Cast <to = 1> (t0)"
        f" m = Slice (h, a1, a2, a1) {USE}",
        {"n1u": LEANS},
    ),
    "a drawn mask": (
        f"p = Sigmoid (g) u = RandomUniformLike (p) t = Less (u, p) m = Cast <to = 1> (t) {USE}",
        {"u": "it draws a decision, rather than noise on the scores of one"},
    ),
    "noise that a branch of an If reads": (
        f"{logistic('n1')} s = Add (g, n1) {HARD} {CONV} k = Mul (c, m)"
        " z0 = ReduceSum <keepdims = 0> (g) z1 = Greater (z0, zero) y = If (z1) <"
        " then_branch = yes () => (float[n, 3, h, w] y1) { y1 = Add (k, n1) },"
        " else_branch = no () => (float[n, 3, h, w] y2) { y2 = Identity (k) }>",
        {"n1u": ELSEWHERE},
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_other_noise_stays_and_the_reason_is_told(case, caplog):
    body, reasons = STAYS[case]
    before = model_of(body)
    drawing = [node.output[0] for node in before.graph.node if "Random" in node.op_type]
    assert sorted(drawing) == sorted(reasons)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert sum(count for op, count in ops_of(after).items() if "Random" in op) == len(drawing)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    for source, why in reasons.items():
        assert f"{source} (" in caplog.text and why in caplog.text
        (line,) = {r.message for r in caplog.records if r.message.startswith(f"{source} (")}
        assert f"stays: {why}" in line
    assert ops_of(after)["PAGGate"] == 0, "what is drawn decides no gate"


def test_two_gates_of_one_draw_are_told_each(caplog):
    body = (
        f"{logistic('n1')} s = Add (g, n1) {HARD} k = Neg (g) s2 = Add (k, n1)"
        f" t2 = Greater (s2, zero) m2 = Cast <to = 1> (t2) {CONV} a = Mul (c, m)"
        f" c2 = Conv {SAME} (x, w2, b) a2 = Mul (c2, m2) y = Add (a, a2)"
    )
    with caplog.at_level(logging.WARNING, "pagdeploy.passes"):
        after = recognised(
            model_of(body.replace("a2 = Mul", "v2 = Mul").replace("(a, a2)", "(a, v2)"))
        )
    assert ops_of(after)["RandomUniformLike"] == 0
    assert (len(caplog.records), ops_of(after)["PAGGate"]) == (2, 2)


# --- property: sums of noise before a threshold ---

KINDS = {"gumbel": gumbel, "logistic": lambda name: logistic(name)}
OTHER = "{0}u = RandomNormalLike (g) {0} = Identity ({0}u) "


@st.composite
def sampled(draw):
    """A gate with several draws on its scores, and whether they may all go."""
    terms = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["gumbel", "gumbel", "logistic", "normal"]),
                st.sampled_from(["Add", "Sub"]),
                st.sampled_from(["one", "half"]),
            ),
            min_size=1,
            max_size=4,
        )
    )
    body, total = "", "g"
    for number, (kind, sign, scale) in enumerate(terms):
        name = f"n{number}"
        body += KINDS[kind](name) if kind in KINDS else OTHER.format(name)
        body += f"k{number}x = Mul ({name}, {scale}) a{number}x = {sign} ({total}, k{number}x) "
        total = f"a{number}x"
    leaks = draw(st.sampled_from(["", "", "", "k0x", total]))
    body += f"s = Identity ({total}) {SOFT} {CONV} y0 = Mul (c, m) "
    body += f"y = Add (y0, {leaks})" if leaks else "y = Identity (y0)"
    even = [
        sum(
            1 if sign == "Add" else -1
            for kind, sign, size in terms
            if kind == "gumbel" and size == each
        )
        for each in ("one", "half")
    ]
    goes = not leaks and even == [0, 0] and all(kind != "normal" for kind, _, _ in terms)
    return body, len(terms), goes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sampled())
def test_all_draws_of_a_gate_go_or_none(case):
    body, draws, goes = case
    before = model_of(body)
    after = recognise(before)
    left = sum(count for op, count in ops_of(after).items() if "Random" in op)
    assert left == (0 if goes else draws)
    assert ops_of(after)["PAGGate"] == goes
    if goes:
        quiet = model_of(f"s = Identity (g) {SOFT} {USE}")
        assert_without_noise(after, quiet)
