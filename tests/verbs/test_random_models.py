"""Models that draw random numbers: built with a word of it, and never said to be faulty."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pagdeploy.verbs.build import build
from pagdeploy.verbs.verify import verify

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
sampled (float[n, 4, h, w] x) => (float[n, 4, h, w] y)
<float zero = {0}, float one = {1}>
{
    g = Conv (x, gate)
    %s
    m = Cast <to = 1> (runs)
    c = Conv <pads = [1, 1, 1, 1]> (x, weight)
    masked = Mul (c, m)
    y = Add (x, masked)
}"""
DRAWN = "p = Sigmoid (g) u = RandomUniformLike (p) runs = Less (u, p)"
NOISY = """u = RandomUniformLike (g) v = Sub (one, u) a = Log (u) e = Log (v) n0 = Sub (a, e)
    s = Add (g, n0) runs = Greater (s, zero)"""
SHAPES = {"x": [1, 4, 24, 20]}


@pytest.fixture
def written(tmp_path):
    """Writes a masked residual whose decision is made as told."""

    def write(decision: str):
        model = onnx.parser.parse_model(MODEL % decision)
        rng = np.random.default_rng(3)
        for name, shape in {"gate": (1, 4, 1, 1), "weight": (4, 4, 3, 3)}.items():
            array = rng.standard_normal(shape, np.float32)
            array -= array.mean()  # so that some pixels run and some do not
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        onnx.save(model, tmp_path / "m.onnx")
        return tmp_path / "m.onnx"

    return write


def test_a_drawn_mask_is_told_and_no_fault_of_the_engine(written, tmp_path):
    path, bundle = written(DRAWN), tmp_path / "m.pagbundle"
    result = build(path, bundle, engine="onnxruntime", shapes=SHAPES)
    (told,) = [each for each in result.warnings if "draws random numbers" in each]
    assert "(RandomUniformLike): two runs of it may differ" in told
    assert not result.manifest.gates, "a drawn mask is no gate"
    assert told in verify(path, shapes=SHAPES).warnings
    # onnxruntime seeds its draws once a process: another one draws other masks than are stored.
    command = [sys.executable, "-m", "pagdeploy", "verify", str(bundle), "--quiet"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    said = " ".join(answer.stderr.split())
    assert f"failed: {told} The reference computes 'y' otherwise" in said


def test_the_noise_of_a_gate_is_no_such_thing(written, tmp_path):
    path, bundle = written(NOISY), tmp_path / "m.pagbundle"
    result = build(path, bundle, engine="onnxruntime", shapes=SHAPES)
    assert len(result.manifest.gates) == 1
    assert any("so the two could not be compared" in each for each in result.warnings)
    verdict = verify(bundle)
    assert verdict.passed and verdict.warnings == []
