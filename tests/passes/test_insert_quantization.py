"""Int8: what is quantized and how, that it computes the same, and what stays float32."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.errors import BuildFailed, UsageError
from pagdeploy.graph.choice import lowerings_of
from pagdeploy.passes import insert_quantization
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.compare import scale_free_error
from tests.models import model_of, op_node, run_onnxruntime

RNG = np.random.default_rng(0)
WEIGHTS = {
    "stem": 0.3 * RNG.standard_normal((4, 3, 3, 3)),
    "gate": 0.3 * RNG.standard_normal((3, 4, 1, 1)),
    "w1": 0.3 * RNG.standard_normal((4, 4, 3, 3)),
    "w2": 0.3 * RNG.standard_normal((4, 2, 3, 3)),
    "w3": 0.3 * RNG.standard_normal((4, 4, 1, 1)),
    "head": 0.3 * RNG.standard_normal((2, 4, 1, 1)),
    "b": RNG.standard_normal(4),
}
GEOMETRY = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1], "dilations": [1, 1]}
IMAGE = RNG.random((2, 3, 9, 11)).astype(np.float32)


def network() -> onnx.ModelProto:
    """A stem, a gate, a perforated convolution with and one without groups, a conv, a head."""
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x", "gate"], ["logits"]),
        op_node("PAGGate", ["logits"], ["s"]),
        op_node("PerforatedConv", ["x", "s", "w1", "b", "x"], ["p"], **GEOMETRY, activation=1),
        op_node("PerforatedConv", ["p", "s", "w2", "b", "p"], ["q"], **GEOMETRY, branch=2, group=2),
        helper.make_node("Conv", ["q", "w3", "b"], ["c"]),
        helper.make_node("Conv", ["c", "head"], ["h"]),
        helper.make_node("Neg", ["h"], ["y"]),
    ]
    for node in nodes:
        node.name = node.output[0]
    return model_of(
        nodes,
        {"image": (TensorProto.FLOAT, ["n", 3, "h", "w"])},
        {"y": (TensorProto.FLOAT, ["n", 2, "h", "w"])},
        initializers=[numpy_helper.from_array(w.astype("f4"), n) for n, w in WEIGHTS.items()],
    )


RANGES = {name: (-2.0, 5.0) for name in ("image", "x", "p", "c", "logits")} | {"q": (-6.0, 0.5)}
INT8 = Precision("int8", ranges=RANGES)


def quantized(model: onnx.ModelProto) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """int8 weights, their scales and the axis, by the name of the node that reads them."""
    made = {node.output[0]: node for node in model.graph.node}
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        for name in node.input:
            source = made.get(name)
            if source and source.op_type == "DequantizeLinear" and source.input[0] in held:
                axis = source.attribute[0].i
                found[node.name] = (held[source.input[0]], held[source.input[1]], axis)
    return found


def test_weights_have_a_scale_per_output_channel_and_activations_one():
    model = lower(network(), "plugin", precision=INT8)
    weights = quantized(model)
    assert set(weights) == {"p", "q", "c"}
    for name, source in (("p", "w1"), ("q", "w2"), ("c", "w3")):
        narrow, scales, axis = weights[name]
        assert (narrow.dtype, axis, scales.shape) == (np.int8, 0, (4,))
        assert abs(narrow.astype(int)).reshape(4, -1).max(1).tolist() == [127] * 4
        wide = narrow * scales[:, None, None, None]
        assert abs(wide - WEIGHTS[source]).max() <= scales.max() / 2 * 1.001
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert [node.input[0] for node in pairs] == ["x", "p", "q"]
    scales = [float(held[node.input[1]]) * 127 for node in pairs]
    assert scales == pytest.approx([5, 5, 6])
    assert {int(held[node.input[2]]) for node in pairs} == {0}


def test_bases_biases_and_gates_are_not_quantized():
    model = lower(network(), "plugin", precision=INT8)
    inputs = {node.name: list(node.input) for node in model.graph.node}
    assert inputs["p"][1:2] + inputs["p"][3:] == ["s", "b", "x"]
    assert inputs["q"][1:2] + inputs["q"][3:] == ["s", "b", "p"]
    assert inputs["logits"] == ["x", "gate"]


@pytest.mark.parametrize("lowering", ["gather", "dense", "plugin"])
def test_the_file_is_valid_at_opset_17(lowering):
    model = lower(network(), lowering, precision=INT8)
    assert model.opset_import[0].version == 17
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    if lowering != "plugin":  # whose nodes carry what only TensorRT reads
        onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("lowering", ["gather", "dense"])
def test_both_lowerings_compute_what_the_quantized_model_says(lowering):
    from pagdeploy.ops.bodies import attach_bodies

    exact = run_onnxruntime(network(), {"image": IMAGE})[0]
    whole = attach_bodies(lower(network(), "plugin", precision=INT8))
    reference = run_onnxruntime(whole, {"image": IMAGE})[0]
    lowered = run_onnxruntime(lower(network(), lowering, precision=INT8), {"image": IMAGE})[0]
    assert scale_free_error(lowered, reference) < 1e-5
    assert 1e-4 < scale_free_error(lowered, exact) < 0.1


def test_gathered_convolutions_stay_gathered():
    model = lower(network(), "gather", precision=INT8)
    assert list(lowerings_of(model).values()) == ["gather", "gather"]


def test_quantized_convolutions_have_no_switch(caplog):
    """onnxruntime would move the rounding of x up to where a branch reads x unrounded."""
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        model = lower(network(), "gather", precision=INT8)
    assert "If" not in [node.op_type for node in model.graph.node]
    assert "without a switch, onnxruntime would round what a branch reads" in caplog.text
    assert "If" in [node.op_type for node in lower(network(), "gather").graph.node]


def test_every_node_that_stays_says_why(caplog):
    precision = Precision("int8", ("^w3$",), {name: RANGES[name] for name in ("image", "x", "q")})
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        model = lower(network(), "plugin", precision=precision)
    assert set(quantized(model)) == {"p"}
    for line in (
        "x (Conv) stays: in float32, it reads an input",
        "logits (Conv) stays: in float32, a gate decides on it",
        "q (PerforatedConv) stays: in float32, the calibration did not see its input",
        "c (Conv) stays: in float32, --keep-fp32 names it",
        "h (Conv) stays: in float32, it makes an output",
    ):
        assert line in caplog.text


def test_zeros_have_a_scale():
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == "w3":
            array = numpy_helper.to_array(tensor).copy()
            array[1] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, "w3"))
    ranges = RANGES | {"p": (0.0, 0.0)}
    lowered = lower(model, "dense", precision=Precision("int8", ranges=ranges))
    scales = [
        numpy_helper.to_array(tensor)
        for tensor in lowered.graph.initializer
        if tensor.name
        in {n.input[1] for n in lowered.graph.node if "quantize" in n.op_type.lower()}
    ]
    assert all((scale > 0).all() for scale in scales)
    assert any((scale == 1).any() for scale in scales)
    assert np.isfinite(run_onnxruntime(lowered, {"image": IMAGE})[0]).all()


def test_channels_without_a_normal_step_are_zeros():
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == "w3":
            array = numpy_helper.to_array(tensor).copy()
            array[1] = 1e-44
            array[2] = 1e-37
            tensor.CopyFrom(numpy_helper.from_array(array, "w3"))
    ranges = RANGES | {"p": (0.0, 1e-44)}
    with np.errstate(all="raise", under="ignore"):
        lowered = lower(model, "dense", precision=Precision("int8", ranges=ranges))
    narrow, scales, _ = quantized(lowered)["c"]
    assert scales[1:3].tolist() == [1, 1] and not narrow[1:3].any()
    assert np.isfinite(run_onnxruntime(lowered, {"image": IMAGE})[0]).all()


@pytest.mark.parametrize("opset", [11, 12])
def test_an_older_model_is_converted_to_the_opset_that_has_channel_scales(opset):
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : {opset}]>
    m (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {{1, 20, 3, -4}}> {{
        a = MatMul (x, w) s = Softmax (a) b = MatMul (s, w) y = MatMul (b, w)
    }}""")
    precision = Precision("int8", ranges={"a": (-30.0, 30.0), "s": (-1.0, 1.0)})
    lowered = lower(model, "dense", precision=precision)
    assert lowered.opset_import[0].version >= 13
    onnx.checker.check_model(lowered, full_check=True)
    image = {"x": IMAGE[0, 0, :, :2]}
    exact, rounded = run_onnxruntime(model, image)[0], run_onnxruntime(lowered, image)[0]
    assert 1e-4 < scale_free_error(rounded, exact) < 0.05


def test_an_older_model_that_cannot_be_converted_is_refused():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 11]>
    m (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {1, 20, 3, -4}> {
        a = MatMul (x, w) b = MatMul (a, w) c = MatMul (b, w) y = NoSuchOperator (c)
    }""")
    with pytest.raises(BuildFailed, match="cannot be written at opset 13, which int8 needs"):
        lower(model, "dense", precision=Precision("int8", ranges={"a": (-1.0, 1.0)}))


def test_names_of_the_user_are_left_alone():
    model = network()
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["x.quantized" if name == "h" else name for name in names]
    lowered = lower(model, "dense", precision=INT8)
    onnx.checker.check_model(lowered, full_check=True)
    assert "x.quantized.2" in {name for node in lowered.graph.node for name in node.output}


def test_matrix_products_are_quantized_along_their_columns():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    m (float[n, 2] x) => (float[n, 2] y) {
        a = MatMul (x, w) b = MatMul (a, w) c = Gemm <transB = 1> (b, w, z)
        d = Gemm <transA = 1> (c, w) e = MatMul (d, c) y = MatMul (e, w)
    }"""
    model = onnx.parser.parse_model(text)
    for name, array in (("w", np.array([[1, 20], [3, -4]], "f4")), ("z", np.ones(2, "f4"))):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = node.output[0]
    ranges = {name: (-1.0, 1.0) for name in "abcde"}
    weights = quantized(lower(model, "dense", precision=Precision("int8", ranges=ranges)))
    assert set(weights) == {"b", "c"}
    np.testing.assert_allclose(weights["b"][1] * 127, [3, 20], rtol=1e-6)
    np.testing.assert_allclose(weights["c"][1] * 127, [20, 4], rtol=1e-6)
    assert [weights[name][2] for name in "bc"] == [1, 0]


def test_an_activation_is_quantized_once_whoever_reads_it():
    model = ir.from_proto(
        onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        m (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {1, 20, 3, -4}> {
            a = MatMul (x, w) b = MatMul (a, w) c = MatMul (a, w)
            d = Add (a, b) e = Add (c, d) y = MatMul (e, w)
        }""")
    )
    assert insert_quantization.run(model, Precision("int8", ranges={"a": (-1.0, 1.0)})) == 2
    (pair,) = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    readers = {str(use.node.outputs[0].name) for use in pair.inputs[0].uses()}
    assert readers == {"a.quantized", "d"}, "a sum reads the value itself"


@pytest.mark.parametrize("weight", [np.inf, np.nan])
def test_weights_that_are_not_finite_stay(weight, caplog):
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == "w3":
            tensor.CopyFrom(numpy_helper.from_array(np.full((4, 4, 1, 1), weight, "f4"), "w3"))
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        assert "c" not in quantized(lower(model, "plugin", precision=INT8))
    assert "c (Conv) stays: in float32, its weights are not finite" in caplog.text


def test_a_calibration_of_another_model_is_refused():
    with pytest.raises(UsageError, match="The calibration knows no value of this model"):
        lower(network(), "dense", precision=Precision("int8", ranges={"other": (0.0, 1.0)}))
