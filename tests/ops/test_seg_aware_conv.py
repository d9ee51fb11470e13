"""SegAwareConv: the function body computes what the numpy reference says, in every runtime."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from pagdeploy.errors import UsageError
from pagdeploy.ops import OPS, SEG_AWARE_CONV, Distance, Normalization, Outside
from pagdeploy.ops.derive import plugin_fields, register_schemas
from pagdeploy.ops.evaluator import operators
from pagdeploy.ops.seg_aware_conv_reference import seg_aware_conv
from tests.compare import assert_close
from tests.models import Conv, model_of, op_node, run_onnxruntime
from tests.seg_aware import GEOMETRIES, INPUTS, operands_of, seg_aware_convs, seg_aware_model


def check(conv, operands, dtype="float32", **choice):
    """The body agrees with the reference; returns what the reference says."""
    attributes = {**conv.attributes, **choice}
    expected = seg_aware_conv(**operands, **attributes)
    model = seg_aware_model(operands, **attributes)
    inlined = onnx.inliner.inline_local_functions(model)
    assert not any(node.domain for node in inlined.graph.node), "the inliner left a call in place"
    runtimes = {
        "onnxruntime": lambda: run_onnxruntime(model, operands)[0],
        "onnxruntime, inlined": lambda: run_onnxruntime(inlined, operands)[0],
        "onnx.reference": lambda: ReferenceEvaluator(model).run(None, operands)[0],
    }
    for runtime, run in runtimes.items():
        try:
            assert_close(run(), expected, SEG_AWARE_CONV.bounds[dtype])
        except AssertionError as error:
            raise AssertionError(f"{runtime}: {error}") from error
    return expected


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_body_equals_reference(geometry, normalization, dtype):
    conv = GEOMETRIES[geometry]
    row = list(GEOMETRIES).index(geometry)
    operands = operands_of(conv, np.random.default_rng(row), dtype)
    # The remaining choices take turns, so that every pair of them occurs.
    choice = {"distance": 1 + row % 2, "outside": (row + normalization) % 2}
    check(conv, operands, dtype, normalization=int(normalization), **choice, epsilon=0.01)


@pytest.mark.parametrize("outside", Outside)
@pytest.mark.parametrize("distance", Distance)
@pytest.mark.parametrize("hardness", [-0.5, 0.0, 3.0, 50.0])
def test_every_distance_hardness_and_border(hardness, distance, outside):
    conv = Conv(kernel_shape=(5, 3), pads=(2, 1, 2, 1))
    operands = operands_of(conv, np.random.default_rng(7), hardness=hardness)
    for normalization in Normalization:
        choice = {"distance": int(distance), "outside": int(outside)}
        check(conv, operands, normalization=int(normalization), **choice)


@pytest.mark.parametrize("distance", Distance)
def test_half_embeddings_are_compared_in_full_precision(distance):
    conv = Conv(n=1, channels=2, filters=2)
    operands = operands_of(conv, np.random.default_rng(1), depth=600, hardness=0.01)
    operands["E"] = operands["E"].astype(np.float16)
    operands["hardness"] = operands["hardness"].astype(np.float16)
    check(conv, operands, normalization=1, distance=int(distance))


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
@given(conv=seg_aware_convs(), choice=st.integers(0, 11), seed=st.integers(0, 2**32 - 1))
def test_any_geometry(conv, choice, seed):
    operands = operands_of(conv, np.random.default_rng(seed))
    distance, outside, normalization = 1 + choice % 2, choice // 2 % 2, choice // 4
    check(conv, operands, distance=distance, outside=outside, normalization=normalization)


def written_out(x, e, w, b, hardness, conv, distance, normalization, outside, epsilon):
    """The formula of the op's documentation, pixel by pixel."""
    (kh, kw), (sy, sx), (dy, dx) = conv.kernel_shape, conv.strides, conv.dilations
    y = np.zeros((conv.n, conv.filters, *conv.out))
    share, made = conv.channels // conv.group, conv.filters // conv.group
    for n, py, px in np.ndindex(conv.n, *conv.out):
        oy, ox = py * sy - conv.pads[0], px * sx - conv.pads[1]
        p = e[n, :, oy + dy * (kh // 2), ox + dx * (kw // 2)]
        weights, reads = [], []
        for i, j in np.ndindex(kh, kw):
            qy, qx = oy + i * dy, ox + j * dx
            if 0 <= qy < conv.size[0] and 0 <= qx < conv.size[1]:
                delta = p - e[n, :, qy, qx]
                far = np.abs(delta).sum() if distance == 1 else (delta**2).sum() / 2
                weights.append(np.exp(-hardness * far))
                reads.append((w[:, :, i, j], x[n, :, qy, qx]))
            else:
                weights.append(1.0 - outside)
                reads.append(None)
        total = [1.0, sum(weights), sum(weights) + epsilon][normalization]
        y[n, :, py, px] = b
        for weight, read in zip(weights, reads, strict=True):
            for m in range(conv.filters if read else 0):
                taps, pixel = read
                group = m // made * share
                y[n, m, py, px] += weight / total * taps[m] @ pixel[group : group + share]
    return y


@settings(deadline=None, max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(conv=seg_aware_convs(), choice=st.integers(0, 11), seed=st.integers(0, 2**32 - 1))
def test_reference_equals_the_formula(conv, choice, seed):
    operands = operands_of(conv, np.random.default_rng(seed), "float64")
    distance, outside, normalization = 1 + choice % 2, choice // 2 % 2, choice // 4
    form = {"distance": distance, "normalization": normalization, "outside": outside}
    actual = seg_aware_conv(**operands, **conv.attributes, **form, epsilon=0.25)
    order = [operands[name] for name in INPUTS]
    expected = written_out(*order, conv, **form, epsilon=0.25)
    assert_close(actual, expected, 1e-12)


@pytest.mark.parametrize("distance", Distance)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equal_embeddings_make_the_plain_form_a_convolution(geometry, distance):
    conv = GEOMETRIES[geometry]
    operands = operands_of(conv, np.random.default_rng(2))
    operands["E"][:] = 3
    y = check(conv, operands, distance=int(distance))
    node = onnx.helper.make_node("Conv", ["X", "W", "B"], ["Y"], **conv.attributes)
    model = seg_aware_model(operands, **conv.attributes)
    inputs = [value for value in model.graph.input if value.name in ("X", "W", "B")]
    graph = onnx.helper.make_graph([node], "dense", inputs, model.graph.output)
    opset = [onnx.helper.make_opsetid("", 17)]
    dense = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    plain = run_onnxruntime(dense, {name: operands[name] for name in ("X", "W", "B")})[0]
    assert_close(plain, y, 1e-5)


def test_no_sum_is_zero_where_the_centre_stands_alone():
    # Far apart, and at a corner without neighbours: every weight but the centre's underflows.
    conv = Conv(n=1, channels=3, filters=3, group=3, size=(4, 5))
    operands = operands_of(conv, np.random.default_rng(3), hardness=50.0)
    operands["E"] = 1e4 * np.arange(20, dtype=np.float32).reshape(1, 1, 4, 5)
    operands["W"][:] = 1
    operands["B"][:] = 0
    for normalization in (Normalization.SOFTMAX, Normalization.BILATERAL):
        y = check(conv, operands, normalization=int(normalization), outside=int(Outside.REMOVED))
        assert_close(y, operands["X"], 2e-4)


@pytest.mark.parametrize("form", ["softmax", "bilateral"])
def test_a_constant_stays_only_where_the_border_is_removed(form):
    conv = Conv(n=1, channels=1, filters=1, size=(5, 6))
    operands = operands_of(conv, np.random.default_rng(4))
    for name, value in (("X", 2), ("W", 1), ("B", 0), ("E", 0)):
        operands[name][:] = value
    choice = {"normalization": int(Normalization[form.upper()]), "epsilon": 0.0}
    removed = check(conv, operands, outside=int(Outside.REMOVED), **choice)
    np.testing.assert_allclose(removed, 2, rtol=1e-6)
    equal = check(conv, operands, outside=int(Outside.EQUAL), **choice)
    assert equal[0, 0, 0, 0] == pytest.approx(2 * 4 / 9)
    assert equal[0, 0, 2, 2] == pytest.approx(2)


def test_no_image_gives_none():
    conv = Conv(n=0)
    y = check(conv, operands_of(conv, np.random.default_rng(5)))
    assert y.shape == (0, 6, 7, 9)


@pytest.mark.parametrize("where", ["X", "E"])
def test_a_nan_reaches_every_window_that_reads_it(where):
    conv = Conv(n=1)
    operands = operands_of(conv, np.random.default_rng(6))
    operands[where][0, :, 3, 4] = np.nan
    y = check(conv, operands, normalization=1)
    bad = np.zeros((7, 9), bool)
    bad[2:5, 3:6] = True
    assert (np.isnan(y[0]) == bad).all()


CONV = Conv()
OPERANDS = operands_of(CONV, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"E": np.ones((2, 3, 7, 8))}, "embeddings of SegAwareConv are 7x8, but its input is 7x9."),
        ({"E": np.ones((1, 3, 7, 9))}, "shape (1, 3, 7, 9), not (2, D, H, W). Give one map of"),
        ({"E": np.ones((3, 7, 9))}, "have the shape (3, 7, 9), not (2, D, H, W)."),
        ({"hardness": np.ones(1)}, "The hardness of SegAwareConv has the shape (1,), not ()."),
        ({"X": np.ones((4, 7, 9))}, "The input X of SegAwareConv has the rank 3, not 4."),
        ({"B": np.ones((1,))}, "The bias of SegAwareConv has the shape (1,), not (6,)."),
        ({"group": 3}, "in 3 groups do not fit an input of 4 channels"),
        ({"kernel_shape": (1, 1)}, "kernel_shape is [1, 1], but W is (6, 4, 3, 3)"),
        ({"W": np.ones((6, 4, 2, 3)), "kernel_shape": (2, 3)}, "such a window has no centre."),
        ({"pads": (1, 1, 1, 2)}, "Give at most 1 above and below, and 1 on the left and right."),
        ({"pads": (0, 0, 0, 0), "dilations": (9, 9)}, "that reaches over 19 pixels does not fit"),
        ({"strides": (0, 1)}, "strides of SegAwareConv is [0, 1]. Give 2 integers of at least 1"),
        ({"distance": 0}, "The attribute distance of SegAwareConv is 0. Give one of 1 (l1), 2"),
        ({"normalization": 3}, "is 3. Give one of 0 (none), 1 (softmax), 2 (bilateral)."),
        ({"outside": 2}, "The attribute outside of SegAwareConv is 2. Give one of 0 (equal), 1"),
    ],
)
def test_impossible_requests_are_refused(change, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        seg_aware_conv(**{**OPERANDS, **CONV.attributes, **change})


@pytest.mark.parametrize("opset", [17, 18, 20, 23])
def test_checker_accepts_a_portable_model(opset):
    register_schemas()
    model = seg_aware_model(OPERANDS, opset=opset, **CONV.attributes)
    onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    inlined = onnx.inliner.inline_local_functions(model)
    onnx.checker.check_model(inlined, full_check=True)
    expected = seg_aware_conv(**OPERANDS, **CONV.attributes)
    for each in (model, inlined):
        assert_close(run_onnxruntime(each, OPERANDS)[0], expected, 1e-5)


def inferred(x, e, **attributes):
    """The inferred shape of Y, dims as numbers or names."""
    register_schemas()
    model = model_of(
        [op_node("SegAwareConv", list(INPUTS), ["Y"], **attributes)],
        {
            "X": (TensorProto.FLOAT16, x),
            "E": (TensorProto.FLOAT, e),
            "W": (TensorProto.FLOAT16, (6, 4, 3, 3)),
            "B": (TensorProto.FLOAT16, (6,)),
            "hardness": (TensorProto.FLOAT, ()),
        },
        {"Y": (TensorProto.FLOAT16, None)},
        bodies=False,
    )
    strict = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    type_ = strict.graph.output[0].type.tensor_type
    return [dim.dim_value or dim.dim_param for dim in type_.shape.dim]


@pytest.mark.parametrize(
    ("x", "e", "change", "y"),
    [
        (("n", 4, 7, 9), ("n", 5, 7, 9), {}, ["n", 6, 7, 9]),
        (("n", 4, "h", "w"), ("n", 5, "h", "w"), {}, ["n", 6, "h", "w"]),
        (("n", 4, "h", "w"), ("n", 5, 7, 9), {"strides": (2, 2)}, ["n", 6, 4, 5]),
        (("n", 4, "h", "w"), ("n", 5, "a", "b"), {"strides": (2, 2)}, ["n", 6, "unk__0", "unk__1"]),
    ],
)
def test_shape_inference(x, e, change, y):
    assert inferred(x, e, **{**CONV.attributes, **change}) == y


def test_shape_inference_names_both_sizes():
    with pytest.raises(Exception, match="are 7x8, but its input is 7x9"):
        inferred(("n", 4, 7, 9), ("n", 5, 7, 8), **CONV.attributes)


def test_evaluator_runs_a_stripped_model():
    model = seg_aware_model(OPERANDS, bodies=False, **CONV.attributes)
    actual = ReferenceEvaluator(model, new_ops=operators()).run(None, OPERANDS)[0]
    assert_close(actual, seg_aware_conv(**OPERANDS, **CONV.attributes), 0.0)


def test_it_has_no_row_in_the_table_of_the_plugins():
    rows = plugin_fields()
    assert [name for name, op in OPS.items() if not op.has_plugin] == ["SegAwareConv"]
    assert "SegAwareConv" not in rows
    assert "PAG_FIELD(PerforatedConv, kernel_shape" in rows
