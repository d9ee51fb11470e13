"""Whole networks in files of fixed sizes: one image's gates are found, and soft ones left alone."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import onnx
import pytest

from pagdeploy.ops import DOMAIN
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower, read_module, recognise, run_passes
from tests.models import run_onnxruntime
from tests.passes.recognition import ops_of

torch = pytest.importorskip("torch", reason="the networks are written in PyTorch")
from pagdeploy.exporters.models import catalogue  # noqa: E402
from pagdeploy.passes import (  # noqa: E402
    choose_assigned,
    infer_perforation,
    recognise_gates,
    recognise_masked_conv,
    recognise_steps,
    remove_gate_noise,
    unstack_branches,
)

pytestmark = pytest.mark.slow

both_writers = pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "script"])
SOFT = [s for s in catalogue.SYSTEMS if not s.gates and s.granularity == "none"]
ONE_IMAGE = ["BlockDrop", "ConvNet-AIG", "DynConv", "LAUDNet (layers)", "SACT", "SkipNet"]
LOOKING = (
    remove_gate_noise, choose_assigned, recognise_steps, unstack_branches, recognise_gates,
    recognise_masked_conv, infer_perforation,
)  # fmt: skip


def written(system: catalogue.System, dynamo: bool, images: int):
    """The network as an exporter writes it for inputs of one size, and its inputs."""
    network, inputs = system.factory().eval(), system.inputs(images, system.size)
    names = [f"in{number}" for number in range(len(inputs))]
    file = io.BytesIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(
                network, inputs, dynamo=True, verbose=False, opset_version=18, input_names=names
            )
            model = program.model_proto
        else:
            torch.onnx.export(
                network, inputs, file, dynamo=False, opset_version=17, input_names=names
            )
            model = onnx.load_from_string(file.getvalue())
    return model, {name: x.numpy() for name, x in zip(names, inputs, strict=True)}


@both_writers
@pytest.mark.parametrize("name", ONE_IMAGE)
def test_every_gate_is_found_in_a_file_for_one_image(name, dynamo):
    system = catalogue.find(name)
    model, feeds = written(system, dynamo, images=1)
    portable, plugin = recognise(model), lower(model, "plugin")
    assert ops_of(portable)["PAGGate"] == system.gates
    assert ops_of(plugin)["PerforatedConv"] == system.perforable
    expected = run_onnxruntime(model, feeds)
    for other in (attach_bodies(plugin), lower(model, "gather")):
        for one, found in zip(expected, run_onnxruntime(other, feeds), strict=True):
            np.testing.assert_allclose(found, one, rtol=0, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("system", SOFT, ids=[system.name for system in SOFT])
def test_a_network_without_hard_gates_stays_as_it_is(system):
    model, _ = written(system, dynamo=True, images=1)
    assert recognise(model) is model
    assert all(not rewrites for _, rewrites, _ in run_passes(read_module(model), LOOKING))
    assert {node.domain for node in lower(model, "plugin").graph.node} <= {"", "ai.onnx"}
    assert DOMAIN not in {node.domain for node in lower(model, "gather").graph.node}
