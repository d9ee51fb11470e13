"""What the passes find in the gated networks of the literature, written in their authors' style."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import onnx
import pytest

from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower, recognise
from tests.models import run_onnxruntime
from tests.passes.recognition import ops_of

torch = pytest.importorskip("torch", reason="the networks are written in PyTorch")
from pagdeploy.exporters.models import catalogue, perforated_cnn  # noqa: E402

pytestmark = pytest.mark.slow

# Their maps must be divisible; the exporter writes that down only by fixing the sizes.
FIXED = {"DynConv (depthwise, pose)", "LASNet (patches)", "LAUDNet (layers)", "SBNet"}
GATED = [system for system in catalogue.SYSTEMS if system.gates and system.granularity != "static"]
NAMES = [system.name for system in GATED]


def exported(system):
    """The network as PyTorch's own exporter writes it, and its inputs."""
    inputs = system.inputs(2, system.size)
    names = [f"in{number}" for number in range(len(inputs))]
    axes = {0: "n", 2: "h", 3: "w"}
    shapes = None if system.name in FIXED else tuple(axes for _ in inputs)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            system.factory(),
            inputs,
            dynamo=True,
            verbose=False,
            opset_version=18,
            input_names=names,
            dynamic_shapes=shapes,
        )
    feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return program.model_proto, feeds


@pytest.mark.parametrize("system", GATED, ids=NAMES)
def test_every_gate_and_every_convolution_behind_it_is_found(system):
    model, feeds = exported(system)
    portable, plugin = recognise(model), lower(model, "plugin")
    assert ops_of(portable)["PAGGate"] == system.gates
    assert ops_of(plugin)["PerforatedConv"] == system.perforable
    onnx.checker.check_model(portable, full_check=True)
    expected = run_onnxruntime(model, feeds)
    for other in (portable, attach_bodies(plugin), lower(model, "gather")):
        for one, found in zip(expected, run_onnxruntime(other, feeds), strict=True):
            scale = np.abs(one).max()
            np.testing.assert_allclose(found, one, rtol=0, atol=1e-4 * scale)


def by_impact():
    network = perforated_cnn.vgg()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    perforated_cnn.perforate_by_impact(network, images, torch.tensor([1, 2]), 1 / 3)
    return network


STRUCTURES = {
    "uniform": lambda: perforated_cnn.vgg(mask=perforated_cnn.uniform),
    "grid": lambda: perforated_cnn.vgg(mask=perforated_cnn.grid),
    "structure": perforated_cnn.vgg,
    "impact": by_impact,
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_static_perforation_of_every_structure_is_found(structure, dynamic):
    network, images = STRUCTURES[structure](), torch.randn(2, 3, 64, 64)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=18,
            input_names=["x"],
            dynamic_shapes=({0: "n"},) if dynamic else None,
        )
    model, feeds = program.model_proto, {"x": images.numpy()}
    plugin = lower(model, "plugin")
    assert ops_of(plugin)["PerforatedConv"] == catalogue.find("PerforatedCNN").perforable
    (wanted,) = run_onnxruntime(model, feeds)
    for other in (attach_bodies(plugin), lower(model, "gather")):
        (found,) = run_onnxruntime(other, feeds)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
