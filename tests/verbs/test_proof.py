"""What verification must find although the inputs never ask for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from pagdeploy.pipeline import lower
from pagdeploy.verbs.proof import verify_models

# The bias of the gate makes every pixel take branch 0; branches 1 and 2 are never asked for.
MODEL = onnx.parser.parse_model("""
<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
proof (float[n, 1, h, w] x) => (float[n, 1, h, w] y)
<float[3, 1, 1, 1] g = {0.1, 0.2, 0.3}, float[3] far = {9, 0, 0}, float[1] b = {0},
 float[1, 1, 1, 1] one = {1}, float[1, 1, 1, 1] two = {2}>
{
    l = Conv <kernel_shape = [1, 1]> (x, g, far)
    s = pagdeploy.PAGGate (l)
    a = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
        dilations = [1, 1], group = 1, branch = 1, mode = 0, activation = 0, alpha = 0.0>
        (x, s, one, b, x)
    y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
        dilations = [1, 1], group = 1, branch = 2, mode = 0, activation = 0, alpha = 0.0>
        (x, s, two, b, a)
}
""")
INPUTS = {"x": np.random.default_rng(0).random((2, 1, 5, 7), np.float32)}


def garbage_in_an_unused_branch(engine: onnx.ModelProto) -> None:
    for tensor in engine.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and np.array_equal(array.ravel(), [2.0]):
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, 7, "f4"), tensor.name))


def last_index_of_a_tie(engine: onnx.ModelProto) -> None:
    (argmax,) = [node for node in engine.graph.node if node.op_type == "ArgMax"]
    next(a for a in argmax.attribute if a.name == "select_last_index").i = 1


@pytest.mark.parametrize("lowering", ["gather", "dense"])
def test_a_healthy_engine_passes(lowering: str) -> None:
    verdict = verify_models(MODEL, lower(MODEL, lowering), INPUTS)
    assert verdict.passed, verdict.reason
    assert verdict.gates[0].density == (1.0, 0.0, 0.0)
    assert [c.name for c in verdict.branches] == ["y"]


@pytest.mark.parametrize("lowering", ["gather", "dense"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (garbage_in_an_unused_branch, "where every branch is taken somewhere"),
        (last_index_of_a_tie, "does not give an exact tie to the lowest index"),
    ],
)
def test_faults_that_the_inputs_do_not_reach_are_found(
    fault: Callable[[onnx.ModelProto], None], reason: str, lowering: str
) -> None:
    engine = lower(MODEL, lowering)
    fault(engine)
    verdict = verify_models(MODEL, engine, INPUTS)
    assert verdict.reason is not None
    assert reason in verdict.reason
