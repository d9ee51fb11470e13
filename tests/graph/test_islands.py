"""How far a gate reaches back, and which nodes a pattern finds."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from pagdeploy.errors import UsageError
from pagdeploy.graph import search
from pagdeploy.graph.islands import gate_heads, matching_nodes
from pagdeploy.graph.text import parse

HEAD = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
head (float[n, 2, h, w] x) => (float[n, 2, h, w] y, int32[n, 1, h, w] s)
<float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
{
%s
    s = pagdeploy.PAGGate (logits)
    y = Sigmoid (shared)
}"""


def named(text: str) -> ir.Model:
    """The model, its nodes named after their first output."""
    model = parse(text)
    for node in model.graph:
        node.name = f"node {node.outputs[0].name}"
    return model


def head(body: str) -> set[str]:
    """First outputs of the nodes that belong to a gate."""
    return {str(node.outputs[0].name) for node in gate_heads(named(HEAD % body))}


def test_a_head_ends_where_others_read():
    body = """
    shared = Conv (x, w)
    a = Conv (shared, w)
    r = Relu (a)
    logits = Add (r, b)
    """
    assert head(body) == {"a", "r", "logits", "s"}


def test_what_makes_the_logits_belongs_to_the_gate_even_if_others_read_it():
    assert head("a = Conv (x, w) logits = Relu (a) shared = Exp (logits)") == {"a", "logits", "s"}


def test_asking_for_a_shape_is_not_reading():
    body = """
    a = Conv (x, w)
    size = Shape (a)
    logits = Reshape (a, size)
    shared = Relu (x)
    """
    assert head(body) == {"a", "size", "logits", "s"}


def test_a_policy_network_is_no_head():
    deep = "\n".join(f"c{i} = Conv (c{i - 1}, w)" for i in range(1, 6))
    body = f"c0 = Relu (x) {deep} logits = Relu (c5) shared = Relu (x)"
    assert head(body) == {"c3", "c4", "c5", "logits", "s"}


def test_two_gates_may_share_a_head():
    body = """
    shared = Relu (x)
    a = Conv (shared, w)
    l2 = Neg (a)
    s2 = pagdeploy.PAGGate (l2)
    logits = Abs (a)
    """
    assert head(body) == {"a", "l2", "s2", "logits", "s"}


MODEL = HEAD % "shared = Conv (x, w) logits = Conv (shared, w, b)"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("^node logits$", ["logits"]),
        ("shared", ["shared"]),
        ("^y$", ["y"]),
        ("^b$", ["logits"]),
        ("^w$|^y$", ["shared", "logits", "y"]),
    ],
)
def test_patterns_find_nodes_by_their_own_name_an_output_or_a_weight(pattern, found):
    nodes = matching_nodes(named(MODEL), [pattern])
    assert {node.outputs[0].name for node in nodes} == set(found)


def test_a_pattern_that_finds_nothing_is_refused_and_names_what_is_near():
    with pytest.raises(UsageError, match="The pattern 'node logit_' matches no node") as caught:
        matching_nodes(named(MODEL), ["shared", "node logit_"])
    assert caught.value.remedy.startswith("Close to it are node logits")
    with pytest.raises(UsageError, match="Nodes go by the names in the ONNX file"):
        matching_nodes(named(MODEL), ["0123456789"])


def test_a_pattern_that_would_never_end_is_refused_in_time(monkeypatch):
    model = named(MODEL)
    model.graph[0].name = 60 * "a" + "!"
    monkeypatch.setattr(search, "TIME_LIMIT", 1.0)
    with pytest.raises(UsageError, match=r"'\^\(a\+\)\+\$' cannot be searched for within 1 second"):
        matching_nodes(model, ["^(a+)+$"])
