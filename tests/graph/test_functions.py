"""Model-local functions of others are put in place of their calls, if that changes nothing."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.graph.functions import inline_functions, nodes_of_calls
from pagdeploy.graph.read import read_model
from pagdeploy.pipeline import lower, recognise
from tests.models import run_onnxruntime
from tests.passes.recognition import ops_of

MAIN = """<ir_version: 8, opset_import: ["" : 17, "theirs" : 1]>
main (float[n, 3, h, w] x, float[n, 1, h, w] g) => (float[n, 3, h, w] y)
<float[3, 3, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float zero = {0}>
"""
GATE = """<domain: "theirs", opset_import: ["" : %s]>
gate (g) => (m) {
    zero = Constant <value = float {0}> ()
    t = Greater (g, zero)
    m = Cast <to = 1> (t)
}
"""
MASKED = "{ m = theirs.gate (g) c = Conv (x, w) y = Mul (c, m) }\n"


def model_of(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(MAIN + text)


FORMS = {
    "the gate": MASKED + GATE % 17,
    "the convolution": "{ t = Greater (g, zero) m = Cast <to = 1> (t) c = theirs.conv (x, w)"
    ' y = Mul (c, m) }\n<domain: "theirs", opset_import: ["" : 17]>\n'
    "conv (x, w) => (c) { c = Conv (x, w) }",
    "one in another": "{ y = theirs.all (x, g, w) }\n"
    '<domain: "theirs", opset_import: ["" : 17, "theirs" : 1]>\n'
    "all (x, g, w) => (y) { m = theirs.gate (g) c = Conv (x, w) y = Mul (c, m) }\n" + GATE % 17,
}


@pytest.mark.parametrize("form", FORMS)
def test_gates_and_convolutions_in_functions_are_found(form):
    model = model_of(FORMS[form])
    onnx.checker.check_model(model)
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((2, 3, 5, 7), np.float32),
        "g": rng.choice(np.array([-1, -0.0, 0, 1], np.float32), (2, 1, 5, 7)),
    }
    portable = recognise(model)
    assert ops_of(portable)["PAGGate"] == ops_of(lower(model, "plugin"))["PerforatedConv"] == 1
    expected = run_onnxruntime(model, feeds)[0]
    for other in (portable, lower(model, "gather")):
        np.testing.assert_allclose(run_onnxruntime(other, feeds)[0], expected, atol=1e-5)


def test_functions_of_older_opsets_are_inlined_before_the_opset_is_raised():
    text = (MAIN + MASKED + GATE % 13).replace('"" : 17', '"" : 13')
    portable = recognise(onnx.parser.parse_model(text))
    assert ops_of(portable)["PAGGate"] == 1
    assert next(each.version for each in portable.opset_import if not each.domain) >= 17


def test_values_keep_their_names_and_calls_do_not_mix():
    body = "{ a = theirs.gate (g) s = Add (a, g) b = theirs.gate (s) y = Mul (x, b) }\n"
    inlined = inline_functions(model_of(body + GATE % 17))
    names = [output for node in inlined.graph.node for output in node.output]
    assert not inlined.functions and len(names) == len(set(names)) == 8
    assert {"a", "s", "b", "y"} <= set(names)


def test_operator_sets_that_only_a_function_uses_are_imported():
    text = MASKED + GATE.replace('"" : %s', '"" : 17, "ai.onnx.ml" : 3').replace(
        "m = Cast", "u = ai.onnx.ml.Binarizer <threshold = 0.5> (g)\n    m = Cast"
    )
    inlined = inline_functions(model_of(text))
    assert {each.domain: each.version for each in inlined.opset_import}["ai.onnx.ml"] == 3
    onnx.checker.check_model(inlined)


LEFT = {
    "another version": MASKED + GATE % 18,
    "in the name of an operator": "{ m = Relu (g) y = Mul (x, m) }\n"
    '<domain: "", opset_import: ["" : 17]>\nRelu (g) => (m) { m = Neg (g) }',
    "never called": "{ y = Mul (x, g) }\n" + GATE % 17,
    "calling itself": "{ m = theirs.a (g) y = Mul (x, m) }\n"
    '<domain: "theirs", opset_import: ["" : 17, "theirs" : 1]>\n'
    "a (g) => (m) { m = theirs.b (g) }\n"
    '<domain: "theirs", opset_import: ["" : 17, "theirs" : 1]>\n'
    "b (g) => (m) { m = theirs.a (g) }",
    "doubling forty times": "{ m = theirs.f0 (g) y = Mul (x, m) }\n"
    + "".join(
        '<domain: "theirs", opset_import: ["" : 17, "theirs" : 1]>\n'
        f"f{n} (g) => (m) {{ u = theirs.f{n + 1} (g) m = theirs.f{n + 1} (u) }}\n"
        for n in range(40)
    )
    + '<domain: "theirs", opset_import: ["" : 17]>\nf40 (g) => (m) { m = Neg (g) }',
}


@pytest.mark.parametrize("form", LEFT)
def test_other_functions_stay(form):
    model = model_of(LEFT[form])
    assert inline_functions(model) is model


def test_bodies_of_our_ops_stay():
    text = (MASKED + GATE % 17).replace('"theirs" : 1', '"theirs" : 1, "pagdeploy" : 1')
    text = text.replace("y = Mul (c, m)", "s = pagdeploy.PAGGate (c) k = Cast <to = 1> (s)"
                        " u = Mul (c, m) y = Mul (u, k)")  # fmt: skip
    text += '<domain: "pagdeploy", opset_import: ["" : 17]>\nPAGGate (l) => (s) { s = Neg (l) }'
    inlined = inline_functions(onnx.parser.parse_model(MAIN.replace(
        '"theirs" : 1', '"theirs" : 1, "pagdeploy" : 1') + text))  # fmt: skip
    assert [function.name for function in inlined.functions] == ["PAGGate"]
    assert ops_of(inlined)["PAGGate"] == 1 and ops_of(inlined)["Greater"] == 1


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("calling itself", "has functions that call themselves"),
        ("doubling forty times", "has functions that call each other, 1000000000000 nodes in all"),
    ],
)
def test_files_of_endless_functions_are_refused_at_once(form, text, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of(LEFT[form]).SerializeToString())
    with pytest.raises(IncompatibleArtifact, match=text):
        read_model(path)


def test_nodes_of_calls_are_counted():
    assert nodes_of_calls(model_of(MASKED + GATE % 17)) == 3
    assert nodes_of_calls(model_of(LEFT["doubling forty times"])) == 2**40
    assert nodes_of_calls(model_of(LEFT["calling itself"])) is None
    assert nodes_of_calls(model_of("{ y = Mul (x, g) }")) == 0
