"""Int8 in the native lowering: the numbers of the gathered integers, and what must stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.ops.native import CPU_DOMAIN
from pagdeploy.passes import lower_quantized
from pagdeploy.passes.native.quantized import write_unsigned
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.models import run_onnxruntime
from tests.native import run_native
from tests.passes.test_integer_kernels import feed, integers, network

BYTES, FLOATS = "QLinearPerforatedConvNhwc", "QLinearPerforatedConvNhwcFloat"


def native(model: onnx.ModelProto) -> onnx.ModelProto:
    return lower(model, "native", precision=integers(model))


def ours(model: onnx.ModelProto) -> Counter[str]:
    """The ops of the library that a model has."""
    return Counter(node.op_type for node in model.graph.node if node.domain == CPU_DOMAIN)


def inactive(model: onnx.ModelProto) -> list[int]:
    return [
        next(a.i for a in node.attribute if a.name == "inactive")
        for node in model.graph.node
        if node.op_type in (BYTES, FLOATS)
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.integers(1, 2),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    channels=st.sampled_from([1, 3, 8, 17]),
    inner=st.sampled_from([1, 4, 9]),
    mode=st.integers(0, 1),
    dilation=st.sampled_from([1, 2, 10]),
    signed=st.booleans(),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_every_number_is_that_of_the_gathered_integers(
    n, h, w, channels, inner, mode, dilation, signed, density, seed
):
    model = network(channels=channels, inner=inner, mode=mode, dilation=dilation)
    if signed:
        model.graph.node[1].op_type = "Neg"  # so what the first block reads may be negative
    inputs = feed(n, channels, h, w, density, seed)
    lowered = native(model)
    assert ours(lowered)[BYTES] == 6 and ours(lowered)[FLOATS] == 1
    wanted = run_onnxruntime(lower(model, "gather", precision=integers(model)), inputs)[0]
    # Behind the stage is a layer of float32 sums; one other byte would be a thousand times more.
    np.testing.assert_allclose(run_native(lowered, inputs)[0], wanted, rtol=0, atol=2e-5)


def test_a_block_stays_in_bytes_and_computes_what_is_read():
    lowered = native(network(blocks=3))
    ops = ours(lowered)
    # The last one is the layer behind the stage, which makes float32 of it.
    assert ops == {BYTES: 9, FLOATS: 1, "ActivePixels": 1, "SupportPixels": 1}
    # The first two of a block are dead elsewhere; the third one shows its base.
    assert inactive(lowered) == [2, 2, 0] * 3 + [0]
    others = Counter(node.op_type for node in lowered.graph.node if not node.domain)
    assert others["Transpose"] == 2, "into the stage and out of it"
    assert others["QuantizeLinear"] == 1 and not others["Gather"] + others["ScatterND"]


def test_what_is_read_elsewhere_too_is_defined_everywhere():
    model = network(blocks=1)
    weights = np.ones((1, 4, 1, 1), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "ones"))
    model.graph.node.append(helper.make_node("Conv", ["m0", "ones"], ["all"], name="all"))
    model.graph.output.append(
        helper.make_tensor_value_info("all", TensorProto.FLOAT, ["n", 1, "h", "w"])
    )
    lowered = native(model)
    assert inactive(lowered) == [2, 0, 0, 0]
    inputs = feed()
    wanted = run_onnxruntime(lower(model, "gather", precision=integers(model)), inputs)[1]
    np.testing.assert_array_equal(run_native(lowered, inputs)[1], wanted)


def test_a_last_sum_that_nobody_quantizes_is_float32():
    model = network(blocks=2)
    del model.graph.node[-2]  # the convolution that reads the stage
    model.graph.node[-1].input[0] = "r2"
    lowered = native(model)
    assert ours(lowered)[BYTES] == 5 and ours(lowered)[FLOATS] == 1
    inputs = feed()
    wanted = run_onnxruntime(lower(model, "gather", precision=integers(model)), inputs)[0]
    np.testing.assert_allclose(run_native(lowered, inputs)[0], wanted, rtol=1e-6, atol=1e-6)


def ungated(model: onnx.ModelProto) -> onnx.ModelProto:
    """PAG's own form: the last convolution of a block is a plain one, with a sum behind it."""
    for node in [n for n in model.graph.node if n.op_type == "PerforatedConv"][1::2]:
        at = list(model.graph.node).index(node)
        x, _, w, b, base = node.input
        result = node.output[0]
        plain = [
            helper.make_node("Conv", [x, w, b], [f"{result}.c"], name=f"{result}.c"),
            helper.make_node("Add", [f"{result}.c", base], [f"{result}.s"], name=f"{result}.s"),
            helper.make_node("Relu", [f"{result}.s"], [result], name=result),
        ]
        model.graph.node.remove(node)
        for new in reversed(plain):
            model.graph.node.insert(at, new)
    return model


def fixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Of the sizes of `feed`: a convolution of a size with a name has one of none."""
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, (2, 0, 9, 11), strict=True):
            dim.dim_value = size or dim.dim_value
    return onnx.shape_inference.infer_shapes(model)


def test_convolutions_beside_a_gated_one_join_it_with_their_sums():
    model = fixed(ungated(network(blocks=2)))
    lowered = native(model)
    assert ours(lowered) == {BYTES: 6, FLOATS: 1, "ActivePixels": 1, "SupportPixels": 1}
    left = Counter(node.op_type for node in lowered.graph.node if not node.domain)
    assert not left["Add"]
    inputs = feed()
    found = run_native(lowered, inputs)[0]
    wanted = run_onnxruntime(lower(model, "dense", precision=integers(model)), inputs)[0]
    # A sum of float32 products may be rounded to the other neighbour.
    assert np.mean(np.abs(found - wanted) > 1e-4) < 0.05
    assert np.abs(found - wanted).max() < 0.2


def _attribute(name: str, value: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "PerforatedConv":
                kept = [a for a in node.attribute if a.name != name]
                del node.attribute[:]
                node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def _per_image(model: onnx.ModelProto) -> None:
    for axis in (2, 3):
        model.graph.input[1].type.tensor_type.shape.dim[axis].dim_value = 1


def test_what_the_kernel_has_not_is_computed_in_float32():
    model = network(blocks=1)
    _attribute("activation", 2)(model)
    lowered = native(model)
    assert not ours(lowered)[BYTES] + ours(lowered)[FLOATS]
    assert ours(lowered)["PerforatedConvNhwc"] + ours(lowered)["PerforatedConvPairNhwc"]
    inputs = feed()
    wanted = run_onnxruntime(lower(model, "gather", precision=integers(model)), inputs)[0]
    assert np.mean(run_native(lowered, inputs)[0] != wanted) < 0.05


@pytest.mark.parametrize("decisions", [[0, 0], [1, 0], [0, 1], [1, 1]])
def test_one_decision_for_each_image_is_a_list_in_8_bits_too(decisions):
    model = fixed(network(blocks=2))
    _per_image(model)
    lowered = native(model)
    assert ours(lowered)[BYTES] + ours(lowered)[FLOATS] == 7
    assert not ours(lowered)["PerforatedConvNhwc"] + ours(lowered)["PerforatedConvPairNhwc"]
    assert "If" not in {node.op_type for node in lowered.graph.node}
    inputs = feed() | {"s": np.array(decisions, np.int32).reshape(2, 1, 1, 1)}
    wanted = run_onnxruntime(lower(model, "gather", precision=integers(model)), inputs)[0]
    away = np.abs(run_native(lowered, inputs)[0] - wanted)
    # A sum of float32 products may be rounded to the other neighbour.
    assert np.mean(away > 1e-4) < 0.05 and away.max() < 0.2


def quantized() -> ir.Model:
    """A stage as this pass gets it."""
    model = network(blocks=1)
    return ir.from_proto(lower(model, "plugin", precision=integers(model)))


def _constant(model: ir.Model, node: ir.Node, index: int, array: np.ndarray) -> None:
    value = ir.Value(
        name=f"{node.name}/{index}/other", const_value=ir.tensor(array), shape=ir.Shape(array.shape)
    )
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    model.graph.register_initializer(value)
    node.replace_input_with(index, value)


def _gated(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "PerforatedConv"]


def _maker(node: ir.Node, index: int) -> ir.Node:
    value = node.inputs[index]
    assert value is not None
    maker = value.producer()
    assert maker is not None
    return maker


def _bias(model: ir.Model) -> None:
    node = _gated(model)[0]
    array = node.inputs[3].const_value.numpy()  # type: ignore[union-attr]
    _constant(model, node, 3, array * np.float32(1.001))


def _zero_of_weights(model: ir.Model) -> None:
    _constant(model, _maker(_gated(model)[0], 2), 2, np.ones(4, np.int8))


def _axis_of_weights(model: ir.Model) -> None:
    _maker(_gated(model)[0], 2).attributes["axis"] = ir.AttrInt64("axis", 1)


def _base_in_other_steps(model: ir.Model) -> None:
    node = _gated(model)[1]
    node.attributes["mode"] = ir.AttrInt64("mode", 0)
    _constant(model, _maker(node, 4), 1, np.array(0.5, np.float32))


def _float_base(model: ir.Model) -> None:
    node = _gated(model)[1]
    node.replace_input_with(4, model.graph.inputs[0])


OBSTACLES = [_bias, _zero_of_weights, _axis_of_weights, _base_in_other_steps, _float_base]
INTEGERS = Precision("int8", ranges={"a": (-1.0, 1.0)}, integer_kernels=True)


@pytest.mark.parametrize("change", OBSTACLES)
def test_what_is_not_the_same_function_stays(change):
    """Of two gated convolutions in a row, both do: a row of them is not cut in two."""
    model = quantized()
    change(model)
    lower_quantized.run(model, INTEGERS)
    assert len(_gated(model)) == 2
    assert not any(node.domain == CPU_DOMAIN for node in model.graph)
    assert lower_quantized.run(quantized(), INTEGERS) == 4


@pytest.mark.parametrize(
    "precision", [None, Precision("fp16"), Precision("int8", ranges={"a": (0, 1)})]
)
def test_other_precisions_stay(precision):
    assert lower_quantized.run(quantized(), precision) == 0


def test_int8_is_written_as_uint8_of_the_same_numbers():
    text = """<ir_version: 8, opset_import: ["" : 17]>
        m (float[3, 40] x) => (float[3, 40] y)
        <float step = {0.25}, int8 zero = {-7}> {
            q = QuantizeLinear (x, step, zero)
            y = DequantizeLinear (q, step, zero)
        }"""
    before = onnx.parser.parse_model(text)
    model = ir.from_proto(before)
    assert write_unsigned(model) == 1 and write_unsigned(model) == 0
    after = ir.to_proto(model)
    zeros = {numpy_helper.to_array(t).item() for t in after.graph.initializer}
    assert 121 in zeros
    x = {"x": np.linspace(-40, 40, 120, dtype=np.float32).reshape(3, 40)}
    one, other = (run_onnxruntime(each, x)[0] for each in (before, after))
    assert one.min() == -30.25 and one.max() == 33.5, "it saturates at both ends"
    np.testing.assert_array_equal(one, other)


def test_int8_that_somebody_sees_stays():
    text = """<ir_version: 8, opset_import: ["" : 17]>
        m (float[3, 4] x) => (float[3, 4] y, int8[3, 4] q)
        <float step = {0.25}, int8 zero = {0}> {
            q = QuantizeLinear (x, step, zero)
            y = DequantizeLinear (q, step, zero)
        }"""
    assert write_unsigned(ir.from_proto(onnx.parser.parse_model(text))) == 0
