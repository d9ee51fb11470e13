"""Hardening a network of soft mixtures: what is written, and what the report says of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import pagdeploy
from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.graph.gates import gates_of
from pagdeploy.graph.read import read_model
from pagdeploy.verbs.harden import harden
from pagdeploy.verbs.inspect.gates import inspect_gates
from pagdeploy.verbs.reference import run_reference
from pagdeploy.verbs.tasks import Settings
from pagdeploy.verbs.verify import verify
from tests.cli.test_commands import call, refused
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="the networks are written in PyTorch")
from pagdeploy.exporters.models import perspective  # noqa: E402

SIZE = (64, 64)
GATES, CONVOLUTIONS = 1, 5


def network(*, hard: bool):
    """Depth-aware pooling without its loops, of the same weights soft and hard."""
    torch.manual_seed(0)
    soft = perspective.resnet(loops=0)
    if not hard:
        return soft
    other = perspective.resnet(loops=0, hard=True)
    other.load_state_dict(soft.state_dict())
    return other.eval()


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The soft network as an ONNX file."""
    path = tmp_path_factory.mktemp("soft") / "soft.onnx"
    pagdeploy.export(network(hard=False), path, shapes={"image": (1, 3, *SIZE)})
    return path


@pytest.fixture(scope="module")
def request_() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(4).random((1, 3, *SIZE), np.float32)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, whose truth is what the soft network says of them."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 256, (3, *SIZE)).astype(np.uint8)
        with torch.no_grad():
            scores = network(hard=False)(torch.from_numpy(image[None] / np.float32(255)))
        classes = scores.argmax(1)[0].numpy().astype(np.uint8)
        np.savez(folder / f"{number}.npz", image=image, segmentation=classes)
    return folder


def test_the_hardened_network_is_the_one_that_takes_the_argmax(soft, request_, tmp_path):
    result = harden(soft, tmp_path / "hard.onnx", inputs=request_)
    assert result.written and [gate.convolutions for gate in result.gates] == [CONVOLUTIONS]
    portable = read_model(tmp_path / "hard.onnx")
    assert len(gates_of(portable)) == GATES
    with torch.no_grad():
        wanted = network(hard=True)(torch.from_numpy(request_["image"])).numpy()
    assert_close(run_reference(portable, request_)["output"], wanted, 1e-4)


def test_the_report_tells_how_far_both_are_apart(soft, request_, tmp_path):
    result = harden(soft, tmp_path / "hard.onnx", inputs=request_)
    before = run_reference(read_model(soft), request_)["output"]
    after = run_reference(read_model(tmp_path / "hard.onnx"), request_)["output"]
    (change,) = result.outputs
    away = (after - before).astype(np.float64)
    assert change.rms == pytest.approx(np.sqrt((away**2).mean() / (before**2).mean()), rel=1e-4)
    assert change.largest == pytest.approx(np.abs(away).max() / np.abs(before).max(), rel=1e-4)
    assert change.agreement == pytest.approx((before.argmax(1) == after.argmax(1)).mean())
    (gate,) = result.gates
    assert (gate.kind, gate.branches) == ("softmax", 5)
    assert sum(gate.density) == pytest.approx(1) and 0.2 <= gate.confidence < 1
    assert 0 <= gate.undecided <= 1
    one_branch = 9 * 16 * 16 * 8 * 8  # 3x3, 16 to 16 channels, an eighth of the image
    assert result.macs_soft - result.macs_hard == (CONVOLUTIONS - 1) * one_branch


def test_what_was_hardened_is_built_and_verified(soft, request_, tmp_path):
    harden(soft, tmp_path / "hard.onnx", inputs=request_)
    bundle = tmp_path / "hard.pagbundle"
    pagdeploy.build(
        tmp_path / "hard.onnx", bundle, engine="onnxruntime", lowering="gather", inputs=request_
    )
    verification = verify(bundle)
    assert verification.passed and len(verification.gates) == GATES
    explained = inspect_gates(bundle)
    (gate,) = explained.gates
    assert explained.notes == [
        f"{gate.name!r} was a soft mixture, and decides because it was asked to: 'pagdeploy harden'"
    ]


def test_other_mixtures_stay_soft(request_, tmp_path):
    """With a loop, of four mixtures two are asked for."""
    path = tmp_path / "soft.onnx"
    pagdeploy.export(perspective.resnet(loops=3), path, shapes={"image": (1, 3, *SIZE)})
    result = harden(path, tmp_path / "hard.onnx", only=["^first", r"Softmax#2"], inputs=request_)
    assert len(result.gates) == 2
    assert [row.why for row in result.left] == ["not asked for"] * 2
    portable = read_model(tmp_path / "hard.onnx")
    assert len(gates_of(portable)) == 2
    kinds = [node.op_type for node in portable.graph.node]
    assert kinds.count("PerforatedConv") == 10 and kinds.count("Conv") >= 10


def test_hardening_in_two_steps_says_both(request_, tmp_path):
    path = tmp_path / "soft.onnx"
    pagdeploy.export(perspective.resnet(loops=1), path, shapes={"image": (1, 3, *SIZE)})
    pagdeploy.harden(path, tmp_path / "one.onnx", only=["^first"], inputs=request_)
    pagdeploy.harden(tmp_path / "one.onnx", tmp_path / "two.onnx", inputs=request_)
    model = read_model(tmp_path / "two.onnx")
    keys = [entry.key for entry in model.metadata_props]
    assert len(set(keys)) == len(keys)
    notes = inspect_gates(tmp_path / "two.onnx").notes
    assert len(notes) == 2 and "'first.gate/Softmax.hard'" in notes[0]


def test_what_is_not_finite_agrees_with_nothing(soft, request_, tmp_path):
    request = {"image": np.full_like(request_["image"], np.nan)}
    (change,) = harden(soft, tmp_path / "hard.onnx", inputs=request).outputs
    assert np.isnan(change.rms) and change.agreement == 0


def test_scores_on_data_are_those_of_both(soft, data, tmp_path):
    result = harden(
        soft, tmp_path / "hard.onnx", data=data, settings=Settings(["segmentation=output"])
    )
    assert result.images == 2 and result.written
    scores = {row.metric: row for row in result.scores}
    assert scores["mIoU"].reference == pytest.approx(1, abs=1e-6)  # the truth is its own answer
    assert scores["mIoU"].engine < 1
    assert scores["mIoU"].difference == scores["mIoU"].engine - scores["mIoU"].reference


def test_nothing_is_written_that_loses_more_than_allowed(soft, data, tmp_path):
    path = tmp_path / "hard.onnx"
    arguments = ("harden", soft, "-o", path, "--data", data, "--task", "segmentation=output")
    code, out, err = call(*arguments, "--max-loss", "0")
    assert code == 1 and not path.exists()
    assert "not written: The hardened model scores" in err and "the soft one 1" in err
    assert "Scores on 2 images" in out
    code, out, _ = call(*arguments, "--max-loss", "100", "--json")
    answer = json.loads(out)
    assert code == 0 and path.exists() and answer["written"] and answer["reason"] is None


def test_the_command_says_what_became_a_gate(soft, tmp_path):
    code, out, err = call("harden", soft, "-o", tmp_path / "hard.onnx")
    assert code == 0
    assert "first.gate/Softmax.hard" in out and "softmax, 5" in out
    assert "1 gates in place of mixtures" not in out and "1 gate in place of a mixture" in out
    assert "made-up noise" in err


def test_mistakes_are_told_in_a_sentence(soft, model_file, tmp_path):
    path = tmp_path / "hard.onnx"
    refused(2, "has no soft mixture", "harden", model_file, "-o", path)
    refused(2, "No soft mixture is called z.", "harden", soft, "-o", path, "--only", "z.")
    refused(2, "is no regular expression", "harden", soft, "-o", path, "--only", "(")
    refused(2, "belong to scores", "harden", soft, "-o", path, "--max-loss", "1")
    refused(2, "is a folder", "harden", soft, "-o", tmp_path)
    refused(2, "There is no file", "harden", tmp_path / "none.onnx", "-o", path)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    refused(4, "is not an ONNX model", "harden", tmp_path / "broken.onnx", "-o", path)
    assert not path.exists()


def test_a_mixture_that_spares_nothing_stays(tmp_path):
    """Weights of what no convolution makes."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    m (float[n, 2, h, w] l, float[n, 3, h, w] x) => (float[n, 3, h, w] y)
    <int64[2] cut = {1, 1}>
    {
        p = Softmax <axis = 1> (l)
        p0, p1 = Split <axis = 1> (p, cut)
        e = Exp (x)
        a = Mul (x, p0)
        b = Mul (e, p1)
        y = Add (a, b)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="would leave out no convolution"):
        harden(tmp_path / "m.onnx", tmp_path / "hard.onnx")
    with pytest.raises(IncompatibleArtifact):
        (tmp_path / "b.onnx").write_bytes(b"\x08")
        harden(tmp_path / "b.onnx", tmp_path / "hard.onnx")
