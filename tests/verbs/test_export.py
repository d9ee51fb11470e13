"""What the exporter is asked, and what it says about weights, modes and precisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pagdeploy.bundle import open_bundle
from pagdeploy.engines.ort import OnnxRuntimeEngine
from pagdeploy.errors import UsageError
from pagdeploy.verbs.export import export

NET = """
from torch import nn

def factory():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Dropout())
"""
OWN = "No checkpoint is given; the weights are those that the factory made."


@pytest.fixture
def net(tmp_path: Path) -> str:
    """Where to find a model that answers by chance in training mode."""
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py:factory"


def network() -> nn.Module:
    """The same model."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Dropout()).eval()


SHAPES = {"image": (1, 3, 8, 9)}


def test_nothing_is_exported_into_a_sealed_bundle(bundle):
    with pytest.raises(UsageError, match="lies inside the bundle"):
        export(nn.Identity(), bundle / "other.onnx")
    open_bundle(bundle)


def test_without_a_checkpoint_the_weights_are_said_to_be_the_factorys(net, tmp_path):
    steps: list[str] = []
    result = export(
        net, tmp_path / "m.onnx", shapes=SHAPES, progress=lambda step, *_: steps.append(step)
    )
    assert result.warnings == [OWN]
    assert steps == ["load the model", "export", "recognise gates", f"wrote {tmp_path}/m.onnx"]
    ops = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert ops == {"Conv"}, "the factory's model is exported in evaluation mode"


def test_a_checkpoint_or_a_module_needs_no_such_warning(net, tmp_path):
    torch.save(network().state_dict(), tmp_path / "w.pt")
    result = export(net, tmp_path / "m.onnx", weights=tmp_path / "w.pt", shapes=SHAPES)
    assert result.warnings == []
    assert export(network(), tmp_path / "m.onnx", shapes=SHAPES).warnings == []
    program = torch.export.export(network(), (torch.zeros(1, 3, 8, 9),))
    torch.export.save(program, tmp_path / "m.pt2")
    assert export(f"{tmp_path}/m.pt2", tmp_path / "m.onnx").warnings == []


def test_a_half_precision_model_is_exported_in_its_own_precision(tmp_path):
    model = network().half()
    export(model, tmp_path / "m.onnx", shapes=SHAPES)
    session = OnnxRuntimeEngine().load((tmp_path / "m.onnx").read_bytes())
    assert [info.dtype for info in session.inputs] == ["float16"]
    x = np.random.default_rng(0).random((1, 3, 8, 9)).astype(np.float16)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run({"image": x})["output"], wanted, rtol=1e-2, atol=1e-2)
