"""What a bundle's manifest says of the model's tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pagdeploy.bundle import open_bundle
from pagdeploy.verbs.build import build
from tests.models import model_of


def test_a_size_of_minus_one_is_free(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    model = model_of(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, ["N", 3, 8, 8])},
        {"y": (TensorProto.FLOAT, [-1, 4, 8, 8])},
        initializers=[weights],
    )
    onnx.save(model, tmp_path / "m.onnx")
    path = tmp_path / "m.pagbundle"
    build(tmp_path / "m.onnx", path, lowering="gather", shapes={"x": [1, 3, 8, 8]})
    assert [each.shape for each in open_bundle(path).manifest.outputs] == [["axis0", 4, 8, 8]]
