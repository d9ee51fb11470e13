"""Whoever wrote the file: both of PyTorch's exporters, at opsets from 11 to the newest."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from pagdeploy.errors import PagdeployError
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.pipeline import lower, recognise
from pagdeploy.verbs.build import build
from pagdeploy.verbs.verify import verify
from tests.models import run_onnxruntime
from tests.passes.recognition import SAME, model_of, ops_of

torch = pytest.importorskip("torch", reason="the networks are written in PyTorch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from pagdeploy.exporters.models import catalogue, dynconv  # noqa: E402

TORCHSCRIPT, DYNAMO, UNOPTIMISED = "script", "dynamo", "unoptimised dynamo"
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
NEWEST = min(onnx.defs.onnx_opset_version(), 26 if TORCH >= (2, 13) else 23)
WRITERS = [
    (TORCHSCRIPT, 11),
    (TORCHSCRIPT, 13),
    (TORCHSCRIPT, 17),
    (DYNAMO, 18),
    (DYNAMO, 23),
    (DYNAMO, NEWEST),
    (UNOPTIMISED, 18),
    (UNOPTIMISED, NEWEST),
]
TELLING = [(TORCHSCRIPT, 11), (TORCHSCRIPT, 17), (DYNAMO, 18), (DYNAMO, NEWEST), (UNOPTIMISED, 18)]


def by_writer(writers: list[tuple[str, int]]) -> pytest.MarkDecorator:
    names = [f"{writer} {opset}" for writer, opset in writers]
    return pytest.mark.parametrize(("writer", "opset"), writers, ids=names)


every_writer = by_writer(WRITERS)


class Net(nn.Module):
    """A gated residual, whose mask comes from a function of the scores (N, 2, H, W)."""

    def __init__(self, rule: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.gate = nn.Conv2d(3, 2, 1)
        self.first = nn.Conv2d(3, 5, 1)
        self.conv = nn.Sequential(nn.Conv2d(5, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = self.rule(self.gate(x))
        y = self.conv(F.relu(self.first(x)))
        return x * (1 - mask) + mask * y


def straight_through(scores: torch.Tensor) -> torch.Tensor:
    p = scores.softmax(1)
    hard = torch.zeros_like(p).scatter_(1, p.argmax(1, keepdim=True), 1.0)
    return ((hard - p) + p)[:, 1:2]


def one_hot(scores: torch.Tensor) -> torch.Tensor:
    return F.one_hot(scores.argmax(1), 2).permute(0, 3, 1, 2).float()[:, 1:2]


def patches(scores: torch.Tensor) -> torch.Tensor:
    coarse = F.avg_pool2d(scores, 2)
    return F.interpolate((coarse[:, :1] >= coarse[:, 1:]).float(), scores.shape[2:], mode="nearest")


RULES = {
    "g >= 0 (DynConv)": lambda scores: (scores[:, :1] >= 0).float(),
    "argmax of softmax (PAG)": lambda scores: scores.softmax(1).argmax(1, keepdim=True).float(),
    "straight-through one-hot": straight_through,
    "one-hot": one_hot,
    "patches (LASNet)": patches,
    "image (SkipNet)": lambda scores: (
        scores[:, :1].mean((2, 3), keepdim=True).sigmoid() > 0.5
    ).float(),
}


NAMED = {0: "n", 2: "h", 3: "w"}


def written(
    model: nn.Module, inputs: tuple, writer: str, opset: int, axes: dict[int, str] = NAMED
) -> onnx.ModelProto:
    """The model as one of PyTorch's exporters writes it, its inputs x, and x1 if there are two.

    Args:
        model: In evaluation.
        inputs: Examples.
        writer: One of the three.
        opset: To write.
        axes: Those whose sizes stay open.
    """
    file = io.BytesIO()
    names = ["x", "x1"][: len(inputs)]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if writer != TORCHSCRIPT:
            program = torch.onnx.export(
                model.eval(), inputs, dynamo=True, verbose=False, opset_version=opset,
                input_names=names, dynamic_shapes=tuple(axes for _ in inputs),
                optimize=writer == DYNAMO,
            )  # fmt: skip
            return program.model_proto
        torch.onnx.export(
            model.eval(), inputs, file, dynamo=False, opset_version=opset,
            input_names=names, output_names=["y"], dynamic_axes={name: axes for name in names},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def assert_found(model: onnx.ModelProto, feeds, gates: int, convolutions: int) -> None:
    """As many as said are recognised, and every form computes what the model does."""
    portable, plugin = recognise(model), lower(model, "plugin")
    assert ops_of(portable)["PAGGate"] == gates
    assert ops_of(plugin)["PerforatedConv"] == convolutions
    onnx.checker.check_model(portable, full_check=True)
    expected = run_onnxruntime(model, feeds)
    for other in (portable, attach_bodies(plugin), lower(model, "gather")):
        for one, found in zip(expected, run_onnxruntime(other, feeds), strict=True):
            np.testing.assert_allclose(found, one, rtol=0, atol=1e-4 * np.abs(one).max())


@every_writer
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_found(rule, writer, opset):
    torch.manual_seed(0)
    model, x = Net(RULES[rule]).eval(), torch.randn(2, 3, 8, 10)
    proto = written(model, (x,), writer, opset)
    assert next(o.version for o in proto.opset_import if not o.domain) == opset
    with torch.no_grad():
        wanted = model(x).numpy()
    np.testing.assert_allclose(run_onnxruntime(proto, {"x": x.numpy()})[0], wanted, atol=1e-5)
    assert_found(proto, {"x": torch.randn(3, 3, 12, 6).numpy()}, 1, 2)


@every_writer
def test_the_file_is_built_and_verified(writer, opset, tmp_path: Path):
    torch.manual_seed(0)
    proto = written(Net(RULES["g >= 0 (DynConv)"]), (torch.randn(2, 3, 8, 10),), writer, opset)
    path, bundle = tmp_path / "m.onnx", tmp_path / "m.pagbundle"
    path.write_bytes(proto.SerializeToString())
    result = build(path, bundle, engine="onnxruntime", shapes={"x": [1, 3, 12, 14]})
    text = "1 gate and 1 masked convolution recognised; the model computes the same in our ops."
    assert text in result.warnings
    verdict = verify(bundle)
    assert verdict.passed and len(verdict.gates) == 1, verdict.reason


@pytest.mark.parametrize(
    ("field", "version", "text"),
    [
        ("ir_version", 99, r"is not a valid ONNX model \(Your model ir_version 99 is higher than"),
        (
            "ir_version",
            onnx.IR_VERSION,
            r"is of IR version \d+, and onnxruntime [\d.]+ knows those",
        ),
        ("opset", 99, r"is of opset 99, and onnxruntime [\d.]+ knows those up to \d+\. Update"),
    ],
)
def test_versions_that_the_runtime_does_not_know(field, version, text, tmp_path):
    proto = model_of(
        f"t = Greater (g, zero) m = Cast <to = 1> (t) c = Conv {SAME} (x, w) y = Mul (c, m)"
    )
    if field == "opset":
        proto.opset_import[0].version = version
    else:
        proto.ir_version = version
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    try:
        build(path, tmp_path / "m.pagbundle", engine="onnxruntime", shapes=SHAPES)
    except PagdeployError as problem:
        assert re.search(text, str(problem))
        assert not (tmp_path / "m.pagbundle").exists()
    else:
        assert version == onnx.IR_VERSION, "a runtime may know onnx's newest"


SHAPES = {"x": [1, 3, 8, 8], "g": [1, 1, 8, 8]}


@pytest.mark.slow
@by_writer(TELLING)
@pytest.mark.parametrize("name", ["PAG (3x3 gated)", "DynConv", "MultiPool", "BlockDrop", "SACT"])
def test_published_networks_are_found(name, writer, opset):
    system = catalogue.find(name)
    inputs = system.inputs(2, system.size)
    model = written(system.factory(), inputs, writer, opset)
    assert_found(model, {"x": inputs[0].numpy()}, system.gates, system.perforable)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [{0: "n"}, {}], ids=["open batch", "fixed"])
@pytest.mark.parametrize(("writer", "opset"), [(TORCHSCRIPT, 13), (DYNAMO, 18), (UNOPTIMISED, 18)])
def test_masks_that_are_dilated_by_a_kernel_written_in_place_are_found(writer, opset, axes):
    """A mask at half the size is spread by zeros with a one in the corner."""
    system = catalogue.find("DynConv")
    inputs = system.inputs(2, system.size)
    model = written(dynconv.resnet(dilate=True), inputs, writer, opset, axes)
    assert_found(model, {"x": inputs[0].numpy()}, 2, 6)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", ["SkipNet", "LAUDNet (layers)", "PerforatedCNN", "SBNet"])
def test_networks_that_compute_their_sizes_are_found(name, opset):
    """States of an LSTM, views by sizes that are read, crops to the size of another map."""
    system = catalogue.find(name)
    inputs = system.inputs(2, system.size)
    axes = NAMED if name == "SBNet" else {0: "n"}
    model = written(system.factory(), inputs, TORCHSCRIPT, opset, axes)
    feeds = dict(zip(["x", "x1"], [each.numpy() for each in inputs], strict=False))
    assert_found(model, feeds, system.gates, system.perforable)


@pytest.mark.slow
@pytest.mark.parametrize("writer", [DYNAMO, UNOPTIMISED])
def test_blocks_that_are_cut_to_the_map_are_found(writer):
    system = catalogue.find("SBNet")
    inputs = system.inputs(2, system.size)
    model = written(system.factory(), inputs, writer, 18)
    other = dict(zip(["x", "x1"], [each.numpy() for each in system.inputs(3, 48)], strict=True))
    assert_found(model, other, system.gates, system.perforable)
