"""Layers of int8 engines, whose values are integers by the reference's names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from pagdeploy.graph.quantized import held_as_integers, with_floats
from pagdeploy.pipeline import lower, seen_by
from pagdeploy.precision import Precision
from pagdeploy.verbs.build import build
from pagdeploy.verbs.calibrate import calibrate
from pagdeploy.verbs.closer import CloserLook, look_closer
from pagdeploy.verbs.proof import Verification, run_lowered, verify_models
from pagdeploy.verbs.verify import verify
from tests import faults

IMAGES = np.random.default_rng(0).random((3, 3, 14, 18)).astype(np.float32)
INPUTS = {"image": IMAGES[:1]}
LOWERINGS = ("gather", "dense")


@pytest.fixture(scope="module")
def int8() -> Precision:
    """Calibrated on other images than the one that is verified on."""
    seen = calibrate(faults.network(), {"image": IMAGES[1:]})
    return Precision("int8", ranges={name: value.interval for name, value in seen.items()})


def closer(engine: onnx.ModelProto, lowering: str, precision: Precision) -> Verification:
    """What `verify --layers --bisect` says of an engine of the network."""
    portable = faults.network()
    rounded = lower(portable, "plugin", precision=precision, emulated=True)
    verdict = verify_models(portable, engine, INPUTS, precision="int8", rounded=rounded)
    look = CloserLook(portable, engine, INPUTS, lowering=lowering, precision=precision)
    return look_closer(verdict, look, layers=True, bisect=True)


def built(
    lowering: str, precision: Precision, integers: bool
) -> tuple[onnx.ModelProto, str, Precision]:
    """The network in a lowering, as `closer` takes it."""
    asked = replace(precision, integer_kernels=integers)
    return lower(faults.network(), lowering, precision=asked, emulated=True), lowering, asked


@pytest.mark.parametrize("integers", [False, True], ids=["floats", "integers"])
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_a_healthy_engine_is_cleared(int8, lowering, integers):
    result = closer(*built(lowering, int8, integers))
    assert result.passed, result.reason
    assert result.fault is None and result.builds == 2
    ends = {node for layer in result.layers for node in layer.nodes}
    for node in ("stem (Conv)", "refine1 (PerforatedConv)", "mix (Conv)", "head (Conv)"):
        assert node in ends


@pytest.mark.parametrize("integers", [False, True], ids=["floats", "integers"])
@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("layer", ["mix", "refine1", "refine3"])
def test_steps_that_are_too_large_are_named(int8, lowering, integers, layer):
    """The convolution, or, where that is a layer of its own, what widens its weights."""
    engine, name, asked = built(lowering, int8, integers)
    faults.larger_steps(engine, layer)
    result = closer(engine, name, asked)
    assert not result.passed
    assert result.fault is not None, result.reason
    named = [node for node in result.fault.nodes if node.split()[0].split("/")[0] == layer]
    assert named, result.fault.reason
    assert len(result.fault.nodes) <= 6, "two branches of one gate, and their weights"


def test_integers_are_shown_as_the_numbers_they_stand_for(int8):
    engine, _, asked = built("gather", int8, True)
    reference = seen_by("gather", faults.network(), asked)
    held = held_as_integers(reference, engine)
    assert "refined1" in held
    roundings = {name: rounding for name, rounding in held.items() if rounding is not None}
    opened = with_floats(engine, roundings)
    onnx.checker.check_model(opened)
    for name in roundings:
        opened.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    before, after = run_lowered(engine, INPUTS), run_lowered(opened, INPUTS)
    np.testing.assert_array_equal(after["depth"], before["depth"])
    for name, rounding in roundings.items():
        step = onnx.numpy_helper.to_array(rounding.scale)
        np.testing.assert_allclose(after[name] / step, np.round(after[name] / step), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_the_trained_network_is_cleared(lowering, tmp_path):
    """As onnxruntime's integer kernels compute it, calibrated on enough other scenes."""
    pytest.importorskip("torch")
    from pagdeploy.examples.rooms.model import trained
    from pagdeploy.examples.rooms.scenes import render
    from pagdeploy.verbs.export import export

    images = np.stack([render(902_000 + i, 64, 80).image for i in range(9)]).astype(np.float32)
    export(trained("gated50"), tmp_path / "m.onnx", shapes={"image": (1, 3, 64, 80)})
    build(
        tmp_path / "m.onnx", tmp_path / "m.pagbundle", engine="onnxruntime", lowering=lowering,
        precision="int8", calibration={"image": images[1:]}, inputs={"image": images[:1]},
    )  # fmt: skip
    result = verify(tmp_path / "m.pagbundle", layers=True, bisect=True)
    assert result.passed, result.reason
    assert result.fault is None and len(result.layers) > 100
    assert all(gate.unexplained == 0 for gate in result.gates)
