"""Doc strings in models: what viewers show of gates, convolutions and what they became."""

from __future__ import annotations

import onnx
import pytest

from pagdeploy.graph.describe import Told, describe
from pagdeploy.graph.read import graphs_of
from pagdeploy.ops import OPS
from pagdeploy.ops.derive import register_schemas
from pagdeploy.pipeline import lower
from tests.conftest import gated_model

TOLD = Told({"node s1": [0.75, 0.25]}, {"node a": "at density 0.25 its region took 1 ms as gather"})


def _docs(model: onnx.ModelProto) -> dict[str, str]:
    nodes = [node for graph in graphs_of(model) for node in graph.node]
    return {node.name: node.doc_string for node in nodes if node.doc_string}


def test_a_portable_model_says_what_its_gates_decide():
    model = gated_model()
    describe(model)
    docs = _docs(model)
    assert "lowest index wins a tie" in docs["node s1"] and "node a" in docs["node s1"]
    assert docs["node a"] == "Convolution where 'node s1' takes branch 1; elsewhere 'x'."
    assert docs["node y"].endswith("added to 'x'.")
    assert "2 gates, 2 perforated convolutions" in model.doc_string
    assert {f.name: f.doc_string for f in model.functions} == {
        name: OPS[name].doc for name in ("PAGGate", "PerforatedConv")
    }
    register_schemas()
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("lowering", ["dense", "gather", "plugin"])
def test_lowered_nodes_say_where_they_come_from(lowering):
    portable = gated_model()
    describe(portable)  # as exported: what only a build knows comes on top
    lowered = lower(portable, lowering)
    plain = lowered.ByteSize()
    describe(lowered, portable, TOLD)
    texts = " ".join(_docs(lowered).values())
    assert "0: 0.750, 1: 0.250" in texts and "25.0% of the sample" in texts
    if lowering != "plugin":
        assert f"Lowered to {lowering}: at density 0.25 its region took 1 ms as gather." in texts
        assert f"2 became {lowering}" in lowered.graph.doc_string
        register_schemas()
        onnx.checker.check_model(lowered, full_check=True)
    assert lowered.ByteSize() - plain < 6000


def test_describing_is_deterministic_and_keeps_what_is_said_already():
    first, second = gated_model(), gated_model()
    for model in (first, second):
        model.graph.node[2].doc_string = "Mine."
        describe(model)
        model.SerializeToString()
    once = first.SerializeToString(deterministic=True)
    assert once == second.SerializeToString(deterministic=True)
    assert first.graph.node[2].doc_string == "Mine."
    describe(first)
    assert first.SerializeToString(deterministic=True) == once


def test_describing_changes_nothing_that_runs():
    model = gated_model()
    plain = lower(model, "gather")
    told = onnx.ModelProto()
    told.CopyFrom(plain)
    describe(told, model, TOLD)
    assert told != plain
    told.ClearField("doc_string")
    told.graph.ClearField("doc_string")
    for node in (node for graph in graphs_of(told) for node in graph.node):
        node.ClearField("doc_string")
        for index, entry in reversed(list(enumerate(node.metadata_props))):
            if entry.key == "pagdeploy.lowering":
                del node.metadata_props[index]
    assert told == plain
