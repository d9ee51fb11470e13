"""Means of maps that came channels last are taken there, axis by axis, and stay what they are."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.ops.native import CPU_DOMAIN
from pagdeploy.passes import split_means
from pagdeploy.pipeline import lower
from tests.compare import assert_close
from tests.models import model_of, run_onnxruntime

FIRST = [0, 3, 1, 2]


def mean_of(
    operator="ReduceMean", axes=(2, 3), keepdims=1, perm=FIRST, opset=17, dtype=TensorProto.FLOAT
) -> onnx.ModelProto:
    """The mean of a map behind a Transpose."""
    inputs, given, arrays = ["f"], {}, []
    if operator == "ReduceMean":
        given["keepdims"] = keepdims
        if opset < 18:
            given["axes"] = list(axes)
        else:
            inputs.append("axes")
            arrays.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
    nodes = [
        helper.make_node("Transpose", ["x"], ["f"], perm=perm),
        helper.make_node(operator, inputs, ["y"], **given),
    ]
    shape = ["n", 1, 1, "c"]  # of nothing in particular: it is inferred
    model = model_of(
        nodes, {"x": (dtype, ["n", "h", "w", "c"])}, {"y": (dtype, shape)}, opset=opset,
        initializers=arrays,
    )  # fmt: skip
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model)


def split(model: onnx.ModelProto) -> tuple[int, onnx.ModelProto]:
    module = ir.from_proto(model)
    return split_means.run(module), ir.to_proto(module)


@settings(deadline=None, max_examples=60)
@given(
    form=st.sampled_from(
        [("ReduceMean", (2, 3)), ("ReduceMean", (-1, 2)), ("GlobalAveragePool", None)]
    ),
    keepdims=st.sampled_from([0, 1]),
    opset=st.sampled_from([17, 18]),
    shape=st.tuples(*[st.integers(1, 9)] * 4),
)
def test_the_mean_of_the_means_is_the_mean(form, keepdims, opset, shape):
    model = mean_of(*form, keepdims=keepdims, opset=opset)
    count, rewritten = split(model)
    assert count == 1
    means = [node for node in rewritten.graph.node if node.op_type == "ReduceMean"]
    assert len(means) == 2
    onnx.checker.check_model(rewritten, full_check=True)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    (result,), (expected,) = (run_onnxruntime(m, {"x": x}) for m in (rewritten, model))
    assert_close(result, expected, 1e-5)


@pytest.mark.parametrize(
    "form",
    [
        {"axes": (1, 3)},
        {"axes": (3,)},
        {"axes": (1, 2, 3)},
        {"perm": [0, 2, 1, 3]},
        {"dtype": TensorProto.FLOAT16},
    ],
)
def test_others_stay(form):
    model = mean_of(**form)
    count, rewritten = split(model)
    assert count == 0
    assert [n.op_type for n in rewritten.graph.node] == ["Transpose", "ReduceMean"]


def test_our_own_change_of_layout_is_one():
    model = mean_of()
    model.graph.node[0].CopyFrom(
        helper.make_node("ToChannelsFirst", ["x"], ["f"], domain=CPU_DOMAIN)
    )
    count, rewritten = split(model)
    assert count == 1
    assert all(node.domain != CPU_DOMAIN for node in rewritten.graph.node)


def test_a_map_that_others_read_channels_first_stays_for_them():
    model = mean_of()
    model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, list("nchw")))
    count, rewritten = split(model)
    assert count == 1
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5), np.float32)
    mean, first = run_onnxruntime(rewritten, {"x": x})
    assert np.array_equal(first, x.transpose(FIRST))
    assert_close(mean, first.mean((2, 3), keepdims=True), 1e-6)


@pytest.mark.parametrize("lowering", ["gather", "native"])
def test_the_other_spelling_of_the_standard_domain(lowering):
    model = mean_of()
    for opset in model.opset_import:
        opset.domain = opset.domain or "ai.onnx"
    lowered = lower(model, lowering)
    assert sum(node.op_type == "ReduceMean" for node in lowered.graph.node) == 2
