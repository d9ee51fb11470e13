"""Faults are planted in lowered engines: each must be found, and the node named that has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from pagdeploy.check.compare import EPSILON
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from pagdeploy.verbs.bisect import Fault
from pagdeploy.verbs.closer import CloserLook, look_closer
from pagdeploy.verbs.layers import LayerView
from pagdeploy.verbs.proof import Verification, run_lowered, verify_models
from tests import faults
from tests.native import op_library

IMAGE = np.random.default_rng(0).random((1, 3, 14, 18)).astype(np.float32)
INPUTS = {"image": IMAGE}
LOWERINGS = ("gather", "dense", "native")
Plant = Callable[[onnx.ModelProto], None]


def runner(lowering: str) -> Callable[..., dict[str, Any]]:
    """Runs graphs of a lowering, or skips the test."""
    if lowering != "native":
        return run_lowered
    library = op_library()

    def run(model: onnx.ModelProto, inputs: Mapping[str, Any]) -> dict[str, Any]:
        from pagdeploy.engines.ort import OnnxRuntimeEngine

        wanted = {value.name for value in model.graph.input}
        session = OnnxRuntimeEngine().load(model.SerializeToString(), plugins=[library])
        return session.run({name: array for name, array in inputs.items() if name in wanted})

    return run


def closer(
    portable: onnx.ModelProto,
    engine: onnx.ModelProto,
    lowering: str,
    precision: Precision = Precision(),  # noqa: B008
    *,
    layers: bool = False,
    inputs: Mapping[str, Any] = INPUTS,
) -> Verification:
    """What `verify --bisect` says."""
    run = runner(lowering)
    rounded = None
    if precision.is_half:
        rounded = lower(portable, "plugin", precision=precision, emulated=True)
    verdict = verify_models(
        portable, engine, inputs, precision=precision.name, rounded=rounded, runner=run
    )
    look = CloserLook(portable, engine, inputs, lowering=lowering, precision=precision, runner=run)
    return look_closer(verdict, look, layers=layers, bisect=True)


def named(result: Verification) -> Fault:
    """The fault that was found."""
    assert not result.passed
    assert result.fault is not None, result.reason
    return result.fault


def wrong_dilation(engine: onnx.ModelProto) -> None:
    faults.wrong_dilation(engine, "mix")


def shifted_decision(engine: onnx.ModelProto) -> None:
    faults.shifted_decision(engine, "selection2")


def shifted_mask(engine: onnx.ModelProto) -> None:
    faults.shifted_mask(engine, "selection1")


def swapped_branches(engine: onnx.ModelProto) -> None:
    faults.swapped_branches(engine, "selection1")


def reversed_ties(engine: onnx.ModelProto) -> None:
    faults.reversed_ties(engine, "selection2")


def stale_weight(engine: onnx.ModelProto) -> None:
    faults.stale_weight(engine, faults.network(), "refine2_w")


def stale_head(engine: onnx.ModelProto) -> None:
    faults.stale_weight(engine, faults.network(), "gate2_w")


def off_by_one(engine: onnx.ModelProto) -> None:
    faults.off_by_one_at_the_border(engine, "refined1")


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(
    ("plant", "node"),
    [
        (wrong_dilation, "mix (Conv)"),
        (shifted_decision, "gate2 (PAGGate)"),
        (shifted_mask, "refine1 (PerforatedConv)"),
        (swapped_branches, "refine1 (PerforatedConv)"),
        (reversed_ties, "gate2 (PAGGate)"),
        (stale_weight, "refine2 (PerforatedConv)"),
        (stale_head, "gate2/head (Conv)"),
        (off_by_one, "refine1 (PerforatedConv)"),
    ],
)
def test_a_planted_fault_is_found_and_named(plant: Plant, node: str, lowering: str) -> None:
    portable = faults.network()
    engine = lower(portable, lowering)
    plant(engine)
    fault = named(closer(portable, engine, lowering))
    assert node in fault.nodes and len(fault.nodes) <= 2, fault.reason
    assert node in fault.reason
    assert fault.engine_nodes
    # 10 layers, in two settings: a logarithm of them, and the layer alone.
    assert fault.builds <= 7


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_a_dilation_that_a_lowering_misreads_is_named(lowering: str) -> None:
    """Of a perforated convolution, whose pixels the gathering lowering finds by itself."""
    portable, misread = faults.network(), faults.network()
    for attribute in faults.producer(misread, "refined2").attribute:
        if attribute.name in ("dilations", "pads"):
            attribute.ints[:] = [size // 2 for size in attribute.ints]
    fault = named(closer(portable, lower(misread, lowering), lowering))
    # Gathered, the two branches of one gate are one layer.
    assert fault.nodes[0] == "refine2 (PerforatedConv)" and len(fault.nodes) <= 2


@pytest.mark.parametrize("lowering", ["gather", "dense"])
def test_a_convolution_that_overflows_float16_is_named(lowering: str) -> None:
    """Its float32 self is healthy: the next convolution scales everything back."""
    portable = faults.network()
    faults.scale_weight(portable, "refine2_w", 2.0**17)
    faults.scale_weight(portable, "refine3_w", 0.0)  # reads the joined map, not the large one
    faults.scale_weight(portable, "head_w", 2.0**-17)
    assert closer(portable, lower(portable, lowering), lowering).passed
    half = Precision("fp16")
    engine = lower(portable, lowering, precision=half, emulated=True)
    result = closer(portable, engine, lowering, half, layers=True)
    fault = named(result)
    assert "refine2 (PerforatedConv)" in fault.nodes
    assert "NaNs or infinities" in fault.reason
    assert any(finding.startswith("The layer 'refined") for finding in result.findings)
    assert any(finding.startswith("Output 'depth' holds") for finding in result.findings)
    assert any(layer.not_finite for layer in result.layers)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_healthy_engine_is_cleared(lowering: str, precision: str) -> None:
    if lowering == "native" and precision != "fp32":
        pytest.skip("the native ops compute in float32")
    portable, asked = faults.network(), Precision(precision)
    engine = lower(portable, lowering, precision=asked, emulated=True)
    result = closer(portable, engine, lowering, asked, layers=True)
    assert result.passed, result.reason
    assert result.fault is None and result.builds == 2
    assert all(layer.own.passed and layer.drift and layer.drift.passed for layer in result.layers)
    assert all(output.passed for output in result.recognition)
    # Every convolution is the end of a layer of its own.
    ends = {node for layer in result.layers for node in layer.nodes}
    for node in ("stem (Conv)", "refine1 (PerforatedConv)", "mix (Conv)", "head (Conv)"):
        assert node in ends
    assert not result.findings


def test_a_small_fault_that_the_outputs_forgive_is_seen_in_its_layer() -> None:
    """A weight larger by half a percent: below the bounds of a float16 network."""
    portable, half = faults.network(), Precision("fp16")
    wrong = faults.network()
    faults.scale_weight(wrong, "mix_w", 1.005)
    engine = lower(wrong, "dense", precision=half, emulated=True)
    result = closer(portable, engine, "dense", half, layers=True)
    assert all(output.passed for output in result.outputs)
    assert result.reason is not None
    assert "'mix_" in result.reason


# What is left of a difference is a fortieth of what it is taken of.
CANCELLING = """
<ir_version: 8, opset_import: ["" : 17]>
cancelling (float[n, 1, h, w] image) => (float[n, 1, h, w] y)
<float[1, 1, 1, 1] small = {0.1}, float[1] around = {4}, float four = {4},
 float[1, 1, 1, 1] w = {3}>
{
    sums = Conv <kernel_shape = [1, 1]> (image, small, around)
    left = Sub (sums, four)
    y = Conv <kernel_shape = [1, 1]> (left, w)
}
"""


@pytest.mark.parametrize("wrong", [None, 4.05])
def test_a_difference_is_held_to_what_it_is_taken_of(wrong: float | None) -> None:
    portable = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(CANCELLING))
    half = Precision("bf16")
    engine = lower(portable, "dense", precision=half, emulated=True)
    if wrong is not None:
        for held in engine.graph.initializer:
            if held.name.startswith("four"):
                held.CopyFrom(numpy_helper.from_array(np.float32(wrong), held.name))
    view = LayerView(portable, engine, {"image": IMAGE[:, :1]}, {}, run_lowered, "bf16", (1.0, 1.0))
    layers = {layer.value: layer for layer in view.layers()}
    own = layers["left"].own
    assert own.error > 0.02, "the rounding of its operand is most of it"
    assert own.passed == (wrong is None), own.describe()
    assert layers["sums"].own.bound == layers["y"].own.bound == 3 * EPSILON["bf16"]


# A difference of nearly nothing, which counts for nothing in the sum behind it.
SWALLOWED = """
<ir_version: 8, opset_import: ["" : 17]>
swallowed (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float one = {1}, float k = {2}>
{
    difference = Sub (x, one)
    sum = Add (difference, x)
    y = Mul (sum, k)
}
"""


@pytest.mark.parametrize(("factor", "passes"), [(2.0, True), (3.0, False)])
def test_what_cancels_excuses_nothing_that_it_does_not_reach(factor: float, passes: bool) -> None:
    portable = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(SWALLOWED))
    fused = SWALLOWED.replace("sum = Add (difference, x)", "").replace("(sum, k)", "(x, k)")
    fused = fused.replace("difference = Sub (x, one)", "").replace("{2}", f"{{{factor:.0f}}}")
    x = np.ones((1, 1, 4, 4), np.float32)
    x[0, 0, 0, 0] += np.float32(1.2e-7)
    engine = onnx.parser.parse_model(fused)
    view = LayerView(portable, engine, {"x": x}, {}, run_lowered, "fp32", (1.0, 1.0))
    (layer,) = view.layers()
    assert layer.own.passed == passes, layer.own.describe()
    assert layer.own.bound < 1e-5
