"""Forced decisions replace a gate's own, and the gate still runs before whoever waits for them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from pagdeploy.graph.gates import force_selections
from pagdeploy.graph.steer import FORCED, steer
from tests.graph.test_gates import LOGITS, engine, named
from tests.models import run_onnxruntime


def test_what_is_forced_is_computed_as_if_the_gate_had_said_it():
    rng = np.random.default_rng(1)
    masks = {name: rng.integers(0, 2, (1, 1, 3, 4), np.int32) for name in ("first", "second")}
    steered = steer(engine(), [*masks, "not there"])
    onnx.checker.check_model(steered)
    given = {"l": LOGITS, **{name + FORCED: mask for name, mask in masks.items()}}
    answers = named(steered, given)
    wanted = named(force_selections(engine(), list(masks)), {"l": LOGITS, **masks})
    np.testing.assert_array_equal(answers["y"], wanted["y"])
    np.testing.assert_array_equal(answers["second"], masks["second"])
    assert list(answers) == ["y", "second"], "nothing more is shown"


def test_the_gate_is_waited_for():
    model = steer(engine(), ["first"])
    makers = {name: node for node in model.graph.node for name in node.output}

    def above(name: str) -> set[str]:
        node = makers.get(name)
        return {name} if node is None else {name}.union(*(above(i) for i in node.input if i))

    assert {"first.own", "first.forced", "l"} <= above("y")
    with pytest.raises(Exception, match=r"first\.forced"):
        run_onnxruntime(model, {"l": LOGITS})


def test_what_is_known_of_shapes_stays_known():
    """Without them onnxruntime leaves sums behind a region on their own: another program."""
    model = engine()
    model.graph.value_info.append(
        onnx.helper.make_tensor_value_info("first", onnx.TensorProto.INT32, [1, 1, 3, 4])
    )
    steered = steer(model, ["first"])
    assert list(model.graph.value_info) == list(steered.graph.value_info)
    (forced,) = (value for value in steered.graph.input if value.name == f"first{FORCED}")
    assert [dim.dim_value for dim in forced.type.tensor_type.shape.dim] == [1, 1, 3, 4]
