"""Every network that we ship, in every precision, held to its float32 self in onnxruntime.

The bounds are those of `check.compare`; what was measured stands beside the assertions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pagdeploy.check.compare import LOWERING_BOUNDS, NETWORK_BOUNDS, OUTPUT_RMS_BOUNDS
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from pagdeploy.verbs.calibrate import calibrate
from pagdeploy.verbs.export import export
from pagdeploy.verbs.proof import Verification, verify_models

torch = pytest.importorskip("torch", reason="the networks are exported from PyTorch")

SIZE = (64, 80)
NETWORKS = ("random", "trained")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    """PAG-ResNets with MultiPool as portable models: of either norm, with and without blur."""
    from pagdeploy.examples.rooms.model import trained

    folder = tmp_path_factory.mktemp("networks")
    modules = {"random": random_network("cha_atten"), "trained": trained("gated50")}
    exported = {}
    for name, module in modules.items():
        path = folder / f"{name}.onnx"
        export(module, path, shapes={"image": (1, 3, *SIZE)})
        exported[name] = onnx.load(path)
    return exported


def random_network(norm: str) -> Any:
    """A narrow network whose norms and gates do something: each branch is taken somewhere."""
    from pagdeploy.exporters.models.pag_resnet import PAGResNet
    from pagdeploy.exporters.modules import PAGGate

    torch.manual_seed(0)
    network = PAGResNet((1, 1, 1, 2), 4, {"depth": 1, "normals": 3}, norm=norm, blur=True)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.3)
        elif name.endswith(("running_var", "running_sigma")):
            buffer.uniform_(0.5, 1.5)
    for gate in (module for module in network.modules() if isinstance(module, PAGGate)):
        last = gate.head if isinstance(gate.head, torch.nn.Conv2d) else gate.head[-1]
        torch.nn.init.normal_(last.weight)
        torch.nn.init.zeros_(last.bias)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Scenes of the example, whatever the network makes of them, (2, 3, H, W)."""
    from pagdeploy.examples.rooms.scenes import render

    return np.stack([render(900_500 + i, *SIZE).image for i in range(2)]).astype(np.float32)


def verified(
    model: onnx.ModelProto, lowering: str, precision: Precision, images: np.ndarray
) -> Verification:
    """The network in a precision against its float32 self."""
    return verify_models(
        model,
        lower(model, lowering, precision=precision, emulated=True),
        {"image": images},
        precision=precision.name,
        rounded=lower(model, "plugin", precision=precision, emulated=True),
    )


@pytest.mark.parametrize("lowering", ["gather", "dense"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_is_within_its_bound(networks, images, name, precision, lowering):
    verdict = verified(networks[name], lowering, Precision(precision), images)
    assert verdict.passed, verdict.reason
    errors = [output.error for output in verdict.outputs]
    assert 0 < max(errors) <= NETWORK_BOUNDS[precision]
    # Flips happen, are counted, and are explained by a margin that the rounding covers.
    assert all(g.worst_margin <= g.margin_bound for g in verdict.gates)
    pixels = sum(gate.pixels for gate in verdict.gates)
    forced = sum(gate.forced_flips for gate in verdict.gates)
    assert forced <= {"fp16": 0.002, "bf16": 0.01}[precision] * pixels
    # The lowering itself adds nothing to what the precision costs.
    assert max(branch.error for branch in verdict.branches) <= max(errors)


@pytest.fixture(scope="module")
def in_int8(networks, images) -> dict[str, Precision]:
    """Int8 for each network, calibrated on the first image."""
    seen = {name: calibrate(model, {"image": images[:1]}) for name, model in networks.items()}
    return {
        name: Precision("int8", ranges={key: value.interval for key, value in found.items()})
        for name, found in seen.items()
    }


@pytest.mark.parametrize("lowering", ["gather", "dense"])
@pytest.mark.parametrize("name", NETWORKS)
def test_integer_kernels_are_within_the_bounds_of_int8(networks, in_int8, images, name, lowering):
    precision = replace(in_int8[name], integer_kernels=True)
    verdict = verified(networks[name], lowering, precision, images[1:])
    assert verdict.passed, verdict.reason
    # A sum between two steps falls on the other one where integers are summed instead of floats.
    assert max(branch.error for branch in verdict.branches) <= LOWERING_BOUNDS["int8"]
    # Values that are never negative have twice as many steps.
    assert max(output.rms for output in verdict.outputs) <= OUTPUT_RMS_BOUNDS["int8"] / 4


@pytest.mark.parametrize("lowering", ["gather", "dense"])
@pytest.mark.parametrize("name", NETWORKS)
def test_int8_is_within_its_bound(networks, in_int8, images, name, lowering):
    precision = in_int8[name]
    verdict = verified(networks[name], lowering, precision, images[1:])
    assert verdict.passed, verdict.reason
    assert max(branch.error for branch in verdict.branches) <= 1e-4
    # Half of what is allowed was measured with the worst of several calibrations.
    assert max(output.rms for output in verdict.outputs) <= OUTPUT_RMS_BOUNDS["int8"] / 2


def with_a_scale_doubled(engine: onnx.ModelProto, index: int) -> None:
    """Plant a fault: the weights of the layer of that index in the engine are twice as large."""
    held = {tensor.name: tensor for tensor in engine.graph.initializer}
    layers = [node for node in engine.graph.node if node.op_type == "DequantizeLinear"]
    layer = [node for node in layers if node.input[0] in held][index]
    wrong = numpy_helper.to_array(held[layer.input[1]]) * np.float32(2)
    engine.graph.initializer.append(numpy_helper.from_array(wrong, "wrong"))
    layer.input[1] = "wrong"


def with_branches_swapped(engine: onnx.ModelProto, index: int) -> None:
    """Plant a fault: the selection of that index chooses the other branch."""
    choice = [node for node in engine.graph.node if node.op_type == "Where"][index]
    choice.input[1], choice.input[2] = choice.input[2], choice.input[1]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("fault", [with_a_scale_doubled, with_branches_swapped])
@pytest.mark.parametrize("index", [3, -3])
def test_a_fault_in_one_layer_of_an_int8_engine_is_found(
    networks, in_int8, images, name, fault, index
):
    model, precision = networks[name], in_int8[name]
    engine = lower(model, "dense", precision=precision)
    fault(engine, index)
    rounded = lower(model, "plugin", precision=precision)
    given = {"image": images[1:]}
    verdict = verify_models(model, engine, given, precision="int8", rounded=rounded)
    assert not verdict.passed


@pytest.mark.parametrize("name", NETWORKS)
def test_a_calibration_that_clips_is_found_in_the_outputs(networks, in_int8, images, name):
    """Which the portable model in int8 suffers from, too."""
    model, precision = networks[name], in_int8[name]
    assert precision.ranges is not None
    narrow = {key: (low / 8, high / 8) for key, (low, high) in precision.ranges.items()}
    verdict = verified(model, "dense", Precision("int8", ranges=narrow), images[1:])
    assert any(output.rms > output.rms_bound for output in verdict.outputs)
    assert not verdict.passed


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type that the file states for each value."""
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("precision", "half"), [("fp16", 10), ("bf16", 16)])
def test_convolutions_are_of_16_bits_and_gates_are_not(networks, name, precision, half):
    model = lower(networks[name], "plugin", precision=Precision(precision))
    types = element_types(model)
    gates = {node.input[0] for node in model.graph.node if node.op_type == "PAGGate"}
    assert gates and {types[logits] for logits in gates} == {1}
    made = {output: node for node in model.graph.node for output in node.output}
    heads = set()
    pending = list(gates)
    while pending:  # back to the first cast: what a gate decides on
        node = made[pending.pop()]
        if node.op_type != "Cast":
            heads.add(node.name)
            pending += [source for source in node.input if source in made]
    for node in model.graph.node:
        if node.op_type in ("Conv", "PerforatedConv"):
            weights = 2 if node.op_type == "PerforatedConv" else 1
            operands = {types[node.input[0]], types[node.input[weights]], types[node.output[0]]}
            assert operands == ({1} if node.name in heads else {half}), node.name
    convolved = [node for node in model.graph.node if node.op_type == "Conv"]
    assert sum(node.name in heads for node in convolved) <= len(gates) + 2, "MultiPool has three"
    inside = {w for n in model.graph.node if n.name in heads for w in n.input}
    wide = {t.name for t in model.graph.initializer if t.data_type == 1 and len(t.dims) == 4}
    assert wide <= inside, "no weight stays float32 outside of a gate"


def test_gates_in_float32_are_what_keeps_the_decisions(networks, images, monkeypatch):
    """With the scores themselves in bfloat16, more than ten times as many pixels flip."""
    from pagdeploy.passes import cast_precision

    def flips() -> int:
        verdict = verified(networks["trained"], "dense", Precision("bf16"), images)
        return sum(gate.forced_flips for gate in verdict.gates)

    with_islands = flips()
    monkeypatch.setattr(cast_precision, "gate_heads", lambda model: set())
    assert flips() > 10 * max(1, with_islands)


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_and_empty_masks_compute_in_half_precision_too(networks, images, name):
    from pagdeploy.graph.gates import force_selections, gates_of
    from pagdeploy.verbs.proof import run_lowered
    from pagdeploy.verbs.reference import run_reference

    model = networks[name]
    selections = [gate.selection for gate in gates_of(model)]
    decided = run_reference(model, {"image": images[:1]})
    engines = [
        force_selections(
            lower(model, lowering, precision=Precision("fp16"), emulated=True), selections
        )
        for lowering in ("gather", "dense")
    ]
    exact = force_selections(lower(model, "dense"), selections)
    for branch in (0, 1):
        masks = {n: np.full_like(decided[n], branch) for n in selections}
        given = {"image": images[:1], **masks}
        expected = run_lowered(exact, given)
        for engine in engines:
            answers = run_lowered(engine, given)
            for output in (value.name for value in model.graph.output):
                error = abs(answers[output] - expected[output]).max()
                assert error <= NETWORK_BOUNDS["fp16"] * abs(expected[output]).max()
