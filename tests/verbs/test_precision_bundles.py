"""Bundles say what they compute in, and verification holds them to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pagdeploy.bundle import CALIBRATION, open_bundle, seal
from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.measure.ranges import ValueRange, write_ranges
from pagdeploy.verbs.build import build
from pagdeploy.verbs.verify import verify

IMAGES = np.random.default_rng(0).random((3, 3, 12, 14)).astype(np.float32)


def bundle_of(precision: str, model: Path, folder: Path, lowering: str = "dense") -> Path:
    """A bundle built from the model."""
    path = folder / f"{precision}.pagbundle"
    build(
        model,
        path,
        engine="onnxruntime",
        lowering=lowering,
        precision=precision,
        calibration={"image": IMAGES},
        inputs={"image": IMAGES[:1]},
    )
    return path


@pytest.mark.parametrize("lowering", ["gather", "dense"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_bundle_verifies_in_its_own_precision(model_file, tmp_path, precision, lowering):
    result = verify(bundle_of(precision, model_file, tmp_path, lowering))
    assert result.passed, result.reason
    assert result.precision == precision
    assert max(output.error for output in result.outputs) > 1e-5, "it is not float32"


def test_a_scale_four_times_too_wide_is_found(model_file, tmp_path):
    path = bundle_of("int8", model_file, tmp_path)
    engine = onnx.load(path / "engine.onnx")
    name = next(n.input[1] for n in engine.graph.node if n.op_type == "QuantizeLinear")
    for tensor in engine.graph.initializer:
        if tensor.name == name:
            wrong = numpy_helper.to_array(tensor) * np.float32(4)
            tensor.CopyFrom(numpy_helper.from_array(wrong, name))
    (path / "engine.onnx").write_bytes(engine.SerializeToString())
    seal(path, open_bundle_manifest(path))
    assert "where every branch is taken somewhere" in str(verify(path).reason)


def open_bundle_manifest(path: Path):
    """The manifest, whatever the files now are."""
    from pagdeploy.manifest import Manifest

    return Manifest.model_validate_json((path / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep_fp32": ["no such node"]}, "The pattern 'no such node' matches no node"),
        ({"keep_fp32": ["["]}, "is not a regular expression"),
        ({"calibration": None}, "int8 needs the ranges"),
        ({"calibration": "none.json"}, "does not hold the file 'none.json'"),
        ({"calibration": "engine.onnx"}, "does not hold the ranges of a calibration"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(model_file, tmp_path, change, message):
    path = bundle_of("int8", model_file, tmp_path)
    manifest = open_bundle(path).manifest
    engine = manifest.engine.model_copy(update=change)
    seal(path, manifest.model_copy(update={"engine": engine}))
    with pytest.raises(IncompatibleArtifact, match=message):
        verify(path)


def test_a_calibration_of_another_model_is_refused(model_file, tmp_path):
    path = bundle_of("int8", model_file, tmp_path)
    write_ranges(path / CALIBRATION, {"other": ValueRange(0.0, 1.0, 1.0, 0.0)})
    seal(path, open_bundle_manifest(path))
    with pytest.raises(IncompatibleArtifact, match="The calibration knows no value of this model"):
        verify(path)
