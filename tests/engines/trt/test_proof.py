"""Verify holds a plan to the portable model, and planted faults do not pass."""

from __future__ import annotations

import re

import numpy as np
import pytest
from onnx import numpy_helper

from pagdeploy.engines.base import BuildOptions
from pagdeploy.verbs.build import build
from pagdeploy.verbs.verify import verify
from tests.engines.trt.conftest import change_plan


@pytest.fixture
def bundle(install, model_file, tmp_path):
    """A bundle with a plan of TensorRT 10."""
    install(10)
    path = tmp_path / "m.pagbundle"
    shapes = {"image": [1, 3, 20, 24]}
    build(model_file, path, engine="tensorrt", lowering="plugin", shapes=shapes)
    return path


def swapped_branch(model):
    """The convolution computes where it should not."""
    node = next(node for node in model.graph.node if node.name == "node a")
    next(a for a in node.attribute if a.name == "branch").i = 0


def last_index_wins(model):
    """A gate gives a tie to the highest index."""
    gate = next(function for function in model.functions if function.name == "PAGGate")
    node = next(node for node in gate.node if node.op_type == "ArgMax")
    told = [a for a in node.attribute if a.name == "select_last_index"]
    assert told, "the body says it"
    told[0].i = 1


def wrong_weight(model):
    """A weight is not the one of the model."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), "w1"))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (swapped_branch, "Output 'y' differs by .* of its scale"),
        (last_index_wins, "Gate 'node s2' decides .* pixels not as its own logits say: the lowest"),
        (wrong_weight, "Output 'y' differs by"),
    ],
)
def test_a_plugin_that_computes_something_else_fails(fault, text, bundle, monkeypatch):
    import tensorrt._runtime as runtime

    computed = runtime.computed

    def wrongly(model):
        faulty = computed(model)
        fault(faulty)
        return faulty

    assert verify(bundle).passed
    monkeypatch.setattr(runtime, "computed", wrongly)
    result = verify(bundle)
    assert not result.passed and re.match(text, str(result.reason)), result.reason


@pytest.mark.parametrize("fault", [swapped_branch, wrong_weight])
def test_a_plan_that_is_not_of_its_graph_fails(fault, bundle):
    change_plan(bundle, fault)
    result = verify(bundle)
    assert re.match(
        "The plan's output 'y' differs by .* from a plan of the same graph", str(result.reason)
    ), result.reason
    assert verify(bundle, graph_only=True).passed


def test_variants_are_built_as_the_plan_was(install, model_file, tmp_path, monkeypatch):
    """With other tactics they would say nothing of it."""
    trt = install(10)
    path = tmp_path / "m.pagbundle"
    options = BuildOptions(builder_optimization_level=2, memory_pools={"workspace": 2**26})
    shapes = {"image": [1, 3, 8, 8]}
    build(
        model_file, path, engine="tensorrt", lowering="plugin", precision="tf32", shapes=shapes,
        options=options,
    )  # fmt: skip
    make, seen = trt.Builder.build_serialized_network, []

    def watched(self, network, config):
        flags = {flag.name for flag in config._flags}
        seen.append((config.builder_optimization_level, config._pools, flags))
        return make(self, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", watched)
    assert verify(path).passed
    assert seen == [(2, {"WORKSPACE": 2**26}, {"TF32"})] * 4
