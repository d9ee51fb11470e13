"""PAGGate: the function body computes what the numpy reference says, in every runtime."""

from __future__ import annotations

import re

import numpy as np
import onnx.inliner
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from pagdeploy.errors import UsageError
from pagdeploy.ops.pag_gate import pag_gate
from tests.models import ELEMENT_TYPES, model_of, op_node, run_onnxruntime


def gate_model(dtype):
    return model_of(
        [op_node("PAGGate", ["logits"], ["selection"])],
        {"logits": (ELEMENT_TYPES[dtype], ["n", "k", "h", "w"])},
        {"selection": (TensorProto.INT32, ["n", 1, "h", "w"])},
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("branches", [1, 2, 5, 16])
def test_body_equals_reference(branches, dtype):
    rng = np.random.default_rng(branches)
    # Few distinct values, so that most pixels hold ties.
    logits = rng.integers(-2, 3, (3, branches, 5, 7)).astype(dtype)
    expected = pag_gate(logits)
    model = gate_model(dtype)
    feed = {"logits": logits}
    inlined = onnx.inliner.inline_local_functions(model)
    for actual in (
        run_onnxruntime(model, feed)[0],
        ReferenceEvaluator(model).run(None, feed)[0],
        run_onnxruntime(inlined, feed)[0],
    ):
        assert actual.dtype == np.int32
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("logits", "selected"),
    [
        ([0.0, 0.0], 0),
        ([-0.0, 0.0], 0),
        ([1.0, 2.0, 2.0], 1),
        ([-np.inf, -np.inf], 0),
        ([np.inf, 0.0, np.inf], 0),
        ([0.0, 1e-45], 1),
        ([1.0, 1.0 + 2.0**-23], 1),
    ],
)
def test_lowest_index_wins_a_tie(logits, selected):
    array = np.array(logits, np.float32).reshape(1, -1, 1, 1)
    assert pag_gate(array).item() == selected
    assert run_onnxruntime(gate_model("float32"), {"logits": array})[0].item() == selected


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 0, 4, 4)])
def test_wrong_rank_is_refused(shape):
    text = f"The logits of PAGGate have the shape {shape}, not (N, K, H, W) with K >= 1."
    with pytest.raises(UsageError, match=re.escape(text)):
        pag_gate(np.zeros(shape, np.float32))
