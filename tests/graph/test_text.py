"""Two pictures are equal if and only if the structures are."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from pagdeploy.graph.edit import constant_of, is_zero
from pagdeploy.graph.text import parse, picture
from pagdeploy.graph.write import write_model

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n] x, bool yes) => (float[n] y) <float[1] one = {1}> {
    a = Add (x, one)
    b = LeakyRelu <alpha = 0.5> (a)
    c = If (yes) <then_branch = t () => (float[n] d) { d = Relu (b) },
                  else_branch = e () => (float[n] f) { f = Neg (b) }>
    y = Mul (c, x)
}"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Add (x, one)", "Add (one, x)"),
        ("{1}", "{2}"),
        ("alpha = 0.5", "alpha = 0.25"),
        ("Mul (c, x)", "Mul (c, b)"),
        ("LeakyRelu <alpha = 0.5>", "Elu <alpha = 0.5>"),
        ("Relu (b)", "Abs (b)"),
        ("Relu (b)", "Relu (a)"),
    ],
)
def test_another_structure_gives_another_picture(old, new):
    assert old in MODEL
    assert picture(parse(MODEL)) != picture(parse(MODEL.replace(old, new, 1)))


def test_names_and_order_do_not_count():
    renamed = (
        MODEL.replace("a = Add", "q = Add").replace("(a)", "(q)").replace("\ng (", "\nother (")
    )
    assert picture(parse(MODEL)) == picture(parse(renamed))
    two = "{ a = Relu (x) b = Neg (x) y = Add (a, b) }"
    swapped = "{ b = Neg (x) a = Relu (x) y = Add (a, b) }"
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[n] y) '
    assert picture(parse(head + two)) == picture(parse(head + swapped))


def test_long_constants_count_by_value_and_place():
    head = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[20] x) => (float[20] y) <float[20] k = {'
    )
    tail = "}> { y = Add (x, k) }"
    values = [str(number) for number in range(20)]
    one = picture(parse(head + ", ".join(values) + tail))
    assert one == picture(parse(head + ", ".join(values) + tail))
    assert one != picture(parse(head + ", ".join(reversed(values)) + tail))  # of the same sum


def test_a_graph_thousands_of_nodes_deep_is_drawn():
    nodes = "".join(f"v{i + 1} = Relu (v{i}) " for i in range(3000))
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[n] v0) => (float[n] v3000) {{{nodes}}}'
    )
    assert picture(parse(text)).count("Relu") == 3000


def test_constants_are_known_unless_a_caller_may_override_them():
    model = parse(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x, float[1] given) => (float[1] y)'
        "<float[1] given = {0}, float[1] zero = {0}> { k = Constant <value_float = 2.0> ()"
        "a = Add (given, zero) b = Add (k, x) y = Add (a, b) }"
    )
    of = {value.name: value for node in model.graph for value in [*node.inputs, *node.outputs]}
    assert is_zero(of["zero"])
    assert not is_zero(of["given"]) and constant_of(of["given"]) is None
    assert float(constant_of(of["k"])) == 2.0
    assert constant_of(of["a"]) is None and constant_of(None) is None


def test_a_model_is_written_whole(tmp_path):
    proto = ir.to_proto(parse(MODEL))
    write_model(proto, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == proto.SerializeToString()
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
