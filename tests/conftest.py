"""What several rooms' tests share: a small gated model as a file, and a bundle built from it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from pagdeploy.ops.bodies import attach_bodies

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; torch would take all in each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

GATED = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
gated (float[n, 3, h, w] image) => (float[n, 4, h, w] y)
{
    x = Conv <pads = [1, 1, 1, 1]> (image, stem, bias)
    l1 = Conv (x, gate1)
    s1 = pagdeploy.PAGGate (l1)
    a = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1],
        dilations = [1, 1], group = 1, branch = 1, mode = 0, activation = 1, alpha = 0.0>
        (x, s1, w1, bias, x)
    scores = Conv (image, gate2)
    l2 = Round (scores)
    s2 = pagdeploy.PAGGate (l2)
    y = pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1], pads = [2, 2, 2, 2],
        dilations = [2, 2], group = 1, branch = 1, mode = 1, activation = 3, alpha = 0.25>
        (a, s2, w2, bias, x)
}"""


def gated_model() -> onnx.ModelProto:
    """Two gates, two perforated convolutions; the logits of the second gate are full of ties."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(GATED)
    shapes = {
        "stem": (4, 3, 3, 3), "bias": (4,), "gate1": (2, 4, 1, 1), "gate2": (2, 3, 1, 1),
        "w1": (4, 4, 3, 3), "w2": (4, 4, 3, 3),
    }  # fmt: skip
    for name, shape in shapes.items():
        weight = rng.standard_normal(shape, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    for node in model.graph.node:
        node.name = f"node {node.output[0]}"
    return attach_bodies(model)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gated model as a file; not to be changed."""
    path = tmp_path_factory.mktemp("portable") / "m.onnx"
    path.write_bytes(gated_model().SerializeToString())
    return path


@pytest.fixture(scope="session")
def _bundles(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from pagdeploy.verbs.build import build

    folder = tmp_path_factory.mktemp("bundles")
    for lowering in ("gather", "dense"):
        path = folder / f"{lowering}.pagbundle"
        build(model_file, path, lowering=lowering, shapes={"image": [1, 3, 20, 24]})
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def bundle(_bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a bundle in the dense lowering, to be changed at will."""
    return Path(shutil.copytree(_bundles["dense"], tmp_path / "m.pagbundle"))


@pytest.fixture
def gather_bundle(_bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a bundle in the gather lowering, to be changed at will."""
    return Path(shutil.copytree(_bundles["gather"], tmp_path / "gather.pagbundle"))
