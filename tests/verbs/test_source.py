"""Models of others: built and verified as if they were ours, and held to what they were."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import pagdeploy.pipeline
from pagdeploy.bundle import open_bundle
from pagdeploy.errors import VerificationFailed
from pagdeploy.graph.read import read_model
from pagdeploy.verbs.build import build
from pagdeploy.verbs.source import read_source
from pagdeploy.verbs.verify import verify

FOREIGN = """<ir_version: 8, opset_import: ["" : 17]>
foreign (float[n, 4, h, w] x) => (float[n, 4, h, w] y)
{
    g = Conv (x, gate)
    zero = Constant <value: tensor = float {0}> ()
    runs = GreaterOrEqual (g, zero)
    m = Cast <to = 1> (runs)
    c = Conv <pads = [1, 1, 1, 1]> (x, weight)
    masked = Mul (c, m)
    sum = Add (x, masked)
    y = Relu (sum)
}"""


@pytest.fixture
def foreign(tmp_path):
    """A masked residual, as its authors wrote it."""
    rng = np.random.default_rng(3)
    model = onnx.parser.parse_model(FOREIGN)
    for name, shape in {"gate": (1, 4, 1, 1), "weight": (4, 4, 3, 3)}.items():
        array = rng.standard_normal(shape, np.float32)
        array -= array.mean()  # so that some pixels run and some do not
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "foreign.onnx")
    return tmp_path / "foreign.onnx"


def test_a_foreign_model_is_built_and_verified_with_its_gate(foreign, tmp_path):
    path = tmp_path / "m.pagbundle"
    result = build(foreign, path, engine="onnxruntime", shapes={"x": [1, 4, 12, 10]})
    text = "1 gate and 1 masked convolution recognised; the model computes the same in our ops."
    assert text in result.warnings
    manifest = open_bundle(path).manifest
    assert len(manifest.gates) == len(manifest.ops) == 1
    assert 0.2 < manifest.gates[0].density[0] < 0.8
    assert read_model(path / "model.onnx").functions, "the portable model runs anywhere"
    verdict = verify(path)
    assert verdict.passed and len(verdict.gates) == 1
    verdict = verify(foreign, shapes={"x": [1, 4, 12, 10]})
    assert verdict.passed and len(verdict.gates) == 1 and text in verdict.warnings


def test_what_is_ours_already_stays_as_it_is(model_file, tmp_path):
    assert not read_source(model_file).is_foreign
    build(model_file, tmp_path / "m.pagbundle", engine="onnxruntime")
    assert (tmp_path / "m.pagbundle" / "model.onnx").read_bytes() == model_file.read_bytes()


def test_a_rewrite_that_changes_the_function_is_noticed(foreign, tmp_path, monkeypatch):
    recognise = pagdeploy.pipeline.recognise

    def wrong(model):
        changed = recognise(model)
        node = next(n for n in changed.graph.node if n.op_type == "PerforatedConv")
        branch = next(a for a in node.attribute if a.name == "branch")
        branch.i = 1 - branch.i
        return changed

    monkeypatch.setattr(pagdeploy.pipeline, "recognise", wrong)
    with pytest.raises(VerificationFailed, match="the model's output 'y' differs by"):
        build(foreign, tmp_path / "m.pagbundle", engine="onnxruntime")
    assert not (tmp_path / "m.pagbundle").exists()
