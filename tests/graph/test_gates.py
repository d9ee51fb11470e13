"""Gates are found, shown and forced."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

from pagdeploy.graph.gates import (
    OWN,
    Gate,
    expose,
    force_selections,
    gates_of,
    thresholds_of,
)
from pagdeploy.pipeline import lower
from tests.models import run_onnxruntime

MODEL = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
g (float[n, 2, h, w] l) => (float[n, 1, h, w] y, int32[n, 1, h, w] second) {
    first = pagdeploy.PAGGate (l)
    a = Cast <to = 1> (first)
    both = Concat <axis = 1> (a, a)
    other = Sub (both, l)
    second = pagdeploy.PAGGate (other)
    b = Cast <to = 1> (second)
    y = Add (a, b)
}"""
LOGITS = np.random.default_rng(0).standard_normal((1, 2, 3, 4), np.float32)


def engine() -> onnx.ModelProto:
    """The model, lowered."""
    return lower(onnx.parser.parse_model(MODEL), "dense")


def named(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs by name."""
    names = [value.name for value in model.graph.output]
    return dict(zip(names, run_onnxruntime(model, feed), strict=True))


def test_gates_are_listed_in_order_and_named_after_node_or_value():
    model = onnx.parser.parse_model(MODEL)
    model.graph.node[0].name = "stem.gate"
    assert gates_of(model) == [Gate("stem.gate", "l", "first"), Gate("second", "other", "second")]
    assert gates_of(engine()) == []


def test_exposed_values_become_outputs_once():
    shown = expose(expose(engine(), ["first", "second", "nothing", "l"]), ["first"])
    assert [value.name for value in shown.graph.output] == ["y", "second", "first"]
    answers = named(shown, {"l": LOGITS})
    np.testing.assert_array_equal(answers["first"], LOGITS.argmax(1, keepdims=True))


def test_forced_decisions_are_used_and_the_gates_own_are_shown():
    free = named(expose(engine(), ["first"]), {"l": LOGITS})
    wrong = {"first": 1 - free["first"], "second": 1 - free["second"]}
    forced = force_selections(engine(), ["first", "second", "nothing"])
    answers = named(forced, {"l": LOGITS, **wrong})
    np.testing.assert_array_equal(answers["first" + OWN], free["first"])
    # The second gate sees the forced decision of the first.
    expected = (wrong["first"] - LOGITS).argmax(1, keepdims=True)
    np.testing.assert_array_equal(answers["second" + OWN], expected)
    np.testing.assert_array_equal(answers["y"], wrong["first"] + wrong["second"])


def test_the_model_itself_is_not_changed():
    model = engine()
    before = model.SerializeToString()
    expose(model, ["first"])
    force_selections(model, ["first"])
    assert model.SerializeToString() == before


def test_thresholds_are_those_that_logits_are_the_distance_to():
    text = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    g (float[n, 2] p, float[n, 2, h, w] l) => (int32[n, 1, 1, 1] a, int32[n, 1, h, w] b)
    <float half = {-0.5}, int64[2] axes = {1, 3}, int64[2] cut = {1, 1}> {
        d = Sub (p, half)
        e = Neg (d)
        d1 = Unsqueeze (d, axes)
        e1 = Unsqueeze (e, axes)
        both = Concat <axis = 1> (d1, e1)
        one, other = Split <axis = 2> (both, cut)
        a = pagdeploy.PAGGate (one)
        b = pagdeploy.PAGGate (l)
    }"""
    model = onnx.parser.parse_model(text)
    assert thresholds_of(model, gates_of(model)) == {"a": 0.5, "b": 0.0}
    model.graph.initializer[0].float_data[0] = np.inf
    assert thresholds_of(model, gates_of(model)) == {"a": 0.0, "b": 0.0}


def test_what_is_taken_from_all_branches_alike_is_no_threshold():
    text = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
    g (float[n, 1, h, w] p, float[n, 2, h, w] l) => (int32[n, 1, h, w] a, int32[n, 1, h, w] b)
    <float far = {1000}, float half = {0.5}> {
        shifted = Sub (l, far)
        a = pagdeploy.PAGGate (shifted)
        d = Sub (p, far)
        e = Sub (half, p)
        both = Concat <axis = 1> (d, e)
        b = pagdeploy.PAGGate (both)
    }"""
    model = onnx.parser.parse_model(text)
    assert thresholds_of(model, gates_of(model)) == {"a": 0.0, "b": 500.25}
