"""Every system's way to decide becomes a PAGGate with the same tie rule."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest

from pagdeploy.graph.gates import expose, force_selections, gates_of
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower, recognise
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

CONV = f"c = Conv {SAME} (x, w, b) y = Mul (c, m)"
FLOAT = "m = Cast <to = 1> (t)"

RULES = {
    "g >= 0 (DynConv, DGNet)": f"t = GreaterOrEqual (g, zero) {FLOAT}",
    "g > 0": f"t = Greater (g, zero) {FLOAT}",
    "not g < 0": f"s = Less (g, zero) t = Not (s) {FLOAT}",
    "0 <= g": f"t = LessOrEqual (zero, g) {FLOAT}",
    "0 < g": f"t = Less (zero, g) {FLOAT}",
    "g <= 0": f"t = LessOrEqual (g, zero) {FLOAT}",
    "g >= 0.3": f"t = GreaterOrEqual (g, third) {FLOAT}",
    "0.3 > g": f"t = Greater (third, g) {FLOAT}",
    "sigmoid(g) > 0.5 (SkipNet)": f"p = Sigmoid (g) t = Greater (p, half) {FLOAT}",
    "sigmoid(g) >= 0.5 (BlockDrop)": f"p = Sigmoid (g) t = GreaterOrEqual (p, half) {FLOAT}",
    "hard sigmoid": f"p = HardSigmoid (g) t = Greater (p, half) {FLOAT}",
    "stretched sigmoid": "s = Sigmoid (g) u = Mul (s, stretch) v = Sub (u, tenth)"
    f" p = Clip (v, zero, one) t = Greater (p, half) {FLOAT}",
    "round(sigmoid(g))": "p = Sigmoid (g) m = Round (p)",
    "argmax": "i = ArgMax <axis = 1> (l) m = Cast <to = 1> (i)",
    "argmax == 0": f"i = ArgMax <axis = 1> (l) t = Equal (i, k0) {FLOAT}",
    "argmax without its axis": "i = ArgMax <axis = 1, keepdims = 0> (l) u = Unsqueeze (i, a1)"
    " m = Cast <to = 1> (u)",
    "softmax, argmax (PAG)": "p = Softmax <axis = 1> (l) i = ArgMax <axis = 1> (p)"
    " m = Cast <to = 1> (i)",
    "log-softmax, argmax": "p = LogSoftmax <axis = 1> (l) i = ArgMax <axis = 1> (p)"
    " m = Cast <to = 1> (i)",
    "topk": "v, i = TopK <axis = 1> (l, a1) m = Cast <to = 1> (i)",
    "l1 > l0": "l0 = Slice (l, a0, a1, a1) l1 = Slice (l, a1, a2, a1)"
    f" t = Greater (l1, l0) {FLOAT}",
    "l0 >= l1 (LASNet)": f"l0, l1 = Split <axis = 1> (l) t = GreaterOrEqual (l0, l1) {FLOAT}",
    "l1 - l0 > 0": "l0 = Gather <axis = 1> (l, k0) l1 = Gather <axis = 1> (l, k1)"
    " d = Sub (l1, l0) s = Greater (d, zero) t = Unsqueeze (s, a1)"
    f" {FLOAT}",
    "channels reversed": "r = Gather <axis = 1> (l, swapped) i = ArgMax <axis = 1> (r)"
    f" t = Equal (i, k0) {FLOAT}",
    "one-hot by equality": "i = ArgMax <axis = 1, keepdims = 0> (l) u = Unsqueeze (i, last)"
    " e = Equal (u, both) f = Cast <to = 7> (e) h = Transpose <perm = [0, 3, 1, 2]> (f)"
    " j = Cast <to = 1> (h) m = Slice (j, a1, a2, a1)",
    "one-hot operator": "i = ArgMax <axis = 1, keepdims = 0> (l)"
    " o = OneHot <axis = 1> (i, k2, levels) q = Gather <axis = 1> (o, k1) m = Unsqueeze (q, a1)",
    "one-hot by scatter": "i = ArgMax <axis = 1> (l) s = Shape (l) e = Expand (zero, s)"
    " r = Shape (i) f = Expand (one, r) o = ScatterElements <axis = 1> (e, i, f)"
    " m = Slice (o, a1, a2, a1)",
    "straight-through": "p = Softmax <axis = 1> (l) i = ArgMax <axis = 1> (p) s = Shape (l)"
    " e = Expand (zero, s) r = Shape (i) f = Expand (one, r)"
    " o = ScatterElements <axis = 1> (e, i, f) d = Sub (o, p) q = Add (d, p)"
    " m = Slice (q, a1, a2, a1)",
    "squeezed": "q = Squeeze (g, a1) t = GreaterOrEqual (q, zero) f = Cast <to = 1> (t)"
    " m = Unsqueeze (f, a1)",
    "per image (ConvNet-AIG)": "p = ReduceMean <axes = [2, 3]> (l) i = ArgMax <axis = 1> (p)"
    " m = Cast <to = 1> (i)",
    "per image, flat (BlockDrop)": "p = ReduceMean <axes = [2, 3], keepdims = 0> (l)"
    " t = GreaterOrEqual (p, half) f = Cast <to = 1> (t) q = Gather <axis = 1> (f, k1)"
    " m = Reshape (q, per_image)",
}


def rule_model(rule: str) -> onnx.ModelProto:
    return model_of(f"{RULES[rule]}\n{CONV}")


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_kept_exactly(rule):
    before = rule_model(rule)
    after = recognised(before)
    assert ops_of(after)["PAGGate"] >= 1
    assert len(perforated(after)) == 1
    assert "Conv" not in ops_of(after)
    for seed in range(3):
        assert_same(before, after, seed)


@pytest.mark.parametrize("lowering", ["dense", "gather"])
@pytest.mark.parametrize("opset", [11, 13])
def test_older_opsets_are_recognised(opset, lowering):
    compared = "u = Less (g, zero) t = Not (u)" if opset < 12 else "t = GreaterOrEqual (g, zero)"
    before = model_of(f"{compared} {FLOAT} {CONV}", HEADER.replace('"" : 17', f'"" : {opset}'))
    assert before.opset_import[0].version == opset
    after = lower(before, lowering)
    assert any(name.endswith(".selection") for node in after.graph.node for name in node.output)
    assert_same(before, after)


def test_softmax_that_rounds_ties_where_the_scores_do_not():
    """Nearly equal scores have equal probabilities: PAG skips, its logits alone would run."""
    before = rule_model("softmax, argmax (PAG)")
    after = recognised(before)
    feeds = inputs_of(before)
    feeds["l"][:, 0], feeds["l"][:, 1] = 0, 1e-9
    (skipped,) = run_onnxruntime(before, feeds)
    assert not skipped.any()
    assert not run_onnxruntime(attach_bodies(after), feeds)[0].any()


def test_budget_input_stays_part_of_the_decision():
    header = HEADER.replace("float[n, 1, h, w] g", "float[n, 1, h, w] g, float budget")
    before = model_of(f"s = Sub (g, budget) t = GreaterOrEqual (s, zero) {FLOAT} {CONV}", header)
    after = recognised(before)
    feeds = inputs_of(before)
    for budget in (-0.3, 0.0, 0.3):
        feeds["budget"] = np.array(budget, np.float32)
        one, other = (run_onnxruntime(m, feeds)[0] for m in (before, attach_bodies(after)))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert ops_of(after)["PAGGate"] == 1


def test_halting_sums_and_products_of_masks():
    """SACT: a unit runs where the sum of earlier scores is below a threshold."""
    body = f"""
        p1 = Sigmoid (g)
        t1 = Less (p1, most)
        m1 = Cast <to = 1> (t1)
        c1 = Conv {SAME} (x, w, b)
        f1 = Mul (c1, m1)
        x1 = Add (x, f1)
        p2 = Mul (p1, m1)
        s2 = Add (p1, p2)
        t2 = Less (s2, most)
        n2 = Cast <to = 1> (t2)
        m2 = Mul (m1, n2)
        c2 = Conv {SAME} (x1, w2, b)
        f2 = Mul (c2, m2)
        y = Add (x1, f2)
    """
    before = model_of(body)
    after = recognised(before)
    assert ops_of(after)["PAGGate"] == 2
    assert [each["mode"] for each in perforated(after)] == [1, 1]
    assert_same(before, after)


def test_segmentation_argmax_is_no_gate():
    header = HEADER.replace("float[n, 3, h, w] y", "int64[n, 1, h, w] y")
    before = model_of("y = ArgMax <axis = 1> (l)", header)
    assert recognised(before).graph.node[0].op_type == "ArgMax"


def test_gate_is_named_after_its_node(caplog):
    before = model_of(f"t = GreaterOrEqual (g, zero) {FLOAT} {CONV}")
    before.graph.node[0].name = "block3.gate"
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognise(before)
    (gate,) = [node for node in after.graph.node if node.op_type == "PAGGate"]
    assert (gate.name, *gate.input, *gate.output) == (
        "block3.gate",
        "block3.gate.logits",
        "block3.gate.selection",
    )
    assert "block3.gate (GreaterOrEqual) is a gate: 'g' >= 0, on at a tie" in caplog.text


def test_model_without_masks_comes_back_as_it_is():
    before = model_of(f"c = Conv {SAME} (x, w, b) y = Relu (c)")
    assert recognise(before) is before


def test_model_in_our_ops_comes_back_as_it_is():
    ours = recognise(model_of(f"t = GreaterOrEqual (g, zero) {FLOAT} {CONV}"))
    assert ops_of(ours)["PAGGate"] == 1
    assert recognise(ours) is ours


def test_recognised_gate_can_be_shown_and_forced():
    portable = recognise(model_of(f"t = GreaterOrEqual (g, zero) {FLOAT} {CONV}"))
    (gate,) = gates_of(portable)
    assert (gate.logits, gate.selection) == ("t.logits", "t.selection")
    feeds = inputs_of(portable)
    free, logits, selection = run_onnxruntime(
        expose(portable, [gate.logits, gate.selection]), feeds
    )
    np.testing.assert_array_equal(logits.argmax(1), selection[:, 0])
    np.testing.assert_array_equal(selection == 0, feeds["g"] >= 0)
    forced = force_selections(portable, [gate.selection])
    names = [value.name for value in forced.graph.input]
    none = {k: v for k, v in feeds.items() if k in names} | {gate.selection: 0 * selection + 1}
    assert free.any()
    assert not run_onnxruntime(forced, none)[0].any()


REFUSALS = {
    "last index wins": (
        "i = ArgMax <axis = 1, select_last_index = 1> (l) m = Cast <to = 1> (i)",
        "its mask 'm' is decided by 'i' (ArgMax), of which no gate can be made",
    ),
    "several may win": (
        "r = ReduceMax <axes = [1]> (l) e = Equal (l, r) f = Cast <to = 1> (e)"
        " m = Slice (f, a1, a2, a1)",
        "its mask 'm' is decided by 'e' (Equal), of which no gate can be made",
    ),
    "drawn": (
        "p = Sigmoid (g) m = Bernoulli (p)",
        "its mask 'm' is not provably zeros and ones",
    ),
    "soft": ("m = Sigmoid (g)", "its mask 'm' is not provably zeros and ones"),
    "an input, compared": (
        "i = Cast <to = 6> (g) t = Greater (i, threshold) m = Cast <to = 1> (t)",
        "its mask 'm' is made of the input 'g', and no decision of the model",
    ),
    "rows as columns": (
        "t = Greater (g, zero) f = Cast <to = 1> (t) m = Transpose <perm = [0, 1, 3, 2]> (f)",
        "its mask 'm' has rows where the map has columns",
    ),
    "images as channels": (
        "q = Squeeze (g, a1) t = Greater (q, zero) m = Cast <to = 1> (t)",
        "its mask 'm' lacks axes: its images meet the map's channels",
    ),
    "for each channel": (
        "t = Greater (z, zero) m = Cast <to = 1> (t)",
        None,  # it says what to compute, and is no mask of pixels at all
    ),
}
SQUARE = HEADER.replace("n, ", "3, ").replace("h, w", "6, 6")


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_is_no_hard_decision_stays(refusal, caplog):
    body, why = REFUSALS[refusal]
    before = model_of(f"{body}\n{CONV}", SQUARE)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert ops_of(after) == ops_of(before)
    if why is None:
        assert "its mask" not in caplog.text
    else:
        assert f"y (Mul) stays: {why}" in caplog.text
    assert_same(before, after)


@pytest.mark.parametrize(
    ("body", "mask"),
    [("y = Where (g, c, x)", "'g' is an input"), ("m = Cast <to = 1> (g) y = Mul (c, m)",
      "'m' is made of the input 'g'")],
)  # fmt: skip
def test_a_mask_of_booleans_that_is_an_input_is_told(body, mask, caplog):
    header = HEADER.replace("float[n, 1, h, w] g", "bool[n, 1, h, w] g")
    before = model_of(f"c = Conv {SAME} (x, w, b) {body}", header)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert ops_of(after) == ops_of(before)
    assert f"stays: its mask {mask}, and no decision of the model" in caplog.text


def test_a_mask_of_another_size_is_told_with_both(caplog):
    header = SQUARE.replace("float[3, 1, 6, 6] g", "float[3, 1, 6, 1] g")
    before = model_of(f"t = Greater (g, zero) {FLOAT} {CONV}", header)
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert perforated(after) == []
    why = "the mask is not provably of the output's size: (3, 1, 6, 1), (3, 3, 6, 6)"
    assert why in caplog.text
    assert_same(before, after)


def test_threshold_that_a_difference_cannot_resolve(caplog):
    before = model_of(f"t = Greater (g, tiny) {FLOAT} {CONV}")
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        after = recognised(before)
    assert ops_of(after)["PAGGate"] == 0
    assert "a difference to its threshold may be too small for float32" in caplog.text
