"""An engine held to other implementations of its function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from pagdeploy.errors import UsageError
from pagdeploy.verbs.verify import verify
from tests import faults

SHAPES = {"image": (1, 3, 14, 18)}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The network, and one with an earlier checkpoint's weights."""
    other = faults.network()
    faults.scale_weight(other, "mix_w", 1.2)
    paths = tmp_path / "network.onnx", tmp_path / "other.onnx"
    for path, model in zip(paths, (faults.network(), other), strict=True):
        onnx.save(model, path)
    return paths


def test_the_dense_lowering_agrees_with_the_same_decisions_forced(files):
    result = verify(files[0], shapes=SHAPES, against="dense")
    assert result.passed, result.reason
    assert result.against is not None
    assert [output.name for output in result.against.forced] == ["depth"]
    assert result.against.flips == {"gate1": 0, "gate2": 0}


def test_a_file_of_other_weights_differs(files):
    assert verify(files[0], shapes=SHAPES, against=str(files[0])).passed
    result = verify(files[0], shapes=SHAPES, against=str(files[1]))
    assert not result.passed
    assert "'depth' differs by" in str(result.reason) and "other.onnx" in str(result.reason)


def test_what_does_not_fit_is_told_in_one_sentence(files, tmp_path):
    with pytest.raises(UsageError, match="nothing to compare with at nowhere"):
        verify(files[0], shapes=SHAPES, against="nowhere")
    with pytest.raises(UsageError, match="needs the model's factory"):
        verify(files[0], shapes=SHAPES, against="torch")
    renamed = faults.network()
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "distance"
    onnx.save(renamed, tmp_path / "renamed.onnx")
    with pytest.raises(UsageError, match="has the outputs distance"):
        verify(files[0], shapes=SHAPES, against=str(tmp_path / "renamed.onnx"))


FACTORY = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return SCALE * x

def factory():
    return Model()
"""


def test_pytorch_is_held_to_the_engine(tmp_path):
    pytest.importorskip("torch")
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        double (float[n, 1, h, w] x) => (float[n, 1, h, w] y) { y = Add (x, x) }
    """)
    path = tmp_path / "double.onnx"
    onnx.save(model, path)
    given = {"x": np.ones((1, 1, 3, 4), np.float32)}
    for scale in (2, 3):
        source = tmp_path / f"times{scale}.py"
        source.write_text(FACTORY.replace("SCALE", str(scale)))
        result = verify(path, inputs=given, against="torch", factory=f"{source}:factory")
        assert result.passed == (scale == 2)
        assert result.against is not None and not result.against.forced
