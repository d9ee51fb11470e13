"""SegAwareConv lowered: standard ONNX that computes what the numpy reference says."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.graph.cost import count_cost
from pagdeploy.graph.liveness import Everywhere, Liveness
from pagdeploy.graph.read import check_model
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.ops import SEG_AWARE_CONV, Distance, Normalization, Outside
from pagdeploy.ops.derive import register_schemas
from pagdeploy.ops.seg_aware_conv_reference import seg_aware_conv
from pagdeploy.pipeline import PIPELINES, lower
from pagdeploy.precision import Precision
from tests.compare import assert_close
from tests.models import Conv, op_node, run_onnxruntime
from tests.seg_aware import GEOMETRIES, INPUTS, operands_of, seg_aware_convs, seg_aware_model

WEIGHTS = ("W", "B", "hardness")


def check(conv, operands, *, constants=WEIGHTS, lowerings=("dense",), named=True, **choice):
    """The lowered model agrees with the reference; returns it."""
    attributes = {**conv.attributes, **choice}
    expected = seg_aware_conv(**operands, **attributes)
    model = seg_aware_model(operands, constants=constants, named=named, **attributes)
    feed = {name: array for name, array in operands.items() if name not in constants}
    bound = SEG_AWARE_CONV.bounds[str(operands["X"].dtype)]
    for lowering in lowerings:
        lowered = lower(model, lowering)
        assert not [node for node in lowered.graph.node if node.domain]
        try:
            assert_close(run_onnxruntime(lowered, feed)[0], expected, bound)
        except AssertionError as error:
            raise AssertionError(f"{lowering}: {error}") from error
    return lowered


@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_geometry(geometry, normalization):
    conv, row = GEOMETRIES[geometry], list(GEOMETRIES).index(geometry)
    operands = operands_of(conv, np.random.default_rng(row))
    choice = {"distance": 1 + row % 2, "outside": (row + normalization) % 2, "epsilon": 0.01}
    check(conv, operands, normalization=int(normalization), named=row % 3 > 0, **choice)


@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("lowering", PIPELINES)
def test_every_lowering(lowering, normalization):
    conv = Conv()
    operands = operands_of(conv, np.random.default_rng(0))
    check(conv, operands, lowerings=[lowering], normalization=int(normalization))


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("constants", [(), ("W",), ("hardness",), WEIGHTS])
def test_weights_bias_and_hardness_that_are_computed(constants, normalization, group):
    conv = Conv(channels=4, filters=4, group=group)
    operands = operands_of(conv, np.random.default_rng(1))
    check(conv, operands, constants=constants, normalization=int(normalization), distance=2)


@pytest.mark.parametrize("outside", Outside)
@pytest.mark.parametrize("distance", Distance)
@pytest.mark.parametrize("hardness", [-0.5, 0.0, 3.0, 50.0])
def test_every_distance_hardness_and_border(hardness, distance, outside):
    conv = Conv(kernel_shape=(5, 3), pads=(2, 1, 2, 1))
    operands = operands_of(conv, np.random.default_rng(7), hardness=hardness)
    for normalization in Normalization:
        choice = {"distance": int(distance), "outside": int(outside)}
        check(conv, operands, normalization=int(normalization), **choice)


def test_no_weight_of_a_removed_neighbour_becomes_infinite():
    conv = Conv(n=1)
    operands = operands_of(conv, np.random.default_rng(8), hardness=-30.0)
    operands["E"] = 5 + 1e-3 * operands["E"]  # alike, and far from the zeros of the padding
    check(conv, operands, constants=WEIGHTS)


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("normalization", Normalization)
def test_half_precision(normalization, group):
    conv = Conv(channels=4, filters=4, group=group, kernel_shape=(7, 5), pads=(3, 2, 3, 2))
    operands = operands_of(conv, np.random.default_rng(2), "float16")
    check(conv, operands, normalization=int(normalization))


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    conv=seg_aware_convs(),
    choice=st.integers(0, 11),
    constant=st.booleans(),
    named=st.booleans(),
    hardness=st.floats(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_geometry(conv, choice, constant, named, hardness, seed):
    operands = operands_of(conv, np.random.default_rng(seed), hardness=hardness)
    distance, outside, normalization = 1 + choice % 2, choice // 2 % 2, choice // 4
    check(
        conv,
        operands,
        constants=WEIGHTS if constant else (),
        named=named,
        distance=distance,
        outside=outside,
        normalization=normalization,
    )


def test_no_image_gives_none():
    conv = Conv(n=0)
    check(conv, operands_of(conv, np.random.default_rng(5)))


def count_of(model, op_type):
    return sum(node.op_type == op_type for node in model.graph.node)


def test_a_large_kernel_holds_few_taps_at_once():
    conv = Conv(kernel_shape=(9, 9), pads=(4, 4, 4, 4))
    lowered = check(conv, operands_of(conv, np.random.default_rng(3)))
    producers = {node.output[0]: node for node in lowered.graph.node}
    columns = [producers[n.input[0]] for n in lowered.graph.node if n.op_type == "Conv"]
    assert [len(node.input) for node in columns] == [16, 16, 16, 16, 16, 1]


def test_a_small_kernel_is_one_matrix_product():
    conv = Conv()
    lowered = check(conv, operands_of(conv, np.random.default_rng(3)))
    assert count_of(lowered, "Conv") == 1
    assert count_of(lowered, "Where") == 0, "a zero beyond the image needs no weight"


def test_smoothing_multiplies_by_no_ones():
    conv = Conv(channels=4, filters=4, group=4)
    operands = operands_of(conv, np.random.default_rng(3))
    operands["W"][:], operands["B"][:] = 1, 0
    lowered = check(conv, operands, normalization=2, outside=1)
    assert count_of(lowered, "Conv") == 0
    assert count_of(lowered, "Mul") == 9 + 1, "each tap by its weight; the distances by lambda"
    assert count_of(lowered, "Reshape") == 0, "no bias is added"


def two_over_one_embedding():
    """A model of two convolutions in a row over one map of embeddings."""
    conv = Conv(channels=4, filters=4)
    operands = operands_of(conv, np.random.default_rng(4))
    model = seg_aware_model(operands, constants=WEIGHTS, **conv.attributes)
    model.graph.node[0].output[0] = "hidden"
    second = op_node("SegAwareConv", ["hidden", *INPUTS[1:]], ["Y"], **conv.attributes)
    model.graph.node.append(second)
    return model, operands, conv


@pytest.mark.parametrize("lowering", PIPELINES)
def test_convolutions_over_one_embedding_share_their_distances(lowering):
    model, operands, conv = two_over_one_embedding()
    lowered = lower(model, lowering)
    assert count_of(lowered, "Abs") == 9
    assert count_of(lowered, "Conv") == 2
    hidden = seg_aware_conv(**operands, **conv.attributes)
    expected = seg_aware_conv(**{**operands, "X": hidden}, **conv.attributes)
    feed = {name: operands[name] for name in ("X", "E")}
    assert_close(run_onnxruntime(lowered, feed)[0], expected, 1e-5)


@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_distances_stay_float32_where_the_rest_is_cast(name, normalization):
    conv = Conv()
    operands = operands_of(conv, np.random.default_rng(6), hardness=50.0)
    operands["E"] = np.round(4 + operands["E"] / 40, 3).astype(np.float32)
    choice = {**conv.attributes, "normalization": int(normalization)}
    model = seg_aware_model(operands, constants=WEIGHTS, **choice)
    lowered = lower(model, "dense", precision=Precision(name), emulated=True)
    feed = {each: operands[each] for each in ("X", "E")}
    expected = seg_aware_conv(**operands, **choice)
    bound = SEG_AWARE_CONV.bounds["float16" if name == "fp16" else "bfloat16"]
    assert_close(run_onnxruntime(lowered, feed)[0], expected, bound)
    narrow = lower(model, "plugin", precision=Precision(name))
    types = {v.name: v.type.tensor_type.elem_type for v in narrow.graph.value_info}
    half = TensorProto.FLOAT16 if name == "fp16" else TensorProto.BFLOAT16
    for node in narrow.graph.node:
        if node.op_type in ("Sub", "Abs", "ReduceSum", "Exp", "Softmax"):
            assert types[node.output[0]] == TensorProto.FLOAT
        if node.op_type == "Conv":
            assert types[node.input[0]] == half


def test_a_node_inside_of_a_subgraph_is_lowered():
    conv = Conv(channels=2, filters=2)
    operands = operands_of(conv, np.random.default_rng(9))
    model = seg_aware_model(operands, constants=WEIGHTS, bodies=False, **conv.attributes)
    inner = helper.make_graph([model.graph.node[0]], "then", [], [model.graph.output[0]])
    other = helper.make_graph(
        [helper.make_node("Neg", ["X"], ["Y"])], "else", [], [model.graph.output[0]]
    )
    yes = helper.make_tensor_value_info("yes", TensorProto.BOOL, ())
    choice = helper.make_node("If", ["yes"], ["Y"], then_branch=inner, else_branch=other)
    model.graph.node[0].CopyFrom(choice)
    model.graph.input.append(yes)
    feed = {"X": operands["X"], "E": operands["E"], "yes": np.array(True)}
    y = run_onnxruntime(lower(model, "dense"), feed)[0]
    assert_close(y, seg_aware_conv(**operands, **conv.attributes), 1e-5)


MASKED = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
g (float[n, 2, h, w] x, float[n, 3, h, w] e, float[n, 2, h, w] logits) => (float[n, 2, h, w] y)
<float[2, 2, 1, 1] v = {1, 2, 3, 4}, float[2, 2, 1, 3] k = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3},
 float[2] b = {5, 6}, float hardness = {0.5}>
{
    s = pagdeploy.PAGGate (logits)
    f = Conv (x, v, b)
    a = pagdeploy.SegAwareConv <kernel_shape = [1, 3], strides = [1, 1], pads = [0, 1, 0, 1],
        dilations = [1, 1], group = 1, distance = 1, normalization = 1, outside = 0,
        epsilon = 0.0> (f, e, k, b, hardness)
    y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
        dilations = [1, 1], group = 1, branch = 1, mode = 0, activation = 0, alpha = 0.0>
        (a, s, v, b, x)
}"""


def test_in_front_of_a_mask_it_reads_every_pixel():
    register_schemas()
    model = onnx.parser.parse_model(MASKED)
    found = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    values = {value.name: value for node in found.graph for value in node.outputs}
    lives = Liveness(found)
    assert not isinstance(lives.of(values["a"]), Everywhere), "its own output is masked"
    assert isinstance(lives.of(values["f"]), Everywhere)
    rng = np.random.default_rng(0)
    feed = {n: rng.normal(size=(2, c, 5, 7)).astype(np.float32) for n, c in
            (("x", 2), ("e", 3), ("logits", 2))}  # fmt: skip
    one, other = (run_onnxruntime(lower(model, each), feed)[0] for each in ("dense", "gather"))
    assert_close(one, other, 1e-5)


def test_its_size_and_its_multiply_adds_are_known():
    register_schemas()
    conv = Conv(channels=4, filters=6, group=2, strides=(2, 1))
    operands = operands_of(conv, np.random.default_rng(0))
    model = seg_aware_model(operands, constants=WEIGHTS, **conv.attributes)
    cost = count_cost(model, {"X": [2, 4, 7, 9], "E": [2, 3, 7, 9]}, {})
    assert cost.dense == cost.sparse == 2 * 6 * 4 * 9 * (2 * 9)  # N M Ho Wo (C / group) kh kw
    found = ir.from_proto(model)
    book = ShapeBook(found)
    sizes = book.of(found.graph.outputs[0])
    assert sizes is not None and sizes[1].expression == 6
    image = book.of(found.graph.inputs[0])
    assert image is not None and sizes[3].expression == image[3].expression, "stride 1 in x"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"distance": 3}, "'aware' has the distance 3, not one of 1 (l1), 2 (l2)."),
        ({"kernel_shape": [2, 3]}, "such a window has no centre"),
        ({"pads": [2, 1, 1, 1]}, "the centre of a window would lie outside of the image"),
        ({"strides": [0, 1]}, "strides of SegAwareConv is [0, 1]"),
        ({"group": 0}, "The node 'aware' has 0 groups."),
    ],
)
def test_impossible_attributes_are_refused_when_a_file_is_read(change, text):
    conv = Conv()
    operands = operands_of(conv, np.random.default_rng(0))
    model = seg_aware_model(operands, constants=WEIGHTS, **{**conv.attributes, **change})
    model.graph.node[0].name = "aware"
    with pytest.raises(IncompatibleArtifact, match=re.escape(text)):
        check_model(model, "m.onnx")
