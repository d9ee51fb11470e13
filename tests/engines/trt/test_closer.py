"""A closer look at a plan: its layers, its first fault, and other engines beside it."""

from __future__ import annotations

import onnx
import pytest

from pagdeploy.errors import EnvironmentProblem
from pagdeploy.verbs.build import build
from pagdeploy.verbs.verify import verify
from tests import faults
from tests.cli.test_commands import call

SHAPES = {"image": [1, 3, 14, 18]}


@pytest.fixture
def network(tmp_path):
    """The network that faults are planted in, as a file."""
    path = tmp_path / "network.onnx"
    onnx.save(faults.network(), path)
    return path


def plan_bundle(network, precision="fp32"):
    """A bundle with a plan of it."""
    path = network.parent / f"{precision}.pagbundle"
    build(network, path, engine="tensorrt", lowering="plugin", precision=precision, shapes=SHAPES)
    return path


@pytest.mark.parametrize("major", [8, 10, 11])
def test_a_healthy_plan_is_cleared_layer_by_layer(install, network, major):
    install(major)
    result = verify(plan_bundle(network), layers=True, bisect=True, against="dense")
    assert result.passed, result.reason
    assert [layer.value for layer in result.layers][-1] == "depth" and len(result.layers) == 11
    assert all(layer.own.passed and layer.drift and layer.drift.passed for layer in result.layers)
    assert result.fault is None and result.builds == 2
    assert result.against is not None and [o.name for o in result.against.forced] == ["depth"]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_plan_in_half_precision_is_cleared(install, network, precision):
    install(10)
    result = verify(plan_bundle(network, precision), layers=True, bisect=True)
    assert result.passed, result.reason
    assert max(layer.own.error for layer in result.layers) > 1e-5, "it is not float32"
    assert result.fault is None


def stale_weight(model):
    """A layer has the weights of an earlier checkpoint."""
    values = {tensor.name for tensor in model.graph.initializer}
    if any("refine2_w" in name for name in values):
        faults.scale_weight(model, next(n for n in values if "refine2_w" in n), 1.1)


def wrong_dilation(model):
    """A convolution reads pixels twice as far apart."""
    if any(node.name == "mix" for node in model.graph.node):
        faults.wrong_dilation(model, "mix")


def last_index_wins(model):
    """Gates give a tie to the highest index."""
    for function in model.functions:
        if function.name == "PAGGate":
            node = next(node for node in function.node if node.op_type == "ArgMax")
            next(a for a in node.attribute if a.name == "select_last_index").i = 1


@pytest.mark.parametrize(
    ("fault", "node"),
    [
        (stale_weight, "refine2 (PerforatedConv)"),
        (wrong_dilation, "mix (Conv)"),
        (last_index_wins, "gate1 (PAGGate)"),
    ],
)
def test_what_a_builder_gets_wrong_is_named(install, network, fault, node, monkeypatch):
    install(10)
    import tensorrt._runtime as runtime

    bundle, computed = plan_bundle(network), runtime.computed

    def wrongly(model):
        faulty = computed(model)
        fault(faulty)
        return faulty

    monkeypatch.setattr(runtime, "computed", wrongly)
    code, out, err = call("verify", bundle, "--bisect", "--layers")
    assert code == 1 and err.splitlines()[-1].startswith("failed: "), err
    assert f"first fault: {node} computes" in out


def test_the_graph_of_a_plan_is_looked_at_without_a_gpu(install, network, monkeypatch):
    from pagdeploy.engines.nvidia import driver
    from pagdeploy.engines.nvidia.driver import Driver

    install(10)
    bundle = plan_bundle(network)
    monkeypatch.setattr(driver, "driver", lambda: Driver((), None, "no driver is loaded"))
    code, out, err = call("verify", bundle, "--graph-only", "--layers", "--bisect")
    assert code == 0 and "bisect: no layer is beyond its bound" in out, err
    for options in ((), ("--layers",), ("--bisect",), ("--against", "dense")):
        code, out, err = call("verify", bundle, "-q", *options)
        assert (code, out, err.count("\n")) == (EnvironmentProblem.exit_code, "", 1), err
        assert err.startswith("error: ")
