"""Int8 for onnxruntime's integer kernels: what it fuses, and that gathering changes no number."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.models import model_of, op_node, run_onnxruntime

RANGE = 4.0


def network(
    *, channels: int = 8, inner: int = 4, mode: int = 1, dilation: int = 1, blocks: int = 2
) -> onnx.ModelProto:
    """A stage of gated bottlenecks, between two layers that stay float32 and change little."""
    rng = np.random.default_rng(0)
    one = np.ones((channels, 1, 1, 1))
    weights = {"first": one, "last": one, "zero": np.zeros((1, 1, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["stem"], group=channels),
        helper.make_node("Relu", ["stem"], ["r0"]),
    ]
    spatial = {"kernel_shape": [3, 3], "pads": [dilation] * 4, "dilations": [dilation] * 2}
    for k in range(blocks):
        shapes = {"w1": (inner, channels, 1, 1), "w2": (inner, inner, 3, 3)}
        for name, shape in (shapes | {"w3": (channels, inner, 1, 1)}).items():
            size = 1 / np.sqrt(np.prod(shape[1:]))
            weights[f"{name}.{k}"] = size * rng.standard_normal(shape)
            weights[f"{name}.{k}.b"] = 0.1 * rng.standard_normal(shape[0])
        (w1, b1), (w2, b2), (w3, b3) = ((f"w{n}.{k}", f"w{n}.{k}.b") for n in (1, 2, 3))
        nodes += [
            helper.make_node("Conv", [f"r{k}", w1, b1], [f"c{k}"]),
            helper.make_node("Relu", [f"c{k}"], [f"a{k}"]),
            op_node(
                "PerforatedConv", [f"a{k}", "s", w2, b2, "zero"], [f"m{k}"], activation=1, **spatial
            ),
            op_node(
                "PerforatedConv", [f"m{k}", "s", w3, b3, f"r{k}"], [f"r{k + 1}"],
                kernel_shape=[1, 1], mode=mode, activation=1,
            ),
        ]  # fmt: skip
    nodes += [
        helper.make_node("Conv", [f"r{blocks}", "point"], ["r"]),
        helper.make_node("Conv", ["r", "last"], ["y"], group=channels),
    ]
    weights["point"] = rng.standard_normal((channels, channels, 1, 1))
    for node in nodes:
        node.name = node.output[0]
    return model_of(
        nodes,
        {
            "x": (TensorProto.FLOAT, ["n", channels, "h", "w"]),
            "s": (TensorProto.INT32, ["n", 1, "h", "w"]),
        },
        {"y": (TensorProto.FLOAT, ["n", channels, "h", "w"])},
        initializers=[numpy_helper.from_array(w.astype("f4"), n) for n, w in weights.items()],
    )


def integers(model: onnx.ModelProto) -> Precision:
    names = [name for node in model.graph.node for name in node.output]
    return Precision("int8", ranges=dict.fromkeys(names, (-RANGE, RANGE)), integer_kernels=True)


def feed(n: int = 2, channels: int = 8, h: int = 9, w: int = 11, density: float = 0.4, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((n, channels, h, w), np.float32),
        "s": (rng.random((n, 1, h, w)) < density).astype(np.int32),
    }


def optimized(model: onnx.ModelProto, path) -> Counter[str]:
    """The operators that onnxruntime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_every_product_of_rows_is_one_of_integers(tmp_path):
    model = network()
    gathered = lower(model, "gather", precision=integers(model))
    assert not any(node.domain for node in gathered.graph.node), "standard ONNX"
    ops = optimized(gathered, tmp_path / "m.onnx")
    assert ops["QGemm"] == Counter(n.op_type for n in gathered.graph.node)["Gemm"] > 0
    assert not ops["Gemm"] + ops["FusedGemm"]


def test_only_bytes_are_gathered_and_scattered():
    model = network()
    lowered = lower(model, "gather", precision=integers(model))
    types = {v.name: v.type.tensor_type.elem_type for v in lowered.graph.value_info}
    known = {v.name for v in lowered.graph.initializer}
    scattered = [node for node in lowered.graph.node if node.op_type == "ScatterND"]
    assert scattered
    for node in scattered:
        assert [types[node.input[0]], types[node.input[2]]] == [TensorProto.UINT8] * 2
    gathered = [types[n.input[0]] for n in lowered.graph.node
                if n.op_type == "Gather" and n.input[0] not in known]  # fmt: skip
    assert TensorProto.UINT8 in gathered and TensorProto.FLOAT not in gathered


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.integers(1, 2),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    channels=st.sampled_from([1, 3, 8, 17]),
    inner=st.sampled_from([1, 4, 9]),
    dilation=st.sampled_from([1, 2, 10]),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_replacing_is_bit_exact_with_the_dense_integers(
    n, h, w, channels, inner, dilation, density, seed
):
    """All sums are rounded to 8 bits at once, in the dense kernel as in the one of rows."""
    model = network(channels=channels, inner=inner, mode=0, dilation=dilation)
    inputs = feed(n, channels, h, w, density, seed)
    gathered, dense = (
        run_onnxruntime(lower(model, lowering, precision=integers(model)), inputs)[0]
        for lowering in ("gather", "dense")
    )
    np.testing.assert_array_equal(gathered, dense)


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("lowering", ["gather", "dense"])
@pytest.mark.parametrize("mode", [0, 1])
def test_lowered_models_say_what_the_portable_one_says_in_int8(mode, lowering, density):
    model = network(mode=mode, blocks=1)
    inputs = feed(density=density)
    reference = attach_bodies(lower(model, "plugin", precision=integers(model)))
    wanted = run_onnxruntime(reference, inputs)[0]
    got = run_onnxruntime(lower(model, lowering, precision=integers(model)), inputs)[0]
    # A sum next to the middle of two steps may be rounded either way, and reaches all channels.
    assert np.mean(np.abs(got - wanted) > 1e-4) < 0.05
    assert np.abs(got - wanted).max() < 5 * RANGE / 255 * 3


def pairs(model: onnx.ModelProto) -> dict[str, tuple[float, np.dtype]]:
    """Step and type of every activation that is quantized in our nodes' graph."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.input[0]: (float(held[node.input[1]]), held[node.input[2]].dtype)
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


def test_what_is_never_negative_has_all_256_steps():
    model = network(blocks=1)
    found = pairs(lower(model, "plugin", precision=integers(model)))
    assert {dtype for _, dtype in found.values()} == {np.dtype(np.uint8)}
    model.graph.node[1].op_type = "Neg"  # so r0 may be negative, and r1 has the units of r0
    found = pairs(lower(model, "plugin", precision=integers(model)))
    assert {name for name, (_, dtype) in found.items() if dtype == np.int8} == {"r0", "r1"}
    assert found["r0"][0] == pytest.approx(RANGE / 127)
    assert found["a0"][0] == pytest.approx(RANGE / 255)


def test_a_stage_has_one_step_so_that_what_passes_through_is_not_rounded_again():
    model = network(blocks=3)
    precision = integers(model)
    ranges = {**precision.ranges, "r1": (0.0, 8.0), "r3": (0.0, 100.0)}
    found = pairs(
        lower(model, "plugin", precision=Precision("int8", ranges=ranges, integer_kernels=True))
    )
    assert found["r0"] == found["r1"] == found["r2"] == found["r3"]
    assert found["r3"][0] == pytest.approx(100 / 255)
    assert found["a0"][0] == pytest.approx(RANGE / 255)


def test_every_reader_reads_the_rounded_value():
    model = network()
    lowered = lower(model, "plugin", precision=integers(model))
    for name in pairs(lowered):
        readers = [node.op_type for node in lowered.graph.node if name in node.input]
        assert readers == ["QuantizeLinear"], name


def test_symmetric_int8_is_as_it_was():
    """TensorRT takes no uint8, and no bias of integers."""
    model = network()
    symmetric = Precision("int8", ranges=integers(model).ranges)
    for lowering in ("gather", "dense", "plugin"):
        lowered = lower(model, lowering, precision=symmetric)
        types = {tensor.data_type for tensor in lowered.graph.initializer}
        assert TensorProto.UINT8 not in types
        assert {dtype for _, dtype in pairs(lowered).values()} == {np.dtype(np.int8)}


def test_biases_are_whole_units_of_the_sums_already_in_the_portable_model():
    model = network()
    precision = integers(model)
    held, written = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in lowered.graph.initializer}
        for lowered in (lower(model, way, precision=precision) for way in ("plugin", "gather"))
    )
    portable = lower(model, "plugin", precision=precision)
    made = {node.output[0]: node for node in portable.graph.node}
    exact = [array for array in written.values() if array.dtype == np.int32 and array.any()]
    count = 0
    for node in portable.graph.node:
        if node.op_type != "PerforatedConv":
            continue
        x, w, bias = made[node.input[0]], made[node.input[2]], held[node.input[3]]
        units = bias / (held[x.input[1]] * held[w.input[1]])
        np.testing.assert_allclose(units, np.rint(units), atol=1e-2)
        whole = np.rint(units).astype(np.int32)
        assert any(np.array_equal(whole, array) for array in exact)
        count += 1
    assert count == 4
